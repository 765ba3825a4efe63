"""What each of two processes of one group does for `test_ranks`: prints one JSON object, and the second dies."""

import json
import os
import sys

import torch
import torch.distributed as dist
from pairs import PLANTED, mlp, vectors

import permgraph as pg


def generated(batches):
    yield from batches


def found():
    """(element, gains) of every case that one process can do too."""
    planted = PLANTED["mlp"]()
    others = [mlp(), planted.b, mlp()]
    cases = {
        "generator": lambda: pg.align(planted.a, planted.b, generated(planted.batches)),
        "one batch": lambda: pg.align(planted.a, planted.b, planted.batches[:1]),
        "all kinds": lambda: pg.align(planted.a, planted.b, planted.batches, kinds="all"),
    }
    results = {name: run() for name, run in cases.items()}
    told = {name: [one.permutations.to_data(), gains(one)] for name, one in results.items()}
    return told | {"many": [[one.to_data() for one in pg.match_many(others, planted.batches)], []]}


def gains(one):
    return [number for gain in one.gains.values() for number in (gain.identity, gain.solution)]


def refused(rank):
    """The words of every error that all processes must raise."""
    planted, batches = PLANTED["mlp"](), vectors()
    bad = [*batches[:3], torch.full((64, 5), torch.nan)]  # the fourth falls to the second process
    other = [batch + rank for batch in batches]
    said = []
    for data in (bad, other):
        try:
            pg.align(planted.a, planted.b, data)
        except pg.PermgraphError as error:
            said.append(f"{type(error).__name__}: {error}")
    return said


def main(rank, place):
    dist.init_process_group("gloo", init_method=f"file://{place}", rank=rank, world_size=2)
    done = {"found": found(), "refused": refused(rank)}
    if rank:
        print(json.dumps(done), flush=True)
        os._exit(3)
    planted = PLANTED["mlp"]()
    try:
        pg.align(planted.a, planted.b, planted.batches)
    except pg.RankError as error:
        done["lost"] = str(error)
    print(json.dumps(done), flush=True)
    os._exit(0)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
