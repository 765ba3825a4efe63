"""Loads the models that a command names, compares them with the first, and fits two of them to each other."""

from __future__ import annotations

from collections.abc import Sequence

from permgraph.errors import OptionError
from permgraph.jobs.matching import Matching
from permgraph.jobs.session import Progress, Session
from permgraph.matching.borders import Borders
from permgraph.models.alike import require_alike
from permgraph.models.borders import FittedModels, FittedPair, enlarge_loaded, fit_loaded
from permgraph.models.devices import device_of
from permgraph.models.loaded import LoadedModel
from permgraph.models.loading import load
from permgraph.models.vocabulary import require_one_vocabulary


def load_all(
    session: Session,
    references: Sequence[str],
    progress: Progress,
    like: str | None = None,
    *,
    on_demand: bool = False,
    fitted: bool = True,
) -> list[LoadedModel]:
    """The models of these names, with a warning if one expects other inputs than the first.

    `like`: the model for which all of them are weights. `on_demand`: read no weights yet. `fitted`: whether the second
    must have the borders of the first.

    Raises PermgraphError if one cannot be matched with the first, whatever its weights are.
    """
    device, models = device_of(session.device), list[LoadedModel]()
    for done, reference in enumerate(references):
        progress("loading", done, len(references))
        models.append(load(reference, model=like, on_demand=on_demand).on(device))
        _ = models[-1].hashes  # now, so that the record cites the bytes that were read
        for difference in require_alike(models[0], models[-1], fitted=fitted):
            session.warn(difference)
    progress("loading", len(references), len(references))
    return models


def load_pair(
    session: Session, references: Sequence[str], matching: Matching, progress: Progress, like: str | None = None
) -> tuple[FittedPair, list[LoadedModel]]:
    """The models as from `load_all`, the first two fitted to each other if their borders differ.

    A third model is the base of both. If `matching` says so, the second may have fewer units and layers, or weights are
    read on demand. Raises OptionError for fewer units with a base or on demand.
    """
    on_demand, enlarge = matching.max_memory is not None, matching.enlarge
    a, b, *others = load_all(session, references, progress, like, on_demand=on_demand, fitted=False)
    if enlarge and (others or on_demand):
        raise OptionError("--enlarge reads two models, whole: leave out --base and --max-memory")
    if enlarge:
        require_one_vocabulary(a, b)
        pair = enlarge_loaded(a, b, matching.kinds)
    else:
        found = fit_loaded((a, b), *others)
        one, two, *others = found.models
        borders = found.borders or (Borders(),) * len(found.models)
        pair = FittedPair(one, two, borders[1], found.finish, base_borders=(*borders[2:], Borders())[0])
    for other in (pair.b, *others):
        a.adapter.require_alike(pair.a.config, other.config)
    return pair, others


def load_fitted(
    session: Session,
    references: Sequence[str],
    progress: Progress,
    like: str | None = None,
    *,
    on_demand: bool = False,
    with_base: bool = False,
) -> FittedModels:
    """The models, fitted to the first if their borders differ; `with_base`: the last is the base of the others."""
    found = load_all(session, references, progress, like, on_demand=on_demand, fitted=False)
    fitted = fit_loaded(found[:-1], found[-1]) if with_base else fit_loaded(found)
    for other in fitted.models[1:]:
        found[0].adapter.require_alike(fitted.models[0].config, other.config)
    return fitted
