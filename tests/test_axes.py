"""The geometry of axes: whatever is split, cut and tied, the boxes of an axis partition it, and tied axes agree."""

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from permgraph.algebra.axes import Axis, freeze, product_of, sum_of
from permgraph.algebra.boxes import boxes
from permgraph.algebra.cutting import cut, take
from permgraph.algebra.tying import split, tie

SIZE = 24
DIVISORS = (1, 2, 3, 4, 6, 8, 12, 24)


def positions(axis):
    """All positions of the boxes of an axis, in their order."""
    found = []
    for box in boxes(axis):
        grid = np.full((), box.offset)
        for leaf in box.leaves:
            grid = grid[..., None] + leaf.stride * np.arange(leaf.size)
        found += grid.ravel().tolist()
    return found


def shapes(axis):
    return [(box.offset, box.shape) for box in boxes(axis)]


operations = st.one_of(
    st.tuples(st.just("split"), st.integers(0, 2), st.sampled_from(DIVISORS)),
    st.tuples(st.just("cut"), st.integers(0, 2), st.integers(1, SIZE - 1)),
    st.tuples(st.just("tie"), st.integers(0, 2), st.integers(0, 2)),
    st.tuples(st.just("freeze"), st.integers(0, 2), st.just(0)),
)


@settings(max_examples=300, deadline=None)
@given(st.lists(operations, max_size=8))
def test_boxes_partition_an_axis(done):
    axes, tied = [Axis(SIZE) for _ in range(3)], []
    for kind, k, number in done:
        if kind == "split":
            parts = split(axes[k], [SIZE // number, number], "split")
            assert [part.size for part in parts] == [SIZE // number, number]
        elif kind == "cut":
            cut(axes[k], [number], "cut")
        elif kind == "tie":
            tie(axes[k], axes[number], "tie")
            tied.append((k, number))
        else:
            freeze(axes[k], "frozen")
    for axis in axes:
        assert sorted(positions(axis)) == list(range(SIZE))
    for a, b in tied:
        assert axes[a].root() is axes[b].root()


@settings(max_examples=200, deadline=None)
@given(st.integers(0, SIZE - 1), st.integers(1, SIZE), st.sampled_from(DIVISORS))
def test_a_part_has_its_size(start, stop, inner):
    start, stop = sorted((start, stop))
    if start == stop:
        return
    axis = Axis(SIZE)
    split(axis, [SIZE // inner, inner], "split")
    part = take(axis, start, stop, "take")
    assert part.size == stop - start
    assert sorted(positions(part)) == list(range(stop - start))


def test_a_whole_axis_is_one_box():
    assert shapes(Axis(5)) == [(0, ((5, 1),))]
    assert shapes(Axis(1)) == [(0, ())]


def test_a_split_axis_is_a_product():
    axis = Axis(12)
    split(axis, [3, 4], "heads")
    assert shapes(axis) == [(0, ((3, 4), (4, 1)))]


def test_splits_that_nest_refine_each_other():
    axis = Axis(24)
    split(axis, [4, 6], "a")
    split(axis, [12, 2], "b")
    assert shapes(axis) == [(0, ((4, 6), (3, 2), (2, 1)))]


def test_splits_that_do_not_nest_freeze_what_lies_between():
    axis = Axis(24)
    split(axis, [4, 6], "a")
    split(axis, [6, 4], "b")
    frozen = [leaf.size for box in boxes(axis) for leaf in box.leaves if leaf.axis.root().frozen]
    free = [leaf.size for box in boxes(axis) for leaf in box.leaves if not leaf.axis.root().frozen]
    assert np.prod(free) * np.prod(frozen) == 24
    assert 2 in free
    assert any("do not nest" in leaf.axis.root().frozen for box in boxes(axis) for leaf in box.leaves)


def test_segments_keep_their_own_structure():
    axis = Axis(10)
    head, tail = take(axis, 0, 4, "cut"), take(axis, 4, 10, "cut")
    split(tail, [2, 3], "split")
    assert shapes(axis) == [(0, ((4, 1),)), (4, ((2, 3), (3, 1)))]
    assert head.size == 4


def test_a_tie_passes_structure_on():
    a, b = Axis(6), Axis(6)
    tie(a, b, "tie")
    split(a, [2, 3], "split")
    assert shapes(b) == [(0, ((2, 3), (3, 1)))]


def test_the_first_reason_is_kept():
    axis = Axis(6)
    freeze(axis, "first")
    freeze(axis, "second")
    assert axis.root().frozen == "first"


def test_products_and_sums_of_one_part_are_that_part():
    part = Axis(3)
    assert product_of([Axis(1), part]) is part
    assert sum_of([part]) is part


@pytest.mark.parametrize("sizes", [(2, 3), (3, 1, 2), (6,)])
def test_parts_of_a_split_have_the_sizes_asked_for(sizes):
    assert [part.size for part in split(Axis(6), sizes, "split")] == list(sizes)
