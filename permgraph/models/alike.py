"""Whether two models can be matched at all, whatever their weights."""

from __future__ import annotations

from permgraph.errors import SpecMismatchError
from permgraph.models.loaded import LoadedModel
from permgraph.models.vocabulary import require_one_vocabulary, unsure_tokens


def require_alike(a: LoadedModel, b: LoadedModel, *, fitted: bool = True) -> tuple[str, ...]:
    """Refuse two models that cannot be matched whatever their weights; sentences of warning about what merely differs.

    `fitted`: whether their borders are those of one model already, see `fit_loaded`.
    Raises SpecMismatchError naming the config field that changes the function, or the tokens that differ.
    """
    kinds = [type(model.config).__name__ for model in (a, b)]
    if kinds[0] != kinds[1]:
        raise SpecMismatchError(
            f"the two models are not of one architecture: {a.reference} has a {kinds[0]} and "
            f"{b.reference} a {kinds[1]}; merge models of one family"
        )
    if fitted:
        require_one_vocabulary(a, b)  # before the sizes in the configs, which do not say what to do about tokens
        a.adapter.require_alike(a.config, b.config)
    return tuple(filter(None, (*input_differences(a, b), unsure_tokens(a, b))))


def input_differences(a: LoadedModel, b: LoadedModel) -> tuple[str, ...]:
    """Sentences on what `a` and `b` expect differently of their inputs."""
    names = [name for name in a.facts if name in b.facts and a.facts[name] != b.facts[name]]
    return tuple(
        f"{name} is {a.facts[name]!r} in {a.reference} and {b.facts[name]!r} in {b.reference}; both will be given the "
        "inputs of the first"
        for name in names
    )
