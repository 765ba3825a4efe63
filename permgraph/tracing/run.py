"""Runs a traced program with parameters supplied one by one, in any precision, without a copy of the model."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from contextlib import nullcontext
from functools import partial
from typing import Any

import torch
from torch import Tensor, fx
from torch.export._tree_utils import reorder_kwargs
from torch.utils import _pytree as pytree

from permgraph.errors import SpecMismatchError
from permgraph.tracing.by_rows import TABLE, ByRows
from permgraph.tracing.draws import Draws, is_random
from permgraph.tracing.inputs import as_args, moved
from permgraph.tracing.nesting import levels_left, nests
from permgraph.tracing.program import Program, op_name

Parameters = Callable[..., Tensor]
"""State-dict key -> the tensor to compute with; asked once for each use. With an index vector, those rows of it."""

STATISTICS = ("aten.batch_norm", "aten.instance_norm")
"""Normalisations by running statistics, which torch does not differentiate by."""
FEW = 2
REAL = (torch.float16, torch.bfloat16, torch.float32)
COMPLEX = (torch.complex32, torch.complex64)


def bind(program: Program, args: tuple[Any, ...], kwargs: Mapping[str, Any] | None) -> dict[str, Any]:
    """Inputs by the names of the graph's placeholders, on the model's device, unless that is `meta`.

    Raises SpecMismatchError where their structure differs from that of the inputs that were traced.
    """
    try:
        flat, spec = pytree.tree_flatten((as_args(args), reorder_kwargs(dict(kwargs or {}), program.inputs_spec)))
    except (ValueError, KeyError, AssertionError) as error:
        raise SpecMismatchError(
            f"these inputs differ from those that the model was traced with: {error}; trace it with these"
        ) from error
    names = [name for name, feed in program.feeds.items() if feed.kind == "input"]
    if spec != program.inputs_spec or len(flat) != len(names):
        raise SpecMismatchError(
            "these inputs have another structure than those that the model was traced with; "
            "give the same arguments and keywords"
        )
    if program.device.type != "meta":
        flat = moved(flat, program.device)
    return dict(zip(names, flat, strict=True))


def one_sample(example: tuple[tuple[Any, ...], dict[str, Any]]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The first sample of a batch, where all tensors have the batch as their first dimension; else the whole.

    A batch of up to `FEW` samples stays whole: the model is traced on it already, and running it takes less time than
    another trace.
    """
    tensors = [leaf for leaf in pytree.tree_leaves(example) if isinstance(leaf, Tensor)]
    sizes = {tensor.shape[:1] for tensor in tensors}
    if len(sizes) != 1 or sizes == {torch.Size([])} or next(iter(sizes))[0] <= FEW:
        return example
    args, kwargs = pytree.tree_map_only(Tensor, lambda tensor: tensor[:1], example)
    return args, kwargs


class Runner(fx.Interpreter):
    """Executes a program; `parameters` supplies its weights, `dtype` overrides every real dtype inside, and its complex
    counterpart every complex one.

    Random operations draw from `seed`. `current` is the node that ran last, or failed. With `gradients`, outputs can be
    differentiated by the parameters. The parameters in `by_rows` are made a few rows at a time.
    """

    def __init__(
        self,
        program: Program,
        parameters: Parameters,
        dtype: torch.dtype | None = None,
        seed: int = 0,
        *,
        gradients: bool = False,
        by_rows: Container[str] = (),
    ) -> None:
        super().__init__(program.graph, garbage_collect_values=True)
        self.program, self.parameters, self.dtype, self.seed = program, parameters, dtype, seed
        self.gradients, self.by_rows = gradients, by_rows
        self.writes = any(_is_written(node) for node in program.graph.graph.nodes)
        self.nests = nests(program.graph.graph)
        self.inputs: Mapping[str, Any] = {}
        self.current = next(iter(program.graph.graph.nodes))

    def outputs(self, inputs: Mapping[str, Any]) -> list[Any]:
        """The output leaves for inputs as `bind` gives them."""
        result: list[Any] = []
        for node, value in self.steps(inputs):
            if node.op == "output":
                result = list(value)
        return result

    def steps(self, inputs: Mapping[str, Any]) -> Iterator[tuple[fx.Node, Any]]:
        """Every node with its value, in order; a value is dropped once its last user has run.

        A weight comes just before its first user, so that not all of them are made at once; a weight without users is
        skipped. In a program with `vmap` all weights come first, since a tensor made inside `vmap` is made for each
        row.
        """
        self.inputs, self.env = inputs, {}
        draws = Draws(self.program.device, self.seed)
        with levels_left():
            for node in self.program.graph.graph.nodes if self.nests else self._in_order():
                self.current = node
                with torch.set_grad_enabled(self.gradients), draws if is_random(node.target) else nullcontext():
                    self.env[node] = self.run_node(node)
                yield node, self.env[node]
                for done in self.user_to_last_uses.get(node, ()):
                    del self.env[done]

    def _in_order(self) -> Iterator[fx.Node]:
        """The nodes, each weight where it is first needed."""
        waiting = {
            node
            for node in self.program.graph.graph.nodes
            if node.op == "placeholder" and self.program.feeds[node.name].name in self.program.names
        }
        for node in self.program.graph.graph.nodes:
            needed = [other for other in node.all_input_nodes if other in waiting]
            waiting.difference_update(needed)
            yield from needed
            if node not in waiting:
                yield node

    def run_node(self, n: fx.Node) -> Any:
        """The value of a node, without the metadata for tracebacks that `fx.Interpreter` sets around each."""
        return getattr(self, n.op)(n.target, *self.fetch_args_kwargs_from_env(n))

    def placeholder(self, target: Any, args: Any, kwargs: Any) -> Any:
        """The value of an input, parameter, buffer or constant."""
        feed = self.program.feeds[target]
        if feed.kind == "input":
            return self.cast(self.inputs[target])
        if feed.name in self.by_rows:
            count, size = self.program.shapes[feed.name]
            return ByRows(count, size, partial(self._rows, feed.name))
        if feed.name in self.program.names:
            return self.cast(self.parameters(feed.name))
        return self.cast(self.program.constants.get(feed.name))

    def _rows(self, name: str, rows: Tensor) -> Tensor:
        found: Tensor = self.cast(self.parameters(name, rows))
        return found

    def cast(self, value: Any) -> Any:
        """A tensor in the dtype of this run; a copy where the program writes to its tensors in place."""
        if not isinstance(value, Tensor):
            return value
        copied = self.writes or (self.gradients and value.is_inference())  # which no gradient passes
        return (value if self.gradients else value.detach()).to(self._of_run(value.dtype), copy=copied)

    def _of_run(self, dtype: torch.dtype) -> torch.dtype:
        """The dtype that takes the place of `dtype` in this run."""
        if self.dtype is None or dtype not in (*REAL, *COMPLEX):
            return dtype
        return self.dtype if dtype in REAL else self.dtype.to_complex()

    def call_function(self, target: Any, args: Any, kwargs: Any) -> Any:
        """One operation; a dtype in its arguments is replaced by that of this run."""
        if op_name(target) == "aten._assert_tensor_metadata":
            return None
        number = TABLE.get(op_name(target))
        if number is not None and isinstance(args[number], ByRows):
            return args[number].result(op_name(target), *(x for x in args if isinstance(x, Tensor)))
        if self.program.device.type == "meta":
            args, kwargs = pytree.tree_map_only(torch.device, off_meta, (args, kwargs))
        if self.dtype is not None:
            if op_name(target) == "aten.view" and isinstance(args[1], torch.dtype) and args[0].dtype != args[1]:
                raise TypeError(f"it reads the bits of {args[0].dtype} as {args[1]}, and {self.dtype} has others")
            args = tuple(map(self._real, args))
            kwargs = {name: self._real(value) for name, value in kwargs.items()}
        if self.gradients and op_name(target) in STATISTICS and not args[5]:
            return _normalised(args[:5], args[7])
        value = super().call_function(target, args, kwargs)
        if isinstance(value, Tensor):  # the usual case; walking through a tree takes longer than many operations
            return self._in_dtype(value)
        return pytree.tree_map_only(Tensor, self._in_dtype, value)

    def _real(self, value: Any) -> Any:
        """An argument; a dtype is replaced by that of this run."""
        return self._of_run(value) if isinstance(value, torch.dtype) else value

    def _in_dtype(self, value: Tensor) -> Tensor:
        """A result computed from no real tensor (`torch.zeros(3)`, a quotient of integers) in the dtype of this run."""
        return value.to(self._of_run(value.dtype))


def _is_written(node: fx.Node) -> bool:
    schema = getattr(node.target, "_schema", None)
    return schema is not None and bool(schema.is_mutable)


def off_meta(device: torch.device) -> torch.device:
    """A program that was traced on meta runs where its inputs are."""
    return torch.device("cpu") if device.type == "meta" else device


def _normalised(operands: Sequence[Any], eps: float) -> Tensor:
    """(x - mean) / sqrt(variance + eps) · weight + bias, by running statistics."""
    x, weight, bias, mean, variance = operands
    shape = (1, -1, *[1] * (x.dim() - 2))
    y: Tensor = (x - mean.view(shape)) / (variance.view(shape) + eps).sqrt()
    y = y if weight is None else y * weight.view(shape)
    return y if bias is None else y + bias.view(shape)
