"""`torch.export`, also where control flow depends on the values of the inputs, as long as no weight decides it."""

from __future__ import annotations

import os
import threading
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from typing import Any

import torch
import torch.export._trace
import torch.fx.experimental._config
import torch.utils._traceback
from torch import Tensor, fx, nn
from torch._functorch import config
from torch.export.graph_signature import InputKind
from torch.fx.experimental.symbolic_shapes import GuardOnDataDependentSymNode
from torch.utils import _pytree as pytree

from permgraph.tracing.experts import all_experts

SIZES = (torch.ops.aten.sym_size.int, torch.ops.aten.sym_numel.default, torch.ops.aten.sym_stride.int)
_lock = threading.RLock()  # `torch.export` patches its own modules while it traces
if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_lock.release)


def export(model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> torch.export.ExportedProgram:
    """The exported program of `model` on example inputs.

    At a branch that depends on the values of tensors (a check whether a mask is causal, padding for windows with global
    tokens), the trace takes the side that these inputs take; the values are computed outside of the trace. They must
    not depend on weights, whose permutation could change the branch. One thread exports at a time. Raises what
    `torch.export` raises.
    """
    with _lock, all_experts(model), _with_constants(model), _without_partial_graphs(), _without_needless_work():
        return _decided(model, args, kwargs)


def _decided(model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> torch.export.ExportedProgram:
    try:
        return torch.export.export(model, args, kwargs, strict=False)
    except GuardOnDataDependentSymNode as error:
        if any(tensor.is_meta for tensor in [*model.parameters(), *model.buffers()]):
            raise
        try:
            with config.patch(fake_tensor_propagate_real_tensors=True), _with_known_sizes():
                exported = torch.export.export(model, args, kwargs, strict=False)
        except Exception as other:  # whatever fails here, the branch is what prevents the trace
            raise error from other
        if _weights_decide(exported):
            raise
        return exported


@contextmanager
def _with_constants(model: nn.Module) -> Iterator[None]:
    """Whole numbers in buffers that are not persistent are known inside: what is computed from them alone is too.

    They are constants, such as the stride by which a convolution computes its padding (EnCodec).
    """
    module = vars(torch.export._trace)
    faked = module.get("_fakify_params_buffers")
    numbers = {
        f"{path}.{name}" if path else name: buffer
        for path, part in model.named_modules(remove_duplicate=False)
        for name, buffer in part._buffers.items()
        if name in part._non_persistent_buffers_set and _is_number(buffer)
    }
    if faked is None or not numbers:
        yield
        return

    def with_values(mode: Any, of: nn.Module, *more: Any) -> Any:
        found = faked(mode, of, *more)
        for name in found.keys() & numbers.keys():
            found[name].constant = numbers[name]
        return found

    try:
        module["_fakify_params_buffers"] = with_values
        yield
    finally:
        module["_fakify_params_buffers"] = faked


def _is_number(buffer: Tensor | None) -> bool:
    return buffer is not None and not (buffer.dim() or buffer.is_floating_point() or buffer.is_meta)


@contextmanager
def _with_known_sizes() -> Iterator[None]:
    """A size that the values make known need not be found in the result whose size it is."""
    settings: Any = fx.experimental._config
    known = "soft_pending_unbacked_not_found_error"
    with settings.patch({known: True}) if hasattr(settings, known) else nullcontext():
        yield


@contextmanager
def _without_partial_graphs() -> Iterator[None]:
    """`torch.export` prints half a graph to stderr if it fails: silence it inside the context."""
    module = vars(torch.export._trace)
    module["print"] = lambda *args, **kwargs: None
    try:
        yield
    finally:
        del module["print"]


@contextmanager
def _without_needless_work() -> Iterator[None]:
    """No Python code is written for graphs that nobody runs, and no source line is read but those that are kept.

    `torch.export` would read the lines of all 80 frames that are active at each node, and keep a few of them. It does
    so in versions that lack the names used here.
    """
    tracebacks = torch.utils._traceback
    lazily = getattr(getattr(fx, "_lazy_graph_module", None), "_use_lazy_graph_module", None)
    with ExitStack() as stack:
        if every := vars(tracebacks).get("_extract_symbolized_tb"):
            stack.callback(setattr, tracebacks, "_extract_symbolized_tb", every)
            vars(tracebacks)["_extract_symbolized_tb"] = _frames
        if lazily is not None:
            stack.enter_context(lazily(True))
        yield


def _frames(symbolized: Sequence[Mapping[str, Any]], skip: int) -> traceback.StackSummary:
    """The frames of a traceback, outermost first, whose source lines are read when they are asked for."""
    found = traceback.StackSummary()
    for frame in reversed(symbolized[skip:]):
        found.append(traceback.FrameSummary(frame["filename"], frame["line"], frame["name"], lookup_line=False))
    return found


def _weights_decide(exported: torch.export.ExportedProgram) -> bool:
    """Whether a value that is read out of a tensor, or a size that depends on one, comes from a weight."""
    specs = exported.graph_signature.input_specs
    weights = {
        spec.arg.name
        for spec in specs
        if spec.kind is InputKind.PARAMETER or (spec.kind is InputKind.BUFFER and spec.persistent)
    }
    depends: dict[fx.Node, bool] = {}
    for node in exported.graph.nodes:
        values = [] if node.target in SIZES else node.all_input_nodes  # what decides a size was met where it was made
        depends[node] = node.name in weights or any(depends[operand] for operand in values)
        if any(depends[operand] for operand in _decisive(node)):
            return True
    return False


def _decisive(node: fx.Node) -> list[fx.Node]:
    """The operands from which a number is read, or whose values decide the size of the result.

    Of rows that are picked, that is the mask: numbers of rows make a result of their own size.
    """
    tags = getattr(node.target, "tags", ())
    if not {torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape} & {*tags}:
        return []
    if node.target is torch.ops.aten.masked_select.default:
        return _nodes(node.args[1])
    if node.target is torch.ops.aten.index.Tensor:
        return [index for index in _nodes(node.args[1]) if index.meta["val"].dtype in (torch.bool, torch.uint8)]
    return node.all_input_nodes


def _nodes(operands: Any) -> list[fx.Node]:
    return [operand for operand in pytree.tree_leaves(operands) if isinstance(operand, fx.Node)]
