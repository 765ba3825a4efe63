"""Mixtures of experts are traced in a form that does not depend on the data: every expert on every token.

A router picks a few experts for each token. Code that computes only those experts sorts, groups or loops by numbers
that depend on the tokens, and its trace does not show which weights belong to which expert. The same function is
y = Σ over experts e of c[token, e] · f_e(x), with c zero for the experts that were not picked. transformers lets the
implementation be chosen (`use_experts_implementation`); this one is used during a trace.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

NAME = "every_expert"
MARKS = frozenset(("config", "has_gate", "has_bias", "is_transposed"))
"""What transformers sets on a module whose form of computing its experts can be chosen."""


def every_expert(module: Any, hidden_states: Tensor, top_k_index: Tensor, top_k_weights: Tensor) -> Tensor:
    """y[n] = Σ over e of c[n, e] (act(x[n] U_e + a_e) D_e + b_e), c[n, e] = Σ of the weights with which n picks e."""
    first, kind = (module.gate_up_proj, "gate_up_proj") if module.has_gate else (module.up_proj, "up_proj")
    rows, experts = hidden_states.shape[0], first.shape[0]
    picked = top_k_weights.new_zeros(rows, experts).scatter_add(1, top_k_index, top_k_weights)
    inner = _linear(module, hidden_states, kind).flatten(0, 1)
    inner = module._apply_gate(inner) if module.has_gate else module.act_fn(inner)
    outer = _linear(module, inner.unflatten(0, (experts, rows)), "down_proj")
    if getattr(module, "has_post_expert_norm", False):
        outer = module.post_expert_norm(outer.flatten(0, 1)).unflatten(0, (experts, rows))
    summed: Tensor = (outer * picked.t().unsqueeze(-1)).sum(0)
    return summed.to(hidden_states.dtype)


def _linear(module: Any, x: Tensor, kind: str) -> Tensor:
    weight = getattr(module, kind)
    product: Tensor = x @ (weight if module.is_transposed else weight.mT)
    bias: Tensor | None = getattr(module, f"{kind}_bias") if module.has_bias else None
    return product if bias is None else product + bias.unsqueeze(1)


@contextmanager
def all_experts(model: nn.Module) -> Iterator[None]:
    """Compute every expert on every token inside the context, if the model's library lets that be chosen."""
    library = sys.modules.get("transformers.integrations.moe")
    forms: Any = getattr(library, "ALL_EXPERTS_FUNCTIONS", None)
    configs = {
        id(part.config): part.config
        for part in model.modules()
        if vars(part).keys() >= MARKS and hasattr(part.config, "_experts_implementation")
    }
    if forms is None or not configs:
        yield
        return
    before = [(config, config._experts_implementation) for config in configs.values()]
    try:
        forms[NAME] = every_expert
        for config, _ in before:
            config._experts_implementation = {"": NAME}
        yield
    finally:
        for config, form in before:
            config._experts_implementation = {"": form}
        del forms[NAME]
