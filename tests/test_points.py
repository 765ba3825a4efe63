"""Where activations are compared: groups that meet side by side, together where that is small and apart where not."""

from __future__ import annotations

import pytest
import torch
from pairs import plant
from torch import Tensor, nn

import permgraph as pg
from permgraph.comparing import points
from permgraph.comparing.points import find_points
from permgraph.symmetry.derivation.derive import Derivation
from permgraph.tracing.capture import capture


class Mixer(nn.Module):
    """A layer that mixes positions, between layers that mix channels: its hidden units meet every channel."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.head = nn.Linear(4, 10), nn.Linear(10, 3)
        self.wide, self.narrow = nn.Linear(6, 8), nn.Linear(8, 6)

    def forward(self, x: Tensor) -> Tensor:
        h = self.embed(x)
        mixed = self.narrow(nn.functional.gelu(self.wide(h.transpose(1, 2)))).transpose(1, 2)
        return self.head(torch.tanh(h + mixed))


@pytest.mark.parametrize("most", [points.MOST_TOGETHER, 50])
def test_groups_side_by_side_are_told_apart_together_and_by_their_means(
    most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(points, "MOST_TOGETHER", most)
    torch.manual_seed(0)
    batches = [torch.randn(16, 6, 4) for _ in range(4)]
    planted = plant(Mixer().eval(), batches)
    names = [group.name for group in planted.spec.groups]
    found = find_points(Derivation(capture(planted.a, (batches[0],), {}), "fixed", {}), names)
    assert (max(len(point.groups) for point in found) == 2) == (most > 80)
    aligned = pg.align(planted.a, planted.b, batches)
    assert planted.recovered(aligned.permutations) == names


def test_more_correlations_than_memory_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("permgraph.matching.correlation.machine_memory", lambda: 1000.0)
    model, x = Mixer().eval(), torch.randn(16, 6, 4)
    with pytest.raises(pg.CalibrationError, match=r"this machine has 0\.0; the largest is .* with 80 units"):
        pg.align(model, model, [x])
