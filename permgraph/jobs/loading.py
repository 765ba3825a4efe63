"""Loads the models that a command names, compares them with the first, and fits two of them to each other."""

from __future__ import annotations

from collections.abc import Sequence

from permgraph.errors import OptionError
from permgraph.jobs.session import Progress, Session
from permgraph.models.alike import require_alike
from permgraph.models.borders import FittedPair, enlarge_loaded, fit_loaded
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
        for difference in require_alike(models[0], models[-1], fitted=fitted or len(models) > 2):
            session.warn(difference)
    progress("loading", len(references), len(references))
    return models


def load_pair(
    session: Session,
    references: Sequence[str],
    progress: Progress,
    like: str | None = None,
    *,
    on_demand: bool = False,
    enlarge: bool = False,
) -> tuple[FittedPair, list[LoadedModel]]:
    """The models as from `load_all`, the first two fitted to each other if their borders differ.

    With `enlarge` the second may have fewer units and layers. Raises OptionError if more than two models are given and
    borders or sizes differ.
    """
    a, b, *others = load_all(session, references, progress, like, on_demand=on_demand, fitted=False)
    if enlarge and (others or on_demand):
        raise OptionError("--enlarge reads two models, whole: leave out --base and --max-memory")
    if enlarge:
        require_one_vocabulary(a, b)
    pair = enlarge_loaded(a, b) if enlarge else fit_loaded(a, b)
    a.adapter.require_alike(pair.a.config, pair.b.config)
    if pair.borders and others:
        raise OptionError(f"task vectors need models of the base's shapes, and {pair.borders}: leave out --base")
    return pair, others
