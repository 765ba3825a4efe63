"""The low-rank factors of adapters: their names, and which axis of a weight each of them has."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

PREFIX = "base_model.model."
NAME = re.compile(
    rf"(?:{re.escape(PREFIX)})?(?P<module>.+)\.lora_(?P<kind>embedding_)?(?P<side>A|B|down|up)(?:\.[^.]+)*?(?:\.weight)?"
)


@dataclass(frozen=True)
class Factor:
    """A of B @ A, [rank, in, ...], or B, [out, rank, ...]; the same for an embedding, which is stored as (in, out)."""

    weight: str
    is_a: bool
    is_embedding: bool

    @property
    def axis(self) -> int:
        """The axis of the factor that the weight has too."""
        return 1 if self.is_a else 0

    def dim_of_weight(self, transposed: bool) -> int:
        """The dim of the weight that this axis is; `transposed` if the weight is stored (in, out)."""
        return self.axis if not (transposed or self.is_embedding) else 1 - self.axis


def factor_of(name: str, weights: Iterable[str]) -> Factor | None:
    """The weight that an adapter's tensor is a factor of, by the names of PEFT; None for any other name.

    If the name lacks the prefix of an outer model, it means the only weight whose name ends with it.
    """
    match = NAME.fullmatch(name)
    weight = None if match is None else _meant(f"{match['module']}.weight", weights)
    if match is None or weight is None:
        return None
    return Factor(weight, match["side"] in ("A", "down"), match["kind"] is not None)


def whole_of(name: str, weights: Iterable[str]) -> str | None:
    """The tensor of the model that an adapter stores as a whole, such as a classifier or biases that were trained."""
    return _meant(name.removeprefix(PREFIX), weights) if name.startswith(PREFIX) else None


def _meant(wanted: str, weights: Iterable[str]) -> str | None:
    same = [weight for weight in weights if weight == wanted]
    inner = same or [w for w in weights if w.endswith(f".{wanted}") or wanted.endswith(f".{w}")]
    return inner[0] if len(inner) == 1 else None
