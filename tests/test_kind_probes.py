"""Random elements of all kinds keep the function, whatever is between two layers; and they form a group."""

from __future__ import annotations

import pytest
import torch
from judge import error
from kind_probes import PROBES, Probe, Probed
from torch import Tensor
from zoo_rows import Case

import permgraph as pg


def made(probe: Probe) -> Case:
    torch.manual_seed(0)
    return Case(Probed(probe).eval(), (torch.randn(2, 6, 5),))


@pytest.mark.parametrize("kinds", [pytest.param("signed", marks=pytest.mark.slow), "all"])
@pytest.mark.parametrize("probe", PROBES, ids=[probe.name for probe in PROBES])
def test_elements_keep_the_function(probe: Probe, kinds: str) -> None:
    case = made(probe)
    spec = pg.derive(case.model, case.args, kinds=kinds, outputs="free")
    assert max(error(case, spec, seed) for seed in range(3)) < 1e-9
    p, q, state = spec.sample(0), spec.sample(1), case.model.double().state_dict()
    assert near(spec.apply(spec.compose(p, q), state), spec.apply(p, spec.apply(q, state)))
    assert near(spec.apply(spec.invert(p), spec.apply(p, state)), state)


def near(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return all(torch.allclose(a[name], b[name], rtol=1e-9, atol=1e-9) for name in b)


def test_names_are_unique() -> None:
    assert len({probe.name for probe in PROBES}) == len(PROBES)
