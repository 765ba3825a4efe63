"""`align`: moves B's units to match A's."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from permgraph.cli.asked import matching_of, warn_of_unread, within_memory
from permgraph.cli.options import (
    A,
    B,
    Carry,
    Data,
    Dtype,
    Enlarge,
    Groups,
    HeadsOption,
    Kinds,
    Limit,
    MaxMemory,
    MaxShardSize,
    MethodOption,
    MixOption,
    ModelOption,
    Out,
    Steps,
)
from permgraph.cli.parsing import require_sizes
from permgraph.cli.shared import UsageError
from permgraph.jobs.session import Session

ALIGNED = "The second model, with its units moved to match the first model's. Its function is unchanged."


def align(
    session: Session,
    a: A,
    b: B,
    *,
    out: Out,
    data: Data = None,
    method: MethodOption = None,
    steps: Steps = None,
    mix: MixOption = None,
    groups: Groups = None,
    kinds: Kinds = None,
    limit: Limit = None,
    dtype: Dtype = None,
    max_shard_size: MaxShardSize = None,
    max_memory: MaxMemory = None,
    model: ModelOption = None,
    heads: HeadsOption = None,
    enlarge: Enlarge = False,
    carry: Carry = None,
) -> None:
    """Move B's units to match A's.

    The output computes what B computes, and any tool can merge it with A. If the heads of A and B differ, only the
    base models are matched, and B's own head is moved with its base model.
    """
    require_sizes(dtype, max_shard_size, max_memory)
    if carry and enlarge:
        raise UsageError(
            "--carry moves adapters of B at its own size: leave out --enlarge, or merge the adapter into B first"
        )
    matching = within_memory(session, matching_of(data, method, groups, limit, mix, kinds, heads, steps), max_memory)
    warn_of_unread(session, matching)
    from permgraph.jobs.align import load_and_align
    from permgraph.jobs.carrying import Carried
    from permgraph.jobs.folder import storage_of, tell, write
    from permgraph.jobs.whole import carried
    from permgraph.models.heads import moved_by

    adapters = Carried.read(carry or ())
    aligned = load_and_align(session, a, b, out, replace(matching, enlarge=enlarge, carry=carry or ()), model)
    what = f"{b}, with its units moved to match {a}'s"
    state: Mapping[str, Any]
    if aligned.alignment.kept or aligned.heads.whole:
        found = aligned.alignment
        moved = moved_by(found.spec, found.permutations) | set(found.heads_b or ())
        aligned = replace(aligned, heads=replace(aligned.heads, carried=moved))
    if aligned.alignment.kept:
        state = aligned.alignment.state_of_b
    elif aligned.heads.whole:
        state = aligned.alignment.state_of_b if aligned.borders else aligned.alignment.state_dict
    else:
        aligned, state = carried(session, aligned)
    aligned = replace(aligned, carried=adapters.moved(aligned.apply or aligned.alignment.apply, out))
    storage = storage_of(aligned.models[0], dtype, max_shard_size)
    report = write(session, out, state, aligned, like=aligned.as_written, what=ALIGNED, storage=storage)
    tell(session, out, aligned, report, what)
