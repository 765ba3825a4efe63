"""The operation judges its rule: `python -m permgraph.judging [--op NAME] [--changes] [--samples N]`.

A rule claims a group for a small call of its operation, all of whose tensors are free: once of permutations, once with
signs, once with all kinds. *Wrong*: a random element of one of them changes the result. *Missed*: two indices of an
axis can be swapped without a change of the result, and the group lacks that swap; with `--changes`, which takes
minutes, also a unit that can change its sign or scale, and two units that can mix. With `--samples`, the calls of
PyTorch's own database judge too: N of each entry, -1 for all. The exit status is 1 if a claim is wrong, 2 if no call of
the operation is known.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence, Set

from permgraph.errors import PermgraphError
from permgraph.judging.op_database import calls, entries
from permgraph.judging.verdict import Verdict, judge, missed_changes
from permgraph.rules.example import Example
from permgraph.rules.examples import EXAMPLES, OTHER_FORMS, UNJUDGED
from permgraph.rules.installed import installed_rules
from permgraph.rules.registry import GIVEN, RULES


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a line for each claim that is wrong, then for each freedom that is missed; 1 if any is wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--op", help="one operation, such as aten.linear")
    parser.add_argument("--changes", action="store_true", help="look for missed signs, scales and mixtures too")
    parser.add_argument("--samples", type=int, default=0, metavar="N", help="of PyTorch's database; -1 for all")
    options = parser.parse_args(arguments)
    verdicts = [verdict for example in _examples(options.op, options.samples) if (verdict := _judged(example))]
    for verdict in verdicts:
        swaps = [", ".join(f"{name}[{dim}]" for name, dim in axes) for axes in verdict.missed]
        changes = missed_changes(verdict.example) if options.changes else ()
        for what in (*swaps, *map(str, changes)):
            print(f"missed  {verdict.example}: {what}")
    if options.op is not None and not verdicts:
        why = UNJUDGED.get(f"aten.{options.op.removeprefix('aten.')}", "register its rule with example=Example(...)")
        print(f"no call of {options.op} is known: {why}", file=sys.stderr)
        return 2
    if options.op is None:
        _print_unjudged({verdict.example.op for verdict in verdicts})
    print(f"{len(verdicts)} calls judged", file=sys.stderr)
    return int(any(verdict.wrong for verdict in verdicts))


def _print_unjudged(judged: Set[str]) -> None:
    """A line for each operation with a rule that no call judged, with the reason where none can."""
    for op in sorted(RULES.keys() - judged):
        print(f"unjudged {op}: {UNJUDGED.get(op, 'no call of it is known')}", file=sys.stderr)
    print(f"{len(judged & RULES.keys())} of {len(RULES)} operations with a rule judged", file=sys.stderr)


def _judged(example: Example) -> Verdict | None:
    """The verdict, or None if the call cannot be traced; prints a line where it is wrong or None."""
    try:
        verdict = judge(example, 5 if not example.note else 2)
    except PermgraphError as error:
        print(f"unjudged {example}: {error}")
        return None
    if verdict.wrong:
        elements = ", ".join(f"{kinds} {seed}" for kinds, seed in verdict.wrong)
        print(f"wrong   {example}: elements {elements} change the result")
    return verdict


def _examples(op: str | None, samples: int) -> Iterator[Example]:
    """The calls in the tables, those that rules were registered with, and `samples` of each entry of the database."""
    installed_rules()  # registers those of other packages
    known = (*EXAMPLES, *OTHER_FORMS, *(example for given in GIVEN.values() for example in given))
    yield from (example for example in known if op in (None, example.op, example.op.removeprefix("aten.")))
    if samples:
        for entry in entries(op):
            yield from calls(entry, None if samples < 0 else samples)


if __name__ == "__main__":
    sys.exit(main())
