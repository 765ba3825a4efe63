"""align and merge: planted elements come back, functions stay, and bad input is refused by name."""

import copy

import pytest
import torch
from pairs import PLANTED, hubert, mlp, plant, vectors
from torch import Tensor, nn

import permgraph as pg
from permgraph.comparing import models as models_compared
from permgraph.comparing.points import find_points
from permgraph.merging import merge_method
from permgraph.symmetry.derivation.derive import Derivation
from permgraph.symmetry.proof.verification import Certificate
from permgraph.tracing.capture import capture

X = vectors()[0]


@pytest.mark.parametrize("method", ["correlation", "weights"])
@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_element_is_recovered_exactly(name: str, method: str) -> None:
    planted = PLANTED[name]()
    kwargs = planted.batches[0] if isinstance(planted.batches[0], dict) else None
    found = pg.align(
        planted.a,
        planted.b,
        planted.batches if method == "correlation" else None,
        args=() if kwargs or method == "correlation" else (planted.batches[0],),
        kwargs=kwargs if method == "weights" else None,
        spec=planted.spec,
        method=method,
    )
    assert planted.recovered(found.permutations) == [group.name for group in planted.spec.groups]
    assert found.certificate.ok
    merged = pg.merge(planted.a, planted.b, alignment=found, weight=0.3)
    for key, value in planted.a.state_dict().items():
        if key not in planted.spec.unreached:
            torch.testing.assert_close(merged[key], value, rtol=1e-5, atol=1e-6)


def test_aligned_b_computes_what_b_computes() -> None:
    a, b = mlp(), mlp()
    for parameter in b.parameters():
        nn.init.normal_(parameter, std=0.5)
    aligned = pg.align(a, b, vectors())
    moved = copy.deepcopy(b)
    moved.load_state_dict(aligned.state_dict)
    x = torch.randn(7, 5)
    torch.testing.assert_close(moved(x), b(x))
    assert any(aligned.permutations.moved.values())


def test_gains_are_at_least_those_of_the_identity_and_one_when_recovered() -> None:
    planted = plant(mlp(), vectors())
    found = pg.align(planted.a, planted.b, planted.batches)
    assert set(found.gains) == {group.name for group in planted.spec.groups}
    for gain in found.gains.values():
        assert gain.solution == pytest.approx(1.0)
        assert gain.gained >= 0


class Weighed(nn.Module):
    """A layer whose weight is the product of two, so that their common width is in no activation."""

    def __init__(self) -> None:
        super().__init__()
        self.enter, self.left, self.right = nn.Linear(5, 6), nn.Linear(7, 6), nn.Linear(6, 7)
        self.head = nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        h = self.enter(x)
        return self.head(torch.tanh(h @ (self.left.weight @ self.right.weight)))


def test_a_width_that_no_activation_has_is_matched_by_weights_once_the_others_are() -> None:
    torch.manual_seed(0)
    planted = plant(Weighed().eval(), vectors())
    found = pg.align(planted.a, planted.b, planted.batches)
    assert planted.recovered(found.permutations) == [group.name for group in planted.spec.groups]
    (width,) = (group.name for group in planted.spec.groups if group.size == 7)
    assert found.gains[width].solution == pytest.approx(1.0)
    assert width not in found.exact
    assert pg.match_many([planted.a, planted.b], planted.batches)[1] == found.permutations


def test_only_the_chosen_groups_move() -> None:
    planted = hubert()
    found = pg.align(planted.a, planted.b, planted.batches, spec=planted.spec, groups=["conv", "attention"])
    identity = planted.spec.identity()
    for group in planted.spec.groups:
        is_chosen = group.role == "conv" or group.role.startswith("attention")
        is_still = (found.permutations[group.name] == identity[group.name]).all()
        assert is_still == (not is_chosen), group.name


def test_models_and_state_dicts_are_left_alone() -> None:
    planted = plant(mlp(), vectors())
    before = [{k: v.clone() for k, v in m.state_dict().items()} for m in (planted.a, planted.b)]
    pg.merge(planted.a, planted.b, alignment=pg.align(planted.a, planted.b, planted.batches))
    for model, kept in zip((planted.a, planted.b), before, strict=True):
        assert all(torch.equal(value, kept[key]) for key, value in model.state_dict().items())


def test_a_mask_of_positions_says_nothing_of_rows_and_columns() -> None:
    """Of one image beside a text, nor of one whose 4 rows a mask of 4 texts would fit."""
    derivation = Derivation(capture(pooled(), (torch.randn(1, 3, 6, 6),)), "fixed", {})
    (point,) = find_points(derivation, ["0.channels"])
    assert [point.cell.leaves[k].dim for k in point.frame_leaves] == [0, 2, 3]
    assert all(point.kept(torch.zeros(texts, 5, dtype=torch.bool)) is None for texts in (1, 4))


class Masked(nn.Module):
    """Acts on each position alone, and takes the mask without using it."""

    def __init__(self) -> None:
        super().__init__()
        self.net = mlp()

    def forward(self, x: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        return self.net(x)


def test_padding_is_left_out() -> None:
    a, b = Masked().eval(), Masked().eval()
    nn.init.normal_(b.net[0].weight)
    x = torch.randn(2, 40, 5)
    padded = torch.cat([x, 1000 * torch.randn(2, 10, 5)], dim=1)
    mask = torch.cat([torch.ones(2, 40), torch.zeros(2, 10)], dim=1).long()
    plain = pg.align(a, b, [{"x": x, "attention_mask": mask[:, :40]}])
    found = pg.align(a, b, [{"x": padded, "attention_mask": mask}])
    for name, gain in plain.gains.items():
        assert found.gains[name].solution == pytest.approx(gain.solution, rel=1e-5)
    assert found.permutations == plain.permutations


def test_batches_may_be_a_generator_and_of_two_shapes() -> None:
    planted = plant(mlp(), vectors())
    found = pg.align(planted.a, planted.b, (batch[: 64 - 30 * k] for k, batch in enumerate(planted.batches[:2])))
    assert len(planted.recovered(found.permutations)) == 2


def pooled() -> nn.Sequential:
    torch.manual_seed(0)
    convolutions = (nn.Conv2d(3, 16, 3), nn.ReLU(), nn.Conv2d(16, 24, 3), nn.ReLU())
    return nn.Sequential(*convolutions, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(24, 5)).eval()


def test_channels_read_behind_a_pooling_alone_are_matched_before_it_where_images_are_few() -> None:
    """6 images are 6 frames for 24 channels behind the pooling, and 96 before it."""
    few = [torch.randn(3, 3, 6, 6) for _ in range(2)]
    planted = plant(pooled(), few)
    assert len(planted.recovered(pg.align(planted.a, planted.b, few).permutations)) == 2
    many = [torch.randn(32, 3, 6, 6) for _ in range(4)]
    behind = pg.align(planted.a, planted.b, many, point_weights={"2.channels": [1.0]})
    assert behind.gains == pg.align(planted.a, planted.b, many).gains


def test_a_specification_read_back_from_json_aligns() -> None:
    planted = plant(mlp(), vectors())
    spec = pg.PermutationSpec.from_json(planted.spec.to_json())
    found = pg.align(planted.a, planted.b, planted.batches, spec=spec)
    assert len(planted.recovered(found.permutations)) == 2


def test_an_alignment_that_fails_its_proof_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    planted = plant(mlp(), vectors())
    failed = Certificate(False, 1.0, 1e-8, ("0.units",), 1, 0)
    monkeypatch.setattr(models_compared, "certify", lambda *args, **kwargs: failed)
    with pytest.raises(pg.VerificationError, match=r"refused.*0\.units"):
        pg.align(planted.a, planted.b, planted.batches)


def normalised(model: nn.Sequential) -> nn.Module:
    """The same shapes, with a softmax over halves of the second layer."""
    halves = nn.Sequential(nn.Unflatten(-1, (2, 6)), nn.Softmax(-1), nn.Flatten(-2))
    return nn.Sequential(*model[:3], halves, model[4]).eval()


REFUSED = {
    "no batch": (lambda a, b: pg.align(a, b, []), pg.CalibrationError, "empty"),
    "correlation without data": (lambda a, b: pg.align(a, b, method="correlation"), pg.CalibrationError, "calibration"),
    "one tensor as data": (lambda a, b: pg.align(a, b, vectors()[0]), pg.CalibrationError, "put it in a list"),
    "not a batch": (lambda a, b: pg.align(a, b, ["text"]), pg.CalibrationError, "not str"),
    "too few frames": (lambda a, b: pg.align(a, b, [torch.randn(2, 5)]), pg.CalibrationError, "2 frames"),
    "constant data": (lambda a, b: pg.align(a, b, [torch.zeros(50, 5)]), pg.CalibrationError, "constant"),
    "non-finite data": (
        lambda a, b: pg.align(a, b, [torch.full((50, 5), float("nan"))]),
        pg.CalibrationError,
        "not finite",
    ),
    "another architecture": (
        lambda a, b: pg.align(a, mlp(13), vectors()),
        pg.SpecMismatchError,
        r"\(12, 5\).*\(13, 5\)",
    ),
    "an unknown role": (
        lambda a, b: pg.align(a, b, vectors(), groups=["attention"]),
        pg.SpecMismatchError,
        "attention",
    ),
    "another specification": (
        lambda a, b: pg.align(a, b, vectors(), spec=pg.derive(mlp(13), (vectors()[0],))),
        pg.SpecMismatchError,
        "derive it again",
    ),
    "the specification of another function": (
        lambda a, b: pg.align(
            a, b, vectors(), spec=pg.derive(nn.Sequential(*a[:4], nn.Softmax(-1), a[4]).eval(), (X,))
        ),
        pg.SpecMismatchError,
        "there and .* here; derive it again",
    ),
    "an option of another method": (
        lambda a, b: pg.align(a, b, args=(X,), point_weights={}),
        pg.OptionError,
        'method "weights" has no option point_weights: it has effort',
    ),
    "an option that is misspelt": (
        lambda a, b: pg.align(a, b, vectors(), point_weight={}),
        pg.OptionError,
        "has no option point_weight: it has point_weights, within; did you mean point_weights",
    ),
    "a mix without its share": (
        lambda a, b: pg.align(a, b, vectors(), method="mix"),
        pg.OptionError,
        'method "mix" needs the option mix: give mix=',
    ),
    "an unknown method": (lambda a, b: pg.align(a, b, vectors(), method="magic"), pg.OptionError, "magic"),
    "an unknown merge": (lambda a, b: pg.merge(a, b, method="magic"), pg.OptionError, "magic"),
    "a weight out of range": (lambda a, b: pg.merge(a, b, weight=1.5), pg.OptionError, "A's share"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(case: str) -> None:
    call, error, message = REFUSED[case]
    with pytest.raises(error, match=message):
        call(mlp(), mlp())


def test_non_finite_weights_are_refused_by_name() -> None:
    a, b = mlp(), mlp()
    with torch.no_grad():
        b[2].weight[0, 0] = float("inf")
    for call in (lambda: pg.align(a, b, vectors()), lambda: pg.merge(a, b)):
        with pytest.raises(pg.PermgraphError, match=r"model B.*2\.weight"):
            call()


def test_another_function_of_the_same_shapes_is_refused() -> None:
    a = mlp()
    b = nn.Sequential(a[0], nn.ReLU(), a[2], nn.ReLU(), a[4]).eval()
    with pytest.raises(pg.SpecMismatchError, match="compute differently"):
        pg.align(a, b, vectors())


@pytest.mark.parametrize("method", merge_method)
def test_merging_a_model_with_itself_gives_it_back_and_the_ends_are_the_parents(method: str) -> None:
    a, b = mlp(), mlp()
    nn.init.normal_(b[0].weight)
    for key, value in pg.merge(a, a, method=method).items():
        torch.testing.assert_close(value, a.state_dict()[key])
    for weight, parent in ((1.0, a), (0.0, b)):
        for key, value in pg.merge(a, b, weight=weight, method=method).items():
            torch.testing.assert_close(value, parent.state_dict()[key], atol=1e-6, rtol=1e-5)


def test_merge_is_as_share_of_a_and_keeps_dtype_and_ties() -> None:
    a, b = mlp().half(), mlp().half()
    a[4].weight = nn.Parameter(a[4].weight.detach())
    nn.init.ones_(a[0].bias)
    nn.init.zeros_(b[0].bias)
    merged = pg.merge(a, b, weight=0.75)
    assert merged["0.bias"].dtype == torch.float16
    torch.testing.assert_close(merged["0.bias"], torch.full((12,), 0.75, dtype=torch.float16))


def test_two_merge_methods_of_one_name_are_an_error() -> None:
    with pytest.raises(ValueError, match="already"):
        merge_method("linear", reference="")(lambda tensors, shares: tensors[0])
