"""Layer-wise least squares: merged matrices from second moments, every other tensor interpolated."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from permgraph.merging.calibration import Calibration
from permgraph.merging.layers import AffineLayer
from permgraph.merging.registry import LayerFunction
from permgraph.merging.second_moments import augmented, gather
from permgraph.merging.shares import Shares

RIDGE = 1e-3
"""How much of each input's own second moment holds a weight at the interpolated one: see `solve`."""


def merge_layers(function: LayerFunction, calibration: Calibration, shares: Shares) -> dict[str, Tensor]:
    """The weights and biases of all layers that `find_layers` finds, merged by `function`, by the graph's names.

    Rows of one layer with other shares are solved apart; a bias goes with the rows of its weight. Solved in float64,
    returned in A's dtypes.
    """
    layers, moments = calibration.once(gather)
    result: dict[str, Tensor] = {}
    for number, (weight, uses) in enumerate(layers.found.items()):
        bias = uses[0].bias
        own = moments[weight] if bias is not None else moments[weight].without_bias()
        a, b = (_matrix(uses, state, weight, bias) for state in (calibration.pair.state_a, calibration.pair.state_b))
        merged = torch.empty_like(a)
        for share, rows in _by_share(uses[0], shares, weight, a):
            merged[rows] = function(own, a, b, share)[rows]
        result |= _entries(uses[0], merged, calibration.pair.state_a)
        if calibration.progress is not None:
            calibration.progress("least squares", number + 1, len(layers.found))
    return result


def _matrix(uses: tuple[AffineLayer, ...], state: Mapping[str, Tensor], weight: str, bias: str | None) -> Tensor:
    return augmented(uses, state[weight].detach(), None if bias is None else state[bias].detach()).double()


def _by_share(layer: AffineLayer, shares: Shares, weight: str, matrix: Tensor) -> Iterator[tuple[float, Tensor]]:
    """Each share with the [groups, out] that have it."""
    rows = shares.of_rows(weight, layer.out_dim).expand(matrix.shape[0] * matrix.shape[1]).reshape(matrix.shape[:2])
    for share in sorted(set(rows.flatten().tolist())):
        yield share, rows == share


def _entries(layer: AffineLayer, merged: Tensor, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    old = state[layer.weight]
    if layer.bias is None:
        return {layer.weight: layer.restored(merged, old.shape).to(old)}
    bias = state[layer.bias]
    weight = layer.restored(merged[..., :-1], old.shape)
    return {layer.weight: weight.to(old), layer.bias: merged[..., -1].reshape(bias.shape).to(bias)}


def solve(moment: Tensor, target: Tensor, near: Tensor) -> Tensor:
    """The W of least tr(W M Wᵀ) - 2 tr(W Tᵀ) + RIDGE · Σ_j M_jj |W_j - N_j|², M = `moment`, T = `target`, N = `near`.

    (M + R) Wᵀ = (T + N R)ᵀ with R = RIDGE · diag M. Of all solutions where the data leaves some, it is the one near N;
    and since N pays no penalty, W never fits worse than N does. All of shape [groups, ...]; target and near
    [groups, out, n].
    """
    weight = moment.diagonal(dim1=1, dim2=2)
    weight = RIDGE * weight + 1e-9 * weight.mean(1, keepdim=True) + torch.finfo(weight.dtype).tiny ** 0.5
    found: Tensor = torch.linalg.solve(
        moment + torch.diag_embed(weight), (target + near * weight.unsqueeze(1)).transpose(1, 2)
    )
    return found.mT
