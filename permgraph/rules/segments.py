"""Slices, picks, splits and concatenations: axes cut into segments, each of which moves separately."""

from collections.abc import Sequence

from permgraph.algebra.axes import freeze
from permgraph.algebra.kinds import Kind
from permgraph.algebra.laws import SAME, Law
from permgraph.algebra.relations import Value
from permgraph.rules.registry import Call, axis_list, letters, letters_along, rule
from permgraph.rules.views import regroup

ORDER = "acts along this axis in its order"
LINEAR_BESIDE = ("aten.cumsum", "aten.diff", "aten.flip", "aten.pad", "aten.roll", "aten.tril", "aten.triu")


def _segment(call: Call, whole: Value, dim: int, pieces: Sequence[tuple[int, Value]]) -> None:
    """Each piece is the part of `whole` that starts at the given position of `dim`."""
    names = letters(len(whole.shape))
    dim %= len(names)
    written = []
    for start, piece in pieces:
        mark = f"{names[dim]}[{start}:{start + piece.shape[dim]}]"
        written.append(" ".join([*names[:dim], mark, *names[dim + 1 :]]))
    call.relate(", ".join([*written, " ".join(names)]), *(piece for _, piece in pieces), whole, law=SAME)


def slice_of(call: Call, x: Value, dim: int, start: int, size: int) -> Value:
    """The part of `x` of this size from `start` on."""
    shape = list(x.shape)
    shape[dim] = size
    piece = call.part(shape)
    _segment(call, x, dim, [(start, piece)])
    return piece


@rule("aten.slice", "aten.narrow", ignores=("end", "length"))
def slice_(call: Call) -> None:
    """A segment of an axis; with a step, one index of an inner factor."""
    x, dim = call["self"], call["dim"] or 0
    size, call.out.zero = x.shape[dim], x.zero
    if call.source.op == "aten.narrow":
        start, step = call["start"] % size if size else 0, 1
    else:
        start, step = _clamp(call["start"], size, 0), call["step"]
    if step == 1:
        for (old,), (new,) in call.with_picks([x], [call.out]):
            _segment(call, old, dim % len(x.shape), [(start, new)])
    else:
        _strided(call, x, dim, start, step)


def _clamp(index: int | None, size: int, default: int) -> int:
    if index is None:
        return default
    return min(max(index + size if index < 0 else index, 0), size)


def _strided(call: Call, x: Value, dim: int, start: int, step: int) -> None:
    """Every `step`-th index: a segment of the axis as (q, step), with one index of the inner factor picked."""
    names = letters(len(x.shape))
    dim %= len(names)
    first, extent = start - start % step, call.out.shape[dim] * step
    if first + extent > x.shape[dim]:
        new = list(names)
        new[dim] = "u"
        pins = {names[dim]: "a slice with a step that does not divide the axis", "u": ORDER}
        call.relate(f"{' '.join(names)} -> {' '.join(new)}", x, call.out, pin=pins)
        return
    if extent != x.shape[dim]:
        x = slice_of(call, x, dim, first, extent)
    old, new = list(names), list(names)
    old[dim] = f"({names[dim]} s)"
    new[dim] = f"({names[dim]} s[{start % step}:{start % step + 1}])"
    call.relate(f"{' '.join(old)} -> {' '.join(new)}", x, call.out, sizes={"s": step}, law=SAME)


@rule("aten.select")
def select(call: Call) -> None:
    """One index of an axis; the axis is removed, and the other axes of the result belong to that index only."""
    x, dim, index = call["self"], call["dim"], call["index"]
    if not isinstance(index, int):
        call.pin_all("an index that is computed")
        return
    for (old,), (new,) in call.with_picks([x], [call.out]):
        regroup(call, slice_of(call, old, dim % len(x.shape), index % x.shape[dim], 1), new)


@rule("aten.unbind")
def unbind(call: Call) -> None:
    """`select` for every index."""
    x, dim = call["self"], call["dim"] % len(call["self"].shape)
    for (whole,), pieces in call.with_picks([x], call.outs):
        for index, piece in enumerate(pieces):
            regroup(call, slice_of(call, whole, dim, index, 1), piece)


@rule(
    "aten.chunk",
    "aten.split",
    "aten.split_with_sizes",
    "aten.tensor_split",
    "aten.unsafe_split",
    "aten.unsafe_chunk",
    ignores=("chunks", "indices", "sections", "split_size", "split_sizes"),
)
def split(call: Call) -> None:
    """Consecutive segments."""
    x, dim = call["self"], call["dim"] % len(call["self"].shape)
    for (whole,), pieces in call.with_picks([x], call.outs):
        join(call, whole, dim, pieces)


@rule("aten.cat", "aten.concat", "aten.concatenate")
def concatenate(call: Call) -> None:
    """The transpose of `split`."""
    dim, values = call["dim"] % len(call.out.shape), call["tensors"]
    full = [value for value in values if len(value.shape) == len(call.out.shape)]
    for pieces, (whole,) in call.with_picks(full, [call.out]):
        join(call, whole, dim, pieces)


def join(call: Call, whole: Value, dim: int, values: Sequence[Value]) -> None:
    """`whole` is `values` one after the other."""
    start, pieces = 0, []
    for value in values:
        pieces.append((start, value))
        start += value.shape[dim]
    _segment(call, whole, dim, pieces)


@rule("aten.stack")
def stack(call: Call) -> None:
    """A concatenation along a new axis."""
    dim = call["dim"] % len(call.out.shape)
    for values, (whole,) in call.with_picks(call["tensors"], [call.out]):
        pieces = [call.part((*value.shape[:dim], 1, *value.shape[dim:])) for value in values]
        for value, piece in zip(values, pieces, strict=True):
            regroup(call, value, piece)
        join(call, whole, dim, pieces)


@rule("aten.glu")
def glu(call: Call) -> None:
    """a ⊙ σ(b), with a and b the halves of an axis."""
    x, dim = call["self"], call["dim"]
    half = x.shape[dim] // 2
    a, b = (slice_of(call, x, dim, start, half) for start in (0, half))
    call.relate("..., ... -> ...", a, b, call.out, law=Law(((0, 1),), within={1: Kind.PERMUTATION}))


@rule("aten.constant_pad_nd", "aten.pad")
def pad(call: Call) -> None:
    """A uniform border; other modes copy positions, and pin the axis."""
    x, amounts, value = call["self"], list(call["pad"]), call.get("value")
    if call.get("mode", "constant") != "constant":
        _pinned_along(call, [len(x.shape) - 1 - k // 2 for k in range(0, len(amounts), 2) if any(amounts[k : k + 2])])
        return
    names = letters(len(x.shape))
    inside = list(names)
    for k in range(0, len(amounts), 2):
        dim = len(names) - 1 - k // 2
        before, after = amounts[k : k + 2]
        if before < 0 or after < 0:
            _pinned_along(call, range(len(names) - len(amounts) // 2, len(names)))
            return
        if before or after:
            inside[dim] = f"{names[dim]}[{before}:{before + x.shape[dim]}]"
    law = None if value else SAME  # zeros at the border are zeros in every basis
    call.relate(f"{' '.join(inside)} -> {' '.join(names)}", x, call.out, law=law)
    for old, new in zip(x.axes, call.out.axes, strict=True):
        if old.root().frozen:  # the border of positions that keep their order keeps its order too
            freeze(new, old.root().frozen)


@rule("aten.roll")
def roll(call: Call) -> None:
    """Segments are rotated cyclically."""
    x, shifts, dims = call["self"], list(call["shifts"]), list(call["dims"] or [])
    if len(dims) != 1:
        _pinned_along(call, dims or range(len(x.shape)))
        return
    dim, size = dims[0], x.shape[dims[0]]
    shift = shifts[0] % size if size else 0
    if not shift:
        call.relate("... -> ...", x, call.out, law=SAME)
        return
    tail, head = slice_of(call, x, dim, size - shift, shift), slice_of(call, x, dim, 0, size - shift)
    _segment(call, call.out, dim, [(0, tail), (shift, head)])


def _pinned_along(call: Call, dims: Sequence[int]) -> None:
    """Axes other than `dims` pass through; these are pinned, and may change size."""
    x = next(call.tensors())
    names = letters(len(x.shape))
    chosen = {dim % len(names) for dim in dims} if names else set()
    new = [f"u{k}" if k in chosen else name for k, name in enumerate(names)]
    pins = {name: ORDER for k in sorted(chosen) for name in (names[k], f"u{k}")}
    passing = {name: SAME for k, name in enumerate(names) if k not in chosen and call.source.op in LINEAR_BESIDE}
    for out in call.outs:
        call.relate(f"{' '.join(names)} -> {' '.join(new)}", x, out, pin=pins, law=passing)


@rule(
    "aten.cummax",
    "aten.cummin",
    "aten.cumprod",
    "aten.cumsum",
    "aten.diff",
    "aten.logcumsumexp",
    "aten.argsort",
    ignores=("descending", "n", "stable"),
)
def ordered(call: Call) -> None:
    """Depends on the order along one axis, and acts in the same way on all others."""
    if len(list(call.tensors())) > 1:
        call.pin_all(ORDER)
    else:
        _pinned_along(call, [call["dim"]])


@rule("aten.sort", "aten.topk", "aten.msort", ignores=("descending", "k", "largest", "stable"))
def ranked(call: Call) -> None:
    """Values sorted by size, and the numbers of their units."""
    x, dim = call["self"], call.get("dim", 0)
    names, new = letters_along(call, x, dim, ORDER)
    if not names:
        return
    values, *rest = call.outs
    picked = [call.pick(out, x.shape[dim]) for out in rest if call.used[1]]
    sorted_ = call.get("sorted", True)
    written = ", ".join([" ".join(names), *[" ".join(new)] * len(rest), *[" ".join([*new, names[dim]])] * len(picked)])
    operands, pins = (x, *rest, *picked, values), {"u": ORDER} if sorted_ else {}
    law = Law(((0,),), within={0: Kind.SCALED, **dict.fromkeys(range(1, len(operands) - 1), Kind.PERMUTATION)})
    laws = {name: law for name in names if name in new}
    call.relate(f"{written} -> {' '.join(new)}", *operands, pin=pins, law=laws)
    if not sorted_:
        call.relations[-1].unordered[names[dim]] = "u"


@rule(
    "aten.fft_fft",
    "aten.fft_fft2",
    "aten.fft_fftn",
    "aten.fft_ifft",
    "aten.fft_ifft2",
    "aten.fft_ifftn",
    "aten.fft_irfft",
    "aten.fft_irfft2",
    "aten.fft_irfftn",
    "aten.fft_rfft",
    "aten.fft_rfft2",
    "aten.fft_rfftn",
    ignores=("n", "norm", "s"),
)
def fourier(call: Call) -> None:
    """Frequencies have an order; other axes pass through."""
    dims = call["dim"]
    _pinned_along(call, axis_list(dims, len(call["self"].shape)))


@rule("aten.flip")
def flip(call: Call) -> None:
    """Reverses axes."""
    _pinned_along(call, call["dims"])


@rule("aten.tril", "aten.triu", ignores=("diagonal",))
def triangle(call: Call) -> None:
    """Compares the positions of the last two axes."""
    _pinned_along(call, [-2, -1])


@rule("aten.unfold", ignores=("size", "step"))
def windows(call: Call) -> None:
    """Overlapping windows of an axis, as a new last axis."""
    x, dim = call["self"], call["dimension"]
    names, new = letters_along(call, x, dim, ORDER)
    if not names:
        return
    pins = dict.fromkeys([names[dim], "u", "k"], ORDER)
    passing = {name: SAME for name in names if name not in pins}
    call.relate(f"{' '.join(names)} -> {' '.join(new)} k", x, call.out, pin=pins, law=passing)
