"""Look-ups: an axis that is indexed by computed numbers is pinned; the other axes pass through."""

from collections.abc import Collection, Sequence

from permgraph.algebra.kinds import Kind
from permgraph.algebra.laws import HOMOGENEOUS, LINEAR, SAME, Law, sum_of
from permgraph.algebra.relations import Value
from permgraph.rules.positions import NUMBERED, at_constants, at_numbers, numbers_along
from permgraph.rules.registry import Call, axis_list, letters, letters_along, rule

MERGED = Law(((0,), (2,)), within={1: Kind.PERMUTATION})  # two tensors under a mask
LOOKED_UP = "looked up by computed indices"
SCALAR = "a tensor without axes"


@rule("aten.embedding", ignores=("padding_idx", "scale_grad_by_freq", "sparse"))
def embedding(call: Call) -> None:
    """Rows of a table, looked up by id."""
    if at_numbers(call, call["weight"], 0, call["indices"]):
        return
    rank = len(call["indices"].shape)
    ids = " ".join(letters(rank, "t"))
    call.relate(
        f"v d, {ids} -> {ids} d",
        call["weight"],
        call["indices"],
        call.out,
        pin={"v": "a table looked up by id"},
        law={"d": LINEAR},
    )
    call.relations[-1].averaged[0] = frozenset("v")


@rule(
    "aten.embedding_bag",
    ignores=("include_last_offset", "padding_idx", "scale_grad_by_freq", "sparse"),
)
def embedding_bag(call: Call) -> None:
    """Sums, means or maxima of rows of a table, looked up by id; the columns pass through."""
    weight, out = call["weight"], call.outs[0]
    for value in (*call.tensors(), *call.outs[1:]):
        if value is not weight:
            call.pin(value, "ids and bags of a table")
    law = HOMOGENEOUS if call["mode"] == 2 else LINEAR
    call.relate("v d -> b d", weight, out, pin=dict.fromkeys("vb", "a table looked up by id"), law={"d": law})


@rule("aten.diagonal")
def diagonal(call: Call) -> None:
    """out[..., i] = x[..., i, ..., i]; with an offset the two axes are pinned."""
    x = call["self"]
    first, second = axis_list([call["dim1"], call["dim2"]], len(x.shape))
    names = letters(len(x.shape))
    passing = [name for k, name in enumerate(names) if k not in (first, second)]
    if call["offset"] or x.shape[first] != x.shape[second]:
        why = "a diagonal other than the main one"
        pinned = dict.fromkeys((names[first], names[second], "i"), why)
    else:
        names[first] = names[second] = "i"
        pinned = {}
    laws = dict.fromkeys(passing, SAME)
    call.relate(f"{' '.join(names)} -> {' '.join(passing)} i", x, call.out, pin=pinned, law=laws)


@rule("aten.index")
def index(call: Call) -> None:
    """x[i, :, j]: the broadcast indices' dimensions replace the first indexed one, or come first if they are apart.

    A mask replaces as many axes as it has by one, as the numbers of its places along each would.
    """
    x, indices = call["self"], _by_axis(call["indices"])
    indices += [None] * (len(x.shape) - len(indices))
    given = [(dim, item) for dim, item in enumerate(indices) if item is not None]
    if len(given) == 1 and at_constants(call, x, *given[0]):
        return
    if len(given) == 1 and at_numbers(call, x, *given[0]):
        return
    names = letters(len(x.shape))
    indexed = [k for k, item in enumerate(indices) if item is not None]
    passing = [name for k, name in enumerate(names) if k not in indexed]
    count = len(call.out.shape) - len(passing)
    ranks = [1 if item.boolean else len(item.shape) for _, item in given]
    if count < 0 or len(indices) > len(x.shape) or max(ranks, default=0) > count:
        call.pin_all(LOOKED_UP)
        return
    new = letters(count, "u")
    adjacent = indexed == list(range(indexed[0], indexed[-1] + 1))
    at = indexed[0] if adjacent else 0
    out = [*passing[:at], *new, *passing[at:]]
    pins = dict.fromkeys([*(names[k] for k in indexed), *new], LOOKED_UP)
    laws = dict.fromkeys(passing, SAME)
    call.relate(f"{' '.join(names)} -> {' '.join(out)}", x, call.out, pin=pins, law=laws)
    for _, item in given:
        call.pin(item, LOOKED_UP)


def _by_axis(indices: Sequence[Value | None]) -> list[Value | None]:
    """What indexes each axis: a mask, all the axes that it has."""
    return [item for item in indices for _ in range(len(item.shape) if item is not None and item.boolean else 1)]


@rule("aten.index_select")
def index_select(call: Call) -> None:
    """Rows of one axis."""
    x, dim = call["self"], call["dim"]
    if at_constants(call, x, dim, call["index"]) or at_numbers(call, x, dim, call["index"]):
        return
    names, new = letters_along(call, x, dim, SCALAR)
    if not names:
        return
    pins = dict.fromkeys([names[dim], "u"], LOOKED_UP)
    laws = {name: SAME for name in names if name not in pins}
    call.relate(f"{' '.join(names)} -> {' '.join(new)}", x, call.out, pin=pins, law=laws)


@rule("aten.gather", "aten.take_along_dim", ignores=("sparse_grad",))
def gather(call: Call) -> None:
    """out[i, j] = x[i, index[i, j]]; other axes pass through where the sizes agree."""
    x, positions, dim = call["self"], call["index" if "index" in call.arguments else "indices"], call["dim"]
    if dim is None or not x.shape or len(x.shape) != len(positions.shape):
        call.pin_all(LOOKED_UP)
        return
    names = letters(len(x.shape))
    new = list(names)
    pins: dict[str, str] = {}
    for k, (old, size) in enumerate(zip(x.shape, positions.shape, strict=True)):
        if k == dim % len(names) or old != size:
            new[k] = f"u{k}"
            pins |= dict.fromkeys([names[k], new[k]], LOOKED_UP)
    picked, unit = " ".join(new), names[dim]
    picks = numbers_along(call, positions, x, dim)
    numbers = [picks] if picks is not None else []
    for name in (unit, new[dim]) if numbers else ():
        del pins[name]
    written = ", ".join([" ".join(names), picked, *[f"{picked} {unit}" for _ in numbers]])
    laws = _beside(names, [*pins, unit], _chosen_by(1 + len(numbers)))
    call.relate(f"{written} -> {picked}", x, positions, *numbers, call.out, pin=pins, law=laws)
    call.relations[-1].roles.update({unit: NUMBERED} if numbers else {})


def _chosen_by(numbers: int, *, values: bool = False, affine: bool = False) -> Law:
    """Elements of operand 0 and of the operand after the numbers that select them; numbers have no sign or scale."""
    terms = ((0,), (1 + numbers,)) if values else ((0,),)
    within = {0: Kind.MONOMIAL, **dict.fromkeys(range(1, 1 + numbers), Kind.PERMUTATION)}
    return Law(terms, within=within, affine=affine)


def _beside(names: Sequence[str], chosen: Collection[str], law: Law) -> dict[str, Law]:
    return {name: law for name in names if name not in chosen}


@rule("aten.scatter", "aten.scatter_add", "aten.scatter_reduce", ignores=("include_self",))
def scatter(call: Call) -> None:
    """x[i, index[i, j]] = value: other axes pass through where the sizes agree."""
    x, positions, dim = call["self"], call["index"], call["dim"]
    names = letters(len(x.shape))
    if not names or x.shape != call.out.shape:
        call.pin_all(LOOKED_UP)
        return
    picks = numbers_along(call, positions, x, dim)
    new, pins = list(names), {} if picks is not None else {names[dim]: LOOKED_UP}
    for k, (old, size) in enumerate(zip(x.shape, positions.shape, strict=True)):
        if k == dim % len(names) and picks is not None:
            new[k] = f"u{k}"
        elif k == dim % len(names) or old != size:
            new[k] = f"u{k}"
            pins |= dict.fromkeys([names[k], new[k]], LOOKED_UP)
    full, picked = " ".join(names), " ".join(new)
    values = [value for value in (call.get("src"), call.get("value")) if isinstance(value, Value)]
    if any(value.shape not in ((), positions.shape) for value in values):
        call.pin_all(LOOKED_UP)
        return
    numbers = [picks] if picks is not None else []
    written = [f"{picked} {names[dim]}" for _ in numbers] + [picked if value.shape else "" for value in values]
    operands = (x, positions, *numbers, *values, call.out)
    constant = call.get("value") if not values else 0
    law = _chosen_by(1 + len(numbers), values=bool(values), affine=constant != 0)
    laws = _beside(names, [*pins, names[dim]], law) if not call.get("reduce") else {}
    call.relate(", ".join([full, picked, *written]) + f" -> {full}", *operands, pin=pins, law=laws)
    call.relations[-1].roles.update({names[dim]: NUMBERED} if numbers else {})


@rule("aten.masked_scatter")
def masked_scatter(call: Call) -> None:
    """Rows of `source`, in order, go to the places of a mask; axes along which it is constant pass through."""
    x, mask, source = call["self"], call["mask"], call["source"]
    shape = call.out.shape
    rank, count = len(shape), 0
    while count < min(rank, len(source.shape)) and shape[rank - 1 - count] == source.shape[-1 - count]:
        dim = len(mask.shape) - 1 - count
        if dim >= 0 and mask.shape[dim] != 1 and dim not in mask.uniform:
            break
        count += 1
    names, rows = letters(rank), letters(len(source.shape) - count, "s")
    tail = names[rank - count :]
    pins = dict.fromkeys([*names[: rank - count], *rows], LOOKED_UP)
    full, old, marked = (" ".join(names[rank - len(value.shape) :]) for value in (call.out, x, mask))
    pattern = f"{old}, {marked}, {' '.join([*rows, *tail])} -> {full}"
    call.relate(pattern, x, mask, source, call.out, pin=pins, law=dict.fromkeys(tail, MERGED))


@rule("aten.index_add", "aten.index_copy", "aten.index_fill", ignores=("alpha", "value"))
def index_add(call: Call) -> None:
    """Slices of one axis at computed positions."""
    x, dim = call["self"], call["dim"]
    names, picked = letters_along(call, x, dim, SCALAR)
    if not names:
        return
    slices = [value for value in list(call.tensors())[2:] if value.shape]
    full = " ".join(names)
    written = ", ".join([full, *[" ".join(picked)] * len(slices)])
    pins = {names[dim]: LOOKED_UP, "u": LOOKED_UP}
    laws = dict.fromkeys((name for name in names if name not in pins and slices), sum_of(1 + len(slices)))
    call.relate(f"{written} -> {full}", x, *slices, call.out, pin=pins, law=laws)
    call.pin(call["index"], LOOKED_UP)


@rule("aten.index_put", "aten._unsafe_index_put", ignores=("accumulate",))
def index_put(call: Call) -> None:
    """x[mask] = value, with a mask of leading axes and a value without positions of its own; else pinned."""
    x, indices, value = call["self"], list(call["indices"]), call["values"]
    given = [item for item in indices if item is not None]
    if len(given) != 1 or indices[0] is None or not _is_mask(given[0], x) or len(value.shape) > _free(given[0], x):
        call.pin_all(LOOKED_UP)
        return
    names = letters(len(x.shape))
    full, lead = " ".join(names), " ".join(names[: len(given[0].shape)])
    tail = " ".join(names[len(names) - len(value.shape) :]) if value.shape else ""
    laws = dict.fromkeys(names[len(given[0].shape) :], MERGED)
    call.relate(f"{full}, {lead}, {tail} -> {full}", x, given[0], value, call.out, law=laws)


def _is_mask(mask: Value, x: Value) -> bool:
    return mask.boolean and mask.shape == x.shape[: len(mask.shape)]


def _free(mask: Value, x: Value) -> int:
    return len(x.shape) - len(mask.shape)
