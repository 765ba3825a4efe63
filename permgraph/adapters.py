"""What a traced graph cannot say about a model family, and how a family's adapter is found.

An adapter is a class that an installed package names under the entry-point group `permgraph.adapters`:

    [project.entry-points."permgraph.adapters"]
    mymodel = "my_package.adapter:MyAdapter"

It subclasses `Adapter` and overrides only what differs. Importing its module should not import torch or transformers.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from permgraph.errors import AdapterError

if TYPE_CHECKING:
    from torch import Tensor, nn

GROUP = "permgraph.adapters"
Axis = tuple[str, int]
Inputs = tuple[tuple[Any, ...], dict[str, Any]]


class Adapter:
    """One model family; this base class is also the behaviour for every model without an adapter.

    A method may raise AdapterError for a configuration that it cannot represent, naming the field and its value.
    """

    model_types: tuple[str, ...] = ()
    """The values of `config.model_type` that this adapter is for."""

    outputs: Literal["fixed", "free"] = "fixed"
    """Whether the outputs of the bare model (without a head) keep their basis, or may be permuted, as those of an
    encoder whose residual stream is its output. Outputs of a head are always fixed."""

    switches: Mapping[str, Any] = {"use_cache": False, "output_attentions": False, "output_hidden_states": False}
    """Config fields, and the values they have while the model is traced; what is written has the originals."""

    def read_config(self, fields: Mapping[str, Any]) -> Any:
        """The transformers config for the fields of a `config.json`; no code in the folder is run."""
        from permgraph.models.transformers_models import known_config

        return known_config(fields)

    def model_classes(self, config: Any) -> Sequence[type["nn.Module"]]:
        """Classes that a checkpoint of this config may hold; the first that it fits exactly is taken."""
        from permgraph.models.transformers_models import candidate_classes

        return candidate_classes(config)

    def rename(self, names: Iterable[str]) -> dict[str, str]:
        """Name in the checkpoint to name in the model; a name that is left out is not loaded."""
        return {name: name for name in names}

    def example_inputs(self, model: "nn.Module", *, seed: int = 0) -> Inputs:
        """Small `(args, kwargs)` with which `model` can be traced; a given seed gives the same inputs again."""
        from permgraph.data.example_inputs import guess_inputs

        return guess_inputs(model, seed=seed)

    def tie(self, model: "nn.Module") -> dict[Axis, Axis]:
        """Axes of parameters that the forward pass does not reach, each with the axis that it has to move with."""
        return {}

    def require_alike(self, config_a: Any, config_b: Any) -> None:
        """Raise SpecMismatchError naming a field in which two configs differ and that changes the function.

        By default nothing is refused here: models that compute differently are found when both are traced.
        """

    def input_facts(self, folder: Path | None, config: Any) -> dict[str, Any]:
        """What two models must share to be fed the same batches (a sampling rate, a tokenizer), for a warning."""
        return {}

    def calibration(
        self,
        data: Path,
        *,
        model: "nn.Module",
        folder: Path | None,
        seed: int = 0,
        batch_size: int = 4,
        limit: int | None = None,
    ) -> Iterable[dict[str, "Tensor"]]:
        """Batches of keyword inputs read from the folder `data`, all with the same keys, shapes and dtypes.

        `folder` is the checkpoint's, for its processor; `limit` is the most samples to read. The iterable can be
        iterated again, gives the same batches for the same seed, and has a length. What is not needed may be taken as
        `**options` and passed on.
        Raises CalibrationError for data that is absent, unreadable or useless.
        """
        from permgraph.data.calibration import read_batches

        return read_batches(data, model=model, folder=folder, seed=seed, batch_size=batch_size, limit=limit)


@dataclass(frozen=True)
class InstalledAdapter:
    """An adapter that an installed distribution offers; `adapter` is None and `problem` says why if it cannot load."""

    name: str
    distribution: str
    adapter: Adapter | None
    problem: str = ""


def installed_adapters() -> tuple[InstalledAdapter, ...]:
    """Every adapter that an installed distribution registers, by distribution and name; broken ones included."""
    return tuple(sorted(_installed(), key=lambda found: (found.distribution, found.name)))


def adapter_for(model_type: str) -> Adapter:
    """The adapter that claims `model_type`, else the default one.

    Raises AdapterError where two distributions claim it or register adapters of one name, and where nobody claims it
    but an installed adapter is broken and might have.
    """
    installed = installed_adapters()
    claims = [found for found in installed if found.adapter and model_type in found.adapter.model_types]
    rivals = [found for found in installed if claims and found.name == claims[0].name and found not in claims]
    if len(claims) + len(rivals) > 1:
        what = f"model type {model_type!r} is claimed" if len(claims) > 1 else f"the name {claims[0].name!r} is taken"
        raise AdapterError(
            f"{what} by {' and '.join(_origin(found) for found in (*claims, *rivals))}. "
            "It is not clear which to use: uninstall all but one."
        )
    if claims and claims[0].adapter:
        return claims[0].adapter
    broken = [found for found in installed if found.adapter is None]
    if broken:
        problems = "; ".join(f"{_origin(found)}: {found.problem}" for found in broken)
        raise AdapterError(
            f"no working adapter claims model type {model_type!r}, and one that might cannot be loaded: {problems}. "
            "Repair or uninstall that package."
        )
    return Adapter()


def _installed() -> Iterator[InstalledAdapter]:
    # An editable install and its leftovers can list the same entry point twice.
    points = {(_distribution(point), point.name, point.value): point for point in entry_points(group=GROUP)}
    for (distribution, name, _), point in points.items():
        try:
            adapter = point.load()()
        except Exception as error:  # whatever a third party's module raises on import
            yield InstalledAdapter(name, distribution, None, f"{type(error).__name__}: {error}")
            continue
        if isinstance(adapter, Adapter):
            yield InstalledAdapter(name, distribution, adapter)
        else:
            yield InstalledAdapter(name, distribution, None, f"{point.value} is no subclass of permgraph's Adapter")


def _distribution(point: EntryPoint) -> str:
    return f"{point.dist.name} {point.dist.version}" if point.dist else "unknown distribution"


def _origin(found: InstalledAdapter) -> str:
    return f"{found.name!r} of {found.distribution}"
