"""The documents, the quickstart and the API reference are whole."""

import importlib.util
import pathlib

import pytest

ROOT = pathlib.Path(__file__).parents[2]
DOCUMENTS = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
    *sorted((ROOT / "tfds_builders").rglob("README.md")),
]


@pytest.fixture(scope="module")
def links():
    spec = importlib.util.spec_from_file_location("check_links", ROOT / "docs" / "check_links.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("file", DOCUMENTS, ids=lambda file: str(file.relative_to(ROOT)))
def test_no_link_is_dead(links, file):
    assert list(links.dead_links(file)) == []


def test_dead_links_are_found(links, tmp_path):
    (tmp_path / "a.md").write_text("# One title\n[x](b.md) [y](#one-title) [z](#two) `[no](c.md)`")
    code = '<script>`<a href="${url}">`</script>'
    page = '<a href="#here">x</a><p id="there"><a href="a.md#two"><a href="#there.__init__">'
    (tmp_path / "b.html").write_text(page + code)
    found = [line.rpartition(": ")[2] for line in links.dead_links(tmp_path)]
    assert found == ["b.md", "#two", "#here", "a.md#two"]


def test_the_quickstart_runs_as_it_stands():
    nbformat = pytest.importorskip("nbformat")
    nbclient = pytest.importorskip("nbclient")
    notebook = nbformat.read(ROOT / "examples" / "quickstart.ipynb", as_version=4)
    assert not any(cell.get("outputs") for cell in notebook.cells)  # None are kept in git.
    done = nbclient.NotebookClient(notebook, timeout=600, kernel_name="python3").execute()
    printed = ["".join(o.get("text", "") for o in c.get("outputs", ())) for c in done.cells]
    assert any("epoch 2/2" in text for text in printed)
    assert any("images like no other" in text for text in printed)
