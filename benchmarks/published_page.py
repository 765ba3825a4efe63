"""The barriers that others published for pairs of transformers, quoted for comparison."""

from __future__ import annotations

from collections.abc import Iterator

from table_cells import table

PAIRS = (
    "ViT, CIFAR-10",
    "ViT, CIFAR-100",
    "ViT, Tiny ImageNet",
    "GPT-2, Tiny Shakespeare",
    "GPT-2, BookCorpus",
)
BARRIERS = {
    "plain average": ("1.69 ± 0.07", "2.46 ± 0.04", "2.84 ± 0.02", "2.02 ± 0.12", "4.34 ± 0.09"),
    "activations": ("1.27 ± 0.13", "2.11 ± 0.17", "1.86 ± 0.10", "1.43 ± 0.16", "4.05 ± 0.13"),
    "weights": ("0.36 ± 0.01", "0.69 ± 0.21", "0.47 ± 0.04", "0.34 ± 0.01", "1.56 ± 0.02"),
    "learned, permutations alone": ("0.45 ± 0.02", "0.53 ± 0.07", "0.29 ± 0.02", "0.63 ± 0.17", "1.60 ± 0.04"),
    "learned": ("0.00 ± 0.00", "0.00 ± 0.00", "0.00 ± 0.00", "0.02 ± 0.00", "0.42 ± 0.01"),
}
PUBLISHED = """### Published barriers

Quoted from table 1 of arXiv 2506.22712 (Theus and others, 2025), not measured here. The pairs are other ones: ViTs of
width 256 and 384 and GPT-2s of width 256 and 512, with six to eight layers. The symmetries are written down by hand for
these two architectures, the norms are rewritten as RMS norms, and the alignment is learned on the labelled task.
permgraph derives the symmetries, keeps the architecture, and learns without labels.
"""


def published() -> Iterator[str]:
    """The quoted table: a row for each way of moving B."""
    yield PUBLISHED
    yield table(("barrier", *PAIRS), [[way, *cells] for way, cells in BARRIERS.items()])
