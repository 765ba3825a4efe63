"""Fetch the Debian packages that hold the speech and the music, and unpack them under ``data/``.

Nothing is installed: ``apt-get download``, then ``dpkg -x``. Resumable: a package already unpacked is
skipped. Run ``apt-get update`` once if the package lists of the machine are empty. Which version was fetched, and the
SHA-256 of its file, are in ``data/packages.json``.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import subprocess
from pathlib import Path

from rich.progress import track

from benchmarks.speech_music.packages import CORPORA, names

DATA = Path(__file__).resolve().parents[2] / "data"


def unpack_folder(package: str, data: Path = DATA) -> Path:
    """The folder of a package once it is fetched: ``data/unpacked/<package>`` holds the package's root."""
    return data / "unpacked" / package


def download(package: str, debs: Path) -> Path:
    """The `.deb` of `package` in `debs`, downloaded unless it is there already."""
    debs.mkdir(parents=True, exist_ok=True)
    if not list(debs.glob(f"{package}_*.deb")):
        subprocess.run(["apt-get", "download", package], cwd=debs, check=True, capture_output=True)
    return next(debs.glob(f"{package}_*.deb"))


def fetch(package: str, data: Path = DATA) -> Path:
    """`package` unpacked; the folder appears only when complete: an interrupted run starts afresh."""
    folder = unpack_folder(package, data)
    if not folder.exists():
        partial = folder.with_name(folder.name + ".partial")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        deb = download(package, data / "debs")
        subprocess.run(["dpkg", "-x", str(deb), str(partial)], check=True)
        partial.rename(folder)
    return folder


def record(packages: list[str], data: Path = DATA) -> dict[str, dict[str, str]]:
    """{package: version, SHA-256} of the files in ``data/debs``, added to ``data/packages.json``."""
    path = data / "packages.json"
    known = json.loads(path.read_text()) if path.exists() else {}
    for package in packages:
        deb = next((data / "debs").glob(f"{package}_*.deb"))
        if known.get(package, {}).get("file") != deb.name:
            with deb.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            known[package] = {"file": deb.name, "version": deb.name.split("_")[1], "sha256": digest}
    path.write_text(json.dumps(dict(sorted(known.items())), indent=1) + "\n")
    return known


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("packages", nargs="*", help="instead of a whole corpus")
    parser.add_argument("--corpus", choices=CORPORA, default="shipped")
    options = parser.parse_args()
    wanted = options.packages or names(options.corpus)
    for package in track(wanted, description="packages"):
        fetch(package)
    record(wanted)


if __name__ == "__main__":
    main()
