"""Recognises a product that is only summed as a contraction: `(x * y).sum(-1)`, `x.pow(2).mean(-1)`.

So a norm is recognised by what it computes, however a model writes it: x.pow(2).mean(-1) allows every orthogonal map of
x, although pow alone allows only signs.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

from permgraph.algebra.laws import LINEAR, LOOSE
from permgraph.algebra.relations import Relation, Value


def contract_summed_products(relations: Sequence[Relation], kept: set[str]) -> None:
    """Give the sum and the product the laws of a contraction; `kept` are tensors that are read elsewhere too."""
    readers: defaultdict[str, list[Relation]] = defaultdict(list)
    for relation in relations:
        for operand in relation.operands:
            readers[operand.value.name].append(relation)
    for product in relations:
        out = product.operands[-1].value
        both = readers[out.name]
        if out.name in kept or len(product.operands) != product.given + 1 or len(both) != 2 or both[0] is not product:
            continue
        for made, read in _summed(product, both[1], out):
            product.laws[made] = replace(product.laws[made], summed=True)
            both[1].laws[read] = LOOSE


def _summed(product: Relation, reader: Relation, out: Value) -> list[tuple[str, str]]:
    """(variable of the product, variable of the sum) for each axis of the product that is summed over."""
    if reader.given != 1 or reader.operands[0].value is not out:
        return []
    pairs = zip(product.operands[-1].dims, reader.operands[0].dims, strict=True)
    names = [(a[0].variable, b[0].variable) for a, b in pairs if len(a) == len(b) == 1]
    return [
        (made, read)
        for made, read in names
        if read in reader.contracted and reader.laws.get(read) == LINEAR and _is_product(product, made)
    ]


def _is_product(relation: Relation, variable: str) -> bool:
    law = relation.laws.get(variable)
    return (
        law is not None
        and len(law.terms) == 1
        and len(law.terms[0]) > 1
        and not (law.affine or law.even or law.unsized)
    )
