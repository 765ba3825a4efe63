"""Writes the pages of figures in `docs` from `benchmarks/results/*.json`; every number comes from there.

`--check` writes nothing and exits with 1 where a page is stale.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from findings import findings
from kinds_cost_tables import demo_ways_section, kinds_cost_section
from kinds_page import kinds_results, narrow, summary
from mappings_page import mappings_page
from matching_tables import (
    full_size_section,
    large_pairs_section,
    planted_section,
    precision_section,
)
from merging_pages import merging_pages
from peer_tables import peers_section
from scale_tables import (
    assignments_section,
    calibration_section,
    comparing_section,
    scaling_section,
    streaming_section,
)
from sweep.page import sweep_page
from unit_tables import removal_section, sparsity_section
from user_tables import first_steps_section, mergekit_section, startup_section
from zoo_page import zoo_page

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"

BENCHMARKS = """# Benchmarks

    python benchmarks/tables.py      # writes this page from benchmarks/results/*.json

{findings}

Each section has more, and begins with the command that measures it. Times are of the machine they ran on; compare
within a table.
"""


def benchmarks_page(results: dict[str, Any]) -> Iterator[str]:
    """A section for each result that is there."""
    yield BENCHMARKS.format(findings="\n".join(findings(results)))
    for name, section in SECTIONS.items():
        if name in results:
            yield from section(results[name])


SECTIONS = {
    "peers": peers_section,
    "scaling": scaling_section,
    "kinds_cost": kinds_cost_section,
    "full_size": full_size_section,
    "precision": precision_section,
    "planted": planted_section,
    "first_steps": first_steps_section,
    "startup": startup_section,
    "mergekit": mergekit_section,
    "large_pairs": large_pairs_section,
    "assignments": assignments_section,
    "comparing": comparing_section,
    "streaming": streaming_section,
    "demo_ways": demo_ways_section,
    "calibration": calibration_section,
    "removal": removal_section,
    "sparsity": sparsity_section,
}


def pages() -> dict[Path, str]:
    """Path -> text of every page whose results are there."""
    results = {path.stem: json.loads(path.read_text()) for path in sorted(RESULTS.glob("*.json"))}
    texts = {"benchmarks.md": "\n".join(benchmarks_page(results))}
    if "zoo" in results:
        texts["zoo.md"] = "\n".join(zoo_page(results["zoo"]))
    if "sweep" in results:
        texts["sweep.md"] = "\n".join(sweep_page(results["sweep"]))
    if "mappings" in results:
        texts["mappings-compared.md"] = "\n".join(mappings_page(results["mappings"]))
    texts |= merging_pages(results)
    documents = {ROOT / "docs" / name: commands_last(text) for name, text in texts.items()}
    return documents | {ROOT / "README.md": readme(results)}


def commands_last(page: str) -> str:
    """The page with its commands moved from below the title to the end, so that the finding comes first."""
    title, empty, rest = page.partition("\n\n")
    commands, more, text = rest.partition("\n\n")
    if not more or not all(line.startswith("    ") for line in commands.splitlines()):
        return page
    return f"{title}{empty}{text.rstrip()}\n\n## Measured by\n\n{commands}\n"


def readme(results: dict[str, Any]) -> str:
    """The README with its table of transformers as measured; all else in it is written by hand."""
    text = (ROOT / "README.md").read_text()
    before, rest = text.split(MARKS[0])
    _, after = rest.split(MARKS[1])
    kinds = narrow(kinds_results(results))
    return f"{before}{MARKS[0]}\n\n{summary(kinds) if kinds else ''}\n{MARKS[1]}{after}"


MARKS = "<!-- made by benchmarks/tables.py -->", "<!-- until here -->"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 where a page is stale")
    options = parser.parse_args()
    stale = [path for path, text in pages().items() if not path.exists() or path.read_text() != text]
    if options.check and stale:
        names = ", ".join(str(path.relative_to(ROOT)) for path in stale)
        sys.exit(f"stale: {names}; run python benchmarks/tables.py")
    for path in stale:
        path.parent.mkdir(exist_ok=True)
        path.write_text(pages()[path])


if __name__ == "__main__":
    main()
