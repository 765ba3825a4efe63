"""Makes a transformers model with fewer units, by finding the numbers of its configuration that must change."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import combinations, product
from typing import Any

import torch
from torch import Tensor, nn

from permgraph.arguments import typed
from permgraph.errors import OptionError, PermgraphError, SpecMismatchError
from permgraph.symmetry.derivation.derive import derive
from permgraph.symmetry.specification.spec import PermutationSpec
from permgraph.uses.removing import Removal, kept_sizes

MOST = 3
"""The most numbers of a configuration that are changed together."""

Path = tuple[Any, ...]
Settings = Mapping[Path, int]


@typed
def shrink(
    model: nn.Module,
    args: tuple[Any, ...] = (),
    kwargs: Mapping[str, Any] | None = None,
    *,
    remove: Mapping[str, Removal],
    spec: PermutationSpec | None = None,
) -> nn.Module:
    """shrink(model).state_dict() = spec.remove(model.state_dict(), remove), a model of the same class, in eval mode.

    Numbers of `model.config` that can explain the new shapes are changed, a few together, until the class built from it
    has these shapes, and its groups have the remaining sizes (this distinguishes 4 heads of 8 from 8 heads of 4). No
    knowledge of architectures is used. `result.config` has the changed numbers.

    Args:
        model: a transformers model, or any whose class is built from its `config` alone; it is not changed.
        args: example inputs, as for `derive`.
        kwargs: example keyword inputs.
        remove: units to remove by group, as for `PermutationSpec.remove`; usually the same number in every layer.
        spec: derived by default.

    Returns:
        A new model of the same class with the remaining units.

    Raises:
        OptionError: the model has no configuration.
        SpecMismatchError: units that cannot be removed, or no change of a few numbers in the configuration fits.

    """
    config: Any = getattr(model, "config", None)
    if not hasattr(config, "to_dict"):
        raise OptionError(
            f"{type(model).__name__} has no configuration to change: build it with the smaller sizes and load what "
            "spec.remove returns"
        )
    spec = derive(model, args, kwargs) if spec is None else spec
    smaller = spec.remove(model.state_dict(), remove)
    wanted = _structure(spec, kept_sizes(spec, remove))
    changes = sorted(_changes(model.state_dict(), smaller))
    shapes = {name: tuple(tensor.shape) for name, tensor in smaller.items()}
    for settings in _attempts(config.to_dict(), changes):
        changed = _with(config, settings)
        if changed is not None and _shapes(type(model), changed) == shapes:
            dtype = next((tensor.dtype for tensor in smaller.values() if tensor.is_floating_point()), None)
            found = type(model)(changed).eval().to(dtype=dtype)
            found.load_state_dict(smaller)
            if _fits(found, args, kwargs, spec.outputs, wanted):
                return found
    raise SpecMismatchError(
        f"no change of up to {MOST} numbers in the configuration of {type(model).__name__} makes sizes change so: "
        f"{', '.join(f'{a} to {b}' for a, b in changes)}; remove as many units in every layer, or leave the model as "
        "it is and set the slices of the units to 0"
    )


Structure = dict[tuple[tuple[str, int], ...], tuple[int, tuple[int, ...]]]


def _structure(spec: PermutationSpec, sizes: Mapping[str, int]) -> Structure:
    """Axes of a group -> its size and the sizes that it depends on, or those in `sizes`; without groups of one unit."""
    found = {}
    for group in spec.groups:
        depends = zip(group.depends_on, group.depends_sizes, strict=True)
        size = sizes.get(group.name, group.size)
        if size > 1:
            found[group.axes] = size, tuple(n for name, m in depends if (n := sizes.get(name, m)) > 1)
    return found


def _fits(
    model: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any] | None, outputs: str, wanted: Structure
) -> bool:
    try:
        return _structure(derive(model, args, kwargs, outputs=outputs), {}) == wanted
    except PermgraphError:
        return False  # these numbers make a model that cannot be run


def _changes(before: Mapping[str, Tensor], after: Mapping[str, Tensor]) -> set[tuple[int, int]]:
    """(before, after) for every size of a dimension that changes."""
    pairs = ((before[name].shape, after[name].shape) for name in before)
    return {(a, b) for old, new in pairs for a, b in zip(old, new, strict=True) if a != b}


def _attempts(config: Mapping[str, Any], changes: Sequence[tuple[int, int]]) -> Iterator[Settings]:
    """Settings that may change sizes in this way, fewest numbers first."""
    numbers = dict(_numbers(config, ()))
    options = {path: sorted(_new_values(value, changes)) for path, value in numbers.items()}
    paths = [path for path, values in options.items() if values]
    for count in range(MOST + 1):
        for some in combinations(paths, count):
            for values in product(*(options[path] for path in some)):
                yield dict(zip(some, values, strict=True))


def _numbers(value: Any, path: Path) -> Iterator[tuple[Path, int]]:
    """All integers of 2 and more in a configuration, with their paths of keys and indices."""
    if isinstance(value, int) and not isinstance(value, bool) and value > 1:
        yield path, value
    items: Iterable[tuple[Any, Any]] = ()
    if isinstance(value, Mapping):
        items = value.items()
    elif isinstance(value, list):
        items = enumerate(value)
    for key, inner in items:
        yield from _numbers(inner, (*path, key))


def _new_values(value: int, changes: Iterable[tuple[int, int]]) -> set[int]:
    """The new values of a number if sizes a become b and a is a multiple of it: the same fraction of b."""
    whole = {(a // value, b) for a, b in changes if a % value == 0}
    return {b // times for times, b in whole if b % times == 0} - {value}


def _with(config: Any, settings: Settings) -> Any:
    """The configuration with these settings; None if it refuses them."""
    changed = copy.deepcopy(config)
    try:
        for (*way, last), value in settings.items():
            place: Any = changed
            for key in way:
                place = place[key] if isinstance(place, list | dict) else getattr(place, str(key))
            if isinstance(place, list | dict):
                place[last] = value
            else:
                setattr(place, str(last), value)
    except Exception:  # a class may refuse a number in any way
        return None
    return changed


def _shapes(kind: type[nn.Module], config: Any) -> dict[str, tuple[int, ...]] | None:
    """The shapes of a model of this configuration, built on meta; None if it cannot be built."""
    try:
        with torch.device("meta"):
            return {name: tuple(tensor.shape) for name, tensor in kind(config).state_dict().items()}
    except Exception:  # a class may refuse a configuration in any way
        return None
