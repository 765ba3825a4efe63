"""A pair of models of which one is the other, moved: the way back can be learned."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from kind_cases import SEQUENCE, Block
from torch import Tensor, nn

import permgraph as pg
from permgraph.comparing.batches import Batches
from permgraph.comparing.calibration import Calibration
from permgraph.comparing.models import Models
from permgraph.learning.coordinates import Coordinates
from permgraph.learning.element import Learned, learn
from permgraph.learning.objective import divergence

CPU = torch.device("cpu")


def near(spec: pg.PermutationSpec, size: float) -> dict[str, Any]:
    """A random element of the identity component, this far from the identity, for the groups that have one."""
    coordinates = Coordinates(spec.groups, CPU, torch.float64)
    generator = torch.Generator().manual_seed(1)
    shapes = {name: x.shape for name, x in coordinates.tensors.items()}
    return coordinates.exact({name: size * torch.randn(shape, generator=generator) for name, shape in shapes.items()})


@dataclass(frozen=True)
class Planted:
    """B is A moved a little way, and noise; the way back can be learned."""

    model: nn.Module
    other: nn.Module
    spec: pg.PermutationSpec
    batches: Sequence[Any]

    def learned(self, **options: Any) -> Learned:
        calibration = Calibration(Models.of((self.model, self.other)), Batches.of(self.batches))
        return learn(calibration, self.spec, self.spec.identity(), **options)


def planted(count: int = 4, dtype: torch.dtype = torch.float32) -> Planted:
    torch.manual_seed(0)
    model = Block(affine=False).eval()
    spec = pg.derive(model, (SEQUENCE.float(),), kinds="all")
    other = copy.deepcopy(model)
    other.load_state_dict(spec.apply(near(spec, 0.3), model.state_dict()))
    batches = [torch.randn(16, 6, 5, generator=torch.Generator().manual_seed(k)).to(dtype) for k in range(count)]
    return Planted(model.to(dtype), other.to(dtype), spec, batches)


def halfway(pair: Planted, element: Any, x: Tensor | None = None) -> float:
    """The divergence of the merge from both parents; by default on inputs that nothing was learned from."""
    moved = pair.spec.apply(element, pair.other.state_dict())
    merged = {name: (a + moved[name]) / 2 for name, a in pair.model.state_dict().items()}
    x = torch.randn(64, 6, 5, generator=torch.Generator().manual_seed(99)) if x is None else x
    with torch.no_grad():
        own = torch.func.functional_call(pair.model, merged, (x,))
        return float(divergence(own.flatten(0, 1), pair.model(x).flatten(0, 1), pair.other(x).flatten(0, 1)))
