"""A specification as JSON, with a version and a stable order."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from permgraph.errors import SpecMismatchError
from permgraph.symmetry.elements.cells import Cell, Leaf, Move
from permgraph.symmetry.elements.layout import Layout
from permgraph.symmetry.elements.permutations import PermutationGroup
from permgraph.symmetry.elements.streams import Stream
from permgraph.symmetry.specification.checks import require_coherent
from permgraph.symmetry.specification.mappings import Mappings, Transfer
from permgraph.symmetry.specification.schema import require_schema
from permgraph.symmetry.specification.shifts import Shift
from permgraph.symmetry.specification.spec import PermutationSpec
from permgraph.symmetry.specification.tie_graph import TieGraph

FORMAT, VERSION = "permgraph.spec", 1
TRANSFERS = ("scales", "rotations")


def written(spec: PermutationSpec) -> str:
    """The whole specification, ties included."""
    return json.dumps(_to_data(spec), ensure_ascii=False, separators=(",", ":"))


def read(text: str) -> PermutationSpec:
    """The specification that `written` wrote. Raises SpecMismatchError for anything else."""
    try:
        data = json.loads(text)
        if not isinstance(data, dict) or data.get("format") != FORMAT:
            raise SpecMismatchError('this JSON is not a permgraph specification: it has no "format": "permgraph.spec"')
        if data.get("version") != VERSION:
            raise SpecMismatchError(
                f"a specification of version {data.get('version')}, this permgraph reads {VERSION}: derive it again"
            )
        require_schema(data)
        spec = _from_data(data)
        require_coherent(spec)
        return spec
    except (TypeError, ValueError, RecursionError, OverflowError) as error:
        raise SpecMismatchError(
            f"this specification is damaged ({type(error).__name__}: {error}): derive it again"
        ) from error


def _to_data(spec: PermutationSpec) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "version": VERSION,
        "groups": [[g.name, g.size, g.depends_on, g.depends_sizes, g.role, g.axes, g.kind] for g in spec.groups],
        "pinned": [[name, dim, why] for (name, dim), why in spec.pinned.items()],
        "unreached": spec.unreached,
        "shapes": dict(spec.shapes),
        "parameters": spec.parameters,
        "layouts": {name: _layout_data(layout) for name, layout in spec.layouts.items()},
        "mode": spec.outputs,
        "outputs": [[name, None if layout is None else _layout_data(layout)] for name, layout in spec.output_layouts],
        "ties": spec.ties.to_data(),
        "held": spec.held,
        "inputs": spec.inputs,
        "streams": [[stream.places, _layout_data(stream.layout)] for stream in spec.streams],
        "unread": dict(spec.unread),
        "transfers": {kind: [_transfer_data(one) for one in getattr(spec.transfers, kind)] for kind in TRANSFERS}
        | {"added": dict(spec.transfers.added)},
        "limits": dict(spec.limits),
        "shifts": [[s.tensor, s.part, s.dimension, s.along, s.reasons] for s in spec.shifts],
    }


def _transfer_data(one: Transfer) -> list[Any]:
    return [one.group, one.kind, one.size, one.count, one.takes, one.gives, int(one.plain)]


def _layout_data(layout: Layout) -> list[Any]:
    return [
        layout.shape,
        [
            [
                cell.offsets,
                [[x.dim, x.size, x.stride] for x in cell.leaves],
                [_move_data(move) for move in cell.moves],
            ]
            for cell in layout.cells
        ],
    ]


def _from_data(data: dict[str, Any]) -> PermutationSpec:
    return PermutationSpec(
        groups=tuple(
            PermutationGroup(name, size, tuple(depends), tuple((p, d) for p, d in axes), role, tuple(sizes), *kind)
            for name, size, depends, sizes, role, axes, *kind in data["groups"]
        ),
        pinned={(name, dim): why for name, dim, why in data["pinned"]},
        unreached=tuple(data["unreached"]),
        layouts={name: _layout(item) for name, item in data["layouts"].items()},
        output_layouts=tuple((name, None if item is None else _layout(item)) for name, item in data["outputs"]),
        shapes={name: tuple(shape) for name, shape in data["shapes"].items()},
        parameters=tuple(data["parameters"]),
        outputs=data["mode"],
        ties=TieGraph.from_data(data["ties"]),
        held=tuple(data.get("held", ())),
        inputs=tuple((name, tuple(shape)) for name, shape in data.get("inputs", ())),
        streams=tuple(Stream(tuple(places), _layout(item)) for places, item in data.get("streams", ())),
        unread={
            name: tuple(tuple(tuple((start, stop) for start, stop in runs) for runs in block) for block in blocks)
            for name, blocks in data.get("unread", {}).items()
        },
        transfers=_mappings(data.get("transfers", {})),
        limits={name: tuple(reasons) for name, reasons in data.get("limits", {}).items()},
        shifts=tuple(
            Shift(name, part, dimension, tuple(along), tuple(reasons))
            for name, part, dimension, along, reasons in data.get("shifts", ())
        ),
    )


def _mappings(data: Mapping[str, Any]) -> Mappings:
    scales, rotations = (tuple(map(_transfer, data.get(kind, ()))) for kind in TRANSFERS)
    return Mappings(scales, rotations, dict(data.get("added", {})))


def _transfer(item: list[Any]) -> Transfer:
    group, kind, size, count, *sides, plain = item
    takes, gives = (tuple((name, dim, power) for name, dim, power in side) for side in sides)
    return Transfer(group, kind, size, count, takes, gives, bool(plain))


def _move_data(move: Move) -> list[Any]:
    return [move.group, move.leaves, move.keys, *([move.power] if move.power != 1 else [])]


def _move(item: list[Any]) -> Move:
    group, own, keys, *power = item
    return Move(group, tuple(own), tuple(tuple(key) for key in keys), *power)


def _layout(item: list[Any]) -> Layout:
    shape, cells = item
    return Layout(
        tuple(shape),
        tuple(
            Cell(
                tuple(offsets),
                tuple(Leaf(*leaf) for leaf in leaves),
                tuple(_move(move) for move in moves),
            )
            for offsets, leaves, moves in cells
        ),
    )
