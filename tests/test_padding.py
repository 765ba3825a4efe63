"""Masks of padding speak of the activations whose positions are those of what they mask."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from permgraph.comparing.padding import padding_masks
from permgraph.tracing.capture import capture
from permgraph.tracing.run import bind

LONG, SHORT = torch.tensor([[1, 1, 1, 1, 0], [1, 1, 0, 0, 0]]), torch.tensor([[1, 1, 1], [1, 0, 0]])


def masked(model: nn.Module, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Mask by the name of the module's operation: the activations that hold, and what holds for them."""
    program = capture(model.eval(), (), inputs)
    found = padding_masks(program, bind(program, (), inputs))
    nodes = [node for node in program.graph.graph.nodes if "linear" in str(node.target)]
    return {program.feeds[node.args[1].name].name.split(".")[0]: found.get(node.name) for node in nodes}


class Towers(nn.Module):
    """Text and image, and their product."""

    def __init__(self) -> None:
        super().__init__()
        self.text, self.image = nn.Linear(4, 6), nn.Linear(3, 6)

    def forward(self, words: Tensor, pixels: Tensor, attention_mask: Tensor) -> Tensor:
        weight = attention_mask[..., None].float()
        text = (self.text(words) * weight).sum(1) / weight.sum(1)
        return text @ self.image(pixels).mean(1).T


def test_the_tower_beside_has_no_padding() -> None:
    found = masked(Towers(), {"words": torch.randn(2, 5, 4), "pixels": torch.randn(2, 9, 3), "attention_mask": LONG})
    assert torch.equal(found["text"], LONG.bool())
    assert found["image"] is None


class Decoder(nn.Module):
    """A decoder that looks at an encoder's states."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.decoder = nn.Linear(4, 6), nn.Linear(4, 6)
        self.key, self.head = nn.Linear(6, 6), nn.Linear(6, 3)

    def forward(
        self, states: Tensor, decoder_states: Tensor, attention_mask: Tensor, decoder_attention_mask: Tensor | None
    ) -> Tensor:
        memory, own = self.encoder(states), self.decoder(decoder_states)
        weights = (own @ self.key(memory).mT).masked_fill(attention_mask[:, None] == 0, -1e9).softmax(-1)
        return self.head(own + weights @ memory)


def test_a_decoder_has_its_own_padding_or_none() -> None:
    inputs = {"states": torch.randn(2, 5, 4), "decoder_states": torch.randn(2, 3, 4), "attention_mask": LONG}
    found = masked(Decoder(), inputs | {"decoder_attention_mask": SHORT})
    assert all(torch.equal(found[name], LONG.bool()) for name in ("encoder", "key"))
    assert all(torch.equal(found[name], SHORT.bool()) for name in ("decoder", "head"))
    inputs |= {"decoder_states": torch.randn(2, 5, 4), "decoder_attention_mask": None}
    found = masked(Decoder(), inputs)
    assert all(torch.equal(found[name], LONG.bool()) for name in ("encoder", "key"))
    assert found["decoder"] is None
    assert found["head"] is None


class Plain(nn.Module):
    """A layer on every position."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 2)

    def forward(self, states: Tensor, attention_mask: Tensor) -> Tensor:
        return self.layer(states)


def test_a_mask_of_other_positions_holds_where_there_is_nothing_else() -> None:
    """Positions that are cut off inside the model, say."""
    assert torch.equal(masked(Plain(), {"states": torch.randn(2, 9, 4), "attention_mask": LONG})["layer"], LONG.bool())
    assert masked(Plain(), {"states": torch.randn(2, 9, 4), "attention_mask": LONG[..., None]})["layer"] is None
