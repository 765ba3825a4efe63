"""The public names of permgraph, each said once: `permgraph/__init__.py` imports them from here on first use."""

from permgraph.data.synthetic import synthetic as synthetic
from permgraph.errors import (
    AdapterError as AdapterError,
    CalibrationError as CalibrationError,
    CaptureError as CaptureError,
    CheckpointError as CheckpointError,
    NonFiniteError as NonFiniteError,
    OptionError as OptionError,
    PermgraphError as PermgraphError,
    PermgraphWarning as PermgraphWarning,
    PluginError as PluginError,
    RankError as RankError,
    SpecMismatchError as SpecMismatchError,
    VerificationError as VerificationError,
)
from permgraph.jobs.saving import save as save
from permgraph.learning.fidelity import Fidelity as Fidelity, fidelity as fidelity
from permgraph.learning.heal import heal as heal
from permgraph.matching.align import align as align
from permgraph.matching.alignment import Alignment as Alignment
from permgraph.matching.gains import Gain as Gain
from permgraph.matching.many import Placement as Placement, match_many as match_many
from permgraph.merging.barrier import Barrier as Barrier, barrier as barrier
from permgraph.merging.many import merge_many as merge_many
from permgraph.merging.merge import merge as merge
from permgraph.models.loaded import LoadedModel as LoadedModel
from permgraph.models.loading import load as load
from permgraph.models.two_heads import TwoHeads as TwoHeads
from permgraph.symmetry.derivation.derive import derive as derive
from permgraph.symmetry.derivation.folding import Folded as Folded, fold as fold
from permgraph.symmetry.elements.permutations import PermutationGroup as PermutationGroup, Permutations as Permutations
from permgraph.symmetry.proof.verification import Certificate as Certificate, verify as verify
from permgraph.symmetry.specification.explain import Explanation as Explanation
from permgraph.symmetry.specification.spec import PermutationSpec as PermutationSpec
from permgraph.tracing.forwards import Forwards as Forwards
from permgraph.tracing.results import returning as returning
from permgraph.uses.canonical.canonical import Canonical as Canonical, canonical as canonical
from permgraph.uses.comparison.compare import Comparison as Comparison, compare as compare
from permgraph.uses.comparison.difference import Difference as Difference, diff as diff
from permgraph.uses.enlarging import Enlarged as Enlarged, enlarge as enlarge
from permgraph.uses.shrinking import shrink as shrink

__version__: str
