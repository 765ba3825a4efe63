"""The Debian packages that hold the speech, the music and the instrument banks.

`ships`: its licence lets a network trained on it, and clips of it, ship with permgraph. The corpus "shipped" is these
alone, the corpus "full" is all of them.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Package:
    """One package: `domain` is "speech", "music" or "bank"; `pretraining` False where it is for probes alone."""

    name: str
    domain: str
    licence: str
    ships: bool = False
    pretraining: bool = True


PACKAGES = (
    Package("festvox-ru", "speech", "BSD-like", ships=True),
    Package("asterisk-core-sounds-en-g722", "speech", "CC-BY-SA-3.0", ships=True),
    Package("asterisk-core-sounds-fr-g722", "speech", "CC-BY-SA-3.0", ships=True),
    Package("asterisk-core-sounds-es-g722", "speech", "CC-BY-SA-3.0", ships=True),
    Package("asterisk-core-sounds-it-g722", "speech", "CC-BY-3.0", ships=True),
    Package("asterisk-core-sounds-ru-g722", "speech", "CC-BY-3.0", ships=True),
    Package("asterisk-prompt-it-menardi-wav", "speech", "CC-BY-SA-3.0"),
    Package("asterisk-prompt-fr-armelle", "speech", "GPL-2"),
    Package("gcin-voice", "speech", "LGPL-3, CC-BY-3.0", pretraining=False),
    Package("tuxpaint-stamps-default", "speech", "GPL-2"),
    Package("fillets-ng-data-cs", "speech", "GPL-2"),
    Package("fillets-ng-data-nl", "speech", "GPL-2"),
    Package("klettres-data", "speech", "GPL-2+"),
    Package("ktuberling-data", "speech", "GPL-2+"),
    Package("flight-of-the-amazon-queen", "speech", "free to redistribute, not to sell alone"),
    Package("pocketsphinx-testdata", "speech", "BSD"),
    Package("singularity-music", "music", "CC-BY-SA-3.0", ships=True),
    Package("ufoai-music", "music", "by track; those of prepare.UFOAI_TRACKS CC-BY-3.0 or CC-BY-SA-3.0", ships=True),
    Package("warzone2100-music", "music", "GPL-2+ and CC-BY-SA-3.0"),
    Package("planetblupi-music-ogg", "music", "GPL-3"),
    Package("wesnoth-1.16-music", "music", "GPL-2"),
    Package("nexuiz-music", "music", "GPL-2"),
    Package("fretsonfire-songs-sectoid", "music", "free"),
    Package("fretsonfire-songs-muldjord", "music", "free"),
    Package("drascula-music", "music", "free to redistribute"),
    Package("hyperrogue-music", "music", "CC-BY-SA, CC-BY-NC-SA"),
    Package("colobot-common-sounds", "music", "GPL-3"),
    Package("hydrogen-drumkits", "music", "GPL-2+"),
    Package("sonic-pi-samples", "music", "CC0"),
    Package("fluid-soundfont-gm", "bank", "MIT", ships=True),
    Package("timgm6mb-soundfont", "bank", "GPL-2", pretraining=False),
)

CORPORA = ("shipped", "full")
PROBES = (
    "festvox-ru",
    "gcin-voice",
    "fillets-ng-data-cs",
    "fillets-ng-data-nl",
    "fluid-soundfont-gm",
    "timgm6mb-soundfont",
    "warzone2100-music",
    "wesnoth-1.16-music",
    "nexuiz-music",
    "planetblupi-music-ogg",
    "drascula-music",
    "hyperrogue-music",
    "fretsonfire-songs-sectoid",
    "fretsonfire-songs-muldjord",
)
"""What the probes are made of."""


def of(corpus: str, domain: str) -> list[Package]:
    """The packages of `domain` whose recordings pretraining on `corpus` may hear."""
    wanted = (p for p in PACKAGES if p.domain == domain and p.pretraining)
    return [p for p in wanted if p.ships or corpus == "full"]


def names(corpus: str) -> list[str]:
    """All that `corpus` needs, banks and probes included."""
    pretraining = [p.name for domain in ("speech", "music", "bank") for p in of(corpus, domain)]
    return list(dict.fromkeys([*pretraining, *PROBES]))
