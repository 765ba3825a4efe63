"""PLeaS: the matrix that makes the mean of both parents' outputs from the mean of their inputs."""

from torch import Tensor

from permgraph.comparing.second_moments import SecondMoments
from permgraph.merging.least_squares import solve
from permgraph.merging.registry import layer_method


@layer_method("pleas", reference="arXiv 2407.02447")
def pleas(moments: SecondMoments, a: Tensor, b: Tensor, share: float) -> Tensor:
    """The W of least Σ |W x̄ - ȳ|² over frames; x̄ = share · x_A + (1 - share) · x_B, and ȳ so of A x_A and B x_B.

    Where the parents' units do not agree, a mean of inputs varies less than each, and interpolated weights make
    outputs that vary less still; this W makes up for it in every layer. Held near the interpolated matrix where the
    inputs leave W free, as in `least_squares.solve`.
    """
    rest = 1 - share
    cross = share * rest * moments.ab
    moment = share**2 * moments.a + rest**2 * moments.b + cross + cross.transpose(1, 2)
    target = share**2 * a @ moments.a + rest**2 * b @ moments.b + a @ cross + b @ cross.transpose(1, 2)
    return solve(moment, target, share * a + rest * b)
