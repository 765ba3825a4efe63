"""Takes the screenshots of these docs: `PYTHONPATH=tests python docs/pictures/shoot.py`. Needs chromium."""

from __future__ import annotations

import tempfile
from pathlib import Path

import torch
from browser import browser, open_page
from transformers import HubertConfig, HubertModel

import permgraph as pg
from permgraph.pages.inspection import inspection_page
from permgraph.pages.report import report_page

HERE = Path(__file__).parent
ASSETS = HERE.parents[1] / "permgraph" / "demo" / "assets"
TO_ENCODER = """const names = [...document.querySelectorAll(".block-name")];
const name = names.find((node) => node.textContent === "encoder");
scrollTo(0, name.getBoundingClientRect().top + scrollY - 60);"""


def inspection() -> str:
    """HuBERT base, without weights."""
    with torch.device("meta"):
        model = HubertModel(HubertConfig()).eval()
        sound = torch.zeros(1, 4000)
    return inspection_page(pg.derive(model, (sound,), outputs="free"), "HuBERT base")


def report() -> str:
    """The encoders of the demo."""
    speech, music = (pg.load(str(ASSETS / name)) for name in ("speech", "music"))
    clips = speech.calibration(str(ASSETS / "clips" / "calibration"), limit=12)
    aligned = pg.align(speech.model, music.model, clips, outputs="free")
    return report_page(aligned, "merged", "linear merge, 0.9 · speech + 0.1 · music")


def shoot(folder: Path) -> None:
    """Write both pictures, each in one screen."""
    pages = {"inspection": inspection(), "report": report()}
    for name, text in pages.items():
        (folder / f"{name}.html").write_text(text, encoding="utf-8")
    with browser(1360, 980) as driver:
        open_page(driver, folder / "inspection.html", "#encoder.layers.3.attention.q_proj.weight:0")
        driver.execute_script(TO_ENCODER)
        driver.save_screenshot(str(HERE / "inspection.png"))
        driver.get((folder / "report.html").as_uri())
        driver.save_screenshot(str(HERE / "report.png"))


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as place:
        shoot(Path(place))
