"""A model and example inputs -> one torch.fx graph over ATen operations, with parameters and inputs named."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.export.graph_signature import InputKind, OutputKind
from torch.utils import _pytree as pytree

from permgraph.errors import CaptureError, PermgraphError
from permgraph.tracing.advice import advice
from permgraph.tracing.exporting import export
from permgraph.tracing.inputs import as_args, device_of, moved
from permgraph.tracing.nesting import require_no_derivatives
from permgraph.tracing.places import leaves_with_places
from permgraph.tracing.plain_classes import called, register_classes
from permgraph.tracing.program import Feed, Program
from permgraph.tracing.quiet import quiet
from permgraph.tracing.results import Counted, counted, holds_caches, of_counted, without_caches
from permgraph.tracing.sharing import aliases, one_tensor
from permgraph.tracing.stacked import one_layer_each
from permgraph.tracing.twin import require_eval, twin_of, unwrapped
from permgraph.tracing.wrappers import require_plain

INLINED = ("wrap_with_set_grad_enabled", "wrap_with_autocast")


def capture(
    model: nn.Module,
    args: tuple[Any, ...] = (),
    kwargs: Mapping[str, Any] | None = None,
    *,
    results: Counted | None = None,
) -> Program:
    """Trace `model` on example inputs with `torch.export`; the model is not changed.

    `results`: which of them are outputs if the model is not marked, see `returning`; all by default.
    Works on any device, `meta` included. Raises CaptureError, saying what to change, where the model is in training
    mode or cannot be exported.
    """
    owner, module, key = unwrapped(require_plain(model))
    require_eval(module)
    twin = twin_of(module)
    exported = _exported_on(twin, args, kwargs, counted(model) or results)
    graph = _inline(exported.graph_module)
    one_layer_each(graph.graph)
    state = {k: tensor for k, tensor in owner.state_dict(keep_vars=True).items() if isinstance(tensor, Tensor)}
    names = one_tensor(state)
    parameters = tuple(name for name, _ in owner.named_parameters(remove_duplicate=False) if name in names)
    _tell_apart(graph.graph, names)
    lifted = {k: v for k, v in exported.constants.items() if isinstance(v, Tensor)}
    require_no_derivatives(graph.graph, lifted)
    shared = {key(name): names[k] for name, k in aliases(lifted, state).items()}
    outputs_spec = exported.call_spec.out_spec
    assert outputs_spec is not None
    return Program(
        graph=graph,
        feeds=_feeds(exported, graph.graph, shared | names, parameters, key),
        constants=_with_values(lifted, module),
        names=names,
        shapes={k: tuple(tensor.shape) for k, tensor in state.items()},
        parameters=parameters,
        outputs=_output_names(exported, outputs_spec),
        inputs_spec=exported.call_spec.in_spec,
        outputs_spec=outputs_spec,
        device=device_of(twin),
    )


def _exported_on(
    model: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any] | None, results: Counted | None
) -> torch.export.ExportedProgram:
    """The export of a model on these inputs, which are moved to its device."""
    inputs = as_args(args), dict(kwargs or {})
    register_classes(inputs)
    with quiet(), torch.no_grad(), of_counted(model, results):
        return _exported(model, *moved(inputs, device_of(model)))


def _with_values(constants: Mapping[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """The constants, with the values of the model's buffers where its twin is on `meta`."""
    real = {name: buffer for name, buffer in model.named_buffers() if not buffer.is_meta}
    return {k: real.get(k, v) if v.is_meta else v for k, v in constants.items()}


def _exported(model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> torch.export.ExportedProgram:
    try:
        return export(model, args, kwargs)
    except PermgraphError:
        raise
    except Exception as error:
        result = _result(model, args, kwargs)
        if register_classes(result):
            return _exported(model, args, kwargs)
        if holds_caches(result):
            with without_caches(model):
                return _exported(model, args, kwargs)
        raise CaptureError(advice(model, error, args, kwargs)) from error


def _result(model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """What a model returns, which may be of a class that PyTorch does not know; None if it fails."""
    try:
        return called(model, args, kwargs)
    except Exception:  # whatever it raises, the trace has said why
        return None


def _inline(module: fx.GraphModule) -> fx.GraphModule:
    """Open the sub-graphs that only switch gradients or autocast."""
    graph = module.graph
    for node in list(graph.nodes):
        if node.op != "call_function" or getattr(node.target, "__name__", str(node.target)) not in INLINED:
            continue
        sub = next(arg for arg in node.args if isinstance(arg, fx.Node) and arg.op == "get_attr")
        operands = node.args[list(node.args).index(sub) + 1 :]
        inner = _inline(getattr(module, str(sub.target)))
        places = [n for n in inner.graph.nodes if n.op == "placeholder"]
        mapping = dict(zip(places, operands, strict=True))
        with graph.inserting_before(node):
            results = graph.graph_copy(inner.graph, mapping)
        for user in list(node.users):
            user.replace_all_uses_with(results[user.args[1]])  # type: ignore[index]
            graph.erase_node(user)
        graph.erase_node(node)
    module.recompile()
    return module


def _tell_apart(graph: fx.Graph, names: Mapping[str, str]) -> None:
    """Rename nodes that have the name of a state-dict entry: a trace has one name space for both."""
    for node in graph.nodes:
        while node.name in names:
            node._rename(f"{node.name}_value")
        if node.op == "placeholder":
            node.target = node.name


def _feeds(
    exported: torch.export.ExportedProgram,
    graph: fx.Graph,
    names: Mapping[str, str],
    parameters: Collection[str],
    key: Callable[[str], str],
) -> dict[str, Feed]:
    inputs = iter(_input_name(path) for path, _ in leaves_with_places(exported.example_inputs))
    feeds: dict[str, Feed] = {}
    places = [node.name for node in graph.nodes if node.op == "placeholder"]
    for name, spec in zip(places, exported.graph_signature.input_specs, strict=True):
        if spec.kind is InputKind.USER_INPUT:
            feeds[name] = Feed("input", next(inputs))
        elif (entry := key(str(spec.target))) in names:
            feeds[name] = Feed("parameter" if names[entry] in parameters else "buffer", names[entry])
        else:
            feeds[name] = Feed("constant", str(spec.target))
    return feeds


def _input_name(path: tuple[Any, ...]) -> str:
    side, *rest = path
    text = "".join(str(key) for key in rest)
    return ("args" if getattr(side, "idx", 0) == 0 else "kwargs") + text


def _output_names(exported: torch.export.ExportedProgram, tree: pytree.TreeSpec) -> tuple[str, ...]:
    """The place of each output leaf in what the model returns."""
    specs = exported.graph_signature.output_specs
    count = sum(spec.kind is OutputKind.USER_OUTPUT for spec in specs)
    marked = pytree.tree_unflatten(list(range(count)), tree)
    return tuple("".join(str(key) for key in path) or "output" for path, _ in leaves_with_places(marked))
