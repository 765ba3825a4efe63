"""Streaming cross-moments of the activations of two models at one point of the graph."""

import math
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from permgraph import ranks
from permgraph.comparing.frame_counts import advised_frames, minimum_frames
from permgraph.errors import CalibrationError

CHUNK = 1024
"""Frames collected before a product, so that small batches cost no more than large ones."""

ALIKE, MANY = 1e-5, 16
"""How far rounding takes a correlation over two frames from 1; the least number of pairs that tell what it is."""

Sums = tuple[int, Tensor, Tensor]
"""Of one process: frames, and the means and squared deviations of the channels of A and of B."""

SLAB = 512
"""Channels of A a product covers at once: the float32 scratch stays [SLAB, n] instead of [n, n]."""


class CrossMoments:
    """Streaming Pearson correlation between the n channels of A and the n channels of B over frames.

    c[i, j] = Σ_t (a[t, i] - ā[i]) (b[t, j] - b̄[j]) and r[i, j] = c[i, j] / sqrt(Σ (a_i - ā_i)² Σ (b_j - b̄_j)²), signed.

    Frames are gathered into chunks, shifted by the first batch's mean; each chunk is centred by its own mean,
    multiplied in `dtype` and added in float64, so a mean that is huge or that drifts costs no digits. Chunks are joined
    as Chan, Golub and LeVeque (1983) join variances: their term n·m/(n+m) δ_a δ_bᵀ is one more row of the product.
    Memory: one float64 [n, n] on the CPU, and two [CHUNK, n] in `dtype` where the products run.

    - `device`: where the products run; it must know float64. Batches may come from any device.
    - `dtype`: float32 (default) or float64. On CUDA, leave TF32 products off: they keep three digits.
    - `where`: the point's name, for messages.

    Raises ValueError when `size` is not positive or `dtype` is neither of the two.
    """

    def __init__(
        self,
        size: int,
        *,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
        where: str = "activations",
    ) -> None:
        if size < 1 or dtype not in (torch.float32, torch.float64):
            raise ValueError(f"size must be positive and dtype float32 or float64, not {size} and {dtype}")
        self.size = size
        self.where = where
        # A tensor born in inference mode could not be updated outside of it.
        with torch.inference_mode(False):
            self._cross = torch.empty(size, size, dtype=torch.float64, device="cpu")  # filled by the first join
            self._origin = torch.zeros(2, size, dtype=dtype, device=device)
            self._means = torch.zeros(2, size, dtype=torch.float64, device=device)
            self._squares = torch.zeros(2, size, dtype=torch.float64, device=device)
            self._rows = torch.empty(2, CHUNK + 1, size, dtype=dtype, device=device)
            self._product = torch.empty(min(SLAB, size), size, dtype=dtype, device=device)
        self._joined = 0
        self._waiting = 0

    @property
    def frames(self) -> int:
        """How many frames were kept so far."""
        return self._joined + self._waiting

    @torch.no_grad()
    def update(self, a: Tensor, b: Tensor, keep: Tensor | None = None) -> None:
        """Adds frames: `a` and `b` are [..., n], frames row by row, of any float dtype and strides; no copy of their
        size is made. `keep` is bool [frames], False on padding.

        Raises CalibrationError when shapes disagree or a kept value is not finite; nothing was added then.
        """
        self._check_shapes(a, b, keep)
        if keep is not None:
            a, b = (x.reshape(-1, self.size)[keep.to(x.device)] for x in (a, b))
        self._check_finite(a, "A", keep)
        self._check_finite(b, "B", keep)
        for one, other in zip(_pieces(a), _pieces(b), strict=True):
            self._append(one, other)

    @torch.no_grad()
    def _sums(self) -> Sums:
        self._join()
        return self._joined, (self._means + self._origin).cpu(), self._squares.cpu()

    @torch.no_grad()
    def _add_up(self, of_ranks: Sequence[Sums]) -> None:
        """c = Σ_r c_r + n_r (ā_r - ā)(b̄_r - b̄)ᵀ over the ranks r, of which this is one (Chan, Golub and LeVeque)."""
        everyone, own = [one for one in of_ranks if one[0]], of_ranks[ranks.number()]
        self._joined = sum(frames for frames, _, _ in everyone)
        if not self._joined:
            return
        mean = (
            sum((frames * means for frames, means, _ in everyone), start=torch.zeros(2, 1, device="cpu")) / self._joined
        )
        squares = sum(
            (squares + frames * (means - mean).square() for frames, means, squares in everyone),
            start=torch.zeros(2, 1, device="cpu"),
        )
        frames, (drift_a, drift_b) = own[0], own[1] - mean
        if frames:
            self._cross.addr_(drift_a, drift_b, alpha=frames)
        else:
            self._cross.zero_()
        ranks.add_up(self._cross)
        self._origin.zero_()
        self._means.copy_(mean)
        self._squares.copy_(squares)

    def covariance(self) -> np.ndarray:
        """c / frames: float64 [n, n], row i a channel of A, column j one of B.

        Raises CalibrationError when there is no frame.
        """
        self.require_frames(1)
        self._join()
        covariance: np.ndarray = self._cross.numpy() / self.frames
        return covariance

    def correlation(self, *, last: bool = False) -> np.ndarray:
        """r: float64 [n, n] in [-1, 1], row i a channel of A, column j one of B; 0, never NaN, where a channel is dead.

        A channel is dead when its standard deviation is at most 4 ε of its root mean square, ε of `dtype`: constant up
        to rounding. `last`: r takes the place of the sums, which are gone then. Raises CalibrationError when there are
        fewer than 2 frames.
        """
        self.require_frames(2)
        scale_a, scale_b = self._scales()
        cross: np.ndarray = self._cross.numpy()
        correlation: np.ndarray = np.multiply(cross, scale_a[:, None], out=cross if last else None)
        correlation *= scale_b
        np.clip(correlation, -1.0, 1.0, out=correlation)
        return correlation

    def overlap(self, *, last: bool = False) -> np.ndarray:
        """n Σ_t a_i b_j / sqrt(Σ_i Σ_t a² Σ_j Σ_t b²): float64 [n, n], for one map of all channels.

        If channels can be mixed, their means and relative scales matter as much as their variation. `last`: it takes
        the place of the sums, which are gone then. Raises CalibrationError when there are fewer than 2 frames.
        """
        self.require_frames(2)
        self._join()
        means = (self._means + self._origin).cpu().numpy()
        squares = self._squares.cpu().numpy() + self.frames * means**2
        a, b = squares.sum(1)
        cross: np.ndarray = self._cross.numpy()
        overlap: np.ndarray = np.add(cross, self.frames * np.outer(*means), out=cross if last else None)
        overlap *= self.size / math.sqrt(a * b) if a * b > 0 else 0.0
        return overlap

    def dead(self) -> tuple[np.ndarray, np.ndarray]:
        """Which channels of A, and which of B, are constant up to rounding: two bool [n]. See `correlation`."""
        scale_a, scale_b = self._scales()
        return scale_a == 0, scale_b == 0

    @property
    def tells(self) -> bool:
        """Whether there are enough frames, and neither all channels of A nor all of B are constant up to rounding."""
        return self.frames >= minimum_frames(self.size) and not any(dead.all() for dead in self.dead())

    def require_frames(self, minimum: int | None = None) -> None:
        """Raises CalibrationError when fewer than `minimum` frames were kept, `minimum_frames` by default."""
        minimum = minimum_frames(self.size) if minimum is None else minimum
        if self.frames < minimum:
            raise CalibrationError(
                f"{self.where}: {self.frames} frames of calibration data for {self.size} channels, at least {minimum} "
                f"are needed and {advised_frames(self.size)} advised; give more data, or check what the mask leaves"
            )

    def require_signal(self, minimum: int | None = None) -> None:
        """Raises CalibrationError when frames are fewer than `minimum`, or all channels of a model are constant."""
        self.require_frames(minimum)
        for model, dead in zip("AB", self.dead(), strict=True):
            if dead.all():
                raise CalibrationError(
                    f"{self.where}: all {self.size} channels of model {model} are constant over {self.frames} frames, "
                    "so nothing can be matched; check that the calibration data differs from frame to frame"
                )

    def require_distinct(self, correlation: np.ndarray) -> None:
        """Raises CalibrationError where most channels correlate at 1 or -1, as over two frames, or multiples of one."""
        live = math.prod(int((~dead).sum()) for dead in self.dead())
        slabs = range(0, self.size, SLAB)
        alike = sum(int(np.count_nonzero(np.abs(correlation[k : k + SLAB]) > 1 - ALIKE)) for k in slabs)
        if live >= MANY and alike > live / 2:
            raise CalibrationError(
                f"{self.where}: the channels cannot be told apart, since {alike} of {live} pairs of channels of A and "
                f"B correlate at 1 or -1, as where only two of the {self.frames} frames differ, or all channels follow "
                "from one number; give data without repetitions, or match these groups by weights"
            )

    def _check_shapes(self, a: Tensor, b: Tensor, keep: Tensor | None) -> None:
        if a.ndim < 2 or a.shape != b.shape or a.shape[-1] != self.size:
            raise CalibrationError(
                f"{self.where}: expected [frames, {self.size}] from both models, got {list(a.shape)} from A and "
                f"{list(b.shape)} from B; both models must see the same batch"
            )
        frames = math.prod(a.shape[:-1])
        if keep is not None and (keep.dtype != torch.bool or keep.shape != (frames,)):
            raise CalibrationError(
                f"{self.where}: the mask must be bool [{frames}], one entry a frame, not {keep.dtype} "
                f"{list(keep.shape)}"
            )

    def _check_finite(self, x: Tensor, model: str, keep: Tensor | None) -> None:
        # The sum is one pass without a copy; finite values may overflow it, hence the second check.
        if torch.isfinite(x.sum()) or torch.isfinite(x).all():
            return
        wrong = (~torch.isfinite(x)).reshape(-1, self.size).nonzero()
        count, (frame, channel) = len(wrong), wrong[0].tolist()
        if keep is not None:
            frame = int(keep.nonzero()[frame])
        raise CalibrationError(
            f"{self.where}: {count} activations of model {model} are not finite, the first at frame {frame} of the "
            f"batch, channel {channel}; check the input and the model's weights, or run it in float32"
        )

    def _append(self, a: Tensor, b: Tensor) -> None:
        """Puts at most CHUNK frames among the waiting rows, joining those first when they would not fit."""
        if self._waiting + len(a) > CHUNK:
            self._join()
        rows = self._rows[:, self._waiting : self._waiting + len(a)]
        for x, origin, row in zip((a, b), self._origin, rows, strict=True):
            wide = x.to(row.device, torch.promote_types(x.dtype, row.dtype))
            if not self.frames:
                origin.copy_(wide.mean(0))
            torch.sub(wide, origin, out=row) if wide.dtype == row.dtype else row.copy_(wide - origin)
        self._waiting += len(a)

    @torch.no_grad()
    def _join(self) -> None:
        """Adds the waiting rows to the sums: Chan, Golub and LeVeque (1983), equation 2.1."""
        if not self._waiting:
            return
        rows, total = self._rows[:, : self._waiting + 1], self.frames
        drift = _centre(rows[:, :-1]) - self._means
        rows[:, -1] = drift * math.sqrt(self._joined * self._waiting / total)
        squares = torch.stack([side.square().sum(0) for side in rows]).double()
        if not torch.isfinite(squares).all():
            raise CalibrationError(f"{self.where}: activations too large to square in {rows.dtype}; rescale the input")
        for first in range(0, self.size, SLAB):
            slab = self._cross[first : first + SLAB]
            products = self._products(rows[0, :, first : first + SLAB], rows[1], self._product[: len(slab)]).cpu()
            slab.add_(products) if self._joined else slab.copy_(products)
        self._squares += squares
        self._means += drift * (self._waiting / total)
        self._joined, self._waiting = total, 0

    def _products(self, a: Tensor, b: Tensor, out: Tensor) -> Tensor:
        """aᵀ b of centred rows; `out` may take it."""
        return torch.mm(a.T, b, out=out)

    def _scales(self) -> tuple[np.ndarray, np.ndarray]:
        """1 / sqrt(Σ (x - x̄)²) of every channel of A and of B; 0 where it is dead. Float64 [n] each."""
        self._join()
        squares, means = self._squares.cpu().numpy(), (self._means + self._origin).cpu().numpy()
        floor = (4 * torch.finfo(self._rows.dtype).eps) ** 2 * (squares + self.frames * means**2)
        scales = np.divide(1.0, np.sqrt(squares), out=np.zeros_like(squares), where=squares > floor)
        return scales[0], scales[1]


def add_up(moments: Sequence[CrossMoments]) -> None:
    """Give every process of a torch.distributed group the moments of the frames of all; without a group, do nothing.

    Raises RankError where a rank is lost.
    """
    if ranks.count() > 1:
        told = ranks.gathered([moment._sums() for moment in moments])
        for moment, of_ranks in zip(moments, zip(*told, strict=True), strict=True):
            moment._add_up(of_ranks)


def _pieces(x: Tensor) -> Iterator[Tensor]:
    """[..., n] as [frames, n] of at most CHUNK frames each: views where it is large, small copies where it is not."""
    samples = max(1, CHUNK // max(1, math.prod(x.shape[1:-1])))
    for part in torch.split(x, samples):
        yield from torch.split(part.reshape(-1, x.shape[-1]), CHUNK)


def _centre(rows: Tensor) -> Tensor:
    """Subtracts from [2, frames, n], in place, the mean over frames, which it returns as float64 [2, n].

    Twice: the first mean is off by an ulp or more of a huge mean, the second removes the rest.
    """
    first = rows.mean(1, keepdim=True)
    rows -= first
    second = rows.mean(1, keepdim=True)
    rows -= second
    return (first.double() + second.double())[:, 0]
