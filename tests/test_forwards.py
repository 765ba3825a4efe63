"""Several forward passes traced and joined: groups that leave every one of them alone."""

import pytest
import torch
from torch import Tensor, nn

import permgraph as pg


class TwoTowers(nn.Module):
    """Two encoders into one space; neither method reaches the other's tower, and `forward` leaves out the decoder."""

    def __init__(self) -> None:
        super().__init__()
        self.image = nn.Sequential(nn.Linear(5, 12), nn.ReLU(), nn.Linear(12, 8))
        self.text = nn.Sequential(nn.Embedding(11, 9), nn.Linear(9, 8))
        self.decoder = nn.Linear(8, 3)

    def encode_image(self, x: Tensor) -> Tensor:
        return self.image(x)

    def encode_text(self, ids: Tensor, *, scale: Tensor) -> Tensor:
        return self.text(ids).mean(1) * scale

    def decode(self, z: Tensor, bias: Tensor) -> Tensor:
        return self.decoder(torch.tanh(z)) + bias

    def forward(self, x: Tensor, ids: Tensor) -> Tensor:
        return self.encode_image(x) @ self.encode_text(ids, scale=torch.ones(())).T


@pytest.fixture
def case():
    torch.manual_seed(0)
    model = TwoTowers().eval()
    inputs = (
        torch.randn(4, 5),
        {"ids": torch.randint(11, (2, 6)), "scale": torch.tensor(0.5)},
        (torch.randn(4, 8), torch.randn(3)),
    )
    return model, pg.Forwards(model, "encode_image", "encode_text", "decode"), inputs


def test_what_one_pass_does_not_reach_another_does(case):
    model, joined, inputs = case
    alone = pg.derive(model, (inputs[0], inputs[1]["ids"]))
    assert set(alone.unreached) == {"decoder.weight", "decoder.bias"}
    spec = pg.derive(joined, inputs)
    assert spec.unreached == ()
    assert list(spec.shapes) == list(model.state_dict())
    assert {group.size for group in spec.groups} == {12, 9}  # the shared space is an output, held fixed
    assert pg.verify(joined, inputs, spec=spec).ok


def test_a_group_leaves_every_pass_alone(case):
    """A product of the towers does not see their space; each tower alone returns it."""
    model, joined, inputs = case
    loose = pg.derive(model, (inputs[0], inputs[1]["ids"]))
    assert {group.size for group in loose.groups} == {12, 9, 8}
    with pytest.raises(pg.SpecMismatchError, match="knows 1 outputs, this forward pass returns 3"):
        pg.verify(joined, inputs, spec=loose)
    assert {group.size for group in pg.derive(joined, inputs, outputs="free").groups} == {12, 9, 8}


def test_aligned_and_merged_in_the_place_of_the_model(case):
    model, joined, inputs = case
    spec = pg.derive(joined, inputs)
    moved = TwoTowers().eval()
    moved.load_state_dict(spec.apply(spec.sample(1), model.state_dict()))
    other = pg.Forwards(moved, *joined.methods)
    aligned = pg.align(joined, other, args=inputs)
    merged = pg.merge(joined, other, alignment=aligned)
    assert merged.keys() == model.state_dict().keys()
    assert all(torch.allclose(merged[name], tensor) for name, tensor in model.state_dict().items())
    joined.load_state_dict(merged)


@pytest.mark.parametrize(
    ("methods", "says"), [(("encode_image", "paint"), "TwoTowers has no method 'paint'"), ((), "at least one method")]
)
def test_methods_that_are_not_there_are_refused(methods, says):
    with pytest.raises(pg.CaptureError, match=says):
        pg.Forwards(TwoTowers(), *methods)


def test_a_wrong_number_of_inputs_is_refused(case):
    _, joined, inputs = case
    with pytest.raises(pg.CaptureError, match="3 methods are called, and 2 inputs given"):
        pg.derive(joined, inputs[:2])
