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

State = Mapping[str, Tensor]
Move = Callable[[Encoders, int], State | pg.Alignment]
"""B moved; an alignment where A changes too, because its norms are folded."""

SWEEP = (0.25, 0.5, 0.6, 0.7, 0.8, 0.9)
FEW = (0.5, 0.7, 0.9)
TWO = (0.5, 0.9)
HALF = (0.5,)
CONTROL_SEEDS = 2
RANDOM_SEEDS = 3
MIXED_SECONDS = 120
LEARNING = Calibration("both", 1200)
"""What elements are learned and merges healed on."""
STEPS = 150
FIRST = ("paper", "kinds", "healed", "unmerged", "control", "ours", "calibration")

CONV = ("conv",)
FF = ("feed_forward",)
ATTENTION = ("attention.heads", "attention.vo")
QK = ("attention.qk",)
RESIDUAL = ("residual",)
PROPOSED = (*CONV, *FF, *ATTENTION)
EVERYTHING = (*PROPOSED, *QK, *RESIDUAL)


@dataclass(frozen=True)
class Row:
    """One way to make B': `family` is one of FIRST; `method` how it is merged; `healed` on "features" or on "both"."""

    name: str
    title: str
    family: str
    move: Move
    weights: tuple[float, ...] = SWEEP
    seeds: int = 1
    method: str = "linear"
    healed: str = ""


def of_every_kind(method: str, **options: Any) -> Move:
    """Every group of every kind: invertible maps in Q with K and in V with O, scales; the stream is permuted."""

    def move(pair: Encoders, seed: int) -> pg.Alignment:
        data = list(pair.like(pair.calibration if method != "learned" else LEARNING).batches())
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


def by_weights(pair: Encoders, seed: int) -> State:
    """B aligned in all groups by its weights, without any data."""
    example = next(pair.calibration.batches())
    found = pg.align(pair.a, pair.b, kwargs=example, spec=pair.spec, method="weights", seed=seed)
    return pair.moved(found.permutations)


def mixed(pair: Encoders, seed: int) -> State:
    """B aligned in all groups by activations and weights, half and half (MuDSC, arXiv 2403.01753)."""
    heard = list(pair.like(Calibration("both", MIXED_SECONDS)).batches())
    found = pg.align(pair.a, pair.b, heard, spec=pair.spec, mix=0.5, seed=seed)
    return pair.moved(found.permutations)


def calibrated(name: str, title: str, domain: str, seconds: int) -> Row:
    """The proposed groups on other calibration audio."""
    return Row(name, title, "calibration", matched(PROPOSED, Calibration(domain, seconds)), TWO)


ROWS = (
    Row("linear", "linear (identity)", "paper", as_it_stands),
    Row("proposed", "proposed: CNN + ff + attn", "paper", matched(PROPOSED)),
    Row("cnn", "CNN", "paper", matched(CONV)),
    Row("cnn-ff", "CNN + ff", "paper", matched((*CONV, *FF))),
    Row("cnn-all", "CNN + all: every verified group", "paper", matched(EVERYTHING)),
    Row("ff-attn", "ff + attn", "paper", matched((*FF, *ATTENTION))),
    Row("kinds-weights", "every kind by weights, no data", "kinds", of_every_kind("weights")),
    Row("kinds", "every kind by correlation", "kinds", of_every_kind("correlation")),
    Row("learned", "every kind, learned on mean features", "kinds", learned, FEW),
    Row("learned-refit", "every kind, learned, then refitted", "kinds", learned, FEW, method="refit"),
    Row("heal-as-is", "B as it stands, healed", "healed", as_it_stands, TWO, healed="both"),
    Row("heal", "proposed, healed", "healed", matched(PROPOSED), TWO, healed="both"),
    Row("heal-learned", "every kind, learned, then healed", "healed", learned, TWO, healed="both"),
    Row("heal-random", "random valid element, healed", "healed", at_random, HALF, healed="both"),
    Row("heal-mean-as-is", "B as it stands, healed on mean features", "healed", as_it_stands, HALF, healed="features"),
    Row("heal-mean", "proposed, healed on mean features", "healed", matched(PROPOSED), HALF, healed="features"),
    Row("heal-a", "A alone, healed", "unmerged", as_it_stands, (1.0,), healed="both"),
    Row("heal-b", "B alone, healed", "unmerged", as_it_stands, (0.0,), healed="both"),
    Row("scratch", "random weights, healed", "unmerged", untrained, (0.0,), healed="both"),
    Row("qk", "proposed, heads with Q and K matched", "ours", matched((*PROPOSED, *QK))),
    Row("residual", "residual stream alone", "ours", matched(RESIDUAL), FEW),
    Row("weights", "every group by weights, no data", "ours", by_weights),
    Row("mix", "every group by correlation and weights, half and half", "ours", mixed, FEW),
    Row("slerp", "proposed, slerp", "ours", matched(PROPOSED), FEW, method="slerp"),
    Row("pleas", "proposed, least squares (PLeaS)", "ours", matched(PROPOSED), FEW, method="pleas"),
    Row("regmean", "proposed, least squares (RegMean)", "ours", matched(PROPOSED), FEW, method="regmean"),
    Row("pleas-all", "every group, least squares (PLeaS)", "ours", matched(EVERYTHING), FEW, method="pleas"),
    Row("pleas-as-is", "B as it stands, least squares (PLeaS)", "ours", as_it_stands, FEW, method="pleas"),
    Row("repair", "proposed, repaired (REPAIR)", "ours", matched(PROPOSED), FEW, method="repair"),
    Row("refit", "proposed, refitted layer after layer", "ours", matched(PROPOSED), FEW, method="refit"),
    Row("refit-all", "every group, refitted layer after layer", "ours", matched(EVERYTHING), FEW, method="refit"),
    Row("refit-as-is", "B as it stands, refitted layer after layer", "ours", as_it_stands, FEW, method="refit"),
    calibrated("speech-only", "proposed, calibrated on speech only", "speech", 600),
    calibrated("music-only", "proposed, calibrated on music only", "music", 600),
    calibrated("10s", "proposed, 10 s of calibration", "both", 10),
    calibrated("60s", "proposed, 1 min of calibration", "both", 60),
    calibrated("3600s", "proposed, 1 h of calibration", "both", 3600),
    Row(
        "random",
        "random valid element of the proposed groups",
        "control",
        at_random,
        seeds=RANDOM_SEEDS,
    ),
    Row(
        "random-all",
        "random valid element of every group",
        "control",
        lambda pair, seed: pair.moved(controls.random_valid(pair.spec, EVERYTHING, seed)),
        FEW,
        CONTROL_SEEDS,
    ),
    Row(
        "scrambled",
        "random invalid scrambling of B",
        "control",
        lambda pair, seed: controls.scrambled(pair.spec, pair.pair.states[1], seed),
        seeds=CONTROL_SEEDS,
    ),
    Row(
        "noise",
        "noise with B's mean and norm, tensor by tensor",
        "control",
        lambda pair, seed: controls.noise(pair.pair.states[1], seed),
        seeds=CONTROL_SEEDS,
    ),
    Row(
        "released",
        "the paper's released procedure, defects included",
        "control",
        lambda pair, _seed: released.moved(pair.a, pair.b, pair.calibration.batches()),
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
