"""Two loaded models and their alignment, and what happens to their heads, borders and tensors."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from torch import Tensor

from permgraph.checkpoints.writing import SecondHead
from permgraph.comparing.batches import Batches
from permgraph.jobs.account import Account, account
from permgraph.jobs.carrying import Carried
from permgraph.jobs.data_read import DataRead
from permgraph.jobs.matching import Matching
from permgraph.matching.alignment import Alignment
from permgraph.matching.borders import Borders
from permgraph.merging.owners import Owners
from permgraph.models.borders import FittedPair
from permgraph.models.heads import Heads
from permgraph.models.loaded import LoadedModel
from permgraph.uses.enlarging import Enlarged


@dataclass(frozen=True)
class Aligned:
    """Two models, the part of them that is matched, and the alignment of the second's part with the first's.

    `data`: the batches by which they were matched; `read`: how much of it was read. `base`: the same part of the model
    that both were fine-tuned from, if one was given; `base_borders`: where its axes differ from A's. `second`: the
    moved head of the second model, if it is written too. `pair`: at which borders the models were fitted to each other.
    `carried`: B's adapters, moved with it. `apply`: moves tensors along with the whole of B, if only a part of it was
    matched.
    """

    models: tuple[LoadedModel, LoadedModel]
    a: LoadedModel
    b: LoadedModel
    alignment: Alignment
    matching: Matching
    heads: Heads = field(default_factory=Heads)
    pair: FittedPair | None = None
    base: LoadedModel | None = None
    base_borders: Borders = field(default_factory=Borders)
    second: SecondHead | None = None
    data: Batches | None = None
    read: DataRead = field(default_factory=DataRead)
    apply: Callable[[Mapping[str, Tensor]], dict[str, Tensor]] | None = None
    carried: Carried = field(default_factory=Carried)

    def account(self, *, merged: bool) -> Account:
        """What happened to every tensor of both models: merged, or B only moved to A."""
        found = self.alignment
        told = account(self.models, (self.a, self.b), self.heads, found.spec, list(found.gains), merged=merged)
        return told.with_reasons(self.borders.reasons) if merged else told

    @property
    def borders(self) -> Borders:
        """The axes at which the two models differ without being heads."""
        return Borders() if self.pair is None else self.pair.borders

    @property
    def owners(self) -> Owners:
        """Which of the models have the entries of their borders."""
        return Owners((self.alignment.borders,), self.base_borders)

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
        """What happened at those axes, and how B was enlarged, one line each."""
        if self.enlarged is not None:
            return f"B was enlarged to A's sizes: {self.enlarged}"
        if merged or not self.borders:
            return str(self.borders)
        return f"{', '.join(dict.fromkeys(one.what for one in self.borders.borders))}: B keeps its own"
