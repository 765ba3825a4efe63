"""What a caller has set in torch changes no result: modes of gradients, autocast, default dtypes and devices."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from pairs import spread
from torch import Tensor, nn

import permgraph as pg

X = [torch.randn(64, 5, generator=torch.Generator().manual_seed(k)) for k in range(12)]
IDS = torch.arange(24).reshape(4, 6) % 11
IMAGES = [torch.randn(16, 3, 8, 8, generator=torch.Generator().manual_seed(k)) for k in range(3)]
MAKERS = {
    "arange", "as_tensor", "empty", "eye", "fftfreq", "full", "linspace", "logspace", "normal", "ones", "rand",
    "randint", "randn", "randperm", "rfftfreq", "scalar_tensor", "tensor", "tril_indices", "triu_indices", "zeros",
}  # fmt: skip
OWN_PROCESS = {"demo", "judging", "rules"}


class Words(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table, self.inner, self.outer = nn.Embedding(11, 8), nn.Linear(8, 16), nn.Linear(16, 8)
        self.norm, self.head = nn.LayerNorm(8), nn.Linear(8, 11, bias=False)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.table(ids)
        found: Tensor = self.head(self.norm(x + self.outer(torch.relu(self.inner(self.norm(x))))))
        return found


class Pixels(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm, self.second = nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.Conv2d(6, 4, 3)
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.head(torch.relu(self.second(torch.relu(self.norm(self.first(x))))).mean((2, 3)))
        return found


@contextmanager
def default(dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


@contextmanager
def deterministic() -> Iterator[None]:
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)


SETTINGS: Mapping[str, Callable[[], AbstractContextManager[Any]]] = {
    "no gradients": torch.no_grad,
    "inference": torch.inference_mode,
    "float64": lambda: default(torch.float64),
    "bfloat16": lambda: default(torch.bfloat16),
    "another device": lambda: torch.device("meta"),
    "deterministic": deterministic,
}


WORDS = spread(Words(), 1), spread(Words(), 2)
PIXELS = spread(Pixels(), 1), spread(Pixels(), 2)
VECTORS = tuple(spread(nn.Sequential(nn.Linear(5, 12), nn.ReLU(), nn.Linear(12, 3)), seed) for seed in (1, 2))


def number(found: float) -> Mapping[str, Tensor]:
    return {"number": torch.tensor(found, dtype=torch.float64, device="cpu")}


def merged(method: str) -> Callable[[], Mapping[str, Tensor]]:
    return lambda: pg.merge(*PIXELS, method=method, data=IMAGES)


JOBS: Mapping[str, Callable[[], Mapping[str, Tensor]]] = {
    "proof": lambda: number(float(pg.verify(PIXELS[0], (IMAGES[0],)).ok)),
    "by weights": lambda: pg.align(*PIXELS, args=(IMAGES[0],)).state_dict,
    "by correlation": lambda: pg.align(*PIXELS, IMAGES).state_dict,
    "by both": lambda: pg.align(*PIXELS, IMAGES, mix=0.5).state_dict,
    "all kinds, by weights": lambda: pg.align(*WORDS, args=(IDS,), kinds="all").state_dict,
    "all kinds, by both": lambda: pg.align(*VECTORS, X, kinds="all", mix=0.5).state_dict,
    "learned": lambda: pg.align(*VECTORS, X, kinds="all", method="learned", steps=10).state_dict,
    "fidelity": lambda: number(pg.fidelity(pg.merge(*PIXELS), *PIXELS, IMAGES).merge),
    "linear+heal": merged("linear+heal"),
    "repair": merged("repair"),
    "regmean": merged("regmean"),
    "noise": lambda: {"x": pg.synthetic(PIXELS, args=(IMAGES[0],), samples=16)[0][0]},
    "texts": lambda: {"ids": pg.synthetic(WORDS, args=(IDS,), samples=16)[0][0]},
    "fold": lambda: pg.fold(WORDS[0], (IDS,)).state_dict,
    "canonical": lambda: pg.canonical(PIXELS[0], (IMAGES[0],)),
}
OFTEN = "proof", "by both", "learned", "fidelity", "repair", "noise", "texts"
EXPECTED: dict[str, Mapping[str, Tensor]] = {}


def expected(job: str) -> Mapping[str, Tensor]:
    if job not in EXPECTED:
        EXPECTED[job] = dict(JOBS[job]())
    return EXPECTED[job]


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("job", [job if job in OFTEN else pytest.param(job, marks=pytest.mark.slow) for job in JOBS])
def test_results_do_not_depend_on_what_a_caller_has_set(job: str, setting: str) -> None:
    plain = expected(job)
    with SETTINGS[setting]():
        found = JOBS[job]()
    for name, tensor in plain.items():
        torch.testing.assert_close(found[name], tensor, rtol=1e-4, atol=1e-5)


def made_anywhere(text: str) -> Iterator[int]:
    """The lines at which tensors are made on the default device, whatever that is."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in MAKERS:
            is_torch = ast.unparse(node.func.value) in ("torch", "torch.fft")
            if is_torch and not any(keyword.arg in ("device", None) for keyword in node.keywords):
                yield node.lineno


def test_every_tensor_is_made_on_a_device_that_is_named() -> None:
    assert [*made_anywhere("torch.zeros(2)\ntorch.ones(2, device='cpu')\ntorch.zeros_like(x)")] == [1]
    package = Path(pg.__file__).parent
    found = [
        f"{path.relative_to(package)}:{line}"
        for path in sorted(package.rglob("*.py"))
        if OWN_PROCESS.isdisjoint(path.parts)
        for line in made_anywhere(path.read_text(encoding="utf-8"))
    ]
    assert found == []
