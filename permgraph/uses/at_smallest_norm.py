"""The states of smallest norm of folded models, in which norms, scales and invertible maps no longer differ."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from permgraph.comparing.batches import Batch
from permgraph.symmetry.derivation.affine import uniform_among
from permgraph.symmetry.derivation.derive import Derivation
from permgraph.symmetry.derivation.folding import foldable
from permgraph.symmetry.specification.spec import PermutationSpec
from permgraph.tracing.program import Program
from permgraph.uses.canonical.smallest import RANK, smallest

State = Mapping[str, Tensor]


def at_smallest_norm(
    model: nn.Module, program: Program, example: Batch, tie: Any, states: tuple[State, State]
) -> tuple[State, State]:
    """Two states of a traced model, folded and of smallest norm: of an orbit they differ by a rotation, sign and order.

    Kempf and Ness, 1979; see `permgraph.uses.canonical.smallest`.
    """
    fold = foldable(model, program, untie=False, args=example[0], kwargs=example[1])
    one, other = (found.state_dict for found in fold.folded(states))
    spec = Derivation(program, "fixed", tie, "all", uniform_among(program, (one, other))).spec
    return _smallest(spec, one), _smallest(spec, other)


def _smallest(spec: PermutationSpec, state: State) -> State:
    aliases = spec.ties.aliases
    given = {name: state[name].double() for name in state if name in spec.shapes and name not in aliases}
    found = smallest(spec, given, RANK)[0]
    return {name: found.get(aliases.get(name, name), tensor) for name, tensor in state.items()}
