"""The operation judges its rule: `python -m permgraph.rules.validate [--op NAME] [--changes]`.

For a small call of every operation, all of its tensors free, the rule claims a group: once of permutations, once with
signs, once with all kinds. *Wrong*: a random element of one of them changes the result. *Missed*: two indices of some
axes change places, the result follows, and the group lacks that; with `--changes`, which takes minutes, also a unit
that changes its sign or scale, and two units that mix. The exit status is 1 if any claim is wrong.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module

from torch import Tensor

from permgraph.rules.examples import EXAMPLES, Example
from permgraph.rules.judging.changes import Changes, Missed
from permgraph.rules.judging.one_call import Axis, OneCall, equal
from permgraph.rules.judging.swaps import missed_swaps
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


def judge(example: Example, trials: int = 5) -> Verdict:
    """Compare the claim of the rule with the operation."""
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
    return Verdict(example, spec.log10_order, tuple(wrong), tuple(missed_swaps(call, spec, state)))


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
    options = parser.parse_args(arguments)
    chosen = options.op
    examples = [example for example in EXAMPLES if chosen in (None, example.op, example.op.removeprefix("aten."))]
    verdicts = [judge(example) for example in examples]
    for verdict in verdicts:
        if verdict.wrong:
            elements = ", ".join(f"{kinds} {seed}" for kinds, seed in verdict.wrong)
            print(f"wrong   {_call(verdict.example)}: elements {elements} change the result")
    for verdict in verdicts:
        swaps = [", ".join(f"{name}[{dim}]" for name, dim in axes) for axes in verdict.missed]
        changes = missed_changes(verdict.example) if options.changes else ()
        for what in (*swaps, *map(str, changes)):
            print(f"missed  {_call(verdict.example)}: {what}")
    judged = {example.op for example in EXAMPLES}
    without = sorted(op for op in RULES if op not in judged)
    print(f"{len(verdicts)} calls judged; rules without an example: {', '.join(without) or 'none'}", file=sys.stderr)
    return int(any(verdict.wrong for verdict in verdicts))


def _call(example: Example) -> str:
    shapes = ", ".join(str(list(x.shape) if isinstance(x, Tensor) else list(x)) for x in example.operands)
    return f"{example.op}({shapes})"


if __name__ == "__main__":
    sys.exit(main())
