"""A pair of encoders, what they do alike on calibration audio, and the elements of the group that this makes.

The cross-moments of one calibration set are gathered once; every choice of groups is then solved from them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import permgraph as pg
from benchmarks.speech_music.features import RATE
from benchmarks.speech_music.recordings import folder_of
from benchmarks.speech_music.streams import normalised
from permgraph.assignment.solve import Term, breakdown, solve
from permgraph.comparing.models import Models
from permgraph.comparing.points import find_points
from permgraph.matching.correlation import correlation_terms
from permgraph.matching.groups import select
from permgraph.symmetry.derivation.derive import Derivation
from permgraph.symmetry.proof.verification import certify
from permgraph.tracing.run import bind

WINDOW_SECONDS = 5.0
WINDOWS_AT_ONCE = 4
DEFAULT_SECONDS = 600


@dataclass(frozen=True)
class Calibration:
    """Which audio both encoders hear: `domain` "speech", "music" or "both" in equal parts, `seconds` in all."""

    domain: str = "both"
    seconds: int = DEFAULT_SECONDS
    corpus: str = "shipped"
    split: str = "train"

    def __str__(self) -> str:
        return f"{self.domain}, {self.seconds} s"

    def windows(self, seed: int = 0) -> np.ndarray:
        """(n, samples) int16 at random places of the prepared streams; speech and music in random order."""
        rng = np.random.default_rng(seed)
        domains = ("speech", "music") if self.domain == "both" else (self.domain,)
        count = max(1, round(self.seconds / WINDOW_SECONDS / len(domains)))
        size, found = round(WINDOW_SECONDS * RATE), []
        for domain in domains:
            stream = np.load(folder_of(domain, self.corpus) / f"{self.split}.npy", mmap_mode="r")
            starts = rng.integers(0, len(stream) - size, count)
            found += [stream[start : start + size] for start in starts]
        return np.stack([found[k] for k in rng.permutation(len(found))])

    def batches(self) -> Iterator[dict[str, Tensor]]:
        """Batches for both encoders, all of one shape."""
        windows = self.windows()
        size = min(WINDOWS_AT_ONCE, len(windows))
        for first in range(0, len(windows) - size + 1, size):
            yield {"input_values": torch.from_numpy(normalised(windows[first : first + size]))}


@dataclass
class Encoders:
    """A (speech) and B (music), one architecture; `spec`, the group of both."""

    a: nn.Module
    b: nn.Module
    calibration: Calibration = field(default_factory=Calibration)
    moments: dict[str, list[Term]] = field(default_factory=dict)
    certificates: dict[str, float] = field(default_factory=dict)

    @classmethod
    def load(cls, a: str, b: str, **more: Any) -> Encoders:
        """From two checkpoint folders."""
        return cls(pg.load(a).model.eval(), pg.load(b).model.eval(), **more)

    @cached_property
    def pair(self) -> Models:
        """Both models with their weights, traced on demand."""
        return Models.of((self.a, self.b))

    @cached_property
    def derivation(self) -> Derivation:
        """Of A, on a batch of the calibration's shape; outputs free."""
        tie = {("masked_spec_embed", 0): ("encoder.layer_norm.weight", 0)}
        return Derivation(self.pair.program(((), next(self.calibration.batches()))), "free", tie)

    def like(self, other: Calibration) -> Calibration:
        """`other` of the domain, corpus and split of this pair's own calibration."""
        own = self.calibration
        return replace(other, domain=own.domain, corpus=own.corpus, split=own.split)

    @property
    def spec(self) -> pg.PermutationSpec:
        """The verified group."""
        return self.derivation.spec

    def terms(self, calibration: Calibration) -> list[Term]:
        """The correlations on a calibration set, gathered once."""
        key = str(calibration)
        if key not in self.moments:
            points = find_points(self.derivation, [group.name for group in self.spec.groups])
            self.moments[key] = correlation_terms(self.pair, points, calibration.batches())
        return self.moments[key]

    def matched(self, roles: Sequence[str], calibration: Calibration | None = None) -> pg.Permutations:
        """The element of the groups of `roles` that maximises the matched correlation; the others do not move."""
        chosen = select(self.spec, list(roles))
        names = {group.name for group in chosen}
        others = {group.name for group in self.spec.groups} - names
        terms = [term for term in self.terms(calibration or self.calibration) if not others & set(term.groups)]
        sizes = {n: s for g in self.spec.groups for n, s in zip(g.depends_on, g.depends_sizes, strict=True)}
        return self.certified(pg.Permutations({**self.spec.identity(), **solve(chosen, terms, pinned=sizes)}))

    def certified(self, element: pg.Permutations) -> pg.Permutations:
        """`element`, proved to leave B's function unchanged; VerificationError where it does not."""
        example = {"input_values": torch.zeros(1, RATE // 2)}
        program = self.pair.program(((), example))
        inputs = bind(program, (), example)
        found = certify(program, self.spec, self.pair.states[1], inputs, element=element, trials=1)
        if not found.ok:
            raise pg.VerificationError(f"an alignment of the experiment is refused: {found}")
        self.certificates[f"{len(self.certificates)}"] = found.max_error
        return element

    def moved(self, element: Mapping[str, np.ndarray]) -> dict[str, Tensor]:
        """B's weights under an element."""
        return self.spec.apply(element, self.pair.states[1])

    def correlations(self, element: Mapping[str, np.ndarray], calibration: Calibration) -> dict[str, float]:
        """Group -> mean correlation of A's units with those that `element` puts in their places."""
        terms = self.terms(calibration)
        parts = breakdown(self.spec.groups, terms, dict(element))
        pairs = {
            g.name: sum(int(np.prod(t.matrix.shape[: len(t.groups)])) for t in terms if g.name in t.groups)
            for g in self.spec.groups
        }
        return {name: parts[name] / pairs[name] for name in parts if pairs[name]}

    def with_weights(self, state: Mapping[str, Tensor]) -> nn.Module:
        """A model of this architecture with these weights."""
        model = deepcopy(self.a)
        model.load_state_dict(dict(state))
        return model
