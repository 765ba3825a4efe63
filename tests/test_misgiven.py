"""What is given in place of a model, its inputs or its data is named as what it is, with what to give instead."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset
from transformers import DynamicCache

import permgraph as pg
from permgraph.arguments import CHECKS

X = torch.randn(4, 5)


def mlp() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 3)).eval()


def lazy() -> nn.Module:
    return nn.Sequential(nn.LazyLinear(8), nn.ReLU()).eval()


def shapes_alone() -> nn.Module:
    with torch.device("meta"):
        return mlp()


def quantized() -> nn.Module:
    return nn.Sequential(nn.Linear(5, 8), Packed()).eval()


class Packed(nn.Identity):
    __module__ = "torch.ao.nn.quantized.dynamic"


def labelled() -> Any:
    return DataLoader(TensorDataset(torch.randn(64, 5), torch.zeros(64)), 32)


SPEC = pg.derive(mlp(), (X,))
STATE = mlp().state_dict()
WRONG: dict[str, tuple[Callable[[], Any], type[pg.PermgraphError], str]] = {
    "no inputs": (lambda: pg.align(mlp(), mlp()), pg.CaptureError, "no inputs are given .*args= or kwargs=, or data"),
    "no inputs for many": (lambda: pg.match_many([mlp(), mlp()]), pg.CaptureError, "no inputs are given"),
    "labels in batches": (
        lambda: pg.align(mlp(), mlp(), labelled()), pg.CaptureError,
        r"2 inputs are given, and do not fit .*of batches like \(inputs, labels\) the inputs; its forward",
    ),
    "another width": (
        lambda: pg.align(mlp(), mlp(), [torch.randn(8, 7)]), pg.CaptureError,
        r"fails on these inputs itself, .*They are \(8, 7\) float32: give inputs, or batches of data, that it takes",
    ),
    "an array": (lambda: pg.derive(mlp(), X.numpy()), pg.CaptureError, r"not a ndarray: .*torch\.from_numpy"),
    "keywords as arguments": (lambda: pg.derive(mlp(), {"input": X}), pg.CaptureError, "not a dict: .*in kwargs="),
    "a loss without a number": (
        lambda: pg.barrier(mlp(), mlp(), lambda model: None), pg.OptionError,  # type: ignore[arg-type, return-value]
        r"returned a NoneType that is no number .*: return its loss, or \(loss, accuracy\)",
    ),
    "nothing of tensors": (
        lambda: pg.derive(mlp(), ("text",)), pg.CaptureError, "fails on these inputs itself.*They are no tensors",
    ),
    "whole numbers": (
        lambda: pg.align(mlp(), mlp(), [torch.randint(0, 3, (64, 5))]), pg.PermgraphError, r"\(64, 5\) .*int64",
    ),
    "other dtypes on data": (
        lambda: pg.align(mlp(), mlp().double(), [torch.randn(64, 5)]), pg.SpecMismatchError,
        r"model A is float32 and model B float64.*model\.float\(\)",
    ),
    "a state dict": (
        lambda: pg.align(mlp().state_dict(), mlp(), args=(X,)), pg.CaptureError,  # type: ignore[arg-type]
        "not OrderedDict; load it into its model",
    ),
    "a folder": (lambda: pg.align("a", "b"), pg.CaptureError, r"not str; give pg\.load\(folder\)"),  # type: ignore[type-var]
    "lazy modules": (lambda: pg.align(lazy(), lazy(), args=(X,)), pg.CaptureError, "no shape yet for .*call it once"),
    "no weights": (
        lambda: pg.align(shapes_alone(), mlp(), args=(X,)), pg.CaptureError, "model A has no weights, only shapes",
    ),
    "TorchScript": (
        lambda: pg.derive(torch.jit.script(mlp()), (X,)), pg.CaptureError, "compiled by TorchScript: give the Python",
    ),
    "one number as data": (
        lambda: pg.align(mlp(), mlp(), 5), pg.CalibrationError, "data is an iterable of batches, not int",  # type: ignore[arg-type]
    ),
    "a number as a model": (lambda: pg.load(5), pg.CheckpointError, "by a path or a text, not by int"),  # type: ignore[arg-type]
    "ties of names": (
        lambda: pg.derive(mlp(), (X,), tie={"0.bias": "2.bias"}), pg.OptionError,  # type: ignore[dict-item]
        r"a tie is \{\(parameter, dim\): \(parameter, dim\)\}, not '0.bias' and '2.bias'",
    ),
    "a dimension by name": (
        lambda: pg.derive(mlp(), (X,)).explain(("0.bias", "rows")), pg.SpecMismatchError, "an axis is a tuple",  # type: ignore[arg-type]
    ),
    "a seed by name": (
        lambda: pg.derive(mlp(), (X,)).sample("first"), pg.OptionError, "a seed is a whole number from 0 up",  # type: ignore[arg-type]
    ),
    "a list as an element": (
        lambda: pg.derive(mlp(), (X,)).invert([0]), pg.SpecMismatchError, "an element is a mapping .*, not list",  # type: ignore[arg-type]
    ),
    "groups by number": (
        lambda: pg.derive(mlp(), (X,)).invert({3: 4}), pg.SpecMismatchError, "the specification lacks: 3",  # type: ignore[dict-item]
    ),
    "one share for many": (
        lambda: pg.merge_many([mlp()] * 2, [{}, {}], weights=1, spec=SPEC), pg.OptionError, "2 shares .*, not 1",  # type: ignore[arg-type]
    ),
    "a place beyond all": (
        lambda: SPEC.reorder(STATE, SPEC.groups[0], [10**30] * 8), pg.SpecMismatchError, "an order is a function",
    ),
    "quantized parts": (lambda: pg.derive(quantized(), (X,)), pg.CaptureError, "1 is quantized: give the model"),
}  # fmt: skip


TYPED: tuple[tuple[Callable[..., Any], tuple[Any, ...]], ...] = (
    (pg.derive, (mlp(), (X,))),
    (pg.verify, (mlp(), (X,))),
    (pg.align, (mlp(), mlp())),
    (pg.match_many, ([mlp(), mlp()],)),
    (pg.merge, (mlp(), mlp())),
    (pg.merge_many, ([mlp(), mlp()], [{}, {}])),
    (pg.barrier, (mlp(), mlp(), float)),
    (pg.fold, (mlp(), (X,))),
    (pg.heal, (STATE, mlp(), mlp(), [X])),
    (pg.compare, (mlp(), mlp())),
    (pg.canonical, (mlp(), (X,))),
    (pg.shrink, (mlp(), (X,))),
    (pg.save, ("folder", STATE, mlp())),
    (SPEC.apply, ({}, STATE)),
    (SPEC.augment, (STATE,)),
    (SPEC.reorder, (STATE, "hidden", [0])),
    (SPEC.units, ("hidden",)),
)


@pytest.mark.parametrize("function", TYPED, ids=lambda given: given[0].__name__)
def test_arguments_of_the_wrong_type_are_named(function: tuple[Callable[..., Any], tuple[Any, ...]]) -> None:
    call, args = function
    parameters = inspect.signature(call).parameters
    names = [name for name in parameters if name in CHECKS]
    for name in names:
        before = args[: list(parameters).index(name)]
        with pytest.raises(pg.OptionError, match=f"^{name} is .*, not <object object"):
            call(*before, **{name: object()})
    assert names


@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch.*")
@pytest.mark.parametrize("name", WRONG)
def test_what_is_misgiven_is_named(name: str) -> None:
    call, error, message = WRONG[name]
    with pytest.raises(error, match=message):
        call()


@dataclasses.dataclass
class Inner:
    b: Tensor


@dataclasses.dataclass
class Out:
    a: Tensor
    inner: Inner


@dataclasses.dataclass
class In:
    x: Tensor


class Structured(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.up, self.out = nn.Linear(5, 8), nn.Linear(8, 3)

    def forward(self, given: In) -> Out:
        h = self.out(self.up(given.x).relu())
        return Out(h, Inner(h.exp()))


def test_plain_dataclasses_go_in_and_come_out() -> None:
    model = Structured().eval()
    spec = pg.derive(model, (In(X),))
    assert [group.size for group in spec.groups] == [8]
    assert [name for name, _ in spec.output_layouts] == [".a", ".inner.b"]
    assert spec.inputs == (("args[0].x", (4, 5)),)
    assert pg.verify(model, (In(X),))


def test_a_model_that_fails_by_itself_says_what_it_raised() -> None:
    class Broken(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            raise ZeroDivisionError("no luck")

    with pytest.raises(pg.CaptureError, match="fails on these inputs itself, without being traced: ZeroDivisionError"):
        pg.derive(Broken().eval(), (X,))


class Caching(nn.Module):
    """Returns a cache beside its result, as models that generate do whatever their config says."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(5, 8), nn.Linear(8, 3)

    def forward(self, input):
        """The result and what the next token would read."""
        h = self.first(input).relu()
        cache = DynamicCache()
        cache.update(h[:, None, None], h[:, None, None], 0)
        return {"logits": self.last(h), "cache": cache}


def test_a_cache_in_the_output_is_no_result() -> None:
    model = Caching().eval()
    spec = pg.derive(model, X)
    assert [group.size for group in spec.groups] == [8]
    assert pg.verify(model, X, spec=spec)
    moved = spec.apply_outputs(spec.sample(0), model(X))
    assert isinstance(moved["cache"], DynamicCache)
    assert "forward" not in vars(model)


A_TENSOR_ALONE: dict[str, Callable[[nn.Module, nn.Module], Any]] = {
    "align": lambda a, b: pg.align(a, b, args=X).certificate.ok,
    "align with heads": lambda a, b: pg.align(a, nn.Sequential(*b[:2], nn.Linear(8, 4)).eval(), args=X, heads="first"),
    "match_many": lambda a, b: pg.match_many([a, b], args=X),
    "compare": lambda a, b: pg.compare(a, b, args=X).verdict,
    "diff": lambda a, b: pg.diff(a, b, args=X) == {},
    "canonical": lambda a, b: pg.canonical(a, X),
    "fold": lambda a, b: pg.fold(a, X).state_dict,
}


@pytest.mark.parametrize("name", A_TENSOR_ALONE)
def test_a_tensor_alone_is_the_one_argument(name: str) -> None:
    assert A_TENSOR_ALONE[name](mlp(), mlp())


def test_a_loss_and_an_accuracy_may_come_in_a_list() -> None:
    found = pg.barrier(mlp(), mlp(), lambda model: [1.0, 0.5], weights=3)  # type: ignore[arg-type, return-value]
    assert found.accuracies == (0.5, 0.5, 0.5)
