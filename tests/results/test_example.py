"""The example runs as it is printed."""

import pathlib
import runpy
import sys

EXAMPLE = pathlib.Path(__file__).parents[2] / "examples" / "search_own_crops.py"


def test_from_crops_to_search_results(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [str(EXAMPLE), "--out", str(tmp_path)])
    runpy.run_path(str(EXAMPLE), run_name="__main__")
    printed = capsys.readouterr().out
    assert "index: 18 images added" in printed
    html = (tmp_path / "search.html").read_text()
    assert html.count('class="ranked"') == 18 and "same person;" in html
    report = (tmp_path / "report.html").read_text()
    assert 'id="clusters"' in report and 'id="galleries"' not in report  # There is no test.
