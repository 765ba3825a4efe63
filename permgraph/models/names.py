"""Maps the names in weight files to the model's: removes wrappers and prefixes, and explains the remaining names."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from permgraph.errors import CheckpointError
from permgraph.wording import few

WRAPPERS = ("_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module", "_forward_module")
"""What torch.compile, FSDP, activation checkpointing and Lightning put between the names of modules."""
PREFIXES = ("module.", "model.", "network.", "net.")
"""What data-parallel training and training frameworks put before all names, the likeliest first."""
BUFFER = re.compile(
    r"(^|\.)(masked_bias|position_ids|inv_freq|num_batches_tracked|relative_position_index|attn_mask|causal_mask|freqs_cis"
    r"|attn(ention)?\.bias|rotary_emb\..*|_extra_state|loss_type)$"
)
AVERAGE = re.compile(r"(^|[._])(ema|swa|averaged?|shadow)([._]|$)")
MOST_LEVELS = 4


@dataclass(frozen=True)
class Fitted:
    """`names`: the model's name -> that in the files; `left_out`: name in the files -> why; `prefix` was removed."""

    names: Mapping[str, str]
    left_out: Mapping[str, str]
    prefix: str = ""


def fitted(stored: Iterable[str], wanted: Collection[str], base: str = "") -> Fitted:
    """The names in the files as the model has them: without wrappers, and without the prefix that most of them share.

    A prefix is removed only where more names fit without it. `base` is the model's own prefix for its base model, with
    which or without which a name fits too. Raises CheckpointError where two prefixes fit equally well, or two names
    become one.
    """
    known = {*wanted, *(f"{base}{name}" for name in wanted), *(name.removeprefix(base) for name in wanted)}
    bare = {name: _unwrapped(name, known) for name in stored}
    prefix = _prefix(bare.values(), known, min(len(bare), len(wanted)))
    names: dict[str, str] = {}
    left_out: dict[str, str] = {}
    for name, inner in bare.items():
        if not inner.startswith(prefix):
            left_out[name] = "a moving average" if AVERAGE.search(name) else f"not under {prefix!r}, as the weights are"
        elif (new := inner.removeprefix(prefix)) in names:
            raise CheckpointError(f"{names[new]!r} and {name!r} are both names of {new!r}. Save it with one of them.")
        else:
            names[new] = name
    return Fitted(names, left_out, prefix)


def why_left_out(name: str, wanted: Collection[str], what: str) -> str:
    """Why a tensor that `what` does not have may be left out; "" if it may not.

    It may not if it belongs to further layers, or to a module that the model has: the bias of a layer that has none by
    the config, or the scale of a quantised weight.
    """
    if BUFFER.search(name):
        return "a buffer that the model computes itself"
    if AVERAGE.search(name):
        return "a moving average"
    if any(f".{other}".endswith(f".{name.rpartition('.')[0]}.weight") for other in wanted):
        return ""
    patterns = {_pattern(tail) for other in wanted for tail in _tails(other)}
    if "#" in _pattern(name) and any("#" in (found := _pattern(tail)) and found in patterns for tail in _tails(name)):
        return ""
    return f"no part of {what}"


def _tails(name: str) -> list[str]:
    return [name.split(".", level)[-1] for level in range(min(MOST_LEVELS, name.count(".") + 1))]


def _unwrapped(name: str, known: Collection[str]) -> str:
    if name in known:
        return name
    return ".".join(part for part in name.split(".") if part not in WRAPPERS)


def _prefix(names: Collection[str], known: Collection[str], count: int) -> str:
    """The prefix of most names that fit without it, where they are at least half of `count`."""
    fits = {"": sum(name in known for name in names)}
    for name in names:
        parts = name.split(".")
        for level in range(1, min(MOST_LEVELS, len(parts) - 1) + 1):
            prefix = ".".join(parts[:level]) + "."
            fits[prefix] = fits.get(prefix, 0) + (name.removeprefix(prefix) in known)
    most = max(fits.values())
    best = [prefix for prefix, count in fits.items() if count == most]
    if "" in best or 2 * most < count:  # of names that an adapter will change, few fit, and by chance
        return ""
    if len(best) == 1:
        return best[0]
    usual = [prefix for prefix in best if not AVERAGE.search(prefix) and set(prefix.split(".")) <= _USUAL]
    if len(usual) != 1:
        raise CheckpointError(
            f"the weights of several models fit, under {few(sorted(best))}. Save the intended one by itself."
        )
    return usual[0]


_USUAL = {part for prefix in PREFIXES for part in prefix.split(".")}


def _pattern(name: str) -> str:
    """The name with every number in it replaced, the same for all layers."""
    return re.sub(r"(?<![^.])\d+(?![^.])", "#", name)
