"""RegMean: the matrix that reproduces both parents' outputs, each on its own inputs."""

from torch import Tensor

from permgraph.comparing.second_moments import SecondMoments
from permgraph.merging.least_squares import solve
from permgraph.merging.registry import layer_method


@layer_method("regmean", reference="arXiv 2212.09849")
def regmean(moments: SecondMoments, a: Tensor, b: Tensor, share: float) -> Tensor:
    """The W of least share · Σ |W x_A - A x_A|² + (1 - share) · Σ |W x_B - B x_B|² over the frames of each model.

    W = (share G_A + (1 - share) G_B)⁻¹ (share G_A A + (1 - share) G_B B) with G = Σ x xᵀ, held near the
    interpolated matrix where the inputs leave W free, as in `least_squares.solve`; the paper shrinks G's off-diagonals
    to the same end.
    """
    rest = 1 - share
    target = share * a @ moments.a + rest * b @ moments.b
    return solve(share * moments.a + rest * moments.b, target, share * a + rest * b)
