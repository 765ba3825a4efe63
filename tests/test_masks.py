"""Buffers with infinities: masks that attention adds to its scores."""

import copy
import math

import pytest
import torch
from commands import run
from safetensors.torch import load_file
from torch import Tensor, nn

import permgraph as pg

X = torch.randn(2, 6, 16, generator=torch.Generator().manual_seed(0))


class Masked(nn.Module):
    """Attention whose mask is part of its state dict."""

    def __init__(self, seed: int = 0, mask: Tensor | None = None) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.qkv, self.out = nn.Linear(16, 48), nn.Linear(16, 16)
        self.register_buffer("mask", torch.full((6, 6), -math.inf).triu(1) if mask is None else mask)

    def forward(self, x: Tensor) -> Tensor:
        """Causal attention of four heads."""
        q, k, v = (part.view(*x.shape[:-1], 4, 4).transpose(1, 2) for part in self.qkv(x).chunk(3, -1))
        scores = q @ k.mT / 2 + self.mask
        return self.out((scores.softmax(-1) @ v).transpose(1, 2).flatten(2))


def model():
    return Masked().eval(), (X,), {}


def planted(a: nn.Module, kinds: str) -> nn.Module:
    b = copy.deepcopy(a)
    spec = pg.derive(a, X, kinds=kinds)
    b.load_state_dict(spec.apply(spec.sample(2), a.state_dict()))
    return b


@pytest.mark.parametrize("kinds", ["permutation", "all"])
def test_a_mask_is_kept_from_a(kinds: str) -> None:
    a = Masked().eval()
    alignment = pg.align(a, planted(a, kinds), args=(X,), kinds=kinds)
    for method in ("linear", "slerp"):
        for weight in (0.0, 0.5, 1.0):
            merged = pg.merge(a, planted(a, kinds), alignment=alignment, weight=weight, method=method)
            assert torch.equal(merged["mask"], a.mask)
            assert torch.allclose(merged["out.weight"], alignment.reference["out.weight"], atol=1e-4)


def test_masks_in_all_other_uses() -> None:
    a, b = Masked().eval(), Masked(1).eval()
    assert pg.compare(a, b, args=(X,)).verdict == "independent"
    assert torch.equal(pg.canonical(a, X)["mask"], a.mask)
    assert torch.equal(pg.merge_many([a, b], pg.match_many([a, b], args=(X,)))["mask"], a.mask)
    assert torch.equal(pg.fold(a, X).state_dict["mask"], a.mask)


def test_files_with_masks_are_merged(tmp_path, monkeypatch) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "masked_models.py").write_text("from test_masks import model\n")
    for seed in (0, 1):
        torch.save(Masked(seed).half().state_dict(), tmp_path / f"{seed}.pt")
    run(
        "merge", tmp_path / "0.pt", tmp_path / "1.pt", "--model", "python:masked_models:model", "--out",
        tmp_path / "out",
    )  # fmt: skip
    merged = load_file(tmp_path / "out" / "model.safetensors")
    assert merged["mask"].dtype == torch.float16
    assert torch.equal(merged["mask"].float(), Masked().mask)


ABOVE = torch.full((6, 6), math.inf).triu(1)
DISTANCES = torch.arange(6)[None] - torch.arange(6)[:, None]
BIAS_BY_HEAD = DISTANCES * torch.tensor([1.0, 0.5, 0.25, 0.125])[:, None, None] - ABOVE


@pytest.mark.parametrize("kinds", ["permutation", "all"])
def test_a_bias_by_head_moves_with_its_head(kinds: str) -> None:
    a = Masked(0, BIAS_BY_HEAD).eval()
    b = planted(a, kinds)
    assert not torch.equal(a.mask, b.mask)
    assert pg.verify(a, X, spec=pg.derive(a, X, kinds=kinds))
    alignment = pg.align(a, b, args=(X,), kinds=kinds)
    assert torch.equal(pg.merge(a, b, alignment=alignment)["mask"], a.mask)
    assert pg.compare(a, b, args=(X,), kinds=kinds).verdict == "same"
    assert torch.equal(pg.canonical(a, X)["mask"], pg.canonical(b, X)["mask"])


SCATTERED = torch.randn(6, 6, generator=torch.Generator().manual_seed(2)).index_fill(1, torch.tensor([2]), math.inf)
REFUSED = {
    "masks that differ": (torch.full((6, 6), -math.inf).triu(2), "mask: a mask with infinities, in which model A and"),
    "weights that diverged": (SCATTERED, "NaN or infinite: mask"),
    "NaN": (torch.full((6, 6), math.nan), "NaN or infinite: mask"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_has_no_average_is_refused(name: str) -> None:
    mask, why = REFUSED[name]
    with pytest.raises(pg.NonFiniteError, match=why):
        pg.align(Masked().eval(), Masked(1, mask).eval(), args=(X,))


def test_a_mask_that_a_group_moves_is_refused() -> None:
    of_heads = torch.zeros(4, 1, 1).expand(4, 6, 6).clone()
    of_heads[1] = -math.inf
    a, b = (Masked(seed, of_heads + torch.zeros(6, 6).tril()).eval() for seed in (0, 1))
    with pytest.raises(pg.NonFiniteError, match=r"mask: a mask with infinities, which heads would move"):
        pg.align(a, b, args=(X,))
