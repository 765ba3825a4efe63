"""Views: the same elements, with their axes regrouped, reordered or repeated."""

from collections.abc import Sequence
from math import prod

from permgraph.algebra.axes import freeze
from permgraph.algebra.laws import SAME
from permgraph.algebra.relations import Value
from permgraph.rules.registry import Call, letters, rule

BLOCKS = "a view into blocks that do not nest"


@rule(
    "aten._unsafe_view",
    "aten.flatten",
    "aten.reshape",
    "aten.reshape_as",
    "aten.squeeze",
    "aten.unflatten",
    "aten.unsqueeze",
    "aten.view",
    "aten.view_as",
    "aten.ravel",
    ignores=("dim", "end_dim", "other", "shape", "size", "sizes", "start_dim"),
)
def view(call: Call) -> None:
    """Row-major order is kept; dimensions are merged and split."""
    if call.get("dtype") is not None:
        call.pin_all("the bits of numbers are read as numbers of another kind")
        return
    for (old,), (new,) in call.with_picks([next(call.tensors())], [call.out]):
        regroup(call, old, new)


def regroup(call: Call, old: Value, new: Value) -> None:
    """Relate two shapes of the same elements through the finest pieces on which both agree."""
    if prod(old.shape) == 0:
        call.pin_all("an empty tensor")
        return
    sides: tuple[list[list[str]], list[list[str]]] = ([[] for _ in old.shape], [[] for _ in new.shape])
    sizes: dict[str, int] = {}
    for run in _equal_runs(old.shape, new.shape):
        _name_pieces(run, (old.shape, new.shape), sides, sizes)
    for value, side in zip((old, new), sides, strict=True):
        for axis, dim in zip(value.axes, side, strict=True):
            if dim and all(name.startswith("x") for name in dim):
                freeze(axis, f"{call.source}: {BLOCKS}")  # before it is split for nothing
    pattern = " -> ".join(" ".join(f"({' '.join(dim)})" for dim in side) for side in sides)
    pins = {name: BLOCKS for name in sizes if name.startswith("x")}
    call.relate(pattern, old, new, sizes=sizes, pin=pins, law=SAME)


Run = tuple[list[int], list[int]]


def _equal_runs(a: Sequence[int], b: Sequence[int]) -> list[Run]:
    """Shortest runs of dimensions of the shapes `a` and `b` that have equal products; sizes of 1 are left out."""
    i, j = ([k for k, size in enumerate(shape) if size != 1] for shape in (a, b))
    runs: list[Run] = []
    while i:
        left, right = [i.pop(0)], [j.pop(0)]
        while (size_a := prod(a[k] for k in left)) != (size_b := prod(b[k] for k in right)):
            if size_a < size_b:
                left.append(i.pop(0))
            else:
                right.append(j.pop(0))
        runs.append((left, right))
    return runs


def _name_pieces(
    run: Run, shapes: tuple[Sequence[int], Sequence[int]], sides: tuple[list[list[str]], ...], sizes: dict[str, int]
) -> None:
    """Name the common pieces of a run from the inside out; where there are none, pieces of each side (`x…`)."""
    rest = [[(dim, shape[dim]) for dim in dims] for dims, shape in zip(run, shapes, strict=True)]
    while rest[0]:
        (dim_a, size_a), (dim_b, size_b) = rest[0].pop(), rest[1].pop()
        piece = min(size_a, size_b)
        if size_a % piece or size_b % piece:
            rest[0].append((dim_a, size_a))
            rest[1].append((dim_b, size_b))
            break
        name = f"v{len(sizes)}"
        sizes[name] = piece
        sides[0][dim_a].insert(0, name)
        sides[1][dim_b].insert(0, name)
        rest[0] += [(dim_a, size_a // piece)] if size_a > piece else []
        rest[1] += [(dim_b, size_b // piece)] if size_b > piece else []
    for side, remaining in zip(sides, rest, strict=True):
        for dim, size in reversed(remaining):
            sizes[name := f"x{len(sizes)}"] = size
            side[dim].insert(0, name)


@rule("aten.permute")
def permute(call: Call) -> None:
    """Dimension k of the result is dimension dims[k]."""
    names = letters(len(call["self"].shape))
    _reordered(call, names, [names[dim] for dim in call["dims"]])


def _reordered(call: Call, names: Sequence[str], order: Sequence[str]) -> None:
    for (old,), (new,) in call.with_picks([call["self"]], [call.out]):
        unit = ["e"] if len(old.shape) > len(names) else []
        call.relate(f"{' '.join([*names, *unit])} -> {' '.join([*order, *unit])}", old, new, law=SAME)


@rule("aten.transpose", "aten.swapaxes", "aten.swapdims", "aten.t", "aten.mT", "aten.adjoint")
def transpose(call: Call) -> None:
    """Two dimensions are swapped."""
    names = letters(len(call["self"].shape))
    order = list(names)
    if len(names) > 1:
        a, b = call.get("dim0", call.get("axis0", -2)), call.get("dim1", call.get("axis1", -1))
        order[a], order[b] = names[b], names[a]
    _reordered(call, names, order)


@rule("aten.numpy_T")
def reversed_dimensions(call: Call) -> None:
    """All dimensions in reverse order."""
    names = letters(len(call["self"].shape))
    call.relate(f"{' '.join(names)} -> {' '.join(reversed(names))}", call["self"], call.out, law=SAME)


@rule("aten.movedim", "aten.moveaxis")
def move_dimension(call: Call) -> None:
    """The given dimensions move to the given places, the others keep their order."""
    names = letters(len(call["self"].shape))
    source, target = ([dims] if isinstance(dims, int) else list(dims) for dims in (call["source"], call["destination"]))
    placed = {to % len(names): names[start] for start, to in zip(source, target, strict=True)}
    rest = iter(name for name in names if name not in placed.values())
    order = [placed[k] if k in placed else next(rest) for k in range(len(names))]
    call.relate(f"{' '.join(names)} -> {' '.join(order)}", call["self"], call.out, law=SAME)


@rule("aten.expand", "aten.expand_as", "aten.broadcast_to", ignores=("implicit", "other", "size"))
def expand(call: Call) -> None:
    """Dimensions of size 1 are repeated, and so are uniform."""
    call.relate("... -> ...", next(call.tensors()), call.out, law=SAME)


@rule("aten.repeat", "aten.tile", ignores=("dims", "repeats"))
def repeat(call: Call) -> None:
    """Dimension k becomes (repeats[k], k)."""
    x = call["self"]
    if 0 in (*x.shape, *call.out.shape):
        call.pin_all("an empty tensor")
        return
    names = letters(len(call.out.shape))
    padded = (1,) * (len(names) - len(x.shape)) + tuple(x.shape)
    sizes = {f"r{k}": size // old for k, (size, old) in enumerate(zip(call.out.shape, padded, strict=True))}
    sizes |= dict(zip(names, padded, strict=True))
    out = " ".join(f"(r{k} {name})" for k, name in enumerate(names))
    call.relate(f"{' '.join(names[len(names) - len(x.shape) :])} -> {out}", x, call.out, sizes=sizes, law=SAME)


@rule("aten.repeat_interleave", ignores=("output_size",))
def repeat_interleave(call: Call) -> None:
    """Each index of `dim` is repeated in place: (dim, repeats)."""
    x, dim = call.get("self"), call.get("dim")
    if x is None or not isinstance(call.get("repeats"), int) or dim is None:
        call.pin_all("repeated a number of times that is computed")
        return
    names = letters(len(x.shape))
    out = list(names)
    out[dim] = f"({names[dim]} r)"
    call.relate(f"{' '.join(names)} -> {' '.join(out)}", x, call.out, sizes={"r": call["repeats"]}, law=SAME)


@rule("aten.pixel_shuffle")
def pixel_shuffle(call: Call) -> None:
    """(c a b) h w -> c (h a) (w b)."""
    factor = call["upscale_factor"]
    sizes = {"a": factor, "b": factor}
    call.relate("... (c a b) h w -> ... c (h a) (w b)", call["self"], call.out, sizes=sizes, law=SAME)


@rule("aten.pixel_unshuffle")
def pixel_unshuffle(call: Call) -> None:
    """c (h a) (w b) -> (c a b) h w."""
    factor = call["downscale_factor"]
    sizes = {"a": factor, "b": factor}
    call.relate("... c (h a) (w b) -> ... (c a b) h w", call["self"], call.out, sizes=sizes, law=SAME)


@rule("aten.channel_shuffle", "aten.native_channel_shuffle")
def channel_shuffle(call: Call) -> None:
    """(g c) -> (c g)."""
    space = " ".join(letters(len(call["self"].shape) - 2, "t"))
    call.relate(f"b (g c) {space} -> b (c g) {space}", call["self"], call.out, sizes={"g": call["groups"]}, law=SAME)


@rule("aten.view_as_complex", "aten.view_as_real")
def complex_pairs(call: Call) -> None:
    """A last axis of real and imaginary part, or none."""
    parts = "... c -> ..." if call.source.op == "aten.view_as_complex" else "... -> ... c"
    call.relate(parts, call["self"], call.out, pin={"c": "real and imaginary part"}, law={"...": SAME})
