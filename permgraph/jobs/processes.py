"""One command in several processes, as torchrun starts them: each collects its share, only the first writes."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta

from permgraph.errors import RankError
from permgraph.jobs.session import Session
from permgraph.wording import reason

PATIENCE = timedelta(hours=12)
"""How long a process waits for another that is alive: one may read much slower data."""


def rank_of_torchrun() -> int:
    """The rank of this process among those that torchrun started; 0 without torchrun."""
    return int(os.environ["RANK"]) if "TORCHELASTIC_RUN_ID" in os.environ else 0


@contextmanager
def joined(session: Session, *, shares: bool) -> Iterator[Session]:
    """The processes that torchrun started as one group, on GPU number LOCAL_RANK each where the device is `cuda`.

    Unless the job `shares` work, the first process does it all and the others exit here.
    Raises RankError if a process does not join.
    """
    count = int(os.environ["WORLD_SIZE"]) if "TORCHELASTIC_RUN_ID" in os.environ else 1
    if count > 1 and shares:
        import torch
        import torch.distributed as dist

        if session.device == "cuda":
            session = replace(session, device=f"cuda:{os.environ['LOCAL_RANK']}")
            torch.cuda.set_device(session.device)
        try:
            dist.init_process_group("gloo" if session.device == "cpu" else "cpu:gloo,cuda:nccl", timeout=PATIENCE)
        except RuntimeError as error:
            raise RankError(f"the processes cannot be joined to a group: {reason(error)}") from error
        try:
            yield session
        finally:
            dist.destroy_process_group()
    elif session.rank == 0:
        if count > 1:
            session.warn("matching without activations is done by one process: the others have ended")
        yield session
    if session.rank:
        sys.exit()
