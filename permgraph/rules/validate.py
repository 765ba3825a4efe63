"""The former name of `permgraph.judging`; it warns, and is removed in the next version."""

import sys
import warnings

from permgraph.judging import Example, Verdict, judge
from permgraph.judging.__main__ import main

__all__ = ["Example", "Verdict", "judge", "main"]

warnings.warn("permgraph.rules.validate is now called permgraph.judging", FutureWarning, stacklevel=2)

if __name__ == "__main__":
    sys.exit(main())
