"""Layer-wise least squares: merged matrices from second moments, every other tensor interpolated."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from permgraph.comparing.calibration import Calibration
from permgraph.comparing.layers import AffineLayer
from permgraph.comparing.second_moments import gather
from permgraph.merging.registry import LayerFunction
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
        own = moments[weight] if uses[0].bias is not None else moments[weight].without_bias()
        a, b = (whole_matrix(uses[0], state) for state in calibration.states)
        merged = torch.empty_like(a)
        for share, rows in by_share(uses[0], shares, a):
            merged[rows] = function(own, a, b, share)[rows]
        result |= entries(uses[0], merged, calibration.states[0])
        if calibration.progress is not None:
            calibration.progress("least squares", number + 1, len(layers.found))
    return result


def whole_matrix(layer: AffineLayer, state: Mapping[str, Tensor]) -> Tensor:
    """[groups, out, in + 1]: the matrix of a layer with its bias as the last column; [groups, out, in] without one."""
    matrix = layer.matrix(state[layer.weight].detach()).double()
    if layer.bias is None:
        return matrix
    return torch.cat([matrix, state[layer.bias].detach().reshape(*matrix.shape[:2], 1).to(matrix)], dim=2)


def entries(layer: AffineLayer, matrix: Tensor, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weight and the bias that make this matrix, in the dtypes of `state`."""
    old = state[layer.weight]
    if layer.bias is None:
        return {layer.weight: layer.restored(matrix, old.shape).to(old)}
    bias = state[layer.bias]
    weight = layer.restored(matrix[..., :-1], old.shape)
    return {layer.weight: weight.to(old), layer.bias: matrix[..., -1].reshape(bias.shape).to(bias)}


def by_share(layer: AffineLayer, shares: Shares, matrix: Tensor) -> Iterator[tuple[float, Tensor]]:
    """Each share with the bool [groups, out] of the rows that have it."""
    rows = shares.of_rows(layer.weight, layer.out_dim).expand(matrix.shape[0] * matrix.shape[1])
    rows = rows.reshape(matrix.shape[:2])
    for share in sorted(set(rows.flatten().tolist())):
        yield share, rows == share


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
