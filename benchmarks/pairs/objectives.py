"""By weights, in all kinds: would another objective, or another start, leave a lower barrier?

    nice python -m benchmarks.pairs.train vit gpt2 llama
    nice python -m benchmarks.pairs.objectives [ARCHITECTURE ...]

The ascent is that of `permgraph.matching.kinds`. *Objectives*: inner products of tensors whose norms, or whose mean
squares, are brought to 1, or half the way there. *Starts*: where the ascent came
to, its streams turned by a random rotation, and the rest solved again. Writes `benchmarks/results/objectives.json`.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import torch
from torch import Tensor

import permgraph as pg
from benchmarks.measured_with import measured_with
from benchmarks.pairs.aligners import loaded
from benchmarks.pairs.kinds import chosen
from benchmarks.pairs.measure import RESULTS, inputs, judged, kept_rows
from benchmarks.pairs.models import RECIPES, SEEDS
from benchmarks.pairs.train import trained
from permgraph.comparing.models import Models
from permgraph.matching.kinds.ascent import Ascent
from permgraph.matching.kinds.balance import balance
from permgraph.symmetry.derivation.folding import separated
from permgraph.symmetry.elements.parts import Matrix

NAMES = ("vit", "gpt2", "llama")
TURNS = (0.3, 1.0, 3.0)
States = tuple[Mapping[str, Tensor], Mapping[str, Tensor]]


def scaled(states: States, power: float, *, by_size: bool) -> States:
    """Each tensor of both times (|a| |b|)^(-power / 2), of their root mean squares with `by_size`."""
    a, b = states
    factors = {}
    for name in a:
        size = float(a[name].norm() * b[name].norm()) / (a[name].numel() if by_size else 1)
        factors[name] = size ** (-power / 2) if size else 1.0
    return tuple({name: x[name] * factors[name] for name in x} for x in (a, b))  # type: ignore[return-value]


OBJECTIVES: dict[str, Callable[[States], States]] = {
    "as it is": lambda states: states,
    "half of each norm divided out": lambda states: scaled(states, 0.5, by_size=False),
    "each norm divided out": lambda states: scaled(states, 1.0, by_size=False),
    "half of each root mean square divided out": lambda states: scaled(states, 0.5, by_size=True),
    "each root mean square divided out": lambda states: scaled(states, 1.0, by_size=True),
}


@dataclass
class Judged:
    """Two models of one group, as the ascent takes them, and what they are judged on."""

    name: str
    pair: tuple[int, int]

    def __post_init__(self) -> None:
        self.a, self.b = (trained(self.name, seed) for seed in self.pair)
        example = ((chosen(self.name, 8)[0],), {})
        self.models, self.untied = Models.of((self.a, self.b)).folded(example)
        self.spec = self.models.derivation(example, "fixed", "all").spec
        self.groups = tuple(self.spec.groups)
        names = [group.name for group in self.groups]
        self.balanced = [balance(self.spec, state, names) for state in self.models.states]
        self.back = self.spec.invert(self.balanced[0][0])
        _, self.test = inputs(self.name)

    def rows(self) -> Iterator[dict[str, Any]]:
        """The barrier, and Σ <θ_A, g θ_B>, of each objective and start."""
        plain = self.ascent((self.balanced[0][1], self.balanced[1][1]))
        for objective, change in OBJECTIVES.items():
            yield self.row(objective, self.ascent(change((plain.a, plain.b))).element)
        for turn in TURNS:
            yield self.row(f"begun {turn:g} away", self.again(plain, turn).element)

    def ascent(self, states: States) -> Ascent:
        """One that is done."""
        found = Ascent(self.spec, self.groups, *states)
        found.run()
        return found

    def again(self, plain: Ascent, turn: float) -> Ascent:
        """From a random rotation of all streams by about so many radians of where another came to."""
        found = Ascent(self.spec, self.groups, plain.a, plain.b)
        found.settle(plain.element)
        generator = torch.Generator().manual_seed(0)
        streams = [group for group in self.groups if group.kind in ("centred", "orthogonal") and not group.depends_on]
        for group in streams:
            found.settle({group.name: Matrix(rotated(group.size, turn, group.kind == "centred", generator), True)})
        found.run(known=[group.name for group in streams])
        return found

    def row(self, what: str, element: Mapping[str, Any]) -> dict[str, Any]:
        """What is left half way, on the held-out part."""
        spec, (a, b) = self.spec, self.models.states
        moved = spec.applied(spec.compose(self.back, spec.compose(element, self.balanced[1][0])), b)
        middle = {name: (x + moved[name]) / 2 if x.is_floating_point() else x for name, x in a.items()}
        net = separated(self.a, self.untied)
        losses = [judged(RECIPES[self.name], loaded(net, state), *self.test)[0] for state in (b, middle, a)]
        other = spec.applied(element, self.balanced[1][1])
        names = (name for name in spec.parameters if name in spec.layouts and name not in spec.ties.aliases)
        value = sum(float((self.balanced[0][1][name].double() * other[name]).sum()) for name in names)
        height = pg.Barrier((0.0, 0.5, 1.0), losses, losses).height
        return {"architecture": self.name, "pair": list(self.pair), "what": what, "height": height, "value": value}


def rotated(size: int, turn: float, centred: bool, generator: torch.Generator) -> Any:
    """exp of a random skew matrix with entries of size turn / √size; it fixes the vector of ones where it is to."""
    x = torch.randn(size, size, generator=generator, dtype=torch.float64) * turn / size**0.5
    if centred:
        x = x - x.mean(0, keepdim=True)
        x = x - x.mean(1, keepdim=True)
    return torch.linalg.matrix_exp((x - x.mT) / 2**0.5).numpy()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=list(NAMES))
    torch.set_num_threads(1)
    path = RESULTS / "objectives.json"
    for name in parser.parse_args().names:
        for pair in combinations(SEEDS, 2):
            rows = [row | {"measured": measured_with()} for row in Judged(name, pair).rows()]
            print(name, pair, {row["what"]: round(row["height"], 3) for row in rows}, flush=True)
            others = [row for row in kept_rows(path) if (row["architecture"], row["pair"]) != (name, list(pair))]
            done = sorted([*others, *rows], key=lambda row: (NAMES.index(row["architecture"]), row["pair"]))
            path.write_text(json.dumps({"torch": torch.__version__, "rows": done}, indent=0) + "\n")


if __name__ == "__main__":
    main()
