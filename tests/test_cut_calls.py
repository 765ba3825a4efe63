"""Each call with an operand that is joined of two: what moves one part alone must not change a sum over both."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import permgraph as pg
from permgraph.judging.one_call import OneCall, equal, is_free
from permgraph.rules.example import Example
from permgraph.rules.examples import EXAMPLES

QUICK = 12


class Joined(nn.Module):
    """A call in which one operand is two parameters, joined along one of its axes."""

    def __init__(self, example: Example, operand: int, dim: int) -> None:
        super().__init__()
        self.call, self.name, self.dim = OneCall(example), f"p{operand}", dim
        whole = self.call.get_parameter(self.name).detach()
        self.parts = nn.ParameterList(part.clone() for part in whole.tensor_split([whole.shape[dim] // 2], dim))
        self.call.register_parameter(self.name, None)

    def forward(self, *given: Tensor) -> Any:
        self.call.__dict__[self.name] = torch.cat(list(self.parts), self.dim)
        try:
            return self.call(*given)
        finally:
            del self.call.__dict__[self.name]


def chosen() -> list[Any]:
    found = []
    for k, example in enumerate(EXAMPLES):
        for operand, given in enumerate(example.operands):
            shape = given.shape if isinstance(given, Tensor) else given
            for dim in range(len(shape)) if is_free(given) else ():
                if shape[dim] > 1:
                    marks = [pytest.mark.slow] if len(found) % QUICK else []
                    name = f"{example.op}-{k}-p{operand}[{dim}]"
                    found.append(pytest.param(example, operand, dim, id=name, marks=marks))
    return found


@pytest.mark.parametrize(("example", "operand", "dim"), chosen())
def test_no_claim_is_wrong_where_an_operand_is_joined(example: Example, operand: int, dim: int) -> None:
    model = Joined(example, operand, dim).eval()
    inputs = model.call.inputs
    state = {name: value.detach() for name, value in model.state_dict().items()}
    before = results(model, state, inputs)
    for kinds in ("permutation", "signed", "all"):
        spec = pg.derive(model, inputs, outputs="free", kinds=kinds)
        for seed in range(2):
            element = spec.sample(seed)
            after = results(model, spec.apply(element, state), inputs)
            assert equal(spec.apply_outputs(element, before), after), (kinds, seed, str(spec))


def results(model: nn.Module, state: dict[str, Tensor], inputs: tuple[Tensor, ...]) -> list[Tensor]:
    with torch.no_grad(), torch.random.fork_rng():
        torch.manual_seed(0)
        found = torch.func.functional_call(model, {name: value.clone() for name, value in state.items()}, inputs)
    return [leaf for leaf in torch.utils._pytree.tree_leaves(found) if isinstance(leaf, Tensor)]
