"""Shifts: what may be added to a stored tensor because operations ignore it, or because a later bias compensates for
it.

Softmax ignores a constant along its axis, so the bias of a key is arbitrary; a norm ignores the mean of its input; the
bias of a linear layer compensates for what is added to a bias before it. A shift is an additive freedom that is not in
the group of the units: no kind expresses it, but it counts in the dimension of all symmetries.

For each cell of a tensor, an *option* is a set of occurrences: whatever is constant along them may be added. Options
are found backwards through operations that are sums of products, as their laws say.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import product

from permgraph.algebra.cells import Occurrence
from permgraph.algebra.instances import Instance, Slot
from permgraph.algebra.reading import Place
from permgraph.algebra.steady import Steady, Term, carriers, copied, formula, is_bent, is_told, is_uniform, is_whole
from permgraph.algebra.ties import STORED, Resolution

Options = Mapping[frozenset[Occurrence], tuple[str, ...]]
"""Whatever is constant along these occurrences may be added -> the operations and biases that make it so."""
MOST_OPTIONS = 8


@dataclass
class Shifts:
    """The options of all cells; `ends` are the tensors that must not change, `held` vectors that stay uniform."""

    resolution: Resolution
    ends: Collection[str]
    held: Collection[str]

    def __post_init__(self) -> None:
        self.steady = Steady(self.resolution)
        self.readers: dict[Place, int] = {}
        self.makers: dict[Place, int] = {}
        self.copied: dict[Place, Place] = {}
        for instance in self.resolution.instances:
            made = instance.relation.made or frozenset()
            for place in instance.cells:
                count = self.makers if place[0] in made else self.readers
                count[place] = count.get(place, 0) + 1
            if (copy := copied(instance, self.resolution)) is not None:
                self.copied[copy[0]] = copy[1]

    def options(self) -> dict[Place, Options]:
        """For each cell of a stored tensor that is read, its options; () where nothing may be added."""
        found: dict[Place, Options] = {}
        used: set[Place] = set()
        for instance in reversed(self.resolution.instances):
            made = instance.relation.made or frozenset()
            results = [place for place in instance.cells if place[0] in made]
            used.update(results)
            for place, options in self._read(instance, results, found):
                if place in used:  # read after all that it is read by was thought to be known
                    return {}
                found[place] = _both(found[place], options) if place in found else options
        layouts = self.resolution.layouts
        stored = {name for name, layout in layouts.items() if layout.value.kind in STORED}
        free = stored - set(self.held) - set(self.ends) - {place[0] for place in self.makers}
        return {place: options for place, options in found.items() if place[0] in free}

    def _read(
        self, instance: Instance, results: list[Place], found: Mapping[Place, Options]
    ) -> Iterator[tuple[Place, Options]]:
        """Each cell that the operation reads, with what may be added to it as far as this operation goes."""
        terms = formula(instance, results, self.resolution)
        whole = len(results) == 1 and self.makers[results[0]] == 1
        after = found.get(results[0], {}) if whole and results[0][0] not in self.ends else {}
        for k, (place, at) in enumerate(zip(instance.cells, instance.places, strict=True)):
            if place in results:
                continue
            ignored, twin = instance.relation.ignored.get(at), instance.relation.twins.get(at)
            if ignored is not None:
                yield place, self._ignored(instance, k, ignored)
            elif twin is not None:
                yield place, self._shared(instance, twin)
            elif terms is None or not whole or is_bent(instance, k):
                yield place, {}
            else:
                given = {**self._taken_back(instance, k, terms), **after}
                moved = ((self._through(instance, k, terms, option), why) for option, why in given.items())
                yield place, _smallest({option: why for option, why in moved if option is not None})

    def _ignored(self, instance: Instance, k: int, names: Iterable[str]) -> Options:
        if not all(is_whole(self.resolution, instance, name) for name in names):
            return {}
        option = frozenset(o for (name, _), o in instance.operands[k].items() if name in set(names))
        return {option: (f"{instance.relation.source} ignores it",)}

    def _shared(self, instance: Instance, twin: int) -> Options:
        """Anything may be added if only the sum with a twin is read, and the twin has no other reader."""
        entries = [k for k, place in enumerate(instance.places) if place == twin]
        name = self._own(instance.cells[entries[0]]) if len(entries) == 1 else None
        return {} if name is None else {frozenset(): (f"{name} takes it back",)}

    def _taken_back(self, instance: Instance, k: int, terms: Iterable[Term]) -> Options:
        """What the last bias among the terms can compensate for, for an operand that is not that bias."""
        alone = [term[0] for term in terms if len(term) == 1 and is_told(instance, term)]
        biases = [entry for entry in alone if not is_bent(instance, entry) and self._own(instance.cells[entry])]
        if not biases or biases[-1] == k:
            return {}
        bias = instance.operands[biases[-1]]
        result = self._result(instance)
        rest = [slot for slot in result if slot not in bias]
        if not all(is_whole(self.resolution, instance, name) for name, _ in rest):
            return {}
        name = self._own(instance.cells[biases[-1]])
        return {frozenset(result[slot] for slot in rest): (f"{name} takes it back",)}

    def _own(self, place: Place) -> str | None:
        """The stored tensor of which a cell, or a copy of the cell such as a slice, is read at this one place."""
        while self.readers.get(place) == 1 and place[0] not in self.ends:
            if place not in self.makers:
                value = self.resolution.layouts[place[0]].value
                is_free = value.kind in STORED and not is_uniform(value) and place[0] not in self.held
                return place[0] if is_free else None
            if place not in self.copied or self.makers[place] != 1:
                return None
            place = self.copied[place]
        return None

    def _result(self, instance: Instance) -> dict[Slot, Occurrence]:
        made = instance.relation.made or frozenset()
        return next(o for o, place in zip(instance.operands, instance.cells, strict=True) if place[0] in made)

    def _through(
        self, instance: Instance, k: int, terms: Iterable[Term], option: frozenset[Occurrence]
    ) -> frozenset[Occurrence] | None:
        """The occurrences along which the operand must be constant for the result to be constant along `option`; None
            if
        there are none."""
        wanted = {slot for slot, occurrence in self._result(instance).items() if occurrence in option}
        if is_uniform(self.resolution.layouts[instance.cells[k][0]].value):
            return None
        mine = [term for term in terms if k in term]
        if not mine or any(term.count(k) > 1 for term in mine):
            return None
        found: set[Occurrence] = set()
        for term in mine:
            along = self._along(instance, k, term, wanted, terms)
            if along is None:
                return None
            found |= along
        return frozenset(found)

    def _along(
        self, instance: Instance, k: int, term: Term, wanted: set[Slot], terms: Iterable[Term]
    ) -> set[Occurrence] | None:
        own, result = instance.operands[k], self._result(instance)
        found = {own[slot] for slot in wanted if slot in own}
        apart = [o for o in carriers(instance) if not any(o in one for one in terms)]
        differs = any(slot not in own or any(slot in instance.operands[o] for o in apart) for slot in wanted)
        averaged = instance.relation.averaged.get(instance.places[k], frozenset())
        if averaged:
            whole = all(is_whole(self.resolution, instance, name) for name in averaged)
            again = {o for (name, _), o in own.items() if name in averaged} if differs else set()
            return found | again if whole else None
        if not is_told(instance, term) or any(slot in instance.operands[o] for slot in wanted for o in apart):
            return None
        others = [other for other in term if other != k]
        lost = own.keys() - result.keys()
        for slot in wanted:
            carried = [o for o in others if slot in instance.operands[o]]
            if carried or (slot not in own and lost):
                summed = self._summed(instance, carried, lost)
                if summed is None:
                    return None
                found.add(own[summed])
        return found

    def _summed(self, instance: Instance, carried: list[int], lost: Collection[Slot]) -> Slot | None:
        """A slot along which another entry's sum is one constant, so that the sum over it does not vary."""
        if len(carried) != 1:
            return None
        steady, other = self.steady.of(instance.cells[carried[0]]), instance.operands[carried[0]]
        return next((slot for slot in sorted(lost) if slot in other and other[slot] in steady), None)


def _both(a: Options, b: Options) -> Options:
    """What two readers allow."""
    pairs = product(a.items(), b.items())
    return _smallest({x | y: tuple(dict.fromkeys((*why, *other))) for (x, why), (y, other) in pairs})


def _smallest(options: Options) -> Options:
    """The options without those that contain another; at most a few."""
    kept = {one: why for one, why in options.items() if not any(other < one for other in options)}
    return dict(list(kept.items())[:MOST_OPTIONS])
