"""The record of a merge: the contents of `permgraph.json`, and the same as text."""

from __future__ import annotations

import hashlib
import platform
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from permgraph.comparing.batches import Reading
from permgraph.jobs.session import Session, table
from permgraph.matching.gains_report import HEAD, by, gain_rows, unit_of
from permgraph.symmetry.elements.report import MOST_ROWS

if TYPE_CHECKING:
    from permgraph.jobs.recipe import Request
    from permgraph.matching.alignment import Alignment
    from permgraph.matching.gains import Gain
    from permgraph.models.loaded import LoadedModel
    from permgraph.symmetry.elements.permutations import Permutations
    from permgraph.symmetry.specification.spec import PermutationSpec

LIBRARIES = ("torch", "numpy", "scipy", "networkx", "safetensors", "transformers")
REPORT = "report.html"


def record(
    session: Session,
    models: Sequence[LoadedModel],
    alignment: Alignment,
    *,
    data: Path | None,
    merge: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """The contents of `permgraph.json`: inputs, options, permutations and proof.

    `new = old[perm]` for every permutation; a group that depends on others has one for every index of theirs. Signs,
    scales and matrices are float64 in base64, in row-major order.
    """
    found = origin(session, models, alignment.spec, data) | {"merge": None if merge is None else dict(merge)}
    return found | certified(alignment)


def certified(alignment: Alignment) -> dict[str, Any]:
    """How units were matched, what each group gained, the proof, and the permutations."""
    return {
        "method": alignment.method,
        "groups": list(alignment.gains),
        "gains": gains_of(alignment.permutations, alignment.gains),
        "exact": list(alignment.exact),
        "search": None if alignment.search is None else asdict(alignment.search),
        "certificate": asdict(alignment.certificate),
        "kinds": alignment.spec.kinds,
        "untied": list(alignment.untied),
        "permutations": alignment.permutations.to_arrays(),
    }


def gains_of(element: Permutations, gains: Mapping[str, Gain]) -> dict[str, dict[str, float]]:
    """Group -> its objective before and after moving, the bound, and the share of its units that moved."""
    return {name: asdict(gain) | {"moved": element.moved[name]} for name, gain in gains.items()}


def origin(
    session: Session, models: Sequence[LoadedModel], spec: PermutationSpec | None, data: Path | None
) -> dict[str, Any]:
    """The origin of an output: versions, command, seed, hashes of the inputs and of the specification."""
    found = {
        "permgraph": version("permgraph"),
        "versions": {"python": platform.python_version()} | _versions(),
        "command": shlex.join(_public(word) for word in ("permgraph", *session.command)),
        "seed": session.seed,
        "inputs": {
            "models": [{"model": _public(model.reference), "sha256": _model_hashes(model)} for model in models],
            "data": None if data is None else {"folder": data.resolve().name, "sha256": _data_hashes(data)},
        },
    }
    return found if spec is None else found | {"spec": _facts_of(spec)}


def _facts_of(spec: PermutationSpec) -> dict[str, Any]:
    return {
        "sha256": hashlib.sha256(spec.to_json().encode()).hexdigest(),
        "outputs": spec.outputs,
        "groups": len(spec.groups),
        "log10_order": spec.log10_order,
        "coverage": spec.coverage,
    }


def base_and_options(asked: Request, base: LoadedModel | None) -> dict[str, Any]:
    """What a merge method was given in addition to the models, if anything."""
    found = {} if base is None else {"base": {"model": _public(base.reference), "sha256": _model_hashes(base)}}
    return found | ({"options": dict(asked.options)} if asked.options else {})


def facts(record: Mapping[str, Any]) -> dict[str, str]:
    """The origin in a record as name -> text, for people."""
    inputs, search = record["inputs"], record.get("search")
    data = inputs["data"]
    found = {f"model {chr(65 + k)}": model["model"] for k, model in enumerate(inputs["models"])}
    if data:
        read = f", {Reading(data['batches'], data['samples'], data['unit'])}" if "samples" in data else ""
        files = f", {len(data['sha256'])} files" if data["sha256"] else ""
        found["calibration data"] = f"{data['folder']}{files}{read}"
        found |= {"data, left out": "; ".join(data["notes"])} if data.get("notes") else {}
    found |= {"heads": record["heads"]} if record.get("heads") else {}
    found |= {"loss": record["loss"]} if record.get("loss") else {}
    found |= {"search": ", ".join(f"{key} {_short(value)}" for key, value in search.items())} if search else {}
    versions = {"permgraph": record["permgraph"], **record["versions"]}
    found |= {"command": record["command"], "seed": str(record["seed"])}
    return found | {"versions": ", ".join(f"{name} {number}" for name, number in versions.items() if number)}


def _short(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def gain_table(alignment: Alignment) -> Any:
    """What the groups gained, as a rich table of at most MOST_ROWS rows; similar layers share a row."""
    rows = gain_rows(alignment)
    rest = len(rows) - MOST_ROWS
    more = [(f"and {rest} more rows, see report.html", *[""] * (len(HEAD) - 1))] if rest > 0 else []
    return table(HEAD, [*rows[:MOST_ROWS], *more], title=f"What alignment gained: {unit_of(alignment)}", left=2)


def summary(alignment: Alignment, what: str) -> str:
    """The same as Markdown, for the model card."""
    rows = [HEAD, tuple("---" for _ in HEAD), *gain_rows(alignment)]
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    certificate = f"Certificate: {alignment.certificate}."
    matched = [f"Matched by {by(alignment.method)}: {unit_of(alignment)}", "", *lines] if alignment.gains else []
    return "\n".join([what, "", certificate, "", *matched])


def _versions() -> dict[str, str | None]:
    found: dict[str, str | None] = {}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = None
    return found


def _model_hashes(model: LoadedModel) -> dict[str, str]:
    return model.hashes


def _data_hashes(data: Path) -> dict[str, str]:
    from permgraph.checkpoints.reading import file_sha256

    paths = sorted(path for path in data.rglob("*") if path.is_file())
    return {path.relative_to(data).as_posix(): file_sha256(path) for path in paths}


def _public(word: str) -> str:
    """A word of the command, without paths of this machine."""
    name, _, value = word.partition("=") if word.startswith("--") else ("", "", word)
    path = Path(value)
    shown = path.name if path.is_absolute() or value.startswith(("~", "..")) else value
    return f"{name}={shown}" if name and "=" in word else (shown or word)
