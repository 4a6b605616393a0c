"""The report as a whole: what is in it, and how a browser shows it."""

import html.parser
import json
import shutil

import browser
import pytest

from sicl_jax.report.run_report import run_report


class _Reader(html.parser.HTMLParser):
    """Notes elements with their attributes."""

    def __init__(self, text: str):
        super().__init__()
        self.elements: list[tuple[str, dict]] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def all(self, tag: str) -> list[dict]:
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture(scope="session")
def page(run_folder, tmp_path_factory):
    """The report of a finished run."""
    file = tmp_path_factory.mktemp("report") / "report.html"
    file.write_text(run_report(run_folder, checkpoint="latest"))
    return file


def test_it_needs_nothing_but_itself(page):
    read = _Reader(page.read_text())
    for tag, attributes in read.elements:
        for name in ("src", "href", "action", "data", "srcset", "poster"):
            if name in attributes:
                assert attributes[name].startswith(("data:", "#")), (tag, attributes[name][:80])
    assert not read.all("link")[1:] and "@import" not in page.read_text()


def test_every_part_is_there_and_can_be_reached(page):
    read = _Reader(page.read_text())
    parts = [section["id"] for section in read.all("section")]
    assert parts == [
        "summary", "curves", "results", "galleries", "clusters", "map", "silhouettes", "config",
    ]  # fmt: skip
    links = [a["href"] for a in read.all("a")]
    assert set(links) == {"#content", *(f"#{part}" for part in parts)}
    assert all("alt" in image for image in read.all("img"))
    charts = [svg for svg in read.all("svg") if "data-chart" in svg]
    assert len(charts) >= 9 and all(svg["tabindex"] == "0" for svg in charts)
    assert all(json.loads(svg["data-chart"])["columns"] for svg in charts)


def test_a_run_that_goes_on_is_marked(run_copy):
    file = run_copy / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"epochs": 7}))
    html = run_report(run_copy)
    assert "This run is not finished: 2 of 7 epochs are done" in html
    assert "<title>run (unfinished)</title>" in html and 'id="galleries"' in html


def test_what_is_missing_is_told(run_copy, tmp_path):
    told = []
    html = run_report(run_copy, data_dir=tmp_path / "moved", warn=told.append)
    assert len(told) == 1 and "moved is not a folder" in told[0]
    assert 'class="banner"' in html and "moved is not a folder" in html
    assert 'id="curves"' in html and 'id="galleries"' not in html
    shutil.rmtree(run_copy / "checkpoints")
    (run_copy / "metrics.jsonl").unlink()
    html = run_report(run_copy, warn=told.append)
    assert "no checkpoint yet" in told[1] and "No epoch has been finished yet" in html


_SEEN = """
const images = [...document.images];
const pale = getComputedStyle(document.body).backgroundColor;
const lines = [...document.querySelectorAll(".line")];
return {
  images: images.length,
  broken: images.filter((i) => !i.complete || !i.naturalWidth).map((i) => i.alt),
  galleries: lines.map((l) => l.querySelectorAll("li:not(.query) img").length),
  theme: document.documentElement.dataset.theme,
  background: pale,
  wide: document.documentElement.scrollWidth - document.documentElement.clientWidth,
};
"""


@pytest.mark.parametrize(("width", "dark"), [(1280, False), (500, True)])
def test_a_browser_shows_all_of_it(page, width, dark):
    seen, console = browser.look(page, _SEEN, width=width, dark=dark)
    assert console == []
    assert seen["broken"] == [] and seen["images"] > 150
    assert len(seen["galleries"]) == 12 and set(seen["galleries"]) == {10}
    assert seen["theme"] == ("dark" if dark else "light")
    assert (seen["background"] == "rgb(255, 255, 255)") != dark
    assert seen["wide"] <= 0  # Wide parts scroll within themselves.


_USED = """
const chart = document.querySelector(".chart svg[data-chart]");
const press = (target, key) =>
  target.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true, cancelable: true }));
press(chart, "ArrowRight");
const first = chart.closest(".chart").querySelector(".tip");
const told = [first.style.display, first.innerText];
press(chart, "Escape");
const hidden = first.style.display;
const map = document.querySelector(".map svg");
press(map, "ArrowRight");
const tip = document.querySelector(".map .tip");
document.getElementById("theme").click();
return {
  told, hidden, map: tip.innerText, points: map.querySelectorAll(".point").length,
  thumb: tip.querySelector(".thumb").style.backgroundImage.slice(0, 15),
  theme: document.documentElement.dataset.theme,
};
"""


def test_charts_and_map_answer_to_keys(page):
    seen, console = browser.look(page, _USED)
    assert console == []
    assert seen["told"][0] == "block" and seen["told"][1].startswith("epoch 1")
    assert seen["hidden"] == "none"
    assert seen["points"] > 20 and "person" in seen["map"]
    assert seen["thumb"].startswith('url("data:image')
    assert seen["theme"] == "dark"
