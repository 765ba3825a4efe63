"""Layer after layer, a merged model's weights are fitted to what its parents do, given what it does itself so far."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from permgraph.comparing.calibration import Calibration
from permgraph.comparing.layers import AffineLayer, find_layers
from permgraph.comparing.lockstep import Stop
from permgraph.comparing.second_moments import pieces
from permgraph.merging.least_squares import by_share, entries, solve, whole_matrix
from permgraph.merging.registry import correction
from permgraph.merging.shares import Shares


@correction("refit", reference="arXiv 2407.02447, on the merged model's own inputs as in arXiv 2508.03121")
def refit(calibration: Calibration, merged: Mapping[str, Tensor], shares: Shares) -> dict[str, Tensor]:
    """The W of least Σ |W x - ȳ|² over frames, x the merged model's input and ȳ the mean of the parents' outputs.

    ȳ = share · A x_A + (1 - share) · B x_B. As PLeaS, but x is what the layer really gets, all earlier layers refitted,
    so that what one layer cannot do the next one makes up for; held near the merged weight where the data leaves W
    free, as in `least_squares.solve`. For layers whose weight is used once, in the order of the graph. Memory: the live
    activations of three models on all batches.
    """
    layers = {layer.node: layer for layer in find_layers(calibration.program).single}
    state = dict(merged)
    states = (state, *calibration.states)
    changed: dict[str, Tensor] = {}
    for name, stops in calibration.all_batches(states, layers, "refit"):
        new = entries(layers[name], _fitted(layers[name], states, stops, shares), merged)
        state |= new
        changed |= new
        for stop, *_ in stops:
            stop.again()
    return changed


def _fitted(
    layer: AffineLayer, states: Sequence[Mapping[str, Tensor]], stops: Sequence[tuple[Stop, ...]], shares: Shares
) -> Tensor:
    """[groups, out, in (+ 1)]: the matrix of a layer, with its bias."""
    near, a, b = (whole_matrix(layer, state) for state in states)
    groups, _, n = near.shape
    own, with_a, with_b = (near.new_zeros(groups, n, n) for _ in range(3))
    for batch in stops:
        inputs = [stop.input(layer.source) for stop in batch]
        for x, x_a, x_b in pieces(layer, inputs, batch[0].mask):
            for total, other in ((own, x), (with_a, x_a), (with_b, x_b)):
                total += torch.bmm(other[..., :n].mT, x[..., :n])
    fitted = torch.empty_like(near)
    for share, rows in by_share(layer, shares, near):
        fitted[rows] = solve(own, share * a @ with_a + (1 - share) * b @ with_b, near)[rows]
    return fitted
