"""Which activations a mask of padding among a model's inputs speaks of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from permgraph.tracing.capture import Program

MASK = "attention_mask"
DECODER = "decoder_"  # what a decoder is given is not masked by the mask of its encoder


def padding_masks(program: Program, inputs: Mapping[str, Any]) -> dict[str, Tensor]:
    """Node -> bool [batch, positions], False on padding, for the nodes whose positions are those of a masked input.

    A mask is an input called attention mask; it masks the inputs that begin as its name does and have its positions
    along a dimension. A node that depends on several inputs has the positions of the one that fewest nodes depend on:
    what a decoder computes has its own, not those of the encoder that it looks at, and the image tower beside a text
    tower has none.
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
    """The mask whose name begins as this input's does, the longest beginning first, if it fits."""
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
