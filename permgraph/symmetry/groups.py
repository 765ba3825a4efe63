"""Turns factors into named groups, and cells of tensors into layouts on which these groups act."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from itertools import takewhile

from permgraph.algebra.cells import Occurrence, TensorLayout
from permgraph.algebra.dependence import dependencies, fused, partners, selecting
from permgraph.algebra.instances import Instance
from permgraph.algebra.scales import Freedom
from permgraph.algebra.ties import Resolution
from permgraph.symmetry.bundles import Bundle
from permgraph.symmetry.cells import Cell, Leaf, Move
from permgraph.symmetry.changes import Changes
from permgraph.symmetry.layout import Layout
from permgraph.symmetry.permutations import PermutationGroup
from permgraph.symmetry.roles import roles
from permgraph.tracing.trace import Trace

SUFFIX = {
    "residual": "residual",
    "attention.heads": "heads",
    "attention.qk": "qk",
    "attention.vo": "vo",
    "experts": "experts",
    "feed_forward": "hidden",
    "conv": "channels",
    "other": "units",
}


@dataclass(frozen=True)
class Scales:
    """A further sign or scale for each unit of a bundle: its name, and the other bundles whose index selects it."""

    name: str
    freedom: Freedom
    selects: tuple[Bundle, ...]


@dataclass
class Grouping:
    """The groups of a trace, the name of every class, and the layout of every tensor that they act on."""

    trace: Trace
    resolution: Resolution
    kinds: str = "permutation"
    uniform: Mapping[str, Iterable[str]] = field(default_factory=dict)

    @cached_property
    def changes(self) -> Changes:
        """What the bundles allow beyond permutations."""
        read = {
            kind: [o for o in members if (o.tensor, o.cell) not in self.resolution.unread]
            for kind, members in self._stored.items()
        }
        bundles = list(dict.fromkeys(self.bundles.values()))
        return Changes(self.resolution, read, bundles, self.kinds, self.uniform, self._beside)

    @cached_property
    def _beside_all(self) -> dict[Occurrence, dict[Occurrence, Occurrence]]:
        """As `_beside`, including pinned factors, whose units may take signs and scales."""
        return partners(self.resolution, pinned=True) if self.kinds != "permutation" else self._beside

    def _selects(self, bundle: Bundle, freedom: Freedom) -> tuple[Bundle, ...]:
        """The bundles whose index, together with the unit, selects the further signs and scales of a bundle's units."""
        support = self.changes.support(bundle, freedom)
        own = bundle.classes[0]
        common = selecting(own, support, self._touching.get(own, []), self.resolution.factors.find, self._beside_all)
        lower = dict.fromkeys(self.bundles[kind] for kind in sorted(common) if kind in self.bundles)
        return tuple(
            one
            for one in lower
            if one != bundle and not self.changes.all[one].kind.mixes
            if all(set(inner.classes) <= common for inner in (one, *one.depends_on))
        )

    @cached_property
    def _touching(self) -> dict[Occurrence, list[Instance]]:
        """Class -> the joint cells of operations in which it occurs."""
        found: dict[Occurrence, list[Instance]] = {}
        find = self.resolution.factors.find
        for instance in self.resolution.instances:
            for kind in {find(o) for operand in instance.operands for o in operand.values()}:
                found.setdefault(kind, []).append(instance)
        return found

    @cached_property
    def _beside(self) -> dict[Occurrence, dict[Occurrence, Occurrence]]:
        return partners(self.resolution)

    @cached_property
    def _stored(self) -> dict[Occurrence, list[Occurrence]]:
        """Class -> its occurrences on parameters and buffers, without those in cells that were merged into others."""
        layouts = self.resolution.layouts
        stored = {name for name, value in self.trace.values.items() if value.kind in ("parameter", "buffer")}
        found = {
            kind: [o for o in members if o.tensor in stored and o.cell not in layouts[o.tensor].absorbed]
            for kind, members in self.resolution.factors.classes.items()
        }
        return {kind: members for kind, members in found.items() if members}

    @cached_property
    def bundles(self) -> dict[Occurrence, Bundle]:
        """Class -> its bundle, for all classes that occur on parameters."""
        allowed = dependencies(self.resolution, self._beside)
        pinned = self.resolution.factors.pinned
        free = [kind for kind in self._stored if kind not in pinned]
        together = {
            kind: members for members in fused(self.resolution, allowed, self._beside, free) for kind in members
        }
        together |= {kind: (kind,) for kind in self._stored if kind in pinned}
        done: dict[Occurrence, Bundle] = {}
        for kind in together:
            self._bundle(kind, together, allowed, done, ())
        return done

    def _bundle(
        self,
        kind: Occurrence,
        together: Mapping[Occurrence, tuple[Occurrence, ...]],
        allowed: Mapping[Occurrence, set[Occurrence]],
        done: dict[Occurrence, Bundle],
        above: tuple[Occurrence, ...],
    ) -> Bundle:
        if kind in done:
            return done[kind]
        members = together[kind]
        common = set.intersection(*(allowed.get(member, set()) for member in members)) - set(members)
        lower = [
            self._bundle(other, together, allowed, done, (*above, *members))
            for other in sorted(common)
            if other in together and other not in above and set(together[other]) <= common
        ]
        needs = [
            bundle
            for bundle in dict.fromkeys(lower)
            if all(set(inner.classes) <= common for inner in bundle.depends_on)
        ]
        size = 1
        for member in members:
            size *= self.size_of(member)
        is_free = kind not in self.resolution.factors.pinned
        bundle = Bundle(members, size, tuple(sorted(needs, key=lambda b: b.classes)) if is_free else (), is_free)
        done.update(dict.fromkeys(members, bundle))
        return bundle

    def size_of(self, occurrence: Occurrence) -> int:
        """How many units an occurrence has."""
        return self.resolution.layouts[occurrence.tensor].size(occurrence)

    @cached_property
    def _role(self) -> dict[Bundle, str]:
        given = roles(self.trace, self.resolution)
        order = list(SUFFIX)
        return {
            bundle: min((given.get(kind, "other") for kind in bundle.classes), key=order.index)
            for bundle in self.bundles.values()
        }

    @cached_property
    def names(self) -> dict[Bundle, str]:
        """Bundle -> name; pinned ones are named after the first parameter axis they sit on."""
        bundles = list(dict.fromkeys(self.bundles.values()))
        wanted = [self._wanted(bundle, shared=True) for bundle in bundles]
        common = Counter(wanted)
        taken: Counter[str] = Counter()
        found = {}
        for bundle, name in zip(bundles, wanted, strict=True):
            if common[name] > 1:
                name = self._wanted(bundle, shared=False)
            taken[name] += 1
            found[bundle] = name if taken[name] == 1 else f"{name}#{taken[name]}"
        return found

    def _wanted(self, bundle: Bundle, *, shared: bool) -> str:
        """A name from the module that all its parameters share, or from the one that writes it."""
        places = [o for kind in bundle.classes for o in self._stored[kind]]
        if not bundle.free:
            return f"pinned:{places[0].tensor}[{places[0].dim}]"
        role = self._role[bundle]
        inner = any(self._role[lower] == role and lower.free for lower in bundle.depends_on)
        return _anchor(places, role, shared=shared) + SUFFIX[role] + (".within" if inner else "")

    def groups(self, aliases: Mapping[str, Sequence[str]]) -> tuple[PermutationGroup, ...]:
        """All groups of more than one unit; `aliases` lists the state-dict keys of each stored tensor."""
        order = {key: k for k, key in enumerate(key for keys in aliases.values() for key in keys)}

        def axes(places: Iterable[Occurrence]) -> tuple[tuple[str, int], ...]:
            keyed = {(key, o.dim) for o in places for key in aliases[o.tensor]}
            return tuple(sorted(keyed, key=lambda axis: (order[axis[0]], axis[1])))

        found = []
        for bundle, name in self.names.items():
            role, change = self._role[bundle], self.changes.all[bundle]
            members = [o for kind in bundle.classes for o in self._stored[kind]]
            if bundle.free:
                moved = [o for o in members if not (change.kind.mixes and o.tensor in self.changes.held)]
                names, sizes = self._named(bundle.depends_on)
                found.append(PermutationGroup(name, bundle.size, names, axes(moved), role, sizes, change.kind.value))
            for scales in self.further[bundle]:
                moved = [o for o in members if self.changes.exponent(scales.freedom, o)]
                names, sizes = self._named((*scales.selects, bundle))
                kind = scales.freedom.kind.value
                found.append(PermutationGroup(scales.name, 1, names, axes(moved), role, sizes, kind))
        return tuple(found)

    def _named(self, bundles: Iterable[Bundle]) -> tuple[tuple[str, ...], tuple[int, ...]]:
        """Names and sizes of bundles."""
        given = list(bundles)
        return tuple(self.names[one] for one in given), tuple(one.size for one in given)

    @cached_property
    def further(self) -> dict[Bundle, list[Scales]]:
        """Bundle -> its further signs and scales."""
        taken: Counter[str] = Counter()
        found: dict[Bundle, list[Scales]] = {}
        for bundle in self.names:
            found[bundle] = []
            for freedom in self.changes.all[bundle].further:
                places = [o for o in self._stored[bundle.classes[0]] if self.changes.exponent(freedom, o)]
                role = self._role[bundle]
                name = _anchor(places, role, shared=role != "residual") + SUFFIX[role] + ".scales"
                taken[name] += 1
                name = name if taken[name] == 1 else f"{name}#{taken[name]}"
                found[bundle].append(Scales(name, freedom, self._selects(bundle, freedom)))
        return found

    def layout(self, tensor: str) -> Layout:
        """Where the groups act on a tensor."""
        places = self.resolution.layouts[tensor]
        if 0 in places.value.shape:
            return Layout(places.value.shape, ())
        return Layout(places.value.shape, tuple(self._cell(places, cell) for cell in places.cells()))

    def _cell(self, places: TensorLayout, cell: tuple[int, ...]) -> Cell:
        boxes = [places.boxes[dim][index] for dim, index in enumerate(cell)]
        here = [occurrence for occurrence, _ in places.occurrences(cell)]
        leaves = tuple(Leaf(o.dim, places.size(o), places.stride(o)) for o in here)
        moves = tuple(move for occurrence in here for move in self._moves(occurrence, here))
        return Cell(tuple(box.offset for box in boxes), leaves, moves)

    def _moves(self, occurrence: Occurrence, here: Sequence[Occurrence]) -> Iterator[Move]:
        """The moves that begin at an occurrence of the cell `here`."""
        bundle = self.bundles.get(self.resolution.factors.find(occurrence))
        if bundle is None or self.resolution.factors.find(occurrence) != bundle.classes[0]:
            return
        change = self.changes.all[bundle]
        if not (bundle.free or change.further):
            return
        own = self._indices(occurrence, bundle.classes, here)
        keys = [self._indices(occurrence, lower.classes, here) for lower in bundle.depends_on]
        power = self._alike(occurrence, partial(self.changes.power, change))
        if change.kind.mixes and not power:
            return
        if bundle.free and own and all(keys) and power is not None:
            yield Move(self.names[bundle], own, tuple(keys), power)
        for scales in self.further[bundle]:
            exponent = self._alike(occurrence, partial(self.changes.exponent, scales.freedom))
            if not exponent:  # what selects these scales need not occur where they do nothing
                continue
            selected = [self._indices(occurrence, lower.classes, here) for lower in scales.selects]
            if own and all(selected):
                yield Move(scales.name, (), (*selected, own), exponent)

    def _alike(self, occurrence: Occurrence, power: Callable[[Occurrence], int]) -> int | None:
        """The exponent at an occurrence; in a cell that is not read, that of all cells it moves along with, or None."""
        powers = {power(like) for like in self.resolution.along.get(occurrence, (occurrence,))}
        return powers.pop() if len(powers) == 1 else None

    def _indices(
        self, occurrence: Occurrence, classes: Iterable[Occurrence], here: Sequence[Occurrence]
    ) -> tuple[int, ...]:
        """Which leaves of the cell carry these classes; () where a cell that is not read lacks one of them."""
        find = self.resolution.factors.find
        own = find(occurrence)
        if (occurrence.tensor, occurrence.cell) in self.resolution.unread:
            beside = {find(other): other for other in reversed(here)}
            if not beside.keys() >= set(classes):
                return ()
        else:
            beside = (self._beside if occurrence in self._beside else self._beside_all)[occurrence]
        return tuple(here.index(occurrence if kind == own else beside[kind]) for kind in classes)


def _anchor(places: Sequence[Occurrence], role: str, *, shared: bool) -> str:
    modules = [place.tensor.rpartition(".")[0] for place in places]
    if shared and role == "residual":
        return ""
    if shared and role not in ("conv", "other"):
        levels = zip(*(module.split(".") for module in modules), strict=False)
        common = [names[0] for names in takewhile(lambda names: len(set(names)) == 1, levels)]
        return ".".join([*common, ""]) if common else ""
    writers = [module for module, place in zip(modules, places, strict=True) if place.dim == 0] or modules
    return f"{writers[0]}." if writers[0] else ""
