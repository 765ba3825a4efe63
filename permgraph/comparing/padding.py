"""Which activations a padding mask among a model's inputs applies to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from permgraph.tracing.program import Program

MASK = "attention_mask"
DECODER = "decoder_"  # the encoder's mask does not apply to the inputs of the decoder


def padding_masks(program: Program, inputs: Mapping[str, Any]) -> dict[str, Tensor]:
    """Node -> bool [batch, positions], False on padding, for the nodes whose positions are those of a masked input.

    A mask is an input called attention mask; it masks the inputs whose names have the same beginning and that have its
    positions along a dimension. A node that depends on several inputs has the positions of the one that the fewest
    nodes depend on: activations of a decoder have its own positions, not those of the encoder that it attends to, and
    those of an image tower next to a text tower have none.
    """
    masks = {p: v.bool() for p, v in inputs.items() if MASK in p and isinstance(v, Tensor) and v.dim() == 2}
    if not masks:
        return {}
    batches = {mask.shape[0] for mask in masks.values()}
    sequences = {
        place: _mask_of(place, value, masks)
        for place, value in inputs.items()
        if MASK not in place and isinstance(value, Tensor) and value.dim() > 1 and value.shape[0] in batches
    }
    if len(masks) == 1 and all(mask is None for mask in sequences.values()):
        sequences = dict.fromkeys(sequences, next(iter(masks.values())))
    reached = _reached(program, sequences)
    count = {place: sum(place in places for places in reached.values()) for place in sequences}
    found = {node: sequences[min(places, key=count.__getitem__)] for node, places in reached.items() if places}
    return {node: mask for node, mask in found.items() if mask is not None}


def _mask_of(name: str, value: Tensor, masks: Mapping[str, Tensor]) -> Tensor | None:
    """The mask whose name shares the longest beginning with this input's, if its shape fits."""
    beginnings = {mask: mask.partition(MASK)[0] for mask in masks}
    for mask in sorted(masks, key=lambda mask: -len(beginnings[mask])):
        if name.startswith(beginnings[mask]) and (beginnings[mask] or not name.startswith(DECODER)):
            batch, positions = masks[mask].shape
            return masks[mask] if value.shape[0] == batch and positions in value.shape[1:] else None
    return None


def _reached(program: Program, places: Mapping[str, Any]) -> dict[str, frozenset[str]]:
    """Node -> which of these inputs it depends on."""
    found: dict[str, frozenset[str]] = {}
    for node in program.graph.graph.nodes:
        own = frozenset({node.name} if node.name in places else ())
        found[node.name] = own.union(*(found[before.name] for before in node.all_input_nodes))
    return found
