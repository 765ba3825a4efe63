"""Fetch the Debian packages that hold the speech and the music, and unpack them under ``data/``.

Nothing is installed: ``apt-get download``, then ``dpkg -x``. Resumable: a package already unpacked is
skipped. Run ``apt-get update`` once if the package lists of the machine are empty.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
from pathlib import Path

DATA = Path(__file__).resolve().parents[2] / "data"

SPEECH_PACKAGES = (
    "festvox-ru",
    "asterisk-core-sounds-en-g722",
    "asterisk-core-sounds-fr-g722",
    "asterisk-core-sounds-es-g722",
    "asterisk-core-sounds-it-g722",
    "asterisk-core-sounds-ru-g722",
)
MUSIC_PACKAGES = ("fluid-soundfont-gm", "singularity-music", "ufoai-music")


def unpack_folder(package: str, data: Path = DATA) -> Path:
    """Where `package` lies once fetched: ``data/unpacked/<package>`` holds the package's root."""
    return data / "unpacked" / package


def download(package: str, debs: Path) -> Path:
    """The `.deb` of `package` in `debs`, downloaded unless it is there already."""
    debs.mkdir(parents=True, exist_ok=True)
    if not list(debs.glob(f"{package}_*.deb")):
        subprocess.run(["apt-get", "download", package], cwd=debs, check=True)
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("packages", nargs="*", default=[*SPEECH_PACKAGES, *MUSIC_PACKAGES])
    for package in parser.parse_args().packages:
        print(package, fetch(package), flush=True)


if __name__ == "__main__":
    main()
