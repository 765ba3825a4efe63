"""The rows of the table: what B becomes before it is merged with A, and at which weights and with which seeds.

`weight` is A's share throughout, as in arXiv 2506.11403: 0.9 in its headline.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

import permgraph as pg
from benchmarks.speech_music import controls, released
from benchmarks.speech_music.pair import Calibration, Encoders
from permgraph.demo.hearing import Heard
from permgraph.symmetry.elements.parts import with_index

State = Mapping[str, Tensor]
Move = Callable[[Encoders, int], State | pg.Alignment]
"""B moved; an alignment where A changes too, because its norms are folded."""

SWEEP = (0.3, 0.5, 0.6, 0.7, 0.8, 0.9)
FEW = (0.3, 0.5, 0.7, 0.9)
HEALED = (0.3, 0.5, 0.7)
LONGER = (0.5, 0.7)
TWO = (0.5, 0.9)
ONE = (0.5,)
CONTROL_SEEDS = 2
LEARNING = Calibration("both", 3600)
"""What elements are learned and merges healed on."""
STEPS, LONG = 150, 600
"""Of learning and healing; of healing for longer."""
FIRST = ("plain", "permuted", "kinds", "refitted", "healed", "longer", "unmerged", "control")

CONV = ("conv",)
FF = ("feed_forward",)
ATTENTION = ("attention.heads", "attention.vo")
QK = ("attention.qk",)
RESIDUAL = ("residual",)
PROPOSED = (*CONV, *FF, *ATTENTION)
EVERYTHING = (*PROPOSED, *QK, *RESIDUAL)
BUT_STREAM = (*PROPOSED, *QK)


@dataclass(frozen=True)
class Row:
    """One way to make B': `family`, of FIRST; `method`, how it is merged; `steps` of healing follow."""

    name: str
    title: str
    family: str
    move: Move
    weights: tuple[float, ...] = SWEEP
    seeds: int = 1
    method: str = "linear"
    steps: int = 0


def of_every_kind(method: str, hidden: bool = False, **options: Any) -> Move:
    """Every group of every kind: invertible maps in Q with K and in V with O, scales; the stream is permuted.

    `hidden`: the encoders return all hidden states.
    """

    def move(pair: Encoders, seed: int) -> pg.Alignment:
        more = {"output_hidden_states": True} if hidden else {}
        calibration = pair.like(pair.calibration if method != "learned" else LEARNING)
        data = [batch | more for batch in calibration.batches()]
        example = None if method != "weights" else data[0]
        heard = data if method != "weights" else None
        found = pg.align(
            pair.a, pair.b, heard, kwargs=example, kinds="all", outputs="free", method=method, seed=seed, **options
        )
        pair.certificates[f"{len(pair.certificates)}"] = found.certificate.max_error
        return found

    return move


def learned(pair: Encoders, seed: int) -> pg.Alignment:
    """Learned from where matching by correlation in every kind comes to, so that the merge has the mean features."""
    start = of_every_kind("correlation")(pair, seed)
    return of_every_kind("learned", start=start, steps=STEPS)(pair, seed)


def from_permutations(pair: Encoders, seed: int) -> pg.Alignment:
    """Learned from the permutations of PROPOSED, so that the stream stays at rest."""
    return of_every_kind("learned", start=as_every_kind(pair), steps=STEPS)(pair, seed)


def from_permutations_all_heard(pair: Encoders, seed: int) -> pg.Alignment:
    """The same towards all hidden states of both parents, instead of the mean of their last."""
    loss = Heard((pair.a, pair.b))
    return of_every_kind("learned", hidden=True, start=as_every_kind(pair), steps=STEPS, loss=loss)(pair, seed)


def as_every_kind(pair: Encoders) -> dict[str, Any]:
    """The permutations of PROPOSED as an element of the group of every kind."""
    permutations, batch = pair.matched(PROPOSED), ((), next(pair.calibration.batches()))
    models, _ = pair.pair.folded(batch)
    spec = models.derivation(batch, "free", "all").spec
    found = {g.name: with_index(g.kind, permutations[g.name]) for g in spec.groups if g.name in permutations}
    return {**spec.identity(), **found}


def at_random(pair: Encoders, seed: int) -> State:
    """B under a uniformly random element of the proposed groups."""
    return pair.moved(controls.random_valid(pair.spec, PROPOSED, seed))


def untrained(pair: Encoders, seed: int) -> State:
    """Random weights of this architecture."""
    torch.manual_seed(seed)
    return type(pair.a)(deepcopy(pair.a.config)).state_dict()


def matched(roles: tuple[str, ...], calibration: Calibration | None = None) -> Move:
    """B aligned by correlation in the groups of `roles`."""
    return lambda pair, _seed: pair.moved(pair.matched(roles, calibration and pair.like(calibration)))


def as_it_stands(pair: Encoders, _seed: int) -> State:
    """B, not moved."""
    return pair.pair.states[1]


PERMUTED = matched(PROPOSED)
ROWS = (
    Row("linear", "linear interpolation", "plain", as_it_stands),
    Row("proposed", "permutations", "permuted", PERMUTED),
    Row("cnn", "permutations of the convolutions alone", "permuted", matched(CONV), TWO),
    Row("ff-attn", "permutations in feed-forward and attention alone", "permuted", matched((*FF, *ATTENTION)), TWO),
    Row("cnn-all", "permutations of every group", "permuted", matched(EVERYTHING), TWO),
    Row("kinds-weights", "every kind, by weights", "kinds", of_every_kind("weights"), FEW),
    Row("kinds", "every kind, by correlation", "kinds", of_every_kind("correlation"), FEW),
    Row(
        "kinds-still",
        "every kind but the stream, by correlation",
        "kinds",
        of_every_kind("correlation", groups=BUT_STREAM),
        ONE,
    ),
    Row("learned", "every kind, learned", "kinds", learned, FEW),
    Row("learned-permuted", "every kind, learned from permutations", "kinds", from_permutations, ONE),
    Row(
        "learned-heard",
        "every kind, learned from permutations towards all hidden states",
        "kinds",
        from_permutations_all_heard,
        ONE,
    ),
    Row("refit-as-is", "linear interpolation, refitted", "refitted", as_it_stands, FEW, method="refit"),
    Row("refit", "permutations, refitted", "refitted", PERMUTED, FEW, method="refit"),
    Row("learned-refit", "every kind, learned, refitted", "refitted", learned, FEW, method="refit"),
    Row("heal-as-is", "linear interpolation, healed", "healed", as_it_stands, HEALED, steps=STEPS),
    Row("heal-random", "random valid element, healed", "healed", at_random, HEALED, CONTROL_SEEDS, steps=STEPS),
    Row("heal", "permutations, healed", "healed", PERMUTED, HEALED, steps=STEPS),
    Row("heal-learned", "every kind, learned, healed", "healed", learned, HEALED, steps=STEPS),
    Row(
        "heal-heard",
        "every kind, learned from permutations towards all hidden states, healed",
        "healed",
        from_permutations_all_heard,
        ONE,
        steps=STEPS,
    ),
    Row("long-as-is", "linear interpolation, healed for longer", "longer", as_it_stands, LONGER, steps=LONG),
    Row("long", "permutations, healed for longer", "longer", PERMUTED, LONGER, steps=LONG),
    Row("long-random", "random valid element, healed for longer", "longer", at_random, ONE, steps=LONG),
    Row("long-learned", "every kind, learned, healed for longer", "longer", learned, LONGER, steps=LONG),
    Row("long-scratch", "random weights, healed for longer", "longer", untrained, (0.0,), steps=LONG),
    Row("long-a", "A alone, healed for longer", "unmerged", as_it_stands, (1.0,), steps=LONG),
    Row("long-b", "B alone, healed for longer", "unmerged", as_it_stands, (0.0,), steps=LONG),
    Row("heal-a", "A alone, healed", "unmerged", as_it_stands, (1.0,), steps=STEPS),
    Row("heal-b", "B alone, healed", "unmerged", as_it_stands, (0.0,), steps=STEPS),
    Row("scratch", "random weights, healed", "unmerged", untrained, (0.0,), steps=STEPS),
    Row("random", "random valid element of the proposed groups", "control", at_random, TWO, CONTROL_SEEDS),
    Row(
        "scrambled",
        "random invalid scrambling of B",
        "control",
        lambda pair, seed: controls.scrambled(pair.spec, pair.pair.states[1], seed),
        TWO,
        CONTROL_SEEDS,
    ),
    Row(
        "noise",
        "noise with B's mean and norm, tensor by tensor",
        "control",
        lambda pair, seed: controls.noise(pair.pair.states[1], seed),
        TWO,
        CONTROL_SEEDS,
    ),
    Row(
        "released",
        "the paper's released procedure, defects included",
        "control",
        lambda pair, _seed: released.moved(pair.a, pair.b, pair.calibration.batches()),
        TWO,
    ),
)


@dataclass(frozen=True)
class Cell:
    """One merged model of the table."""

    row: Row
    weight: float
    seed: int

    @property
    def key(self) -> str:
        """The name of its file."""
        return f"{self.row.name}@{self.weight:g}#{self.seed}"


def cells(only: tuple[str, ...] = ()) -> list[Cell]:
    """All models of the table; those of one row and seed one after another, so that B is moved once for them.

    What decides the question comes first: a run that is stopped early has it.
    """
    wanted = sorted((row for row in ROWS if not only or row.name in only), key=lambda row: FIRST.index(row.family))
    return [Cell(row, weight, seed) for row in wanted for seed in range(row.seeds) for weight in row.weights]
