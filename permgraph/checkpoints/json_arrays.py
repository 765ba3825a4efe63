"""Arrays in a JSON record: in the record itself, or in a file beside it where they are large."""

from base64 import b64decode, b64encode
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from permgraph.errors import CheckpointError
from permgraph.wording import shortened

BESIDE = "permgraph.npz"
"""The file beside the record; not safetensors, which other tools would load as weights."""
MOST_INLINE = 2**24
"""How many bytes of arrays a record holds itself; text takes a third more."""

Array = npt.NDArray[Any]


def inline(value: Any) -> Any:
    """`value` for JSON: integers as lists, other numbers as their shape and float64 bytes in base64."""
    return _replaced(value, _text)


def split(value: Any) -> tuple[Any, dict[str, Array]]:
    """`value` for JSON, and the arrays to write beside it: none up to MOST_INLINE bytes, else all of them.

    An array that is written beside the record is `{"array": name}` in it.
    """
    arrays: dict[str, Array] = {}

    def beside(array: Array) -> dict[str, str]:
        name = str(len(arrays))
        arrays[name] = array
        return {"array": name}

    replaced = _replaced(value, beside)
    return (inline(value), {}) if sum(array.nbytes for array in arrays.values()) <= MOST_INLINE else (replaced, arrays)


def array_of(data: Any, beside: Mapping[str, Array] | None = None) -> Array:
    """The array that `inline`, or `split` with the file `beside`, wrote as `data`.

    Raises CheckpointError where it is in a file that is not given, and for what neither wrote.
    """
    if not isinstance(data, dict) or "array" not in data:
        return _array_in(data)
    if not isinstance(data["array"], str) or beside is None or data["array"] not in beside:
        raise CheckpointError(
            f"array {data['array']} of the record is in {BESIDE} beside it. Give that file too, as "
            f'np.load(folder / "{BESIDE}").'
        )
    return beside[data["array"]]


def _array_in(data: Any) -> Array:
    try:
        if isinstance(data, dict):
            return np.frombuffer(b64decode(data["base64"]), dtype="<f8").reshape(data["shape"]).astype(np.float64)
        found = np.asarray(data)
    except (KeyError, TypeError, ValueError, OverflowError):
        found = np.asarray(None)
    if found.dtype.kind != "i":
        raise CheckpointError(
            f"the record has no array of whole numbers, and none in base64, but {shortened(repr(data), 80)}. "
            "Take the record as it was written."
        )
    return found.astype(np.int64, copy=False)


def _replaced(value: Any, how: Callable[[Array], Any]) -> Any:
    if isinstance(value, Mapping):
        return {key: _replaced(item, how) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_replaced(item, how) for item in value]
    return how(value) if isinstance(value, np.ndarray) else value


def _text(array: Array) -> Any:
    if array.dtype.kind in "iu":
        return array.tolist()
    numbers = np.ascontiguousarray(array, dtype="<f8")
    return {"shape": list(numbers.shape), "base64": b64encode(numbers.tobytes()).decode()}
