"""How an operation judges what its rule claims, and what the rule misses: `python -m permgraph.judging`."""

from permgraph.judging.verdict import Verdict, judge
from permgraph.rules.example import Example

__all__ = ["Example", "Verdict", "judge"]
