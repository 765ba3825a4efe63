"""What a merge is to do on unlabelled inputs: what its two parents do on average."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import inf, log, prod
from typing import Any

import torch
from torch import Tensor, fx
from torch.utils import _pytree as pytree

from permgraph.comparing.batches import Batch
from permgraph.comparing.frames import kept_rows
from permgraph.comparing.padding import padding_masks
from permgraph.errors import OptionError
from permgraph.tracing.program import Program, op_name
from permgraph.wording import shortened

Loss = str | Callable[[Any, Any], Tensor] | None
"""None, "logits" or "features"; or loss(outputs, batch): outputs as the model returns them, the batch as it is given
to `align`, and a tensor of no dimension that is to be made small."""

NAMED = ("logits", "features")
CONTRACTIONS = frozenset(
    f"aten.{name}" for name in ("linear", "addmm", "mm", "matmul", "bmm", "conv1d", "conv2d", "conv3d", "convolution")
)
ROWS_KEPT = frozenset(
    f"aten.{name}"
    for name in (
        "view", "reshape", "unsqueeze", "squeeze", "slice", "select", "clone", "contiguous", "to", "_to_copy", "alias",
        "add", "mul", "div", "tanh", "flatten", "_unsafe_view", "transpose", "permute", "masked_fill",
    )
)  # fmt: skip
"""What may be between a contraction and the logits: views, a bias, a scale, a soft cap, a bar."""


@dataclass(frozen=True)
class Objective:
    """The distance of outputs to those of both parents, for one program; `share` is what A counts of their mean.

    Logits: the Kullback-Leibler divergence of the softmax over the last axis from the mean of the parents'
    distributions, mean over all rows. Features: the squared distance to the mean of the parents' features, in units of
    its variance. Rows that are padding do not count. `loss` chooses, and without it the outputs do: those called
    logits; else those that are a contraction with parameters, up to views, a bias, a scale and a soft cap, along a last
    axis of more than one unit; where there are none, all outputs are features.
    """

    program: Program
    loss: Loss = None
    share: float = 0.5

    def __post_init__(self) -> None:
        if not (self.loss is None or self.loss in NAMED or callable(self.loss)):
            raise OptionError(f"loss is one of {', '.join(NAMED)}, or a function, not {self.loss!r}")

    @property
    def needs_parents(self) -> bool:
        """Whether the parents' outputs are compared with; a function given by the user sees the merge alone."""
        return not callable(self.loss)

    @property
    def leaves(self) -> dict[int, str]:
        """Number of each output that counts -> "logits" or "features". Raises OptionError where there is none."""
        if not self._leaves:
            raise OptionError("this model returns no tensor of real numbers: give a loss, a function of its outputs")
        return self._leaves

    @cached_property
    def _leaves(self) -> dict[int, str]:
        real = {k: node for k, node in enumerate(_output_nodes(self.program)) if _is_real(node)}
        logits = {k: node for k, node in real.items() if "logits" in self.program.outputs[k]}
        if self.loss is None:
            chosen = logits or {k: node for k, node in real.items() if _is_contracted(node)}
        else:
            chosen = (logits or real) if self.loss == "logits" else {}
        return dict.fromkeys(chosen, "logits") or dict.fromkeys(real, "features")

    @property
    def size(self) -> int:
        """How many outputs a batch has, each a distribution or a vector of features; 1 where that is not known."""
        nodes = _output_nodes(self.program)
        shapes = [nodes[leaf].meta["val"].shape for leaf in self._leaves]
        counts = [prod(shape[:-1] if len(shape) > 1 else shape) for shape in shapes if all(map(_is_known, shape))]
        return sum(counts) or 1

    def __call__(
        self, outputs: Sequence[Any], parents: Sequence[Sequence[Any]], inputs: Mapping[str, Any], batch: Batch
    ) -> Tensor:
        """The loss of output leaves, given the leaves of both parents for the same inputs."""
        if callable(self.loss):
            args, kwargs = batch
            whole = pytree.tree_unflatten(list(outputs), self.program.outputs_spec)
            return _number(self.loss(whole, kwargs or (args[0] if len(args) == 1 else args)))
        masks = padding_masks(self.program, inputs)
        total = torch.zeros((), device=outputs[next(iter(self.leaves))].device)
        for k, kind in self.leaves.items():
            own, a, b = self.rows(k, (outputs, *parents), masks)
            total = total + (divergence if kind == "logits" else distance)(own, a, b, self.share)
        return total

    def rows(self, leaf: int, outputs: Sequence[Sequence[Any]], masks: Mapping[str, Tensor]) -> list[Tensor]:
        """[rows, n] of one output leaf, of each of several models, without padding."""
        mask = masks.get(_output_nodes(self.program)[leaf].name)
        found = [_rows(leaves[leaf], mask) for leaves in outputs]
        if len({len(rows) for rows in found}) > 1:
            raise OptionError(
                f"{self.program.outputs[leaf]} has {' and '.join(str(len(rows)) for rows in found)} rows for the same "
                "inputs, as weights decide how many: outputs of these models cannot be compared"
            )
        return found


def divergence(own: Tensor, a: Tensor, b: Tensor, share: float = 0.5) -> Tensor:
    """KL(λ softmax a + (1 - λ) softmax b ‖ softmax own) over the last axis, mean over rows; λ is A's share.

    What both parents bar by a logit of -inf does not count: 0 log 0 = 0.
    """
    of_a, of_b = (log(2 * part) if part else -inf for part in (share, 1 - share))
    target = torch.logaddexp(a.log_softmax(-1) + of_a, b.log_softmax(-1) + of_b) - log(2)
    logs, barred = own.log_softmax(-1), target.isneginf()
    if bool(barred.any()):
        logs, target = (one.masked_fill(barred, 0.0) for one in (logs, target))
    return torch.nn.functional.kl_div(logs, target, log_target=True, reduction="batchmean")


def distance(own: Tensor, a: Tensor, b: Tensor, share: float = 0.5) -> Tensor:
    """Σ |own - t|² / Σ |t - mean t|² for t = λ a + (1 - λ) b, sums and mean over rows; λ is A's share.

    A single row, which has no variance, is measured by Σ |t|².
    """
    target = share * a + (1 - share) * b
    spread = (target - target.mean(0) if len(target) > 1 else target).square().sum()
    return (own - target).square().sum() / spread.clamp_min(torch.finfo(target.dtype).tiny)


def _number(loss: Any) -> Tensor:
    """What a user's function returned. Raises OptionError for anything but one real number in a tensor."""
    if isinstance(loss, Tensor) and loss.numel() == 1 and loss.is_floating_point():
        return loss.squeeze()
    what = f"a tensor of {loss.dtype} and shape {tuple(loss.shape)}" if isinstance(loss, Tensor) else repr(loss)
    raise OptionError(f"a loss returns a tensor of no dimension that can be differentiated, not {shortened(what, 80)}")


def _is_known(size: Any) -> bool:
    return isinstance(size, int)


def _rows(leaf: Tensor, mask: Tensor | None) -> Tensor:
    """[rows, n], without padding."""
    rows = leaf.reshape(-1, leaf.shape[-1] if leaf.dim() > 1 else 1)
    own = kept_rows(mask, len(rows))
    return rows if own is None else rows[own]


def _output_nodes(program: Program) -> list[Any]:
    output = next(node for node in reversed(program.graph.graph.nodes) if node.op == "output")
    return list(output.args[0])


def _is_real(node: Any) -> bool:
    value = node.meta.get("val") if isinstance(node, fx.Node) else None
    return isinstance(value, Tensor) and value.is_floating_point()


def _is_contracted(node: fx.Node) -> bool:
    """Whether an output is made by a contraction, up to views, a bias, a scale and a soft cap."""
    value = node.meta["val"]
    if value.dim() < 2 or value.shape[-1] < 2:
        return False
    while op_name(node.target) in ROWS_KEPT:
        node = node.all_input_nodes[0]
    return op_name(node.target) in CONTRACTIONS
