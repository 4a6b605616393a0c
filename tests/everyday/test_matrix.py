"""One model on many data sets, and many on many."""

import csv
import io
import json
import shutil
import statistics
import xml.etree.ElementTree as ET

import pytest

from sicl_jax.data.prepare import Request, prepare

OTHER = "synthetic_people/infrared_tiny"
OWN = "synthetic_people/tiny"
PRIMARY = {OWN: "cloth_changing/single_shot", OTHER: "all_search/single_shot"}


@pytest.fixture(scope="module")
def both(tiny_data) -> str:
    """Prepares a second data set beside the runs' own; gives the names of both."""
    prepare(Request(OTHER, tiny_data))
    return f"{OWN},{OTHER}"


@pytest.fixture
def runs(finished, tmp_path):
    """Two seeds of a run."""
    for seed in range(2):
        folder = shutil.copytree(finished, tmp_path / "seeds" / f"seed_{seed}")
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(config | {"seed": seed}))
    return tmp_path / "seeds"


def rows_of(out: str) -> list[dict]:
    return list(csv.DictReader(io.StringIO(out)))


def test_one_model_on_several_data_sets(sicl, finished, both):
    base = ("evaluate", "--workdir", finished, "--quiet")
    code, out, err = sicl(*base, "--dataset", both, "--json")
    assert code == 0, err
    own, other = json.loads(out)
    assert [each["dataset"] for each in (own, other)] == both.split(",")
    assert own["fingerprint"] != other["fingerprint"] and own["model"] == other["model"]
    rows = rows_of(sicl(*base, "--dataset", both, "--csv")[1])
    for each in (own, other):
        listed = {r["protocol"]: r for r in rows if r["dataset"] == each["dataset"]}
        assert {n: float(r["mAP"]) for n, r in listed.items()} == {
            n: figures["mAP"] for n, figures in each["protocols"].items()
        }
    # Alone it is the same as beside another.
    alone = json.loads(sicl(*base, "--dataset", OTHER, "--json")[1])
    assert alone == other
    text, latex = (sicl(*base, "--dataset", both, *how)[1] for how in ((), ("--latex",)))
    titles = [line for line in text.splitlines() if line.startswith("synthetic_people/")]
    assert [title.partition(",")[0] for title in titles] == both.split(",")
    assert f"{100 * other['protocols'][PRIMARY[OTHER]]['mAP']:.1f}" in text
    assert r"synthetic\_people/tiny/cloth\_changing/all" in latex
    for wrong in (f"{OWN},", f"{OWN},{OWN}"):
        code, _, err = sicl(*base, "--dataset", wrong)
        assert code == 2 and "each once" in err


def test_runs_against_data_sets(sicl, runs, both, tmp_path):
    base = ("matrix", runs, "--dataset", both, "--quiet")
    code, out, err = sicl(*base, "--csv", "--output", tmp_path / "matrix.svg")
    assert code == 0, err
    rows = rows_of(out)
    cells = {r["dataset"]: r for r in rows if r["primary"] == "True"}
    assert {name: r["protocol"] for name, r in cells.items()} == PRIMARY
    for name, row in cells.items():
        figures = []
        for seed in range(2):
            words = ("--workdir", runs / f"seed_{seed}", "--dataset", name, "--json", "--quiet")
            found = json.loads(sicl("evaluate", *words)[1])["protocols"]
            figures.append(found[PRIMARY[name]]["mAP"])
        assert float(row["mAP"]) == pytest.approx(statistics.fmean(figures))
        assert float(row["mAP_std"]) == pytest.approx(statistics.stdev(figures))
        assert (row["runs"], row["seeds"], row["trained_on"]) == (str(runs), "2", OWN)
    own, other = (f"{100 * float(cells[name]['mAP']):.1f}" for name in (OWN, OTHER))
    drawn = [each.text for each in ET.parse(tmp_path / "matrix.svg").getroot().iter()]
    assert {own, other, OWN, OTHER} <= set(drawn)

    code, out, _ = sicl(*base, "--output", tmp_path / "matrix.html", "--latex")
    assert code == 0 and rf"{runs.name} & {own}\,$\pm$\," in out and "$^*$ & " in out
    page = (tmp_path / "matrix.html").read_text()
    assert f">{runs.name}<" in page and f">{runs}<" not in page
    assert "<svg" in page and "infrared_tiny" in page and "same_clothes/all" in page


def test_data_sets_are_those_of_the_runs_unless_they_are_named(sicl, finished):
    code, out, err = sicl("matrix", finished, "--quiet", "--json")
    assert code == 0, err
    assert {row["dataset"] for row in json.loads(out)} == {OWN}
    code, _, err = sicl("matrix", finished, "--dataset", "prcc", "--quiet")
    assert code == 1 and "no prepared data set prcc" in err
    code, _, err = sicl("matrix", finished, "--output", "matrix.png")
    assert code == 2 and "ends in .html or .svg" in err
