"""How many frames of activations tell units apart."""

import math


def minimum_frames(size: int) -> int:
    """3 + 2 ln n: below it, the best of n unrelated channels is expected to correlate at 0.76 and more by chance.

    As in `advised_frames`, with the largest atanh(r) held at 1. Two frames would make every correlation -1, 0 or 1.
    """
    return 3 + math.ceil(2 * math.log(size))


def advised_frames(size: int) -> int:
    """3 + 8 ln n: the number of frames from which chance no longer looks like a match among `size` channels.

    Between unrelated channels atanh(r) has standard deviation 1 / sqrt(frames - 3) (Fisher), and the largest of n such
    is about sqrt(2 ln n) times that; this number holds it at 1/2. Neighbouring frames of audio are not independent, so
    take more there.
    """
    return 3 + math.ceil(8 * math.log(size))
