"""permgraph: derive, prove, match and merge the permutation symmetries of any PyTorch model's weights."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from permgraph.errors import (
    AdapterError,
    CalibrationError,
    CaptureError,
    CheckpointError,
    OptionError,
    PermgraphError,
    PluginError,
    SpecMismatchError,
    VerificationError,
)

if TYPE_CHECKING:
    from permgraph.matching.align import Alignment, align
    from permgraph.matching.many import match_many
    from permgraph.merging.barrier import Barrier, barrier
    from permgraph.merging.many import merge_many
    from permgraph.merging.merge import merge
    from permgraph.models.loading import load
    from permgraph.symmetry.derivation import derive
    from permgraph.symmetry.folding import Folded, fold
    from permgraph.symmetry.permutations import PermutationGroup, Permutations
    from permgraph.symmetry.spec import PermutationSpec
    from permgraph.symmetry.verification import Certificate, verify
    from permgraph.tracing.forwards import Forwards

__version__ = "0.1.0"

_HOMES = {
    "Alignment": "matching.align",
    "Barrier": "merging.barrier",
    "Certificate": "symmetry.verification",
    "Folded": "symmetry.folding",
    "Forwards": "tracing.forwards",
    "PermutationGroup": "symmetry.permutations",
    "PermutationSpec": "symmetry.spec",
    "Permutations": "symmetry.permutations",
    "align": "matching.align",
    "barrier": "merging.barrier",
    "derive": "symmetry.derivation",
    "fold": "symmetry.folding",
    "load": "models.loading",
    "match_many": "matching.many",
    "merge": "merging.merge",
    "merge_many": "merging.many",
    "verify": "symmetry.verification",
}

__all__ = [
    "AdapterError",
    "Alignment",
    "Barrier",
    "CalibrationError",
    "CaptureError",
    "Certificate",
    "CheckpointError",
    "Folded",
    "Forwards",
    "OptionError",
    "PermgraphError",
    "PermutationGroup",
    "PermutationSpec",
    "Permutations",
    "PluginError",
    "SpecMismatchError",
    "VerificationError",
    "align",
    "barrier",
    "derive",
    "fold",
    "load",
    "match_many",
    "merge",
    "merge_many",
    "verify",
]


def __getattr__(name: str) -> Any:
    """Import a public name on first use, so that the command line answers before PyTorch is loaded."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"permgraph.{_HOMES[name]}"), name)
    globals()[name] = value
    return value
