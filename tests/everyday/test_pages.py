"""Pages on a phone, and pages with much on them."""

from PIL import Image

from sicl_jax import config as configs
from sicl_jax.report import pages, run_report
from sicl_jax.report.document import document
from sicl_jax.retrieval.searching import Found, Hit
from sicl_jax.runs import metrics


def test_figures_come_first_and_technical_facts_are_folded(tmp_path):
    config = configs.base("sicl")
    figures = {"cloth_changing/single_shot": {"mAP": 0.5, "rank1": 0.6}}
    start = {"device": "cpu", "devices": 1, "jax": "0.10", "sicl_jax": "0.1.0", "dataset": "a" * 32}
    log = metrics.RunLog(tmp_path, config, start, [], [{"epoch": 1, "seconds": 1, **figures}])
    _, _, html = run_report._summary(log)
    shown, folded = html.split("<details>")
    assert shown.index("best mAP") < shown.index("data set") and shown.count("<dt>") <= 7
    assert "device" in folded and "JAX" in folded and "JAX" not in shown


def test_the_navigation_scrolls_by_itself():
    html = document("title", "subtitle", "", parts=[("a", "A")])
    assert '<div class="links"><a href="#a">A</a></div><button' in html


def test_many_queries_make_several_pages_of_bounded_size(tmp_path):
    Image.radial_gradient("L").save(tmp_path / "a.png")
    path = str(tmp_path / "a.png")
    found = [Found(path, (Hit(path, 0.5),) * 10)] * 60
    found_pages = dict(pages.search_pages(found, "about", tmp_path / "found.html"))
    assert [page.name for page in found_pages] == ["found.html", "found-2.html", "found-3.html"]
    assert [html.count('class="ranked"') for html in found_pages.values()] == [25, 25, 10]
    assert max(map(len, found_pages.values())) < 1e6
    last = found_pages[tmp_path / "found-3.html"]
    assert 'href="found.html"' in last and 'href="found-3.html"' not in last
