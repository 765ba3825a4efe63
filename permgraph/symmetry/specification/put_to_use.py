"""Methods of a specification; each calls one function of `permgraph.uses`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

from torch import Tensor

from permgraph.arguments import typed
from permgraph.symmetry.specification.mappings import Mappings

if TYPE_CHECKING:
    from permgraph.symmetry.elements.permutations import PermutationGroup
    from permgraph.symmetry.specification.spec import PermutationSpec
    from permgraph.uses.ordering import Order
    from permgraph.uses.removing import Removal
    from permgraph.uses.units import Unit


class PutToUse:
    """Uses of a specification in addition to matching and merging."""

    @property
    def _spec(self) -> PermutationSpec:
        return cast("PermutationSpec", self)

    @typed
    def units(self, group: str | PermutationGroup) -> tuple[Unit, ...]:
        """For each unit of a group, every (tensor name, index expression) that belongs to it.

        `state_dict[name][index]` is a view of the unit's elements. The units of a group that depends on others are
        listed row by row, and `unit.index` is (row, place). The units of a matrix kind are its coordinates.

        Raises:
            SpecMismatchError: no group has this name.

        """
        from permgraph.uses.units import units

        return units(self._spec, group)

    @typed
    def reorder(
        self, state_dict: Mapping[str, Tensor], group: str | PermutationGroup, order: Order
    ) -> dict[str, Tensor]:
        """f(reorder(θ)) = f(θ): a new state dict, one group's units in the given order.

        Args:
            state_dict: the weights; they are not changed.
            group: a group or its name.
            order: old places in their new order, new = old[order]: one row, or a row for every index of the groups that
                this one depends on. Or a key function of a unit's slices, a list of views in the order of
                `units(group)`: the units of each row are sorted by it, stably, smallest first.

        Raises:
            SpecMismatchError: the state dict does not fit, no group has this name, or `order` is no permutation.

        """
        from permgraph.uses.ordering import reorder

        return reorder(self._spec, state_dict, group, order)

    @typed
    def remove(
        self,
        state_dict: Mapping[str, Tensor],
        group: str | PermutationGroup | Mapping[str, Removal],
        units: Removal | None = None,
    ) -> dict[str, Tensor]:
        """The state dict without some units: all their slices of all tensors are removed.

        It fits the same architecture with a smaller group. If a unit acts only through its outgoing weights, as hidden
        units and heads do, the smaller model computes what the whole model computes with these weights at 0. Units of a
        residual stream or of a normalised axis also contribute to the norm, so their removal changes it. `pg.shrink`
        removes units from a transformers model and its configuration.

        Args:
            state_dict: the weights; they are not changed.
            group: a group or its name; or the units of several groups by name, which are removed together.
            units: numbers of units, the same for all rows, or a row for every index of the groups that this one depends
                on; or units from `units(group)`. The same number of every row.

        Raises:
            SpecMismatchError: the state dict does not fit, no group has this name, `units` are not units of it or are
                all of them, or the remaining elements of a tensor do not form a tensor.

        """
        from permgraph.uses.removing import remove

        return remove(self._spec, state_dict, group, units)

    def mappings(self) -> Mappings:
        """The scales and rotations that may move between layers, in the order of the forward pass.

        They come from groups with scales and groups that mix units: from a norm into its readers, from the
        up-projection into the down-projection, from values into the output projection, between queries and keys. Derive
        with `kinds="all"`; otherwise there are none. Scales of norms are always listed; rotations of a stream only if
        its norms are folded.
        """
        return self._spec.transfers

    @typed
    def augment(self, state_dict: Mapping[str, Tensor], seed: int | None = None) -> dict[str, Tensor]:
        """f(augment(θ)) = f(θ): the weights moved by a random element, to train networks that take weights as input.

        Permutations, signs and rotations are uniform; scales and singular values are log-normal around 1. This is
        `apply(sample(seed), state_dict)`.

        Raises:
            SpecMismatchError: the state dict does not fit.

        """
        return self._spec.apply(self._spec.sample(seed), state_dict)

    def labels(self) -> dict[str, Any]:
        """The labels of all axes, as plain values: the groups, and a tree of tensors along the names of modules.

        Each tensor is a list of blocks that cover it once. A block has a `start` on each axis, and for each axis its
        factors, outer to inner, with `label`, `size` and `stride`: the position is the start plus the sum of strides
        times coordinates. A label is the name of the group that moves the factor, None if there is none, and `group/0`,
        `group/1` for two factors that it moves as one. `moves` lists for each group the factors of its units, and those
        whose coordinates select the row of its table, as (axis, number of the factor); `power` is the exponent of its
        scales, or the side of its matrices.
        """
        from permgraph.uses.labels import labels

        return labels(self._spec)
