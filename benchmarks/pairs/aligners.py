"""Ways to move B to A: each is given both models and data, and returns B moved."""

from __future__ import annotations

import copy
import multiprocessing
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from multiprocessing.connection import Connection
from typing import Any

import torch
from torch import Tensor, nn

import permgraph as pg
from permgraph.matching.weights.coordinate_descent import Descent
from permgraph.matching.weights.objective import Pairing

TIMEOUT = 120  # seconds for a peer
Batches = Sequence[Tensor]
Aligner = Callable[[nn.Module, nn.Module, Batches], nn.Module]


class PeerError(Exception):
    """A peer that gave no permutation, and why."""


def loaded(model: nn.Module, state: Mapping[str, Tensor]) -> nn.Module:
    """A copy of a model with these weights."""
    other = copy.deepcopy(model)
    other.load_state_dict(state)
    return other.eval()


def unmoved(a: nn.Module, b: nn.Module, batches: Batches) -> nn.Module:
    """B unmoved."""
    return b


def descent(a: nn.Module, b: nn.Module, batches: Batches) -> nn.Module:
    """Git Re-Basin's weight matching (arXiv 2209.04836): coordinate descent from the identity, over our groups."""
    spec = pg.derive(a, (batches[0][:2],))
    state = b.state_dict()
    tables = Descent.of(Pairing.of(spec, spec.groups, a.state_dict(), state)).run(spec.identity()).tables
    return loaded(b, spec.apply({**spec.identity(), **tables}, state))


def ours(a: nn.Module, b: nn.Module, batches: Batches, *, mix: float) -> nn.Module:
    """`align` over all groups; `mix` is the share of activations: 0 is by weights, 1 by correlation."""
    found = pg.align(a, b, batches if mix else None, args=(batches[0][:2],), mix=mix)
    return loaded(b, found.state_dict)


def rebasin(a: nn.Module, b: nn.Module, batches: Batches) -> nn.Module:
    """rebasin 0.0.47 with its own groups, in a process of its own. PeerError where it crashes or takes too long."""
    context = multiprocessing.get_context("fork")
    mine, other = context.Pipe()
    process = context.Process(target=_rebase, args=(a, b, batches[0][:2], other), daemon=True)
    process.start()
    other.close()
    try:
        if not mine.poll(TIMEOUT):
            raise PeerError(f"no answer in {TIMEOUT} s")
        answer = mine.recv()
    except EOFError:
        raise PeerError("the process died") from None
    finally:
        process.kill()
        process.join()
    if isinstance(answer, str):
        raise PeerError(answer)
    return loaded(b, {name: torch.from_numpy(value) for name, value in answer.items()})


def _rebase(a: nn.Module, b: nn.Module, x: Tensor, pipe: Connection) -> None:
    try:
        from rebasin import PermutationCoordinateDescent

        moved = copy.deepcopy(b)
        with torch.no_grad():
            found = PermutationCoordinateDescent(a, moved, x)
            found.rebasin()
        pipe.send({name: tensor.detach().numpy() for name, tensor in moved.state_dict().items()})
    except Exception as error:
        pipe.send(f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:120]}")


PEERS = ("plain average", "descent from the identity", "rebasin")


def aligners(peers: str) -> dict[str, Aligner]:
    """All that can run here; `peers` is the folder that rebasin is installed in, or empty."""
    found: dict[str, Aligner] = {"plain average": unmoved, "descent from the identity": descent}
    if peers:
        sys.path.append(peers)
        found["rebasin"] = rebasin
    for name, mix in {"correlation": 1.0, "weights": 0.0, "mix": 0.5}.items():
        found[name] = partial(ours, mix=mix)
    return found


def function_error(moved: nn.Module, b: nn.Module, x: Any) -> float:
    """The largest difference of outputs, relative to the largest output."""
    with torch.no_grad():
        wanted, got = b(x).double(), moved(x).double()
    return ((wanted - got).abs().max() / wanted.abs().max()).item()
