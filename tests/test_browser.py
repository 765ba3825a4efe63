"""The inspection in a real browser: drawn, filtered, explained as Python explains it, by mouse and by keyboard."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from browser import browser, needs_browser, open_page, requests
from pairs import PLANTED, mlp, vectors
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from test_pages import deep_llama
from torch import nn
from zoo import ROWS

import permgraph as pg
from permgraph.pages.inspection import inspection_page

pytestmark = needs_browser
QUERY = ("encoder.layers.1.attention.q_proj.weight", 0)
KEY = ("encoder.layers.1.attention.k_proj.weight", 0)


@pytest.fixture(scope="module")
def driver() -> Iterator[webdriver.Chrome]:
    with browser() as found:
        yield found


@pytest.fixture(scope="module")
def spec() -> pg.PermutationSpec:
    return PLANTED["hubert"]().spec


@pytest.fixture
def page(driver: webdriver.Chrome, spec: pg.PermutationSpec, tmp_path: Path) -> webdriver.Chrome:
    path = tmp_path / "page.html"
    path.write_text(inspection_page(spec, "tiny"), encoding="utf-8")
    open_page(driver, path)
    return driver


def texts(driver: webdriver.Chrome, selector: str) -> list[str]:
    return [found.text for found in driver.find_elements(By.CSS_SELECTOR, selector)]


def edge(driver: webdriver.Chrome, axis: tuple[str, int]):
    return driver.find_element(By.CSS_SELECTOR, f'.edge[aria-label^="{axis[0]}[{axis[1]}]"]')


def select(driver: webdriver.Chrome, axis: tuple[str, int]) -> None:
    driver.execute_script("location.hash = arguments[0]", f"#{axis[0]}:{axis[1]}")
    driver.execute_async_script("setTimeout(arguments[0], 50)")


def test_before_anything_is_selected_the_colours_are_told(page: webdriver.Chrome, spec: pg.PermutationSpec) -> None:
    roles = [*dict.fromkeys(group.role for group in spec.groups)]
    assert texts(page, "aside .group-name") == roles
    assert "Sym(64) · 2 groups" in texts(page, "aside")[0]
    page.find_elements(By.CSS_SELECTOR, "aside .group-card")[roles.index("feed_forward")].click()
    assert texts(page, "aside .group-name") == ["encoder.layers.0.feed_forward.hidden"]
    page.find_element(By.CSS_SELECTOR, ".close").click()
    assert texts(page, "aside .group-name") == roles


def chain(driver: webdriver.Chrome) -> list[tuple[str, str]]:
    """(axis, operation) of each tie in the chain that is shown."""
    places, ops = texts(driver, ".chain .place"), texts(driver, ".chain .op")
    return list(zip(places[1:], ops, strict=True))


def test_it_draws_without_an_error_or_a_request(page: webdriver.Chrome, spec: pg.PermutationSpec) -> None:
    assert texts(page, "h1") == ["tiny"]
    assert texts(page, ".stats dd")[0] == str(len(spec.groups))
    assert len(page.find_elements(By.CSS_SELECTOR, ".edge")) > 40
    assert requests(page) == []
    assert page.get_log("browser") == []


def test_every_group_is_listed_and_the_table_filters(page: webdriver.Chrome, spec: pg.PermutationSpec) -> None:
    page.find_element(By.CSS_SELECTOR, ".controls [type=checkbox]").click()
    assert texts(page, "tbody .link") == [group.name for group in spec.groups]
    page.find_element(By.ID, "filter").send_keys("feed_forward")
    assert texts(page, "tbody .link") == [g.name for g in spec.groups if g.role == "feed_forward"]
    page.find_element(By.ID, "filter").clear()
    page.find_element(By.ID, "filter").send_keys(Keys.SPACE, Keys.BACKSPACE)
    for chip in page.find_elements(By.CSS_SELECTOR, ".chip"):
        if chip.text.startswith("conv"):
            chip.click()
    assert texts(page, "tbody .link") == [g.name for g in spec.groups if g.role == "conv"]


def test_names_in_the_table_have_room_on_a_phone(page: webdriver.Chrome) -> None:
    metrics = {"width": 390, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    try:
        assert page.execute_script("return document.documentElement.scrollWidth <= innerWidth")
        width = "return Math.min(...[...document.querySelectorAll('tbody td:first-child')].map((d) => d.clientWidth))"
        assert page.execute_script(width) >= 120
    finally:
        page.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_the_filter_finds_tensors_and_columns_sort(page: webdriver.Chrome, spec: pg.PermutationSpec) -> None:
    name = "encoder.layers.1.attention.q_proj.weight"
    page.find_element(By.ID, "filter").send_keys(name)
    found = page.find_element(By.CSS_SELECTOR, '[aria-label="Tensors by the filter"] li')
    assert found.text.startswith(name)
    assert "1 tensors" in texts(page, ".controls [role=status]")[0]
    found.find_elements(By.TAG_NAME, "button")[1].click()
    assert texts(page, "aside h2") == [f"{name}[1]"]
    page.find_element(By.ID, "filter").clear()
    page.find_element(By.ID, "filter").send_keys(Keys.SPACE, Keys.BACKSPACE)
    page.find_elements(By.CSS_SELECTOR, "th .sort")[4].click()
    axes = [int(text) for text in texts(page, "tbody td:nth-child(5)")]
    assert axes == sorted(axes, reverse=True)


def test_a_link_to_no_axis_says_so(page: webdriver.Chrome) -> None:
    select(page, ("nonsense", 0))
    assert texts(page, "aside [role=alert]") == ["This model has no axis nonsense:0."]


def test_the_chain_between_two_axes_is_the_one_that_explain_gives(
    page: webdriver.Chrome, spec: pg.PermutationSpec
) -> None:
    select(page, QUERY)
    assert texts(page, ".group-card.current .group-name") == ["encoder.layers.1.attention.qk"]
    page.find_element(By.CSS_SELECTOR, f'.partners [data-to="{_number(page, KEY)}"]').click()
    by_query_and_key = next(g.name for g in spec.groups if g.role == "attention.qk" and QUERY in g.axes)
    shown = chain(page)
    assert shown[-1][0] == "encoder.layers.1.attention.k_proj.weight[0]"
    assert len(shown) == len(_expected(spec, QUERY, KEY, by_query_and_key))
    assert "aten.scaled_dot_product_attention" in [op for _, op in shown]


def _number(page: webdriver.Chrome, axis: tuple[str, int]) -> str:
    return edge(page, axis).get_attribute("data-axis")


def _expected(spec, one, other, group):
    import networkx as nx

    ends = [[k for k in spec.ties.at(axis) if spec.ties.nodes[k].group == group] for axis in (one, other)]
    return min(
        (nx.shortest_path(spec.graph, a, b) for a in ends[0] for b in ends[1] if nx.has_path(spec.graph, a, b)), key=len
    )[1:]


def test_a_group_says_what_its_uses_would_touch(page: webdriver.Chrome, spec: pg.PermutationSpec) -> None:
    group = next(group for group in spec.groups if group.role == "feed_forward")
    select(page, group.axes[0])
    page.find_element(By.CSS_SELECTOR, ".uses summary").click()
    told = dict(zip(texts(page, ".uses dt"), texts(page, ".uses dd"), strict=True))
    assert told["units"] == f"{group.size} units, each {len(spec.units(group)[0])} slices in 3 tensors"
    assert told["reorder"].startswith(f"{len(group.axes)} axes")
    assert told["remove"] == f"{32 + 1 + 32} elements go with a unit"
    assert told["canonical"].startswith("order, the same")


def test_a_pinned_axis_says_by_what(page: webdriver.Chrome, spec: pg.PermutationSpec) -> None:
    kernel = ("feature_extractor.conv_layers.3.conv.weight", 2)
    select(page, kernel)
    assert "the positions of a convolution's kernel have an order" in texts(page, ".pin-card")[0]
    assert "aten.conv1d in feature_extractor.conv_layers.3.conv" in texts(page, ".pin-card")[0]
    select(page, ("masked_spec_embed", 0))
    assert "does not reach it" in texts(page, "aside")[0]


def test_it_can_be_used_from_the_keyboard(page: webdriver.Chrome) -> None:
    body = page.find_element(By.TAG_NAME, "body")
    body.send_keys("/")
    assert page.switch_to.active_element.get_attribute("id") == "filter"
    first = edge(page, ("encoder.layers.0.attention.q_proj.weight", 0))
    page.execute_script("arguments[0].focus()", first)
    page.switch_to.active_element.send_keys(Keys.ENTER)
    assert page.find_elements(By.CSS_SELECTOR, ".edge.chosen") == [first]
    partner = page.find_elements(By.CSS_SELECTOR, ".partners .link")[-1]
    name = partner.text
    page.execute_script("arguments[0].focus()", partner)
    page.switch_to.active_element.send_keys(Keys.ENTER)
    assert page.switch_to.active_element.text == name == texts(page, ".chain .end")[-1]
    assert texts(page, ".chain .end")[0] in page.find_element(By.ID, "said").get_attribute("textContent")
    page.switch_to.active_element.send_keys(Keys.ESCAPE)
    assert page.find_elements(By.CSS_SELECTOR, ".edge.chosen") == []
    assert page.switch_to.active_element == first


def test_the_slider_shows_each_of_the_equal_layers(page: webdriver.Chrome) -> None:
    select(page, ("encoder.layers.1.feed_forward.intermediate_dense.weight", 0))
    marked = [found.get_attribute("aria-label") for found in page.find_elements(By.CSS_SELECTOR, ".edge.with")]
    assert [label.split(", ")[0] for label in marked] == [
        "encoder.layers.1.feed_forward.intermediate_dense.weight[0]",
        "encoder.layers.1.feed_forward.intermediate_dense.bias[0]",
        "encoder.layers.1.feed_forward.output_dense.weight[1]",
    ]


MODELS = {
    "mlp": lambda: pg.derive(mlp(), vectors()[0]),
    "nothing to move": lambda: pg.derive(nn.Linear(3, 2).eval(), torch.randn(2, 3)),
    "one parameter": lambda: pg.derive(nn.LayerNorm(4).eval(), torch.randn(2, 4)),
    "no parameter": lambda: pg.derive(nn.GELU().eval(), torch.randn(2, 4)),
    "gpt2": lambda: PLANTED["gpt2"]().spec,
}


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("dark", [False, True])
def test_models_of_every_size_draw(name: str, dark: bool, driver: webdriver.Chrome, tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    spec = MODELS[name]()
    path.write_text(inspection_page(spec, name), encoding="utf-8")
    scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
    open_page(driver, path)
    for found in driver.find_elements(By.CSS_SELECTOR, ".blocks .edge"):
        driver.execute_script("arguments[0].click()", found)
        assert texts(driver, "aside h2") == [found.get_attribute("aria-label").split(", ")[0]]
    assert driver.get_log("browser") == []
    assert driver.execute_script("return document.documentElement.scrollWidth <= innerWidth")


UNEXPLAINED = """
const found = [];
for (const edge of document.querySelectorAll(".blocks .edge")) {
  edge.click();
  const side = document.querySelector("aside");
  const told = side.querySelector(".pin-card, .group-card") || side.innerText.includes("does not reach");
  const alone = !side.innerText.includes("Moves together");
  if (!edge.classList.contains("chosen") || !told || !(alone || side.querySelector(".tie"))) found.push(edge.ariaLabel);
}
return found;
"""


@pytest.mark.slow
def test_thirty_two_layers_are_one_screen(driver: webdriver.Chrome, tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    path.write_text(inspection_page(deep_llama(32), "llama"), encoding="utf-8")
    open_page(driver, path, "#model.layers.31.mlp.up_proj.weight:0")
    assert len(driver.find_elements(By.CSS_SELECTOR, ".blocks .edge")) < 40
    assert texts(driver, ".layer-name") == ["31"]
    assert texts(driver, ".group-card.current .group-name") == ["model.layers.31.mlp.hidden"]
    assert len(texts(driver, "tbody .link")) == 5
    driver.find_element(By.CSS_SELECTOR, '[data-group="residual"]').click()
    assert texts(driver, ".partners summary")[0] == "model.layers.0–31.self_attn.q_proj.weight[1] ×32"


@pytest.mark.slow
def test_every_axis_of_the_zoo_is_explained(driver: webdriver.Chrome, tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    for row in ROWS:
        case = row.build()
        spec = pg.derive(case.model, case.args, case.kwargs, outputs=row.outputs)
        path.write_text(inspection_page(spec, row.name), encoding="utf-8")
        open_page(driver, path)
        assert driver.execute_script(UNEXPLAINED) == [], row.name
        assert driver.get_log("browser") == [], row.name
