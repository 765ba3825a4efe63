"""Everything computed for models on a GPU is computed there, as far as a GPU that is not there can tell."""

import copy
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from elsewhere import GPU, Gpu, OnGpu, held, on_gpu
from pairs import mlp, vectors
from torch import nn

import permgraph as pg
from permgraph.comparing.moments import CrossMoments
from permgraph.errors import SpecMismatchError
from permgraph.symmetry.proof import power
from permgraph.tracing import capture


def images() -> list[torch.Tensor]:
    return [batch.reshape(16, 1, 4, 5) for batch in vectors()]


def conv() -> nn.Module:
    torch.manual_seed(0)
    layers = (nn.Conv2d(1, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 4, 1), nn.Flatten())
    return nn.Sequential(*layers, nn.Linear(80, 3)).eval()


MODELS = {"mlp": (mlp, vectors), "conv": (conv, images)}


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Constructors know the GPU; a model on it is traced as its copy on the CPU."""
    real = capture.export

    def traced(model: nn.Module, args: Any, kwargs: Any) -> Any:
        twin = copy.deepcopy(model)
        for module in twin.modules():
            for name, tensor in [*module._parameters.items(), *module._buffers.items()]:
                if isinstance(tensor, OnGpu):
                    kept = module._parameters if name in module._parameters else module._buffers
                    kept[name] = nn.Parameter(tensor.held) if kept is module._parameters else tensor.held
        return real(twin, held(args), held(kwargs))

    def no_derivative(*args: Any) -> None:
        raise RuntimeError("torch differentiates on no device that it has no driver for")

    monkeypatch.setattr(capture, "export", traced)
    monkeypatch.setattr(power, "gradients", no_derivative)
    monkeypatch.setattr(torch.cuda, "_lazy_init", lambda: None)
    with Gpu():
        yield


def pair(name: str) -> tuple[nn.Module, nn.Module, list[torch.Tensor]]:
    """Two models on the GPU, and data on the CPU."""
    build, data = MODELS[name]
    a, b = build(), build()
    with torch.no_grad():
        for parameter in b.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return on_gpu(a), on_gpu(b), data()


def on_cpu(model: nn.Module) -> nn.Module:
    """The same model on the CPU."""
    twin = mlp()
    twin.load_state_dict({name: held(tensor) for name, tensor in model.state_dict().items()})
    return twin


def there(state: dict[str, torch.Tensor]) -> bool:
    return all(tensor.device == GPU for tensor in state.values())


@pytest.mark.parametrize("name", MODELS)
def test_proof_and_alignment(gpu: None, name: str) -> None:
    a, b, data = pair(name)
    assert pg.verify(a, (data[0],), trials=1).ok
    for options in ({"data": data}, {"args": (data[0],)}, {"data": data, "mix": 0.5}):
        aligned = pg.align(a, b, **options)
        assert aligned.certificate.ok
        assert there(aligned.state_dict)


def test_activations_are_multiplied_where_the_models_are(gpu: None, monkeypatch: pytest.MonkeyPatch) -> None:
    multiplied, products = set(), CrossMoments._products

    def watched(self: CrossMoments, a: torch.Tensor, b: torch.Tensor, out: torch.Tensor) -> torch.Tensor:
        multiplied.add((a.device, b.device))
        return products(self, a, b, out)

    monkeypatch.setattr(CrossMoments, "_products", watched)
    a, b, data = pair("mlp")
    found = pg.align(a, b, data)
    assert multiplied == {(GPU, GPU)}
    multiplied.clear()
    alone = pg.align(*(on_cpu(model) for model in (a, b)), data)
    assert {one.type for pair in multiplied for one in pair} == {"cpu"}
    assert found.permutations == alone.permutations


METHODS = ("linear", "slerp", "regmean", "pleas", "linear+repair", "linear+refit", "linear+batch_norm")


@pytest.mark.parametrize("method", METHODS)
def test_merges(gpu: None, method: str) -> None:
    a, b, data = pair("conv")
    aligned = pg.align(a, b, data)
    first = aligned.spec.groups[0].name
    for weight in (0.5, {first: 0.25, "default": 0.75}):
        assert there(pg.merge(a, b, alignment=aligned, weight=weight, method=method, data=data))


def test_many_models(gpu: None) -> None:
    models = [pair("mlp")[k] for k in (0, 1, 1)]
    found = pg.match_many(models, vectors())
    assert there(pg.merge_many(models, found))


def test_a_barrier(gpu: None) -> None:
    a, b, (x, *_) = pair("mlp")
    x = x.to(GPU)

    def loss(model: nn.Module) -> float:
        return model(x).square().mean().item()

    assert len(pg.barrier(a, b, loss, weights=3).losses) == 3


def test_models_on_two_devices_are_refused(gpu: None) -> None:
    a, b, data = pair("mlp")
    calls: list[Callable[[], Any]] = [
        lambda: pg.align(a, mlp(), data),
        lambda: pg.merge(a, mlp(), method="regmean", data=data),
        lambda: pg.match_many([a, b, mlp()], data),
    ]
    for call in calls:
        with pytest.raises(SpecMismatchError, match=r"on cuda:0 and .* on cpu: move them to one device"):
            call()
