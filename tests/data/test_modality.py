"""Data sets in two modalities: their labels, and what may be wrong with their folders and lists."""

import numpy as np
import pytest
import raw_pictures
import raw_trees
import scipy.io
from click.testing import CliRunner

from sicl_jax.cli import info
from sicl_jax.data.dataset import load_dataset
from sicl_jax.data.prepare import ProblemsError, Request, prepare
from sicl_jax.errors import UserError
from sicl_jax.evaluation import Draw, FeatureSet, evaluate_dataset
from sicl_jax.evaluation.evaluate import drawn_gallery
from tfds_builders.reid.features import INFRARED, UNKNOWN, VISIBLE


@pytest.fixture
def raw(tmp_path):
    """Writes a data set's raw tree: `raw("llcm")`."""
    return lambda name: raw_trees.WRITERS[name](tmp_path).raw


def run(name, raw, **options):
    request = Request(raw_trees.CONFIGS.get(name, name), raw.parent / "data", raw, **options)
    return prepare(request)


def test_sysu_mm01s_infrared_cameras_ask_and_its_visible_ones_answer(raw, tmp_path):
    run("sysu_mm01", raw("sysu_mm01"))
    data = load_dataset("sysu_mm01", tmp_path / "data")
    cameras = {name: set(data.split(name).labels["camera"].tolist()) for name in data.split_names}
    assert cameras == {"train": {1, 2, 3, 4, 5, 6}, "query": {3, 6}, "gallery": {1, 2, 4, 5}}
    for name in data.split_names:
        labels = data.split(name).labels
        infrared = np.isin(labels["camera"], (3, 6))
        np.testing.assert_array_equal(labels["modality"], np.where(infrared, INFRARED, VISIBLE))


def test_sysu_mm01s_own_draws_are_a_protocol_of_their_own(raw, tmp_path):
    """Against the published readers' way: for each camera and person the first numbers of a row."""
    folder = raw("sysu_mm01")
    run("sysu_mm01", folder)
    split = load_dataset("sysu_mm01", tmp_path / "data").split("gallery")
    gallery = FeatureSet(np.zeros((len(split), 1)), split.labels, split.names)
    draws = raw_trees.sysu_mm01_draws()
    identities = sorted(set(split.labels["identity"].tolist()))
    found = {}
    for images in (1, 10):
        draw = Draw(("identity", "camera"), images=images, published=True)
        for trial in range(4):
            expected = {
                f"cam{camera}/{person:04d}/{number:04d}"
                for camera in (1, 2, 4, 5)
                for person in identities
                for number in draws[camera - 1, 0][person - 1, 0][trial][:images]
            }
            expected &= {name.rpartition(".")[0] for name in split.names}
            drawn = drawn_gallery(gallery, draw, seed=0, trial=trial)
            assert {name.rpartition(".")[0] for name in drawn.names} == expected
            found[images, trial] = expected
    assert len({frozenset(found[1, trial]) for trial in range(4)}) > 1


def test_without_that_file_there_is_no_such_protocol(raw, tmp_path):
    folder = raw("sysu_mm01")
    results = {}
    for name in ("with", "without"):
        data = tmp_path / name
        prepare(Request("sysu_mm01", data, folder))
        found = load_dataset("sysu_mm01", data)
        rng = np.random.default_rng(0)
        sides = {
            side: FeatureSet(rng.normal(size=(len(split), 8)), split.labels, split.names)
            for side, split in ((side, found.split(side)) for side in ("query", "gallery"))
        }
        results[name] = evaluate_dataset("sysu_mm01", sides)
        (folder / "exp/rand_perm_cam.mat").unlink(missing_ok=True)
    official = set(results["with"]) - set(results["without"])
    assert official == {
        f"{search}_search/{shots}_official"
        for search in ("all", "indoor")
        for shots in ("single_shot", "ten_shot")
    }
    assert {results["with"][name].draws for name in official} == {4}


@pytest.mark.parametrize(
    "content",
    [
        b"", b"MATLAB 5.0" + bytes(300), {"other": np.zeros(3)}, {"rand_perm_cam": np.zeros(6)},
        {"rand_perm_cam": raw_trees.sysu_mm01_draws(people=2)},
        {"rand_perm_cam": raw_trees.sysu_mm01_draws()[:4]},
    ],
    ids=["empty", "cut off", "another variable", "no cells", "too few people", "too few cameras"],
)  # fmt: skip
def test_draws_that_are_none(raw, content):
    folder = raw("sysu_mm01")
    file = folder / "exp/rand_perm_cam.mat"
    if isinstance(content, bytes):
        file.write_bytes(content)
    else:
        scipy.io.savemat(file, content)
    with pytest.raises(UserError, match="does not hold SYSU-MM01's draws") as caught:
        run("sysu_mm01", folder)
    assert "\n" not in str(caught.value)


def test_the_card_counts_infrared_images(raw, tmp_path):
    prepared = run("sysu_mm01", raw("sysu_mm01"))
    card = prepared.store.metadata["card"]
    assert [card[split].get("infrared") for split in ("train", "query", "gallery")] == [6, 6, None]
    arguments = ["sysu_mm01", "--data_dir", str(tmp_path / "data")]
    assert "infrared" in CliRunner().invoke(info.command, arguments).output.splitlines()[1]


def test_a_trial_of_regdb_is_a_config(raw):
    folder = raw("regdb")
    with pytest.raises(UserError, match="regdb is not one of regdb/trial_1, .*regdb/trial_10"):
        prepare(Request("regdb", folder.parent / "data", folder))
    with pytest.raises(UserError, match=r"idx/train_visible_2\.txt is missing"):
        prepare(Request("regdb/trial_2", folder.parent / "data", folder))


@pytest.mark.parametrize(
    ("name", "file", "line", "message"),
    [
        (
            "llcm",
            "idx/train_nir.txt",
            "nir/0001/0001_c09_s1_f1_nir.jpg 0",
            "line 10 of .* lists it",
        ),
        ("llcm", "idx/test_vis.txt", "vis/0004/no_name.jpg 0", "line 10: not named as LLCM"),
        ("regdb", "idx/test_thermal_1.txt", "../../etc/passwd 1", "line 10: not named as RegDB"),
        ("sysu_mm01", "exp/test_id.txt", None, "a list in exp names identity 77"),
    ],
)
def test_lists_of_what_is_not_there(raw, name, file, line, message):
    folder = raw(name)
    text = (folder / file).read_text()
    (folder / file).write_text(text + line + "\n" if line else text.strip() + ",77\n")
    with pytest.raises(ProblemsError) as caught:
        run(name, folder)
    (problem,) = caught.value.problems
    with pytest.raises(UserError, match=message):
        raise UserError(problem.detail)
    assert run(name, folder, skip_bad=True).problems == [problem]


def test_an_identity_of_two_lists(raw):
    folder = raw("sysu_mm01")
    (folder / "exp/val_id.txt").write_text("3,4\n")
    with pytest.raises(ProblemsError) as caught:
        run("sysu_mm01", folder)
    assert "identity 4 is in another list too" in caught.value.problems[0].detail


@pytest.mark.parametrize(
    ("name", "damage", "message"),
    [
        ("sysu_mm01", lambda raw: (raw / "cam4").rename(raw / "cam7"), "has no folder cam4"),
        ("sysu_mm01", lambda raw: (raw / "cam7").mkdir(), "cameras are 1 to 6"),
        (
            "sysu_mm01",
            lambda raw: (raw / "exp/val_id.txt").write_text("a\n"),
            "separated by commas",
        ),
        ("sysu_mm01", lambda raw: (raw / "exp/val_id.txt").unlink(), "val_id.txt is missing"),
        ("sysu_mm01", lambda raw: _empty(raw, "cam3", "cam6"), "no infrared image for split train"),
        ("regdb", lambda raw: _empty(raw, "Thermal"), "train_thermal_1.txt names no image that is"),
        ("llcm", lambda raw: _empty(raw, "vis"), "train_vis.txt names no image that is there"),
    ],
)
def test_a_modality_or_camera_that_is_missing(raw, name, damage, message):
    folder = raw(name)
    damage(folder)
    with pytest.raises(UserError, match=message) as caught:
        run(name, folder)
    assert "\n" not in str(caught.value)


def _empty(raw, *folders):
    for folder in folders:
        for path in (raw / folder).rglob("*.*"):
            path.unlink()


@pytest.fixture
def crops(tmp_path):
    image = raw_pictures.people((1,))[0].image
    for name in ("train/rgb/ann/1.jpg", "train/ir/ann/1.jpg", "train/ir/bob/2.jpg", "train/3.jpg"):
        path = tmp_path / "crops" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        image.save(path)
    return tmp_path / "crops"


def test_own_folders_of_two_modalities(crops):
    run("person_folder", crops)
    split = load_dataset("person_folder", crops.parent / "data").split("train")
    found = dict(zip(split.names, split.labels["modality"].tolist(), strict=True))
    people = dict(zip(split.names, split.labels["identity"].tolist(), strict=True))
    assert found == {
        "train/3.jpg": UNKNOWN,
        "train/ir/ann/1.jpg": INFRARED,
        "train/ir/bob/2.jpg": INFRARED,
        "train/rgb/ann/1.jpg": VISIBLE,
    }
    assert list(people.values()) == [-1, 0, 1, 0]


def test_own_table_of_modalities(crops):
    rows = "file,modality\ntrain/3.jpg,infrared\ntrain/rgb/ann/1.jpg,infrared\n"
    (crops / "metadata.csv").write_text(rows)
    run("person_folder", crops)
    split = load_dataset("person_folder", crops.parent / "data").split("train")
    assert split.labels["modality"].tolist() == [INFRARED] * 4
    (crops / "metadata.csv").write_text("file,modality\ntrain/3.jpg,ultraviolet\n")
    with pytest.raises(ProblemsError) as caught:
        run("person_folder", crops, overwrite=True)
    assert "modality 'ultraviolet' is none of visible, infrared" in caught.value.problems[0].detail
