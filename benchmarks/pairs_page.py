"""The page of same-task pairs: the verdict for each pair, and all ways and merges of each architecture."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from kinds_page import beyond, learned_barriers, narrow
from limits_page import limits
from objectives_page import objectives
from pair_means import NAMES, PEERS, WITHOUT_DATA, Row, mean_of, order_of, shown
from table_cells import DASH, seconds, table

PAIRS = """# Two models of one task

    nice python -m benchmarks.pairs.train                  # three models of each architecture, from different seeds
    pip install --no-deps --target DIR rebasin==0.0.47 torchview graphviz
    nice python -m benchmarks.pairs.measure --peers DIR    # measures
    python benchmarks/tables.py                            # writes this page

{finding}
[Which method to use when](how-to-choose.md) says what follows; here is what was measured.

The *barrier* is the loss of the merge half way minus the mean loss of the two models (0 if it is negative), on {test}
held-out images, or {text} texts of 64 characters; the *accuracy* is also half way (of the next character, for GPT-2).
Figures are means over the pairs of three models, with half of the 95 % interval if all three pairs were measured
(jackknife over models, which accounts for pairs that share one; it is wide, with three). Methods that need data use
{calibration} images, or {texts} texts, of the training set, without labels.

*Descent from the identity* is Git Re-Basin's weight matching over permgraph's groups; rebasin 0.0.47 has its own
groups. *Repair*, *regmean*, *pleas* and *refit* are permgraph's, also for another tool's alignment or none. *Function
changed*: by how much moving B changed its outputs, relative; a tool that changes them merges A with a different model.
*Similarity*: the cosine of all weights of A and the moved B. torch {torch}.
"""


def pairs_page(
    pairs: dict[str, Any], curves: dict[str, Any], kinds: dict[str, Any], others: dict[str, list[Row]]
) -> Iterator[str]:
    """A section for each architecture, and a verdict."""
    settings = next(iter(pairs.values()))
    texts = {key: settings[name] // settings["text"] for key, name in (("text", "test"), ("texts", "calibration"))}
    finding = "Transformers in all kinds, learned. " + "\n".join(learned_barriers(narrow(kinds))) if kinds else ""
    yield PAIRS.format(**{**settings, **texts, "finding": finding})
    if kinds:
        yield from beyond(kinds, others["step_cost"], limits(others["limits"]) if others["limits"] else ())
    if others["objectives"]:
        yield from objectives(others["objectives"])
    yield "## With permutations alone, is our best barrier at or below every other tool's?\n"
    yield VERDICT
    head = (
        "pair",
        "ours, no data",
        "ours, with data",
        "best peer",
        "which",
        "with our merging",
        "outcome",
    )
    verdicts = [_verdict(name, pair, data["rows"]) for name, data in pairs.items() for pair in _pairs(data)]
    yield table(head, verdicts)
    yield _counted(verdicts)
    for name, data in pairs.items():
        yield f"## {NAMES[name]}\n"
        yield from _architecture(data["rows"])
        if name in curves:
            yield f"![Loss and accuracy along the way between the first two models](pictures/pairs_{name}.svg)\n"


VERDICT = """The barrier of each pair; lower is better. *Ours, no data*: weight matching and the linear merge. *Ours,
with data*: the best of our matchers and merges. *Best peer*: the lowest linear merge after plain average, descent and
rebasin. *With our merging*: the lowest over the same alignments with permgraph's merges.
"""


def _pairs(data: dict[str, Any]) -> list[list[int]]:
    return [list(pair) for pair in sorted({tuple(row["pair"]) for row in data["rows"]})]


def _verdict(name: str, pair: list[int], rows: Sequence[Row]) -> list[str]:
    here = [row for row in rows if row["pair"] == pair and "height" in row]
    ours = [row for row in here if row["aligned"] not in PEERS]
    peers = [row for row in here if row["aligned"] in PEERS]
    plain = min((row for row in peers if row["merged"] == WITHOUT_DATA), key=lambda row: row["height"])
    no_data = min(row["height"] for row in ours if row["aligned"] == "weights" and row["merged"] == WITHOUT_DATA)
    best = min(row["height"] for row in ours)
    lent = min(row["height"] for row in peers)
    outcome = "at or below" if best <= plain["height"] else "**above**"
    if best > lent:
        outcome += ", above it with our merging"
    cells = [f"{value:.3f}" for value in (no_data, best, plain["height"])]
    return [f"{name} {pair[0]}, {pair[1]}", *cells, plain["aligned"], f"{lent:.3f}", outcome]


def _counted(verdicts: Sequence[Sequence[str]]) -> str:
    """In how many pairs ours is at or below, with and without data, and with our merges for all alignments."""
    rows = [[float(cell) for cell in (*line[1:4], line[5])] for line in verdicts]
    counts = [sum(row[mine] <= row[theirs] for row in rows) for mine, theirs in ((0, 2), (1, 2), (1, 3))]
    above = [line[0] for line, row in zip(verdicts, rows, strict=True) if row[0] > row[2]]
    text = (
        f"Of {len(rows)} pairs ours is at or below every peer in {counts[0]} without data, in {counts[1]} with data, "
        f"and in {counts[2]} where the peers are merged as ours are.\n"
    )
    if above:
        text += (
            f"\nWithout data it is above for {'; '.join(above)}. Weight matching looks for the largest *similarity* "
            "(below), and finds more of it than descent does; the loss half way is another thing.\n"
        )
    return text


def _architecture(rows: Sequence[Row]) -> Iterator[str]:
    merges, ways = order_of(rows, "merged"), order_of(rows, "aligned")
    for key, what, digits in (("height", "barrier", 3), ("middle", "accuracy", 3)):
        cells = []
        for way in ways:
            line = [way]
            for merged in merges:
                own = [r for r in rows if r["aligned"] == way and r.get("merged") == merged]
                line.append(shown(mean_of(own, key), digits) if own else DASH)
            cells.append(line)
        yield table((what, *merges), cells)
    head = ("moved by", "pairs", "CPU seconds", "function changed", "similarity")
    yield table(head, [way_row(way, rows) for way in ways])
    ends = {row["pair"][k]: row for row in rows if "losses" in row for k in (0, 1)}
    own = [_end(row, model) for model, row in sorted(ends.items())]
    yield "The models: " + "; ".join(f"loss {loss:.3f}, accuracy {hits:.3f}" for loss, hits in own) + ".\n"
    reasons = {f"{row['aligned']}: {row['failure']}" for row in rows if "failure" in row}
    if reasons:
        yield "No permutation: " + "; ".join(sorted(reasons)) + ".\n"


def _end(row: Row, model: int) -> tuple[float, float]:
    end = -1 if row["pair"][0] == model else 0  # A is the first of a pair, and stands at weight 1
    return row["losses"][end], row["accuracies"][end]


def way_row(way: str, rows: Sequence[Row]) -> list[str]:
    own = {tuple(row["pair"]): row for row in rows if row["aligned"] == way and "seconds" in row}
    if not own:
        return [way, "0", DASH, DASH, DASH]
    worst = max(row["function_error"] for row in own.values())
    spent = sum(row["seconds"] for row in own.values()) / len(own)
    known = [row["similarity"] for row in own.values() if "similarity" in row]
    alike = f"{sum(known) / len(known):.3f}" if len(known) == len(own) else DASH
    cost = DASH if way == "rebasin" else seconds(spent)  # it runs in a process of its own, whose time is not counted
    return [way, str(len(own)), cost, f"{worst:.0e}" if worst < 1e-3 else f"**{worst:.2g}**", alike]
