"""Streaming moments against float64 numpy on the whole data."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st

from permgraph.comparing.frame_counts import advised_frames, minimum_frames
from permgraph.comparing.moments import CHUNK, CrossMoments
from permgraph.errors import CalibrationError

SIZE = 7


def related(frames: int, *, mean: float = 0.0, size: int = SIZE, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Two float32 activations [frames, size] that share half of their variance."""
    generator = torch.Generator().manual_seed(seed)
    shared, own_a, own_b = (torch.randn(frames, size, generator=generator) for _ in range(3))
    return mean + shared + own_a, mean + shared.flip(1) - own_b


def expected(a: torch.Tensor, b: torch.Tensor) -> np.ndarray:
    size = a.shape[1]
    return np.corrcoef(a.double().numpy().T, b.double().numpy().T)[:size, size:]


def streamed(
    a: torch.Tensor, b: torch.Tensor, batch: int, keep: torch.Tensor | None = None, **settings
) -> CrossMoments:
    moments = CrossMoments(a.shape[1], **settings)
    for first in range(0, len(a), batch):
        part = slice(first, first + batch)
        moments.update(a[part], b[part], None if keep is None else keep[part])
    return moments


@settings(max_examples=40, deadline=None)
@given(
    frames=st.integers(3, 300),
    batch=st.integers(1, 100),
    mean=st.sampled_from([0.0, 1.0, -1e2, 1e4]),
    seed=st.integers(0, 2**16),
    masked=st.booleans(),
)
def test_streaming_is_the_whole_data(frames, batch, mean, seed, masked):
    a, b = related(frames, mean=mean, seed=seed)
    keep = torch.rand(frames, generator=torch.Generator().manual_seed(seed)) < 0.7 if masked else None
    if keep is not None:
        keep[:3] = True
    moments = streamed(a, b, batch, keep)
    if keep is not None:
        a, b = a[keep], b[keep]
    assert moments.frames == len(a)
    np.testing.assert_allclose(moments.correlation(), expected(a, b), atol=1e-6)
    centred_a, centred_b = (x.double() - x.double().mean(0) for x in (a, b))
    np.testing.assert_allclose(moments.covariance(), (centred_a.T @ centred_b / len(a)).numpy(), atol=1e-5)


@pytest.mark.parametrize("batch", [7, 100, CHUNK, 3 * CHUNK + 5, 10_000])
@pytest.mark.parametrize("mean", [0.0, 1e4])
def test_many_chunks_are_the_whole_data(batch, mean):
    a, b = related(4 * CHUNK + 3, mean=mean)
    np.testing.assert_allclose(streamed(a, b, batch).correlation(), expected(a, b), atol=1e-6)


def test_a_mean_that_drifts_costs_no_digits():
    a, b = related(5 * CHUNK)
    a[CHUNK:] += 1e4
    b[: 3 * CHUNK] -= 1e4
    np.testing.assert_allclose(streamed(a, b, 100).correlation(), expected(a, b), atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_batches_of_another_dtype(dtype):
    a, b = (x.to(dtype) for x in related(500, mean=1e4 if dtype == torch.float64 else 0.0))
    np.testing.assert_allclose(streamed(a, b, 37).correlation(), expected(a, b), atol=1e-6)


def test_products_in_float64_keep_more_digits():
    a, b = (x.double() for x in related(3 * CHUNK))
    np.testing.assert_allclose(streamed(a, b, 100, dtype=torch.float64).correlation(), expected(a, b), atol=1e-14)


def test_more_channels_than_one_slab():
    a, b = related(40, size=600)
    np.testing.assert_allclose(streamed(a, b, 9).correlation(), expected(a, b), atol=1e-6)


def test_reading_half_way_changes_nothing():
    a, b = related(200)
    moments = CrossMoments(SIZE)
    moments.update(a[:90], b[:90])
    np.testing.assert_allclose(moments.correlation(), expected(a[:90], b[:90]), atol=1e-6)
    moments.update(a[90:], b[90:])
    np.testing.assert_allclose(moments.correlation(), expected(a, b), atol=1e-6)
    assert (moments.correlation() == moments.correlation()).all()


@pytest.mark.parametrize("shape", [(3, 2 * CHUNK + 7), (40, 30), (5, 6, 8), (1, 1), (3, 1)])
def test_frames_of_any_shape_and_strides_are_those_row_by_row(shape):
    """Activations as convolutions leave them: the channels before time and space."""
    a, b = related(int(np.prod(shape)) + 5)
    first, rest = (a[:5], b[:5]), (a[5:], b[5:])
    whole, views = CrossMoments(SIZE), CrossMoments(SIZE)
    for moments in (whole, views):
        moments.update(*first)
    whole.update(*rest)
    views.update(*(x.view(*shape, SIZE).movedim(-1, 1).contiguous().movedim(1, -1) for x in rest))
    assert views.frames == whole.frames
    np.testing.assert_allclose(views.correlation(), whole.correlation(), atol=1e-6)


def test_the_last_reading_takes_the_place_of_the_sums():
    a, b = related(50)
    moments, kept = streamed(a, b, 50), streamed(a, b, 50)
    assert (moments.correlation(last=True) == kept.correlation()).all()


def test_the_sign_and_the_sides():
    """Row i is A's channel, column j is B's; opposite channels have -1."""
    a, _ = related(50)
    correlation = streamed(a, -a.roll(1, dims=1), 50).correlation()
    assert correlation.dtype == np.float64
    np.testing.assert_allclose(correlation[range(SIZE), [(i + 1) % SIZE for i in range(SIZE)]], -1, atol=1e-6)
    assert np.abs(correlation).max() <= 1


DEAD = {
    "zero": lambda n: torch.zeros(n),
    "constant": lambda n: torch.full((n,), 0.1),
    "huge constant": lambda n: torch.full((n,), 12345.678),
    "constant up to rounding": lambda n: 0.1 * (1 + 1.2e-7 * (torch.arange(n) % 2)),
    "huge, up to rounding": lambda n: 1e4 + 1e-3 * (torch.arange(n) % 2),
}


@pytest.mark.parametrize("name", DEAD)
@pytest.mark.parametrize("batch", [7, 64, 2000])
def test_a_dead_channel_has_no_correlation(name, batch):
    a, b = related(2000)
    a[:, 2] = DEAD[name](2000)
    b[:, 4] = DEAD[name](2000)
    moments = streamed(a, b, batch)
    correlation = moments.correlation()
    assert (correlation[2] == 0).all()
    assert (correlation[:, 4] == 0).all()
    alive = [0, 1, 3, 5, 6]
    np.testing.assert_allclose(correlation[np.ix_(alive, alive)], expected(a[:, alive], b[:, alive]), atol=1e-6)
    assert [np.flatnonzero(side).tolist() for side in moments.dead()] == [[2], [4]]


def test_a_small_signal_on_a_large_mean_is_not_dead():
    a, b = related(500)
    scaled = (1e4 + 0.05 * a, 1e-6 * b)
    np.testing.assert_allclose(streamed(*scaled, 50).correlation(), expected(*scaled), atol=1e-6)


def test_padding_may_hold_anything():
    a, b = related(100)
    keep = torch.arange(100) < 60
    a[60:], b[60:] = torch.nan, torch.inf
    np.testing.assert_allclose(streamed(a, b, 100, keep).correlation(), expected(a[:60], b[:60]), atol=1e-6)


def test_inputs_are_left_alone_and_inference_mode_is_no_matter():
    a, b = related(50)
    copy = a.clone()
    with torch.inference_mode():
        moments = CrossMoments(SIZE)
        moments.update(a[:20] * 1, b[:20] * 1)
    moments.update(a[20:].requires_grad_(), b[20:])
    np.testing.assert_allclose(moments.correlation(), expected(copy, b), atol=1e-6)
    assert (a == copy).all()


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_names_what_is_not_finite_and_adds_nothing(value):
    a, b = related(10)
    moments = CrossMoments(SIZE, where="encoder.layers.3.fc1")
    moments.update(a, b)
    before = moments.correlation()
    b[4, 2] = value
    keep = torch.arange(10) > 1
    message = r"encoder.layers.3.fc1: 1 activations of model B .* frame 4 of the batch, channel 2"
    with pytest.raises(CalibrationError, match=message):
        moments.update(a, b, keep)
    assert moments.frames == 10
    assert (moments.correlation() == before).all()


def test_finite_values_may_overflow_their_sum_but_not_their_squares():
    a, b = related(10)
    moments = CrossMoments(SIZE)
    moments.update(3e37 * a, b)
    with pytest.raises(CalibrationError, match="too large to square"):
        moments.correlation()


REFUSED = {
    "the mask must be bool": lambda m: m.update(*related(9), torch.ones(9)),
    r"expected \[frames, 7\]": lambda m: m.update(*related(9, size=5)),
    "the same batch": lambda m: m.update(related(9)[0], related(8)[1]),
    "0 frames": lambda m: m.covariance(),
    "1 frames of calibration data for 7 channels, at least 2": lambda m: (m.update(*related(1)), m.correlation()),
    "2 frames .* at least 7 are needed and 19 advised": lambda m: (m.update(*related(2)), m.require_frames()),
    "4 frames .* at least 5": lambda m: (m.update(*related(4)), m.require_signal(5)),
    "all 7 channels of model B are constant": lambda m: (
        m.update(related(9)[0], torch.ones(9, SIZE)),
        m.require_signal(),
    ),
}


@pytest.mark.parametrize("message", REFUSED)
def test_refuses(message):
    with pytest.raises(CalibrationError, match=message):
        REFUSED[message](CrossMoments(SIZE))


def test_enough_is_enough():
    moments = streamed(*related(7), 3)
    moments.require_signal()
    assert (minimum_frames(768), advised_frames(768)) == (17, 57)


@pytest.mark.parametrize(("size", "dtype"), [(0, torch.float32), (3, torch.float16)])
def test_refuses_to_be_built(size, dtype):
    with pytest.raises(ValueError, match="size must be positive"):
        CrossMoments(size, dtype=dtype)
