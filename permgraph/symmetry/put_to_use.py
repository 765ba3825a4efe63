"""The methods of a specification that put it to use; each calls one function of `permgraph.uses`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

from torch import Tensor

from permgraph.symmetry.mappings import Mappings

if TYPE_CHECKING:
    from permgraph.symmetry.permutations import PermutationGroup
    from permgraph.symmetry.spec import PermutationSpec
    from permgraph.uses.ordering import Order
    from permgraph.uses.removing import Removal
    from permgraph.uses.units import Unit


class PutToUse:
    """What a specification is good for."""

    @property
    def _spec(self) -> PermutationSpec:
        return cast("PermutationSpec", self)

    def units(self, group: str | PermutationGroup) -> tuple[Unit, ...]:
        """For each unit of a group, every (tensor name, index expression) that belongs to it.

        `state_dict[name][index]` is a view of the unit's elements. The units of a group that depends on others are
        listed row after row, and `unit.index` is (row, place). A matrix kind has its coordinates as units.

        Raises:
            SpecMismatchError: no group has this name.

        """
        from permgraph.uses.units import units

        return units(self._spec, group)

    def reorder(
        self, state_dict: Mapping[str, Tensor], group: str | PermutationGroup, order: Order
    ) -> dict[str, Tensor]:
        """f(reorder(θ)) = f(θ): a new state dict, one group's units in the given order.

        Args:
            state_dict: the weights; they stay as they are.
            group: a group or its name.
            order: old places in their new order, new = old[order], once or a row for every index of what the group
                depends on. Or a function of a unit's slices, a list of views in the order of `units(group)`: in each
                row the unit of the smallest value comes first, and equal ones stay in their order.

        Raises:
            SpecMismatchError: the state dict does not fit, no group has this name, or `order` is no permutation.

        """
        from permgraph.uses.ordering import reorder

        return reorder(self._spec, state_dict, group, order)

    def remove(
        self,
        state_dict: Mapping[str, Tensor],
        group: str | PermutationGroup | Mapping[str, Removal],
        units: Removal | None = None,
    ) -> dict[str, Tensor]:
        """The state dict without some units: every slice of every tensor that belongs to them is cut out.

        It fits the same architecture with a smaller group. Where a unit acts only through its outgoing weights, as
        hidden units and heads do, the smaller model computes what the whole one does with these weights at 0. Units
        of a residual stream or of a normalised axis take part in the norm too, and their removal changes it.
        `pg.shrink` does it to a transformers model, its configuration included.

        Args:
            state_dict: the weights; they stay as they are.
            group: a group or its name; or the units of several groups by name, which go together.
            units: numbers of units, once for all rows or a row for every index of what the group depends on, or units
                out of `units(group)`; of every row as many.

        Raises:
            SpecMismatchError: the state dict does not fit, no group has this name, `units` are not units of it or are
                all of them, or a tensor without them would have holes.

        """
        from permgraph.uses.removing import remove

        return remove(self._spec, state_dict, group, units)

    def mappings(self) -> Mappings:
        """The scales and rotations that may move between layers, in the order of the forward pass.

        They are the kinds with scales, and those that mix units: a norm into its readers, the up-projection into the
        down-projection, values into the output projection, queries against keys. Derive with `kinds="all"`; of other
        kinds there are none. Scales of norms are listed whatever their weights are; the stream rotates only where they
        are folded.
        """
        return self._spec.transfers

    def augment(self, state_dict: Mapping[str, Tensor], seed: int | None = None) -> dict[str, Tensor]:
        """f(augment(θ)) = f(θ): the weights under a random element, as networks on weights are trained with.

        Orders, signs and rotations are uniform; scales and singular values are log-normal around 1. It is
        `apply(sample(seed), state_dict)`.

        Raises:
            SpecMismatchError: the state dict does not fit.

        """
        return self._spec.apply(self._spec.sample(seed), state_dict)

    def labels(self) -> dict[str, Any]:
        """The labels of all axes, as plain values: the groups, and a tree of tensors along the names of modules.

        Each tensor is a list of blocks that cover it once. A block has a `start` on each axis, and for each axis its
        factors from the outer to the inner, with `label`, `size` and `stride`: the position is the start and the sum
        of strides times coordinates. A label is the name of the group that moves the factor, None where none does, and
        `group/0`, `group/1` for two factors that it moves as one. `moves` names for each group the factors of its
        units, and those whose coordinates select the row of its table, as (axis, number of the factor); the exponent
        of its scales, or the side of its matrices, is `power`.
        """
        from permgraph.uses.labels import labels

        return labels(self._spec)
