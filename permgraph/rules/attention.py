"""Scaled dot-product attention as one operation, with its scores as an inner tensor."""

from permgraph.algebra.laws import Law
from permgraph.rules.registry import DRAWS, Call, rule

ORDER = "causal attention depends on the order of positions"
LAWS = {"e": Law(((0, 1),)), "v": Law(((2,),))}
ROLES = {"h": "attention.heads", "r": "attention.heads", "e": "attention.qk", "v": "attention.vo"}


@rule("aten.scaled_dot_product_attention", ignores=("scale",))
def scaled_dot_product_attention(call: Call) -> None:
    """softmax(Q Kᵀ + mask) V for each head; with `enable_gqa` a key-value head `h` serves `r` query heads."""
    q, k, v, mask = call["query"], call["key"], call["value"], call["attn_mask"]
    if call["dropout_p"]:
        call.pin_all(DRAWS)
        return
    if len({len(value.shape) for value in (q, k, v)}) > 1:
        call.pin_all("attention of tensors of different ranks")
        return
    grouped = call["enable_gqa"] and q.shape[-3] != k.shape[-3]
    heads = "(h r)" if grouped else "h"
    lead = "..." if len(q.shape) > 4 else "b" if len(q.shape) == 4 else ""
    if len(q.shape) < 3:
        heads = shared = ""
    else:
        shared = "h"
    operands = [f"{lead} {heads} l e", f"{lead} {shared} s e", f"{lead} {shared} s v"]
    values = [q, k, v]
    if mask is not None:
        operands.append(_mask(len(mask.shape), len(q.shape), lead, heads))
        values.append(mask)
    scores = f"{lead} {heads.strip('()')} l"
    sizes = {"h": k.shape[-3]} if shared else {}
    pins = {"l": ORDER, "s": ORDER} if call["is_causal"] else {}
    call.relate(
        f"{', '.join(operands)} -> {lead} {heads} l v | {scores} s, {scores}",
        *values,
        call.out,
        pin=pins,
        sizes=sizes,
        law=LAWS,
    )
    relation = call.relations[-1]
    relation.roles.update(ROLES)
    relation.ignored.update(dict.fromkeys((1, 3), frozenset("s")))
    relation.averaged.update({2: frozenset("s")} if mask is None else {})  # a row that is masked as a whole is 0


def _mask(mask_rank: int, rank: int, lead: str, heads: str) -> str:
    """A mask broadcasts from the right."""
    full = [*([lead] if lead else []), *([heads] if heads else []), "l", "s"]
    return " ".join(full if lead == "..." else full[rank - mask_rank :])
