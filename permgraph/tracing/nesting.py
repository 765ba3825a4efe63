"""`vmap` in a traced program: one operation enters a level, which belongs to the thread, and another leaves it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from torch import Tensor, fx
from torch._C import _functorch as functorch

from permgraph.errors import CaptureError
from permgraph.tracing.advice import source_line

ENTERS = "_vmap_increment_nesting"
DIFFERENTIATES = ("_enter_dual_level", "_grad_increment_nesting", "_jvp_increment_nesting")


def nests(graph: fx.Graph) -> bool:
    """Whether a program enters `vmap`. Only one run at a time can be inside."""
    return any(_name(node) == ENTERS for node in graph.nodes)


def require_no_derivatives(graph: fx.Graph, constants: Mapping[str, Tensor]) -> None:
    """Raise CaptureError for a program that differentiates by `torch.func`: its operations cannot be run again."""
    nodes = [node for node in graph.nodes if _name(node) in DIFFERENTIATES]
    if nodes or any(map(functorch.is_functorch_wrapped_tensor, constants.values())):
        where = source_line(nodes[0].meta.get("stack_trace") or "") if nodes else ""
        raise CaptureError(
            f"the forward pass differentiates by torch.func{where and f' in {where}'}, which a trace cannot run again: "
            "write the derivative out as operations, or give the part of the model before it"
        )


def _name(node: fx.Node) -> str:
    return getattr(node.target, "__name__", "")


@contextmanager
def levels_left() -> Iterator[None]:
    """Leave all levels that were entered inside the context, even if an operation fails."""
    before = _depth()
    try:
        yield
    finally:
        while _depth() > before:
            functorch._vmap_decrement_nesting()


def _depth() -> int:
    return len(functorch.get_interpreter_stack() or ())


def unwrapped(tensor: Tensor) -> Tensor:
    """The tensor with all rows, of which `vmap` shows one."""
    while functorch.is_functorch_wrapped_tensor(tensor):
        tensor = functorch.get_unwrapped(tensor)
    return tensor
