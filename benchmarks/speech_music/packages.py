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
    ships: bool
    pretraining: bool


LICENCES = {
    "speech": {
        "festvox-ru": "BSD-like",
        "asterisk-core-sounds-en-g722": "CC-BY-SA-3.0",
        "asterisk-core-sounds-fr-g722": "CC-BY-SA-3.0",
        "asterisk-core-sounds-es-g722": "CC-BY-SA-3.0",
        "asterisk-core-sounds-it-g722": "CC-BY-3.0",
        "asterisk-core-sounds-ru-g722": "CC-BY-3.0",
        "asterisk-prompt-it-menardi-wav": "CC-BY-SA-3.0",
        "asterisk-prompt-fr-armelle": "GPL-2",
        "asterisk-prompt-es-co": "GPL-2",
        "gcin-voice": "LGPL-3, CC-BY-3.0",
        "tuxpaint-stamps-default": "GPL-2",
        "fillets-ng-data-cs": "GPL-2",
        "fillets-ng-data-nl": "GPL-2",
        "klettres-data": "GPL-2+",
        "ktuberling-data": "GPL-2+",
        "flight-of-the-amazon-queen": "free to redistribute, not to sell alone",
        "pocketsphinx-testdata": "BSD",
    },
    "music": {
        "singularity-music": "CC-BY-SA-3.0",
        "ufoai-music": "by track; those of prepare.UFOAI_TRACKS CC-BY-3.0 or CC-BY-SA-3.0",
        "warzone2100-music": "GPL-2+ and CC-BY-SA-3.0",
        "planetblupi-music-ogg": "GPL-3",
        "wesnoth-1.16-music": "GPL-2",
        "nexuiz-music": "GPL-2",
        "fretsonfire-songs-sectoid": "free",
        "fretsonfire-songs-muldjord": "free",
        "drascula-music": "free to redistribute",
        "hyperrogue-music": "CC-BY-SA, CC-BY-NC-SA",
        "colobot-common-sounds": "GPL-3",
        "hydrogen-drumkits": "GPL-2+",
        "sonic-pi-samples": "CC0",
    },
    "bank": {
        "fluid-soundfont-gm": "MIT",
        "timgm6mb-soundfont": "GPL-2",
    },
}
"""Domain -> package -> licence, in the order in which pretraining hears them."""
SHIPS = {
    "festvox-ru",
    "asterisk-core-sounds-en-g722",
    "asterisk-core-sounds-fr-g722",
    "asterisk-core-sounds-es-g722",
    "asterisk-core-sounds-it-g722",
    "asterisk-core-sounds-ru-g722",
    "singularity-music",
    "ufoai-music",
    "fluid-soundfont-gm",
}
ONLY_PROBES = {"gcin-voice", "timgm6mb-soundfont"}

PACKAGES = tuple(
    Package(name, domain, licence, name in SHIPS, name not in ONLY_PROBES)
    for domain, own in LICENCES.items()
    for name, licence in own.items()
)

CORPORA = ("shipped", "full")
PROBES = (
    "festvox-ru",
    "asterisk-prompt-es-co",
    "asterisk-prompt-fr-armelle",
    "asterisk-prompt-it-menardi-wav",
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
