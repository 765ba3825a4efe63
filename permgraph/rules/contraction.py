"""Sums of products: linear layers, matrix products, einsum."""

from permgraph.algebra.laws import DISTANCE, PRODUCT, SAME, WITH_BIAS, product_of
from permgraph.algebra.relations import Value
from permgraph.rules.registry import Call, axis_list, letters, rule


@rule("aten.linear")
def linear(call: Call) -> None:
    """y = x Wᵀ + b; of one output if W is a vector, without an axis for it."""
    weight, bias = call["weight"], call["bias"]
    if len(weight.shape) == 1:
        terms = "... i, i" if bias is None else "... i, i, "
        call.relate(
            f"{terms} -> ...",
            call["input"],
            weight,
            *[bias] * (bias is not None),
            call.out,
            law=PRODUCT if bias is None else WITH_BIAS,
        )
    elif bias is None:
        call.relate("... i, o i -> ... o", call["input"], call["weight"], call.out, law=PRODUCT)
    else:
        call.relate("... i, o i, o -> ... o", call["input"], call["weight"], bias, call.out, law=WITH_BIAS)


@rule("aten.matmul", "aten.mm", "aten.bmm", "aten.mv", "aten.dot", "aten.vdot")
def matmul(call: Call) -> None:
    """Contracts the last axis of the left with the last but one (or only) axis of the right."""
    left, right = list(call.tensors())
    call.relate(f"{_left(left)}, {_right(right)} -> {_product(left, right)}", left, right, call.out, law=PRODUCT)


def _left(value: Value) -> str:
    return "... m k" if len(value.shape) > 1 else "k"


def _right(value: Value) -> str:
    return "... k n" if len(value.shape) > 1 else "k"


def _product(left: Value, right: Value) -> str:
    rows = "m" if len(left.shape) > 1 else ""
    columns = "n" if len(right.shape) > 1 else ""
    return f"... {rows} {columns}" if max(len(left.shape), len(right.shape)) > 1 else ""


@rule("aten.addmm", "aten.baddbmm", "aten.addbmm", "aten.addmv", ignores=("alpha", "beta"))
def added_product(call: Call) -> None:
    """A matrix product with a broadcast addend."""
    addend, left, right = list(call.tensors())
    if call.source.op == "aten.addbmm":  # summed over the batch
        product, result = "b m k, b k n", "m n"
    else:
        product, result = f"{_left(left)}, {_right(right)}", _product(left, right)
    rank, names = len(addend.shape), result.replace("...", "").split()
    added = result if rank > len(names) else " ".join(names[len(names) - rank :])
    call.relate(f"{product}, {added} -> {result}", left, right, addend, call.out, law=WITH_BIAS)


@rule("aten.einsum", ignores=("path",))
def einsum(call: Call) -> None:
    """The equation itself."""
    equation = call["equation"].replace(" ", "")
    values = list(call.tensors())
    inputs, arrow, output = equation.partition("->")
    if not arrow:
        letters = inputs.replace(",", "").replace("...", "")
        output = ("..." if "..." in inputs else "") + "".join(sorted(c for c in set(letters) if letters.count(c) == 1))
    pattern = ", ".join(map(_spaced, inputs.split(","))) + " -> " + _spaced(output)
    call.relate(pattern, *values, call.out, law=product_of(len(values)))


def _spaced(term: str) -> str:
    return " ".join(term.replace("...", "…")).replace("…", "...")


@rule("aten.tensordot")
def tensordot(call: Call) -> None:
    """Contracts pairs of axes; the others of the left, then those of the right remain."""
    left, right = list(call.tensors())
    rows, columns = letters(len(left.shape), "m"), letters(len(right.shape), "n")
    pairs = zip(axis_list(call["dims_self"], len(rows)), axis_list(call["dims_other"], len(columns)), strict=True)
    shared = {f"m{left_dim}": f"n{right_dim}" for left_dim, right_dim in pairs}
    named = {after: before for before, after in shared.items()}
    remain = [name for name in rows if name not in shared] + [name for name in columns if name not in named]
    terms = (rows, [named.get(name, name) for name in columns])
    call.relate(f"{' '.join(terms[0])}, {' '.join(terms[1])} -> {' '.join(remain)}", left, right, call.out, law=PRODUCT)


@rule("aten.kron")
def kronecker(call: Call) -> None:
    """out[(a b), (c d)] = x[a, c] y[b, d]."""
    left, right = list(call.tensors())
    if len(left.shape) != len(right.shape):
        call.pin_all("a Kronecker product of tensors of different ranks")
        return
    rows, columns = letters(len(left.shape), "m"), letters(len(right.shape), "n")
    products = " ".join(f"({row} {column})" for row, column in zip(rows, columns, strict=True))
    call.relate(f"{' '.join(rows)}, {' '.join(columns)} -> {products}", left, right, call.out, law=PRODUCT)


@rule("aten.trace")
def trace(call: Call) -> None:
    """Σ x[i, i]."""
    if call["self"].shape[0] == call["self"].shape[1]:
        call.relate("i i -> ", call["self"], call.out)
    else:
        call.pin_all("the diagonal of a matrix that is not square")


@rule("aten.outer", "aten.ger")
def outer(call: Call) -> None:
    """x yᵀ."""
    call.relate("m, n -> m n", *call.tensors(), call.out, law=PRODUCT)


@rule("aten.bilinear")
def bilinear(call: Call) -> None:
    """y_o = x1ᵀ W_o x2 + b_o."""
    operands = (call["input1"], call["input2"], call["weight"])
    call.relate("... i, ... j, o i j -> ... o", *operands, call.out, law=product_of(3))
    if call["bias"] is not None:
        call.relate("o -> ... o", call["bias"], call.out, law=SAME)


@rule("aten.cdist", ignores=("compute_mode",))
def pairwise_distance(call: Call) -> None:
    """Distances between rows; a sum over the last axis."""
    laws = {"k": DISTANCE} if call["p"] == 2 else {}
    call.relate("... m k, ... n k -> ... m n", call["x1"], call["x2"], call.out, law=laws)


@rule(newer=("aten._grouped_mm", "transformers.grouped_mm_fallback"))
def grouped_product(call: Call) -> None:
    """y_n = x_n W_e, where consecutive rows n belong to one expert e; the offsets of the experts pin them."""
    x, weight, *offsets = list(call.tensors())
    if len(x.shape) != 2 or len(weight.shape) != 3 or len(offsets) != 1:
        call.pin_all("a grouped product of another form")
        return
    why, laws = "rows are sorted by expert", {"i": PRODUCT, "o": PRODUCT}
    call.relate("n i, e i o, e -> n o", x, weight, offsets[0], call.out, pin={"n": why, "e": why}, law=laws)
