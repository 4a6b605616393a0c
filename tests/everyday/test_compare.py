"""Several runs beside one another."""

import json
import shutil
import statistics

import pytest

from sicl_jax.errors import UserError
from sicl_jax.report import comparison


@pytest.fixture
def runs(finished, tmp_path):
    """Three runs as `train --seeds 0,1,2` leaves them, and one with another learning rate."""
    for seed in range(3):
        folder = shutil.copytree(finished, tmp_path / "seeds" / f"seed_{seed}")
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(config | {"seed": seed}))
        lines = (folder / "metrics.jsonl").read_text().splitlines()
        tests = [json.loads(line) for line in lines]
        for line in tests:
            for figures in line.values():
                if isinstance(figures, dict) and "mAP" in figures:
                    figures["mAP"] = 0.1 * seed
        (folder / "metrics.jsonl").write_text("".join(json.dumps(t) + "\n" for t in tests))
    other = shutil.copytree(finished, tmp_path / "other")
    config = json.loads((other / "config.json").read_text())
    config["optimizer"]["learning_rate"] = 0.5
    (other / "config.json").write_text(json.dumps(config))
    return tmp_path / "seeds", other


def test_seeds_are_one_row_with_mean_and_deviation(runs):
    groups = comparison.read(runs)
    assert [group.seeds for group in groups] == [[0, 1, 2], [0]]
    assert groups[0].name == str(runs[0])
    mean, deviation = groups[0].figures("cloth_changing/all")["mAP"]
    assert mean == pytest.approx(0.1) and deviation == pytest.approx(
        statistics.stdev([0, 0.1, 0.2])
    )
    assert groups[1].figures("cloth_changing/all")["mAP"][1] is None
    assert comparison.differences(groups) == {"optimizer.learning_rate": [0.001, 0.5]}


def test_the_command(sicl, runs, tmp_path):
    code, out, err = sicl("compare", *runs, "--output", tmp_path / "compare.html")
    assert code == 0, err
    assert "10.0 ± 10.0" in out and "config.optimizer.learning_rate: 0.001 | 0.5" in out
    html = (tmp_path / "compare.html").read_text()
    assert 'id="config"' in html and "seed 2" in html and html.count('class="chart"') >= 5
    code, out, _ = sicl("compare", *runs, "--json")
    found = json.loads(out)
    assert code == 0 and len(found["groups"]) == 2 and len(found["results"]) == 12
    code, out, _ = sicl("compare", runs[1], "--csv")
    assert code == 0 and out.splitlines()[0].startswith("runs,seeds,protocol,mAP,mAP_std")
    with pytest.raises(UserError, match="no run here, nor in the folders below it"):
        comparison.read([tmp_path / "nothing"])


def test_several_seeds_are_trained_one_after_the_other(sicl, small, tmp_path):
    base = ("train", "--config", "sicl_demo", "--quiet", "--workdir", tmp_path / "runs", *small)
    short = ("--config.epochs=1", "--config.evaluate.before=False")
    code, out, err = sicl(*base, *short, "--seeds", "3,5")
    assert code == 0, err
    (group,) = comparison.read([tmp_path / "runs"])
    assert group.seeds == [3, 5] and "seed 5, in" in out
    assert sicl(*base, "--seeds", "a")[0] == 2
    assert sicl(*base, "--devices", 99)[0] == 2
