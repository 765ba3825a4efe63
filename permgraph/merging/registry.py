"""Merge methods: one decorated function each, with the paper it comes from.

Three kinds, by what they need. A *merge method* makes one tensor of the tensors that all models have at one place. A
*layer method* makes the matrix of a linear or convolution layer from the matrices of two models and the second moments
of their inputs; every other tensor is interpolated. A *correction* changes a merged model of two with calibration data.
`repair` and the like then follow a merge: "slerp+repair".

A merge method:

    @merge_method("mine", reference="arXiv 0000.00000")
    def mine(tensors, shares, *, base=None, name="", density=0.5):
        return sum(share * tensor for share, tensor in zip(shares, tensors))

`tensors` has one entry a model, of one shape, in float32 or wider, all moved to the first model's places and on its
device. `shares` has the share of each model, which sum to 1: numbers, or tensors with a number for each element. Two
keyword-only parameters are filled in where the function has them: `base`, the tensor of the model that all others were
fine-tuned from (None where none was given), and `name`, the state dict's key. All other keyword-only parameters are
options of the method: `merge(a, b, method="mine", density=0.2)` passes them on, and so does `--option density=0.2`.

A merge method of this package is a file in `permgraph/merging/methods`. A distribution adds one by an entry point:

    [project.entry-points."permgraph.merges"]
    mine = "my_package.merging:mine"
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from torch import Tensor

from permgraph.plugins import Registry

if TYPE_CHECKING:
    from permgraph.comparing.calibration import Calibration
    from permgraph.comparing.second_moments import SecondMoments
    from permgraph.merging.shares import Shares

MergeFunction = Callable[..., Tensor]
"""(tensors, shares, *, base, name, options…) -> the merged tensor."""

LayerFunction = Callable[["SecondMoments", Tensor, Tensor, float], Tensor]
"""(moments of the inputs, A's matrix, B's matrix, A's share) -> the merged matrix; matrices are [groups, out, in]."""

CorrectionFunction = Callable[["Calibration", Mapping[str, Tensor], "Shares"], dict[str, Tensor]]
"""(both models and the data, a merged state dict, A's shares) -> the entries to replace, by the graph's names."""

correction: Registry[CorrectionFunction] = Registry("merge method", "")
layer_method: Registry[LayerFunction] = Registry("merge method", "", correction)
merge_method: Registry[MergeFunction] = Registry("merge method", "permgraph.merges", layer_method, correction)
