"""The report of a merge: its figures are the alignment's, its pictures decode, and a browser draws it."""

import base64
import re
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from browser import browser, needs_browser, requests
from pairs import hubert, mlp, plant, vectors
from torch import nn

import permgraph as pg
from permgraph.pages.charts import Line, line_chart, picture, range_bar, ticks
from permgraph.pages.comparison import comparison_page
from permgraph.pages.many import many_page
from permgraph.pages.report import report_page
from permgraph.pages.sections import breaking


@pytest.fixture(scope="module")
def aligned() -> pg.Alignment:
    planted = hubert()
    return pg.align(planted.a, planted.b, planted.batches, spec=planted.spec, groups=["conv", "attention", "residual"])


def test_it_tells_gains_certificate_and_what_stayed(aligned: pg.Alignment) -> None:
    page = report_page(aligned, "out", "a <b> merge", facts={"seed": "7"})
    assert str(aligned.certificate) in page
    assert "a &lt;b&gt; merge" in page
    conv = "feature_extractor.conv_layers.0–6.conv.channels"
    gains = [gain for name, gain in aligned.gains.items() if ".conv_layers." in name]
    before, after = (np.mean([getattr(gain, end) for gain in gains]) for end in ("identity", "solution"))
    row = re.search(rf"<tr><td>{breaking(conv)}</td>.*?</tr>", page)[0]
    assert f">{before:.3f}<" in row
    assert f">{after:.3f}<" in row
    stayed = page[page.index("What stayed at the identity") :]
    assert "<li>encoder.layers.0–1.feed_forward.hidden</li>" in stayed
    assert "a convolution&#x27;s kernel" in stayed or "a convolution's kernel" in stayed
    assert "<li>masked_spec_embed</li>" in stayed
    assert "<dt>seed</dt><dd>7</dd>" in page


def test_every_kind_has_pictures_and_a_spectrum(aligned: pg.Alignment) -> None:
    page = report_page(aligned, "out", "")
    assert page.count("<polyline") == 2 * len(aligned.partners)
    assert "encoder.layers.0–1.attention.heads × encoder.layers.0–1.attention.vo" in page
    assert "residual × residual.within (point 1–4)" in page
    assert page.count('class="matrix"') >= 2 * 5


def test_a_picture_is_a_png_of_the_matrix() -> None:
    matrix = np.array([[1.0, 0.5], [-1.0, np.nan]])
    data = base64.b64decode(re.search(r"base64,([^\"]+)", picture(matrix, "two"))[1])
    assert data.startswith(b"\x89PNG")
    at = data.index(b"IDAT")
    (length,) = struct.unpack(">I", data[at - 4 : at])
    assert zlib.decompress(data[at + 4 : at + 4 + length]) == bytes([0, 255, 128, 0, 0, 0])


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(-1, 1, [-1, -0.5, 0, 0.5, 1]), (0, 7, [0, 2, 4, 6]), (0.31, 0.4, [0.32, 0.34, 0.36, 0.38, 0.4])],
)
def test_ticks_are_round(low: float, high: float, expected: list[float]) -> None:
    assert ticks(low, high) == pytest.approx(expected)


def test_a_range_says_its_figures() -> None:
    assert "<title>from 0.150 to 0.500</title>" in range_bar([0.1, 0.2], [0.5], "red", 0.0, 1.0)


def test_a_flat_line_can_be_drawn() -> None:
    assert "NaN" not in line_chart([Line([0, 1], [2, 2], "red", "flat")], x_name="x", y_name="y").replace("nan", "NaN")


def test_the_curve_is_drawn_where_a_loss_was_measured(aligned: pg.Alignment) -> None:
    weights = (0.0, 0.5, 1.0)
    barriers = {
        "unmoved": pg.Barrier(weights, (1.0, 3.0, 1.0)),
        "aligned": pg.Barrier(weights, (1.0, float("nan"), 1.0)),
    }
    without, page = (report_page(aligned, "out", "", barriers=given) for given in (None, barriers))
    assert "Between the two models" not in without
    assert "unmoved, barrier 2 at 0.5" in page
    assert page.count("<circle") - without.count("<circle") == 5
    assert "nan" not in re.search(r"Between the two models.*?</section>", page)[0]


def test_weights_say_that_there_are_no_correlations() -> None:
    planted = plant(mlp(), vectors())
    page = report_page(pg.align(planted.a, planted.b, args=(planted.batches[0],)), "out", "")
    assert "no activations were compared" in page
    assert ">1.000<" in page  # recovered: the bound is reached


def test_activations_of_other_kinds_are_not_denied() -> None:
    odd = nn.Sequential(nn.Linear(5, 12), nn.Tanh(), nn.Linear(12, 3)).eval()
    page = report_page(pg.align(odd, odd, vectors(), kinds="signed"), "out", "")
    assert "no activations were compared" not in page
    assert "drawn for permutations" in page


def test_many_models_have_a_column_each(aligned: pg.Alignment) -> None:
    spec = aligned.spec
    elements = {"one": spec.identity(), "two": aligned.permutations}
    gains = dict.fromkeys(elements, aligned.gains)
    page = many_page(spec, elements, list(aligned.gains), aligned.certificate, "out", "", gains=gains, facts={})
    gain = aligned.gains["residual"]
    cell = f'<td class="number">{gain.identity:.3f} → {gain.solution:.3f}</td>'
    assert f"<td>residual</td>{2 * cell}" in page
    assert '<th scope="col" class=number>one</th><th scope="col" class=number>two</th>' in page
    assert f"<td>{spec['residual'].symbol}</td>" in page
    assert re.search(r"residual</td>.*?0\.0%</td><td class=\"number\">\d\d+\.\d%", page)


@needs_browser
def test_a_browser_draws_it_without_a_request(aligned: pg.Alignment, tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    curves = {"unmoved": pg.Barrier((0.0, 0.5, 1.0), (1.0, 3.0, 1.0))}
    path.write_text(report_page(aligned, "out", "what", barriers=curves), encoding="utf-8")
    with browser(width=700) as driver:
        driver.get(path.as_uri())
        sizes = driver.execute_script("return [...document.images].map((image) => image.naturalWidth)")
        assert sizes
        assert all(sizes)
        assert driver.get_log("browser") == []
        assert requests(driver) == []
        assert driver.execute_script(SORTED) == [True, "descending", True, "ascending"]
        assert re.search(r": row 0, column 0, (0\.\d\d|1\.00|0 or less)$", driver.execute_script(POINTED))


@needs_browser
def test_pages_fit_a_phone_and_half_a_screen(aligned: pg.Alignment, tmp_path: Path) -> None:
    curves = {"unmoved": pg.Barrier((0.0, 0.5, 1.0), (1.0, 3.0, 1.0))}
    elements = {"B: one": aligned.permutations, "C: two": aligned.permutations}
    gains = dict.fromkeys(elements, aligned.gains)
    pages = {
        "report": report_page(aligned, "out", "what", barriers=curves),
        "many": many_page(aligned.spec, elements, list(aligned.gains), aligned.certificate, "out", "", gains=gains),
        "comparison": comparison_page(pg.compare(mlp(), mlp(), args=(vectors()[0],)), ("one", "two")),
    }
    with browser() as driver:
        for name, page in pages.items():
            path = tmp_path / f"{name}.html"
            path.write_text(page, encoding="utf-8")
            for width in (390, 900):
                metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
                driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
                driver.get(path.as_uri())
                assert driver.execute_script("return document.documentElement.scrollWidth <= innerWidth"), (name, width)
                assert driver.execute_script(BROKEN_NUMBERS) == [], (name, width)
                assert driver.execute_script(LARGEST_LETTERS) <= 20, (name, width)
                assert driver.execute_script(CUT_OFF) == [], (name, width)
                assert driver.execute_script(APART) == 0, (name, width)


CUT_OFF = """
return [...document.querySelectorAll(".scroll .number")].filter(
  (cell) => cell.getBoundingClientRect().right > cell.closest(".scroll").getBoundingClientRect().right + 1
).map((cell) => cell.textContent);
"""
APART = """
return [...document.querySelectorAll(".pairs figure")].filter((figure) => {
  const [left, right] = figure.querySelectorAll("img");
  return left.offsetTop !== right.offsetTop;
}).length;
"""
BROKEN_NUMBERS = """
return [...document.querySelectorAll("td.number")].filter((cell) => {
  const range = document.createRange();
  range.selectNodeContents(cell);
  return cell.textContent && range.getClientRects().length > 1;
}).map((cell) => cell.textContent);
"""
LARGEST_LETTERS = """
return Math.max(0, ...[...document.querySelectorAll("svg text")].map((text) => text.getBoundingClientRect().height));
"""
SORTED = """
const table = document.querySelector("table.sortable"), heading = table.tHead.rows[0].cells[5];
const found = [];
for (const sign of [-1, 1]) {
  heading.querySelector("button").click();
  const rows = [...table.tBodies[0].rows];
  const values = rows.filter((row) => !row.classList.contains("layers")).map((row) => Number(row.cells[5].textContent));
  found.push(values.every((value, k) => !k || sign * (value - values[k - 1]) >= 0), heading.getAttribute("aria-sort"));
}
return found;
"""
POINTED = """
const image = document.querySelector(".matrix"), box = image.getBoundingClientRect();
image.dispatchEvent(new PointerEvent("pointermove", { clientX: box.left + 1, clientY: box.top + 1 }));
return image.title;
"""


def test_the_models_stand_at_the_top(aligned: pg.Alignment) -> None:
    page = report_page(aligned, "out", "", facts={"model A": "speech", "model B": "<music>", "seed": "7"})
    top = page[: page.index("Gains")]
    assert "<span><b>A</b> speech</span><span><b>B</b> &lt;music&gt;</span>" in top
    assert "seed" not in top


def test_a_worse_merge_is_said(aligned: pg.Alignment) -> None:
    low, high = pg.Barrier((0.0, 0.5, 1.0), (1.0, 1.5, 1.0)), pg.Barrier((0.0, 0.5, 1.0), (1.0, 3.0, 1.0))
    for first, last, said in ((low, high, True), (high, low, False)):
        page = report_page(aligned, "out", "", barriers={"unmoved": first, "aligned": last})
        assert ("The barrier is higher aligned than unmoved: 2 and 0.5." in page) is said
