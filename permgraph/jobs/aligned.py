"""Two loaded models and their alignment, with what becomes of each one's heads, borders and tensors."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from torch import Tensor

from permgraph.checkpoints.writing import SecondHead
from permgraph.comparing.batches import Reading
from permgraph.jobs.account import Account, account
from permgraph.jobs.carrying import Carried
from permgraph.jobs.matching import Matching
from permgraph.matching.align import Alignment
from permgraph.matching.borders import Borders
from permgraph.models.borders import FittedPair
from permgraph.models.heads import Heads
from permgraph.models.loaded import LoadedModel
from permgraph.uses.enlarging import Enlarged


@dataclass(frozen=True)
class Aligned:
    """Two models, the part of them that is matched, and the alignment of the second's part with the first's.

    `base` is that part of the model that they were fine-tuned from, where one was given; `second` the head of the
    second model, moved, where it is written too; `pair` says at which borders the models were fitted to each other,
    `read` how much of the data was, and `notes` what its reader says of it; `carried` has B's adapters, moved with
    it, and `apply` moves what goes with the whole of B, where only a part of it was matched.
    """

    models: tuple[LoadedModel, LoadedModel]
    a: LoadedModel
    b: LoadedModel
    alignment: Alignment
    matching: Matching
    heads: Heads = field(default_factory=Heads)
    pair: FittedPair | None = None
    base: LoadedModel | None = None
    second: SecondHead | None = None
    read: Reading | None = None
    notes: tuple[str, ...] = ()
    apply: Callable[[Mapping[str, Tensor]], dict[str, Tensor]] | None = None
    carried: Carried = field(default_factory=Carried)

    def account(self, *, merged: bool) -> Account:
        """What became of every tensor of both models, merged or B moved to A alone."""
        found = self.alignment
        told = account(self.models, (self.a, self.b), self.heads, found.spec, list(found.gains), merged=merged)
        return told.with_reasons(self.borders.reasons) if merged else told

    @property
    def borders(self) -> Borders:
        """The axes at which the two models differ without being heads."""
        return Borders() if self.pair is None else self.pair.borders

    @property
    def as_written(self) -> LoadedModel:
        """The second model as `align` writes it: with its own borders, or with the sizes that it was enlarged to."""
        moved = self.models[1]
        return moved if self.enlarged is not None else moved.given or moved

    @property
    def enlarged(self) -> Enlarged | None:
        """How B was enlarged to A's sizes, where it was."""
        return None if self.pair is None else self.pair.enlarged

    def borders_text(self, *, merged: bool) -> str:
        """What became of those axes, or of fewer units and layers, a line each."""
        if self.enlarged is not None:
            return f"B was enlarged to A's sizes: {self.enlarged}"
        if merged or not self.borders:
            return str(self.borders)
        return f"{', '.join(dict.fromkeys(one.what for one in self.borders.borders))}: B keeps its own"
