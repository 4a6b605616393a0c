"""evaluate, extract, index, search and report as a user calls them."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from sicl_jax.data.prepare import Request, prepare


def log_lines(run_folder, kind):
    lines = (run_folder / "metrics.jsonl").read_text().splitlines()
    return [line for line in map(json.loads, lines) if line["kind"] == kind]


def failed(outcome, *words, code=1):
    """The command ended with this code, one line of error and nothing else."""
    assert outcome[0] == code and outcome[1] == ""
    line, *more = outcome[2].strip().splitlines()
    assert not more and line.startswith("sicl-jax: error: "), outcome[2]
    for word in words:
        assert word in line


# ---- evaluate ------------------------------------------------------------------------------


def test_evaluate_gives_the_figures_of_training(sicl, run_folder):
    code, out, err = sicl("evaluate", "--workdir", run_folder, "--checkpoint", "latest", "--json")
    found = json.loads(out)
    logged = log_lines(run_folder, "test")[-1]
    assert code == 0 and err == "" and found["epoch"] == 2 and found["step"] == 4
    assert found["protocols"] == {name: logged[name] for name in found["protocols"]}
    assert len(found["protocols"]) == 6


def test_evaluate_tables(sicl, run_folder):
    base = ("evaluate", "--workdir", run_folder, "--quiet", "--protocol", "cloth_changing/all")
    code, out, _ = sicl(*base, "--bootstrap", 20)
    assert code == 0 and "cloth_changing" in out and "bootstrap, low" in out and "mINP" in out
    code, out, _ = sicl(*base, "--rerank", "--csv")
    assert code == 0 and out.splitlines()[1].startswith("cloth_changing/all,0.")
    assert out.splitlines()[1].endswith("rgb,False,True")
    code, out, _ = sicl(*base, "--flip", "--latex", "--per_camera")
    assert code == 0 and out.startswith(r"\begin{tabular}") and "mirror image" in out
    assert r"cloth\_changing/all/camera\_2 &" in out
    failed(sicl(*base, "--csv", "--json"), "choose one", code=2)


def test_evaluate_options_change_the_features(sicl, run_folder):
    base = ("evaluate", "--workdir", run_folder, "--json", "--protocol", "cloth_changing/all")
    found = [
        json.loads(sicl(*base, *more)[1])["protocols"]["cloth_changing/all"]["mAP"]
        for more in ((), ("--flip",), ("--rerank",), ("--stream", "fusion"))
    ]
    assert len(set(found)) == 4


def test_evaluate_on_another_data_set(sicl, run_folder, crops, dataset, tmp_path):
    raw = tmp_path / "raw"
    shutil.copytree(crops / "query_changed", raw / "query")
    shutil.copytree(crops / "gallery", raw / "gallery")
    (raw / "train").mkdir()
    for row in range(8):
        Image.fromarray(dataset.split("train").pixels["image"][row]).save(
            raw / "train" / f"{row}.png"
        )
    prepare(Request("person_folder", tmp_path / "data", raw=raw))
    words = ("evaluate", "--workdir", run_folder, "--dataset", "person_folder", "--json")
    code, out, _ = sicl(*words, "--data_dir", tmp_path / "data")
    found = json.loads(out)
    assert code == 0 and found["dataset"] == "person_folder"
    standard = found["protocols"]["standard"]
    assert standard["queries"] + standard["skipped"] == 9
    outcome = sicl(*words, "--data_dir", tmp_path / "data", "--stream", "silhouette")
    failed(outcome, "'silhouette' read the column 'mask'", "lack")


def test_evaluate_a_network_that_is_no_run(sicl, tiny_data):
    words = ("evaluate", "--workdir", "drawn-people", "--json", "--quiet")
    words += ("--dataset", "synthetic_people/tiny", "--data_dir", tiny_data)
    code, out, _ = sicl(*words, "--protocol", "cloth_changing/all")
    found = json.loads(out)
    assert code == 0 and found["epoch"] is None
    assert found["protocols"]["cloth_changing/all"]["mAP"] > 0.9  # It has seen many such people.


def test_evaluate_bad_input(sicl, run_folder, run_copy, tmp_path):
    failed(sicl("evaluate", "--workdir", tmp_path / "nothing"), "no such workdir or file")
    failed(sicl("evaluate", "--workdir", tmp_path), "no run here")
    failed(sicl("evaluate", "--workdir", "drawn-people"), "name a prepared data set", code=2)
    failed(sicl("evaluate", "--workdir", run_folder, "--protocol", "x"), "no protocol 'x'", code=2)
    failed(sicl("evaluate", "--workdir", run_folder, "--checkpoint", 99), "99: not kept")
    failed(sicl("evaluate", "--workdir", run_folder, "--dataset", "ltcc"), "ltcc")
    shutil.rmtree(run_copy / "checkpoints")
    failed(sicl("evaluate", "--workdir", run_copy), "no checkpoint yet; train first")
    assert not (run_copy / "checkpoints").exists()  # Nothing is written into a run.


# ---- extract -------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["npz", "parquet"])
def test_extract(sicl, run_folder, crops, model, tmp_path, suffix, rounding):
    output = tmp_path / f"features.{suffix}"
    code, out, err = sicl(
        "extract", "--workdir", run_folder, "--checkpoint", "latest",
        "--images", crops / "gallery", "--output", output, "--json", "--quiet",
    )  # fmt: skip
    assert code == 0 and err == "" and json.loads(out)["images"] == 9
    if suffix == "npz":
        with np.load(output) as archive:
            names, features = archive["files"].tolist(), archive["features"]
            about = json.loads(str(archive["about"]))
    else:
        parquet = pytest.importorskip("pyarrow.parquet")
        table = parquet.read_table(output)
        names = table["file"].to_pylist()
        features = np.array(table["feature"].to_pylist(), np.float32)
        about = json.loads(table.schema.metadata[b"sicl_jax"])
    assert names == sorted(names) and about["model"] == model.fingerprint
    wanted = model.embed([crops / "gallery" / name for name in names])
    np.testing.assert_allclose(features, wanted, atol=rounding)


def test_extract_bad_input(sicl, run_folder, crops, tmp_path):
    base = ("extract", "--workdir", run_folder, "--quiet")
    images = ("--images", crops / "gallery")
    failed(sicl(*base, *images, "--output", tmp_path / "f.csv"), ".npz or .parquet", code=2)
    failed(sicl(*base, *images, "--output", tmp_path / "no" / "f.npz"), "does not exist")
    (tmp_path / "empty").mkdir()
    output = ("--output", tmp_path / "f.npz")
    failed(sicl(*base, "--images", tmp_path / "empty", *output), "no images in this folder")
    failed(sicl(*base, "--images", tmp_path / "none", *output), "is not a folder")
    bad = tmp_path / "bad"
    shutil.copytree(crops / "gallery", bad)
    (bad / "0.jpg").write_bytes(b"\xff\xd8 cut off")
    failed(sicl(*base, "--images", bad, *output), "0.jpg", "JPEG")
    assert not (tmp_path / "f.npz").exists()
    code, out, err = sicl(*base, "--images", bad, *output, "--skip_bad")
    assert code == 0 and "9 features" in out and "left out: " in err and "0.jpg" in err


# ---- index and search ----------------------------------------------------------------------


@pytest.fixture
def indexed(sicl, run_folder, crops, tmp_path):
    """An index of the gallery's crops; its folder, and what made it."""
    images = shutil.copytree(crops / "gallery", tmp_path / "gallery")
    words = ("index", "--workdir", run_folder, "--checkpoint", "latest", "--quiet", "--json")
    code, out, err = sicl(*words, "--images", images, "--index", tmp_path / "index")
    assert code == 0, err
    assert json.loads(out)["images"] == json.loads(out)["added"] == 9
    return tmp_path / "index", images, words


def test_search_ranks_as_features_do(sicl, indexed, crops, model, tmp_path):
    folder, images, _ = indexed
    queries = crops / "query_changed"
    page = tmp_path / "page.html"
    code, out, err = sicl(
        "search", "--index", folder, "--query", queries, "--top", 4, "--json", "--quiet",
        "--page", page, "--by_folder",
    )  # fmt: skip
    assert code == 0, err
    found = json.loads(out)
    names = sorted(path for path in images.rglob("*.png"))
    paths = sorted(path for path in queries.rglob("*.png"))
    similarity = model.embed(paths) @ model.embed(names).T
    assert found["exact"] and len(found["results"]) == len(paths)
    for path, row, result in zip(paths, similarity, found["results"], strict=True):
        best = np.argsort(-row)[:4]
        assert result["query"] == str(path)
        assert [hit["file"] for hit in result["hits"]] == [str(names[i]) for i in best]
        got = [hit["similarity"] for hit in result["hits"]]
        np.testing.assert_allclose(got, row[best], atol=1e-5)
    html = page.read_text()
    assert html.count("<img ") == len(paths) * 5
    same = sum(
        str(names[i].parent.name) == path.parent.name
        for path, row in zip(paths, similarity, strict=True)
        for i in np.argsort(-row)[:4]
    )
    assert html.count("same person;") == same


def test_a_query_is_not_its_own_result(sicl, indexed):
    folder, images, _ = indexed
    query = next(images.rglob("*.png"))
    code, out, _ = sicl("search", "--index", folder, "--query", query, "--top", 20, "--json")
    files = [hit["file"] for hit in json.loads(out)["results"][0]["hits"]]
    assert code == 0 and len(files) == 8 and str(query) not in files
    code, out, _ = sicl("search", "--index", folder, "--query", query, "--top", 2)
    assert code == 0 and out.splitlines()[2].endswith(files[0])


def test_an_index_follows_its_folder(sicl, indexed):
    folder, images, words = indexed
    again = (*words, "--images", images, "--index", folder)
    assert json.loads(sicl(*again)[1])["added"] == 0
    changed, gone, *_ = sorted(images.rglob("*.png"))
    Image.open(changed).rotate(180).save(changed)
    gone.unlink()
    assert json.loads(sicl(*again)[1]) | {"index": ""} == {
        "index": "", "added": 1, "images": 9, "left_out": 0,
    }  # fmt: skip
    code, out, _ = sicl("index", "--index", folder, "--remove_missing", "--json")
    assert code == 0 and json.loads(out)["removed"] == 1 and json.loads(out)["images"] == 8
    code, out, _ = sicl("index", "--index", folder, "--remove", changed.name)
    assert code == 0 and "1 image removed; it holds 7" in out
    failed(sicl("index", "--index", folder, "--remove", "cam9/*"), "matches cam9/*")


def test_an_index_of_another_model_is_refused(sicl, indexed, run_folder):
    folder, images, words = indexed
    query = next(images.rglob("*.png"))
    other = ("--workdir", run_folder, "--checkpoint", 2)
    search = ("search", "--index", folder, "--query", query)
    failed(sicl(*search, *other), "made with another model", "step 4")
    failed(sicl("index", *other, "--images", images, "--index", folder), "another model")
    failed(sicl(*words, "--images", images, "--index", folder, "--flip"), "flip False, not")


def test_search_bad_input(sicl, indexed, tmp_path):
    folder, images, _ = indexed
    failed(sicl("search", "--index", tmp_path / "no", "--query", images), "no index here")
    search = ("search", "--index", folder, "--query")
    failed(sicl(*search, tmp_path / "no.jpg"), "no such image or folder")
    (tmp_path / "words.jpg").write_text("not an image")
    failed(sicl(*search, tmp_path / "words.jpg"), "words.jpg: is not a JPEG")
    (tmp_path / "empty").mkdir()
    failed(sicl(*search, tmp_path / "empty"), "no images in this folder")
    sicl("index", "--index", folder, "--remove", "*")
    failed(sicl(*search, images), "the index is empty")
    failed(sicl("index", "--index", folder), "--images", code=2)
    failed(sicl("index", "--index", folder, "--images", images), "--workdir", code=2)


# ---- report --------------------------------------------------------------------------------


def test_report(sicl, run_copy):
    code, out, err = sicl("report", "--workdir", run_copy, "--json", "--quiet")
    file = run_copy / "report.html"
    assert code == 0 and err == ""
    assert json.loads(out) == {"report": str(file), "bytes": file.stat().st_size}
    failed(sicl("report", "--workdir", run_copy / "tensorboard"), "no run here")
    failed(sicl("report", "--workdir", run_copy, "--checkpoint", "x"), "--checkpoint x", code=2)


@pytest.mark.parametrize("name", ["evaluate", "extract", "index", "search", "report"])
def test_help(sicl, name):
    code, out, _ = sicl(name, "--help")
    assert code == 0 and "--quiet" in out and "--json" in out
