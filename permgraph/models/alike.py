"""Checks whether two models can be matched at all, whatever their weights are."""

from __future__ import annotations

from permgraph.checkpoints.sentence_files import pooling_of, sentence_weights
from permgraph.errors import SpecMismatchError
from permgraph.models.loaded import LoadedModel
from permgraph.models.vocabulary import require_one_vocabulary, unsure_tokens


def require_alike(a: LoadedModel, b: LoadedModel, *, fitted: bool = True) -> tuple[str, ...]:
    """Refuse two models that cannot be matched whatever their weights are; returns warnings about other differences.

    `fitted`: whether their borders are already the same, see `fit_loaded`.
    Raises SpecMismatchError naming the config field that changes the function, or the tokens that differ.
    """
    kinds = [type(model.config).__name__ for model in (a, b)]
    if kinds[0] != kinds[1]:
        raise SpecMismatchError(
            f"the two models are not of one architecture: {_kind(a)} and {_kind(b)}; merge models of one family"
        )
    if fitted:
        require_one_vocabulary(a, b)  # before the sizes in the configs, which do not say what to do about tokens
        a.adapter.require_alike(a.config, b.config)
    return tuple(filter(None, (*input_differences(a, b), unsure_tokens(a, b))))


def _kind(model: LoadedModel) -> str:
    if model.config is None:
        return f"{model.reference} is a {type(model.model).__name__}"
    return f"{model.reference} has a {type(model.config).__name__}"


def input_differences(a: LoadedModel, b: LoadedModel) -> tuple[str, ...]:
    """Sentences on what `a` and `b` expect differently of their inputs."""
    names = [name for name in a.facts if name in b.facts and a.facts[name] != b.facts[name]]
    told = tuple(
        f"{name} is {a.facts[name]!r} in {a.reference} and {b.facts[name]!r} in {b.reference}; both will be given the "
        "inputs of the first"
        for name in names
    )
    return (*told, *_sentence_differences(a, b))


def _sentence_differences(a: LoadedModel, b: LoadedModel) -> list[str]:
    """Warnings about the modules after the transformers of sentence-transformers, if they differ or have weights."""
    pooled, told = [pooling_of(model.folder) for model in (a, b)], []
    if all(pooled) and pooled[0] != pooled[1]:
        told.append(
            f"{a.reference} and {b.reference} make another vector of a text ({', '.join(pooled[0])}): A's is kept"
        )
    weights = [inner for model in (a, b) for inner in sentence_weights(model.folder)]
    if weights:
        told.append(
            f"{', '.join(dict.fromkeys(weights))} of sentence-transformers has weights that are not merged: what is "
            "written is the transformer alone"
        )
    return told
