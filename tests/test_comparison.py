"""What an alignment keeps of its correlation matrices agrees with its gains, and its pictures show the matches."""

import numpy as np
import pytest
from pairs import PLANTED, mlp, plant, vectors

import permgraph as pg
from permgraph.matching.partners import PICTURE


@pytest.mark.parametrize("name", ["mlp", "hubert", "llama", "gpt2"])
def test_units_correlate_as_the_gains_say(name: str) -> None:
    planted = PLANTED[name]()
    found = pg.align(planted.a, planted.b, planted.batches, spec=planted.spec)
    for group, gain in found.gains.items():
        here = [c for c in found.partners if group in c.groups]
        for end in ("identity", "solution"):
            correlations = np.concatenate([getattr(c, end) for c in here])
            assert correlations.mean() == pytest.approx(getattr(gain, end), abs=1e-5), (group, end)


def test_the_picture_has_its_diagonal_where_units_are_matched() -> None:
    planted = plant(mlp(200), vectors())
    for comparison in pg.align(planted.a, planted.b, planted.batches).partners:
        assert comparison.moved.shape == comparison.unmoved.shape == (67, 67)
        assert len(comparison.moved) <= PICTURE
        assert np.diag(comparison.moved) == pytest.approx(1.0, abs=1e-5)
        assert np.diag(comparison.unmoved).min() < 0.99


def test_weights_leave_no_correlations() -> None:
    planted = plant(mlp(), vectors())
    assert pg.align(planted.a, planted.b, args=(planted.batches[0],)).partners == ()
