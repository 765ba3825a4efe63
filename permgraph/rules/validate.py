"""The operation judges its rule: `python -m permgraph.rules.validate [--op NAME] [--changes] [--samples N]`.

For a small call of every operation, all of its tensors free, the rule claims a group: once of permutations, once with
signs, once with all kinds. *Wrong*: a random element of one of them changes the result. *Missed*: two indices of some
axes change places, the result follows, and the group lacks that; with `--changes`, which takes minutes, also a unit
that changes its sign or scale, and two units that mix. With `--samples` the calls of PyTorch's own database judge too:
so many of each of its entries, -1 for all. The exit status is 1 if any claim is wrong, 2 if --op has no call.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module

from permgraph.errors import PermgraphError
from permgraph.rules.examples import EXAMPLES, RARE, Example
from permgraph.rules.judging.changes import Changes, Missed
from permgraph.rules.judging.one_call import Axis, OneCall, equal
from permgraph.rules.judging.swaps import missed_swaps
from permgraph.rules.op_database import calls, entries
from permgraph.rules.registry import RULES
from permgraph.symmetry.spec import PermutationSpec

STATES = 5  # operands on which a change must hold: with few of them a maximum, say, hides what is smaller
KINDS = ("permutation", "signed", "all")


@dataclass(frozen=True)
class Verdict:
    """What an operation says of its rule.

    Attributes:
        example: the call.
        order: log10 of the order of the group of permutations.
        wrong: (kinds, seed) of the elements that change the result.
        missed: sets of axes whose swap is missed.

    """

    example: Example
    order: float
    wrong: tuple[tuple[str, int], ...]
    missed: tuple[tuple[Axis, ...], ...]


def judge(example: Example, trials: int = 5, *, swaps: bool = True) -> Verdict:
    """Compare the claim of the rule with the operation, and look for swaps that it lacks."""
    call = OneCall(example).eval()
    state = {name: value.detach() for name, value in call.named_parameters()}
    claims = {kinds: _claim(call, kinds) for kinds in KINDS}
    before = call.results(state)
    wrong = []
    for kinds, spec in claims.items():
        for seed in range(trials):
            element = spec.sample(seed)
            expected = spec.apply_outputs(element, before)
            if not equal(expected, call.results(spec.apply(element, state))):
                wrong.append((kinds, seed))
    spec = claims["permutation"]
    missed = tuple(missed_swaps(call, spec, state)) if swaps else ()
    return Verdict(example, spec.log10_order, tuple(wrong), missed)


def missed_changes(example: Example) -> tuple[Missed, ...]:
    """The changes of signs, scales and mixtures that the operation allows, and the claim with all kinds lacks."""
    call = OneCall(example).eval()
    states = [
        {name: value.detach() for name, value in OneCall(example, seed).named_parameters()} for seed in range(STATES)
    ]
    return tuple(Changes(call, _claim(call, "all"), states).missed())


def _claim(call: OneCall, kinds: str) -> PermutationSpec:
    # above this floor: the whole pipeline is needed to turn a rule into a group
    spec: PermutationSpec = import_module("permgraph.symmetry.derivation").derive(
        call, call.inputs, outputs="free", kinds=kinds
    )
    return spec


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a line for each claim that is wrong, then for each freedom that is missed; 1 if any is wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--op", help="one operation, such as aten.linear")
    parser.add_argument("--changes", action="store_true", help="look for missed signs, scales and mixtures too")
    parser.add_argument("--samples", type=int, default=0, metavar="N", help="of PyTorch's database; -1 for all")
    options = parser.parse_args(arguments)
    verdicts = list[Verdict]()
    for example in _examples(options.op, options.samples):
        try:
            verdicts.append(judge(example, 5 if not example.note else 2))
        except PermgraphError as error:
            print(f"unjudged {example}: {error}")
            continue
        if verdicts[-1].wrong:
            elements = ", ".join(f"{kinds} {seed}" for kinds, seed in verdicts[-1].wrong)
            print(f"wrong   {example}: elements {elements} change the result")
    for verdict in verdicts:
        swaps = [", ".join(f"{name}[{dim}]" for name, dim in axes) for axes in verdict.missed]
        changes = missed_changes(verdict.example) if options.changes else ()
        for what in (*swaps, *map(str, changes)):
            print(f"missed  {verdict.example}: {what}")
    judged = {verdict.example.op for verdict in verdicts}
    if options.op is not None and not judged:
        print(f"no call of {options.op} is known: `judge(Example(...))` takes one of your own", file=sys.stderr)
        return 2
    without = sorted(op for op in RULES if op not in judged) if options.op is None else []
    print(f"{len(verdicts)} calls judged; rules without a call: {', '.join(without) or 'none'}", file=sys.stderr)
    return int(any(verdict.wrong for verdict in verdicts))


def _examples(op: str | None, samples: int) -> Iterator[Example]:
    """Our own calls, and so many of each entry of PyTorch's database."""
    yield from (example for example in (*EXAMPLES, *RARE) if op in (None, example.op, example.op.removeprefix("aten.")))
    if samples:
        for entry in entries(op):
            yield from calls(entry, None if samples < 0 else samples)


if __name__ == "__main__":
    sys.exit(main())
