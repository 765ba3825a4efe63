"""Every model of the zoo: the order of its group, its function under random elements, and the laws of its elements."""

from functools import cache

import numpy as np
import pytest
import torch
import vision
import zoo_vision
from judge import error
from zoo import ROWS, Row
from zoo_rows import Case

from permgraph import PermutationSpec, derive


def parameters(rows=ROWS, every=1):
    """Rows of the zoo; all but each so many are left to the slow tests."""
    return list(_marked(rows, every))


def _marked(rows, every):
    for number, row in enumerate(rows):
        marks = [pytest.mark.slow] if row.slow or number % every else []
        if row.known_gap:
            marks.append(pytest.mark.xfail(strict=True, reason=row.known_gap))
        yield pytest.param(row, id=row.name, marks=marks)


@cache
def derived(row: Row, kinds: str = "permutation") -> tuple[Case, PermutationSpec]:
    case = row.build()
    outputs = row.outputs if kinds == "permutation" else "free"
    return case, derive(case.model, case.args, case.kwargs, outputs=outputs, kinds=kinds)


@pytest.mark.parametrize("row", parameters())
def test_group_and_function(row):
    case, spec = derived(row)
    for seed in (0, 1):
        assert error(case, spec, seed) < row.tolerance
    assert spec.log10_order == pytest.approx(row.order, rel=1e-6, abs=1e-9)
    check_laws(spec, case.model.state_dict())


@pytest.mark.parametrize("kinds", [pytest.param("signed", marks=pytest.mark.slow), "all"])
@pytest.mark.parametrize("row", parameters())
def test_elements_of_all_kinds_keep_the_function(row, kinds):
    case, spec = derived(row, kinds)
    for seed in (0, 1):
        assert error(case, spec, seed) < row.tolerance


def check_laws(spec, state):
    """JSON round trip; apply(compose(p, q)) = apply(p) apply(q); invert(p) undoes p."""
    again = PermutationSpec.from_json(spec.to_json())
    assert again.to_json() == spec.to_json()
    p, q = again.sample(3), again.sample(4)
    assert equal(spec.apply(spec.compose(p, q), state), spec.apply(p, spec.apply(q, state)))
    assert spec.compose(spec.invert(p), p) == spec.identity()
    assert equal(spec.apply(spec.identity(), state), state)


def equal(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.skipif(not vision.available(), reason="timm and torchvision are not installed; `make test` installs them")
@pytest.mark.filterwarnings("ignore::Warning:timm.*", "ignore::Warning:torchvision.*")
@pytest.mark.parametrize("row", parameters(zoo_vision.ROWS))
def test_published_vision_models(row):
    test_group_and_function(row)


def test_names_are_unique():
    assert len({row.name for row in ROWS}) == len(ROWS)


def test_permutations_move_every_group():
    case, spec = derived(next(row for row in ROWS if row.name == "residual mlp"))
    moved = spec.apply(spec.sample(0), case.model.state_dict())
    for group in spec.groups:
        assert any(not torch.equal(moved[name], case.model.state_dict()[name]) for name, _ in group.axes)
        assert np.prod(group.depends_sizes, dtype=int) == group.count
