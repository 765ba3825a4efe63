"""The permutation specification of a model: its groups, what they act on, and the elements they contain."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from permgraph.algebra.reading import Block, written
from permgraph.arguments import typed
from permgraph.checkpoints.lazy_state import LazyState, like, memory_of
from permgraph.errors import SpecMismatchError
from permgraph.symmetry.elements import permutations as elements
from permgraph.symmetry.elements.layout import Layout
from permgraph.symmetry.elements.moving import MOST, moving_elements
from permgraph.symmetry.elements.permutations import PermutationGroup, Permutations
from permgraph.symmetry.elements.report import counted
from permgraph.symmetry.elements.streams import Stream
from permgraph.symmetry.specification.fits import require_fit, require_held, require_in_range
from permgraph.symmetry.specification.mappings import Mappings
from permgraph.symmetry.specification.put_to_use import PutToUse
from permgraph.symmetry.specification.shifts import Shift
from permgraph.symmetry.specification.tie_graph import TieGraph
from permgraph.wording import few, near

if TYPE_CHECKING:
    import networkx as nx

    from permgraph.symmetry.specification.explain import Explanation


@dataclass(frozen=True, eq=False)
class PermutationSpec(PutToUse):
    """The group G of all permutations π of weights with f(πθ) = f(θ), or π_out f(θ) if outputs are free.

    Attributes:
        groups: the free factors of G.
        pinned: (parameter, dim) -> why nothing moves there: the operation, the module, the source line.
        unreached: parameters that the forward pass does not reach.
        unread: parameter -> the parts of it that the forward pass does not read, if it reads others: blocks, each with
            the runs (start, stop) of positions on every dimension.
        layouts: state-dict key -> where the groups act on that tensor.
        output_layouts: the same for each output leaf, by its place; None for one that is not a tensor.
        shapes: state-dict key -> shape, for every key of the model.
        parameters: the keys that are parameters; the others are buffers.
        outputs: "fixed" or "free".
        ties: all ties and pins, with the operations that make them.
        held: vectors whose elements are all equal: G is the group of models in which they are.
        inputs: the place in (args, kwargs) and the shape of each tensor that was traced.
        streams: where groups act on a vector of each residual stream that moves.
        transfers: what `mappings` returns.
        shifts: what may be added to tensors, in addition to G; derived with kinds="all".
        limits: group -> the operations for which its kind is no larger.

    """

    groups: tuple[PermutationGroup, ...]
    pinned: Mapping[tuple[str, int], str]
    unreached: tuple[str, ...]
    layouts: Mapping[str, Layout]
    output_layouts: tuple[tuple[str, Layout | None], ...]
    shapes: Mapping[str, tuple[int, ...]]
    parameters: tuple[str, ...]
    outputs: str
    ties: TieGraph = field(repr=False)
    held: tuple[str, ...] = ()
    inputs: tuple[tuple[str, tuple[int, ...]], ...] = ()
    streams: tuple[Stream, ...] = ()
    transfers: Mappings = field(default=Mappings(), repr=False)
    unread: Mapping[str, tuple[Block, ...]] = field(default_factory=dict)
    shifts: tuple[Shift, ...] = ()
    limits: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def __eq__(self, other: object) -> bool:
        """Whether both have the same contents; `from_json(to_json())` is equal."""
        return self.to_json() == other.to_json() if isinstance(other, PermutationSpec) else NotImplemented

    def __hash__(self) -> int:
        return hash((self.groups, self.outputs))

    @cached_property
    def _by_name(self) -> dict[str, PermutationGroup]:
        return {group.name: group for group in self.groups}

    def __getitem__(self, name: str) -> PermutationGroup:
        if name not in self._by_name:
            raise SpecMismatchError(f"no group is called {name!r}{near(name, self._by_name)}")
        return self._by_name[name]

    @property
    def log10_order(self) -> float:
        """log10 |G|, the sum over groups of count · log10(size!)."""
        return sum(group.log10_order for group in self.groups)

    @property
    def kinds(self) -> str:
        """The kinds that the groups have: "permutation", "signed" or "all"."""
        found = {group.kind for group in self.groups}
        return "permutation" if found <= {"permutation"} else "signed" if found <= {"permutation", "signed"} else "all"

    @property
    def dimension(self) -> int:
        """Dimension of the continuous part of G; 0 if all kinds are discrete."""
        return sum(group.dimension for group in self.groups)

    @cached_property
    def coverage(self) -> float:
        """Share of the parameter elements that some group moves."""
        total = sum(_numel(self.shapes[name]) for name in self.parameters)
        moved = sum(self.layouts[name].moved_elements for name in self.parameters if name in self.layouts)
        return moved / total if total else 0.0

    @typed
    def parts_unread(self, name: str) -> list[str]:
        """The parts of a parameter in `unread` as index expressions, such as `pos[:, 8:32]`; runs are joined by +."""
        shape = self.shape_of(name)
        return [f"{name}[{written(shape, block)}]" for block in self.unread.get(name, ())]

    @typed
    def shape_of(self, name: str) -> tuple[int, ...]:
        """The shape of a state-dict entry. Raises SpecMismatchError, with near names, if there is none."""
        if name not in self.shapes:
            raise SpecMismatchError(f"the model has no parameter {name!r}{near(name, self.shapes)}")
        return tuple(self.shapes[name])

    @property
    def graph(self) -> nx.Graph:
        """Ties between axes of tensors as a networkx graph; see `TieGraph.networkx`."""
        return self.ties.networkx

    def explain(self, axis: tuple[str, int], other: tuple[str, int] | None = None) -> Explanation:
        """Why two axes move together, or why one moves or is pinned; `str()` of the result is for people."""
        from permgraph.symmetry.specification.explain import explain

        return explain(self, axis, other)

    def identity(self) -> Permutations:
        """The element that moves nothing."""
        return Permutations({group.name: group.identity() for group in self.groups})

    def sample(self, seed: int | None = None) -> Permutations:
        """A uniformly random element of G."""
        return elements.sample(self.groups, seed)

    @typed
    def moving(self, seed: int, at_least: int = 1, most: int = MOST) -> list[Permutations]:
        """At least `at_least` random elements that together move every unit of every group; see `moving_elements`."""
        return moving_elements(self.groups, seed, at_least, most)

    def compose(self, p: Mapping[str, Any], q: Mapping[str, Any]) -> Permutations:
        """`apply(compose(p, q), s) == apply(p, apply(q, s))`.

        Returns:
            The element that applies q first, then p.

        """
        return elements.compose(self.groups, p, q)

    def invert(self, p: Mapping[str, Any]) -> Permutations:
        """`compose(invert(p), p)` is the identity."""
        return elements.invert(self.groups, p)

    @typed
    def apply(self, permutations: Mapping[str, Any], state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """A new state dict with every axis permuted, new = old[perm]; the old one is untouched.

        Tied keys stay tied. Raises SpecMismatchError if names or shapes differ from the model that the specification
        was derived for, or vectors in `held` have no longer equal elements.

        Returns:
            A new state dict of the same names, shapes, dtypes and devices.

        """
        self.check(like(state_dict))
        tables = elements.checked(self.groups, permutations)
        require_held(self, state_dict, tables)
        done: dict[Any, list[tuple[Layout | None, Any]]] = {}
        result = {}
        for name, tensor in state_dict.items():
            layout, same = self.layouts.get(name), done.setdefault(memory_of(tensor), [])
            moved = next((moved for before, moved in same if before == layout), None)
            if moved is None:
                moved = self.apply_one(tables, name, tensor) if isinstance(tensor, Tensor) else tensor
                same.append((layout, moved))
            result[name] = moved
        return result

    def applied(self, permutations: Mapping[str, Any], state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """`apply`; for weights that are read on demand, each tensor is moved on access."""
        if not isinstance(state, LazyState):
            return self.apply(permutations, state)
        self.check(state.like)
        tables = elements.checked(self.groups, permutations)
        require_held(self, state, tables)
        return self.on_demand(tables, state)

    def on_demand(self, tables: Mapping[str, Any], state: LazyState, least: torch.dtype | None = None) -> LazyState:
        """The same for tables that are known to fit; rows that no group moves can be computed separately.

        Computed in `least` or wider, by default so that all digits are kept.
        """
        least = least or state.least

        def stays(name: str) -> bool:
            layout = self.layouts.get(name)
            return layout is None or not any(cell.touches({0}) for cell in layout.cells)

        def rows(name: str, start: int, stop: int) -> Tensor:
            if not stays(name):
                return self.apply_one(tables, name, state[name], least)[start:stop]
            return self.apply_one(tables, name, state.rows(name, start, stop), least)

        return replace(
            state,
            make=lambda name: self.apply_one(tables, name, state[name], least),
            part=rows,
            in_rows=lambda name: stays(name) and state.alone(name),
        )

    def apply_one(
        self, tables: Mapping[str, Any], name: str, tensor: Tensor, least: torch.dtype = torch.float64
    ) -> Tensor:
        """One entry of a state dict under tables for all groups; always a new tensor, computed in `least` or wider."""
        layout = self.layouts.get(name)
        moved = tensor.detach().clone() if layout is None else layout.apply(tables, tensor.detach(), least)
        require_in_range(name, tensor, moved)
        return moved

    @typed
    def check(self, state_dict: Mapping[str, Tensor], what: str = "the state dict") -> None:
        """Raise SpecMismatchError, naming keys and shapes of both sides, unless `state_dict` fits the model."""
        require_fit(self, state_dict, what)

    def apply_outputs(self, permutations: Mapping[str, Any], outputs: Any) -> Any:
        """What f(πθ) must equal, given f(θ): every output leaf permuted along its free axes."""
        tables = elements.checked(self.groups, permutations)
        leaves, tree = pytree.tree_flatten(outputs)
        if len(leaves) != len(self.output_layouts):
            raise SpecMismatchError(
                f"{len(leaves)} outputs given, the specification knows {len(self.output_layouts)}: "
                f"{few([name for name, _ in self.output_layouts], 5)}; give what the model returned"
            )
        moved = [
            layout.apply(tables, leaf) if layout is not None and isinstance(leaf, Tensor) else leaf
            for leaf, (_, layout) in zip(leaves, self.output_layouts, strict=True)
        ]
        return pytree.tree_unflatten(moved, tree)

    @property
    def left_alone(self) -> tuple[str, ...]:
        """Parameters that the forward pass does not reach and that no tie moves with others."""
        return tuple(name for name in self.unreached if name not in self.layouts or not self.layouts[name].groups)

    def to_json(self) -> str:
        """The whole specification, ties included, as JSON with a version and a stable order."""
        from permgraph.symmetry.specification.as_json import written

        return written(self)

    @classmethod
    def from_json(cls, text: str) -> PermutationSpec:
        """The specification that `to_json` wrote. Raises SpecMismatchError for anything else."""
        from permgraph.symmetry.specification.as_json import read

        return read(text)

    def __str__(self) -> str:
        from permgraph.symmetry.specification.report import summary

        return summary(self)

    def __repr__(self) -> str:
        return (
            f"PermutationSpec({counted(len(self.groups), 'group')}, log10|G| = {self.log10_order:.1f}, "
            f"coverage {self.coverage:.1%}, {len(self.unreached)} unreached)"
        )

    def _repr_html_(self) -> str:
        from permgraph.symmetry.specification.report import html_table

        return html_table(self)


def _numel(shape: Sequence[int]) -> int:
    return int(torch.Size(shape).numel())
