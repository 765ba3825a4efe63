"""Derives the symmetries of a model: capture, trace, resolve, group, specify."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from torch import nn

from permgraph.algebra.axes import Axis
from permgraph.algebra.cells import Occurrence
from permgraph.algebra.coarsening import coarsen
from permgraph.algebra.reading import Runs, blocks
from permgraph.algebra.relations import Source, Value
from permgraph.algebra.shifts import Shifts
from permgraph.algebra.ties import resolve
from permgraph.algebra.unordered import hold_unordered
from permgraph.arguments import typed
from permgraph.errors import OptionError
from permgraph.symmetry.derivation.acting import Layouts
from permgraph.symmetry.derivation.affine import Image, images, through_images, uniform_among
from permgraph.symmetry.derivation.changes import LARGEST
from permgraph.symmetry.derivation.groups import Grouping
from permgraph.symmetry.derivation.roles import residual_sums
from permgraph.symmetry.derivation.uncollected import uncollected
from permgraph.symmetry.elements.layout import Layout
from permgraph.symmetry.elements.streams import streams
from permgraph.symmetry.specification.flow import Flow
from permgraph.symmetry.specification.mappings import Mappings, mappings
from permgraph.symmetry.specification.shifts import Shift, shifts
from permgraph.symmetry.specification.spec import PermutationSpec
from permgraph.symmetry.specification.tie_graph import Node, TieGraph
from permgraph.tracing.capture import capture
from permgraph.tracing.loaded import AxisTies, Loaded, inputs_of, module_of, tie_of
from permgraph.tracing.program import Program
from permgraph.tracing.trace import trace

HELD = "a scale whose elements are all equal, held so"


@typed
def derive(
    model: nn.Module | Loaded,
    args: tuple[Any, ...] = (),
    kwargs: Mapping[str, Any] | None = None,
    *,
    outputs: str = "fixed",
    tie: AxisTies | None = None,
    kinds: str = "permutation",
) -> PermutationSpec:
    """The group of all changes of weights of these kinds that leave the function of `model` unchanged, f(πθ) = f(θ).

    Args:
        model: in eval mode, on any device, `meta` included; it is not changed. Or what `load` returned, which has
            inputs and ties of its own.
        args: example positional inputs.
        kwargs: example keyword inputs.
        outputs: "fixed" pins every output; "free" lets output axes move, f(πθ) = π_out f(θ).
        tie: {(parameter, dim): (parameter, dim)} for parameters that the forward pass does not reach.
        kinds: "permutation"; "signed", permutations with signs; or "all": positive scales, orthogonal and invertible
            maps too. With "all", if all elements of a norm's weight are equal, as after `fold`, the weight is held: the
            group is that of models in which they stay equal. This includes weights w that a norm uses as 1 + w.

    Returns:
        The specification of the group: `groups`, `pinned`, `unreached`, and the ties between axes.

    Raises:
        CaptureError: the model cannot be traced; the message says what to change.

    """
    module = module_of(model)
    program = capture(module, *inputs_of(model, args, kwargs))
    held = uniform_among(program, [dict(module.named_parameters())]) if kinds == "all" else ()
    return Derivation(program, outputs, tie_of(model, tie), kinds, held).spec


@dataclass
class Derivation:
    """A program and everything derived about its axes; `uniform` names vectors whose elements are all equal."""

    program: Program
    outputs: str
    tie: AxisTies
    kinds: str = "permutation"
    uniform: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.outputs not in ("fixed", "free"):
            raise OptionError(f'outputs is "fixed" or "free", not {self.outputs!r}')
        if self.kinds not in LARGEST:
            raise OptionError(f"kinds is one of {', '.join(LARGEST)}, not {self.kinds!r}")
        self._derive()

    @uncollected()
    def _derive(self) -> None:
        self.trace = trace(self.program, outputs=self.outputs, tie=self.tie)
        self.resolution = coarsen(resolve(self.trace.values.values(), self.trace.relations, self.trace.ends))
        hold_unordered(self.resolution)
        self.grouping = self._grouping(self.uniform)
        self.layouts = Layouts(self.grouping)

    def _grouping(self, uniform: Iterable[str]) -> Grouping:
        made = {name: self._images[name].nodes for name in uniform}
        return Grouping(self.trace, self.resolution, self.kinds, made)

    @cached_property
    def _images(self) -> Mapping[str, Image]:
        return images(self.program)

    def held_of(self, uniform: Iterable[str]) -> frozenset[str]:
        """The vectors among these that would be held if all of them were uniform."""
        return self._grouping(uniform).changes.held

    @cached_property
    def node_names(self) -> frozenset[str]:
        """Names of the nodes of the graph."""
        return frozenset(node.name for node in self.program.graph.graph.nodes)

    @cached_property
    def dependencies(self) -> dict[str, tuple[str, ...]]:
        """Group -> the groups and pinned factors whose index selects its permutation."""
        return {group.name: group.depends_on for group in self.spec.groups}

    @cached_property
    def aliases(self) -> dict[str, list[str]]:
        """Name in the graph -> all state-dict keys of that tensor."""
        found: dict[str, list[str]] = {}
        for key, name in self.program.names.items():
            found.setdefault(name, []).append(key)
        return found

    @cached_property
    def stored(self) -> dict[str, Value]:
        """Parameters and persistent buffers that the trace knows."""
        return {n: v for n, v in self.trace.values.items() if v.kind in ("parameter", "buffer")}

    @cached_property
    @uncollected()
    def spec(self) -> PermutationSpec:
        """The specification."""
        layouts = {name: self.layouts.of(name) for name in self.stored}
        keyed = {key: layouts[name] for key, name in self.program.names.items() if name in layouts}
        unread = {name: self._unread(name) for name in self.stored}
        unreached = [key for key in self.program.parameters if self._is_unreached(self.program.names[key])]
        return PermutationSpec(
            groups=self.grouping.groups(self.aliases),
            pinned=self._pinned(layouts),
            unreached=tuple(unreached),
            layouts=keyed,
            output_layouts=tuple(self._output_layouts()),
            shapes=self.program.shapes,
            parameters=self.program.parameters,
            outputs=self.outputs,
            ties=self._tie_graph(),
            held=tuple(key for name in sorted(self.grouping.changes.held) for key in self.aliases[name]),
            inputs=self.program.inputs,
            streams=tuple(streams(residual_sums(self.trace), self.layouts.of)),
            transfers=self._mappings(keyed),
            unread={
                key: unread[name]
                for key, name in self.program.names.items()
                if unread.get(name) and key in self.program.parameters and key not in unreached
            },
            limits=self._limits(),
            shifts=tuple(self._shifts()) if self.kinds == "all" else (),
        )

    def _mappings(self, layouts: Mapping[str, Layout]) -> Mappings:
        """What may move between layers; scales of norms also if their weights are held."""
        if self.kinds != "all":
            return Mappings()
        turning = scaling = self.grouping.groups(self.aliases), _reached(layouts, self.program.names)
        added = {name: image for name, image in self._images.items() if image.map.offset}
        if self.grouping.changes.held or added:
            program = through_images(self.program, added) if added else self.program
            whole = Derivation(program, self.outputs, self.tie, self.kinds) if added else self
            free = whole._grouping(())
            acting = Layouts(free)
            keyed = {key: acting.of(name) for key, name in program.names.items() if key in layouts}
            scaling = free.groups(whole.aliases), _reached(keyed, program.names)
        numbers = {key: added[name].map.offset / added[name].map.slope for name in added for key in self.aliases[name]}
        return mappings(scaling, turning, Flow(self.program), numbers)

    def _limits(self) -> dict[str, tuple[str, ...]]:
        """Free group -> why its kind is no larger."""
        free = {name: bundle for bundle, name in self.grouping.names.items() if bundle.free}
        found = {name: self.grouping.changes.reasons(bundle) for name, bundle in free.items()}
        return {name: reasons for name, reasons in found.items() if reasons}

    def _shifts(self) -> Iterator[Shift]:
        found = Shifts(self.resolution, frozenset(self.trace.ends), self.grouping.changes.held).options()
        return shifts(found, self.resolution.layouts, self.aliases)

    def _is_unreached(self, name: str) -> bool:
        """Whether the pass reads no element of a stored tensor."""
        if name not in self.fed:
            return True
        layout = self.resolution.layouts.get(name)
        return layout is not None and all((name, cell) in self.resolution.unread for cell in layout.cells())

    @cached_property
    def fed(self) -> frozenset[str]:
        """The stored tensors that some operation reads."""
        places = [node for node in self.program.graph.graph.nodes if node.op == "placeholder" and node.users]
        return frozenset(self.program.feeds[node.name].name for node in places)

    def _unread(self, name: str) -> tuple[tuple[Runs, ...], ...]:
        """The parts of a stored tensor that the pass does not read."""
        layout = self.resolution.layouts[name]
        cells = [cell for tensor, cell in self.resolution.unread if tensor == name]
        return tuple(blocks(layout, sorted(cells)))

    def _output_layouts(self) -> list[tuple[str, Layout | None]]:
        return [
            (place, None if value is None else self.layouts.of(value.name))
            for place, value in zip(self.program.outputs, self.trace.outputs, strict=True)
        ]

    def _pinned(self, layouts: Mapping[str, Layout]) -> dict[tuple[str, int], str]:
        """Every axis of more than one unit on which no group acts, with the first reason found."""
        found = {}
        for name, layout in layouts.items():
            if self.stored[name].kind != "parameter" or self._is_unreached(name):
                continue
            moved = {cell.leaves[k].dim for cell in layout.cells for move in cell.moves for k in move.leaves}
            for dim, size in enumerate(layout.shape):
                if dim not in moved and size > 1:
                    why = HELD if name in self.grouping.changes.held else self._why_pinned(name, dim)
                    found.update({(key, dim): why for key in self.aliases[name]})
        return found

    def _why_pinned(self, name: str, dim: int) -> str:
        factors, places = self.resolution.factors, self.resolution.layouts[name]
        for cell in places.cells():
            for occurrence, _ in places.occurrences(cell):
                pin = factors.pinned.get(factors.find(occurrence))
                if occurrence.dim == dim and pin is not None:
                    return pin.reason
        return f"{_cut_by(self.stored[name].axes[dim]) or 'an operation'}: cut into single units"

    def _tie_graph(self) -> TieGraph:
        number: dict[Occurrence, int] = {}
        nodes: list[Node] = []
        names, bundles = self.grouping.names, self.grouping.bundles
        factors = self.resolution.factors
        for occurrences in factors.classes.values():
            bundle = bundles.of.get(factors.find(occurrences[0]))
            group = names[bundle] if bundle is not None and bundle.free else ""
            for occurrence in occurrences:
                number[occurrence] = len(nodes)
                kind = self.trace.values[occurrence.tensor].kind
                nodes.append(Node(occurrence, kind, bundles.size_of(occurrence), group))
        sources: dict[Source, int] = {}
        ties = tuple((number[t.a], number[t.b], sources.setdefault(t.source, len(sources))) for t in factors.ties)
        pins = {number[pin.occurrence]: pin.reason for pin in reversed(factors.pins)}
        aliases = {key: name for key, name in self.program.names.items() if key != name}
        return TieGraph(tuple(nodes), tuple(sources), ties, tuple(sorted(pins.items())), aliases)


def _reached(layouts: Mapping[str, Layout], names: Mapping[str, str]) -> dict[str, Layout]:
    """The layouts of stored tensors, each under the first of its names."""
    return {key: layout for key, layout in layouts.items() if names[key] == key}


def _cut_by(axis: Axis) -> str:
    root = axis.root()
    return root.cut_by or next(filter(None, map(_cut_by, root.parts)), "")
