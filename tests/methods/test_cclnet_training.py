"""CCLNet as a run of three stages on the drawn people in visible light and infrared."""

import itertools
import json
import shutil
import signal

import click.testing
import jax
import numpy as np
import pytest
from PIL import Image, ImageOps

from sicl_jax import config as configs
from sicl_jax import inference, methods
from sicl_jax.cli.index import command as index_command
from sicl_jax.cli.search import command as search_command
from sicl_jax.data.dataset import Split
from sicl_jax.data.prepare import Request, prepare
from sicl_jax.errors import StoppedError, UsageError, UserError
from sicl_jax.export import write
from sicl_jax.methods.state import Clock, TrainState, Weights
from sicl_jax.report.run_report import run_report
from sicl_jax.training import loop
from sicl_jax.weights.torch_files import load_state_dict


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """Makes the config of a run of seconds."""
    folder = tmp_path_factory.mktemp("infrared")
    prepare(Request("synthetic_people/infrared_tiny", folder))
    settings = (
        f"data.dir={folder}",
        "data.name=synthetic_people/infrared_tiny",
        "model.pretrained=",
        "model.width=4",
        "model.embed_dim=8",
        "model.text_layers=1",
        "clustering.k1=8",
        "clustering.eps=0.6",
        "optimizer.learning_rate=2e-3",
        "schedule.milestones=(8,)",
        "epochs=2",
        "prompts.epochs=1",
        "exchange.after=1",
        "batch_size=16",
        "sampler.num_instances=2",
        "prompts.batch_size=16",
        "embed_batch_size=16",  # Divides all splits.
        "evaluate.before=False",
    )

    def make(*overrides: str):
        changes = [f"--config.{setting}" for setting in (*settings, *overrides)]
        return configs.load("cclnet_demo", changes)

    return make


def train(config, folder, say=lambda line: None):
    loop.train(config, folder, quiet=True, say=say)
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def whole(tiny, tmp_path_factory):
    """A run that nothing stopped, and its log."""
    folder = tmp_path_factory.mktemp("runs") / "whole"
    return folder, train(tiny(), folder)


def epochs_of(log):
    return [line for line in log if line["kind"] == "epoch"]


def test_three_stages_in_one_run(whole):
    _, log = whole
    epochs = epochs_of(log)
    stages = ["stage 0", "stage 0", "stage 1", "stage 2", "stage 2"]
    assert [line["stage"] for line in epochs] == stages
    terms = [set(line["terms"]) for line in epochs]
    assert terms[0] == {"visible", "infrared", "matched_pairs"}
    assert terms[2] == {"visible", "infrared"}
    assert terms[3] == terms[0] | {"visible_text", "infrared_text"}
    # Two epochs of clusters, of which the second exchanges; tests at the ends of stages alone.
    assert [line["terms"].get("matched_pairs", 0) > 0 for line in epochs] == [
        *(False, True, False),
        *(False, True),
    ]
    assert [line["epoch"] for line in log if line["kind"] == "test"] == [2, 5]
    for line in (epochs[0], epochs[3]):
        for modality in ("visible", "infrared"):
            assert 0 < line[f"{modality}_clusters"] <= line["clusters"]
            assert 0 <= line[f"{modality}_purity"] <= 1
        assert line["pairs"] > 0 and 0 <= line["pairs_right"] <= 1


def test_the_best_checkpoint_is_of_the_last_stage(whole):
    folder, _ = whole
    model = inference.load(folder)
    assert model.epoch == 5
    assert model.method.sizes["visible_classes"] > 1


class _Stops:
    """Sends this process a signal when a line of the run's story is said."""

    def __init__(self, words):
        self.words = words

    def __call__(self, line):
        if self.words in line:
            signal.raise_signal(signal.SIGTERM)


def test_a_run_stopped_in_every_stage_ends_bit_for_bit_as_one_that_was_not(tiny, whole, tmp_path):
    folder, expected = whole
    for words in ("epoch 1/5", "epoch 3/5", "epoch 4/5"):
        with pytest.raises(StoppedError, match="stopped by SIGTERM"):
            train(tiny(), tmp_path, _Stops(words))
    found = train(tiny(), tmp_path)
    for one, other in zip(epochs_of(found), epochs_of(expected), strict=True):
        for name in ("loss", "terms", "stage"):
            assert one[name] == other[name]
    leaves = [jax.tree.leaves(inference.load(run).weights) for run in (tmp_path, folder)]
    for one, other in zip(*leaves, strict=True):
        np.testing.assert_array_equal(one, other)


def test_some_of_the_stages(tiny, whole, tmp_path):
    """They are what they are in a run of all."""
    log = train(tiny("stages=(0,)"), tmp_path)
    assert [line["kind"] for line in log] == ["start", "epoch", "epoch", "test"]
    for one, other in zip(epochs_of(log), epochs_of(whole[1]), strict=False):
        assert (one["loss"], one["terms"]) == (other["loss"], other["terms"])
    with pytest.raises(UsageError, match=r"each stage needs what those before it found"):
        tiny("stages=(1, 2)")


def test_the_report_shows_both_modalities(whole):
    folder, _ = whole
    page = run_report(folder)
    for words in ("Visible clusters", "Infrared clusters", "Pairs right", "matched pairs"):
        assert words in page


def test_checkpoints_of_the_authors_both_ways(whole, tmp_path):
    folder, _ = whole
    model = inference.load(folder)
    write(model, tmp_path / "a.pth", "torch")
    again = inference.load(tmp_path / "a.pth")
    assert again.method.sizes == model.method.sizes
    images = np.random.default_rng(0).integers(0, 256, (3, 128, 64, 3), np.uint8)
    columns = {"modality": np.array([0, 1, 1], np.int32)}
    one, other = (m.embed(list(images), columns=columns) for m in (model, again))
    np.testing.assert_array_equal(one, other)
    write(again, tmp_path / "b.pth", "torch")
    first, second = (load_state_dict(tmp_path / f"{name}.pth") for name in "ab")
    for name, array in first.items():
        if not name.endswith("num_batches_tracked"):
            np.testing.assert_array_equal(second[name], array)


# ---- what cannot be trained on, and what is odd ------------------------------------------------


def split_of(modality):
    count = len(modality)
    unknown = np.full(count, -1, np.int32)
    labels = {"identity": unknown, "modality": np.array(modality, np.int32)}
    return Split({}, labels, tuple(map(str, range(count))))


@pytest.mark.parametrize(
    ("modality", "line"),
    [
        ([0, 0, 0], "none of 3 training images is infrared"),
        ([1, 1], "none of 2 training images is visible"),
        ([0, 1, -1], "the modality of 1 of 3 training images is unknown"),
    ],
)
def test_data_of_one_modality_is_one_line(tiny, modality, line):
    with pytest.raises(UserError, match=line):
        methods.create(tiny()).check(split_of(modality))


def test_a_batch_of_no_whole_clusters_is_one_line(tiny):
    with pytest.raises(UsageError, match=r"a multiple of twice --config\.sampler\.num_instances"):
        methods.create(tiny("batch_size=20", "sampler.num_instances=4"))


def test_few_clusters_are_a_warning(tiny, monkeypatch):
    method = methods.create(tiny())
    labels = np.array([0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, -1], np.int32)
    modality = np.repeat([0, 1], 6)
    features = np.eye(12, method.abstract_model().bottleneck.scale.shape[0], dtype=np.float32)
    monkeypatch.setattr(method, "features", lambda *_: features)
    monkeypatch.setattr(method, "cluster", lambda *_: labels)
    weights = Weights(None, None, None)
    memory = method._empty(12)
    state = TrainState(weights, (), memory, Clock.at(0))
    data = split_of(modality)
    started = method.begin_epoch(state, data, 0, {})
    assert started.figures["visible_clusters"] == started.figures["infrared_clusters"] == 2
    assert any("visible images: 2 clusters are fewer than the 4" in w for w in started.warnings)
    batches = method.draw_batches(started.state, data, 0)
    assert batches.shape[1] == 16 and set(labels[batches[:, 8:]].ravel()) == {2, 3}


def test_compat_decides_what_the_infrared_memory_sees(tiny):
    """Only once clusters are exchanged; the visible memory is the same."""
    rng = np.random.default_rng(0)
    features = rng.normal(size=(16, 128)).astype(np.float32)
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    labels = np.repeat(np.arange(8, dtype=np.int32), 2)

    def updated(compat, phase):
        method = methods.create(tiny(f"compat={compat}"))
        memory = method.memory_of(labels, 4, features)
        halves = [np.arange(8) // 2] * 2
        clock = Clock.at(0, phase=phase)
        moved = [features[:8][::-1], features[8:][::-1]]
        return method._updated(memory, halves, moved, clock)

    (early, none), (again, _) = (updated(compat, 0) for compat in ("released", "paper"))
    assert none == 0
    for one, other in zip(early, again, strict=True):
        np.testing.assert_array_equal(one, other)
    (released, pairs), (paper, _) = (updated(compat, 1) for compat in ("released", "paper"))
    assert 0 < pairs <= 4
    np.testing.assert_array_equal(released[0], paper[0])
    assert np.abs(released[1] - paper[1]).max() > 1e-3
    assert np.abs(released[0] - early[0]).max() > 1e-3


# ---- real photographs --------------------------------------------------------------------------


def test_real_photographs_with_a_stand_in_for_infrared(tiny, real_photographs, tmp_path):
    """Half of the images grey and inverted: nobody has infrared ones beside the checkout."""
    people = sorted((real_photographs / "prcc/rgb/train").iterdir())
    photographs = [sorted(person.glob("*.jpg"))[:24] for person in people[:4]]
    for number, file in enumerate(itertools.chain(*photographs)):
        with Image.open(file) as image:
            picture = image.convert("RGB").resize((64, 128))
        is_infrared = number % 2 == 1
        if is_infrared:
            picture = ImageOps.invert(picture.convert("L")).convert("RGB")
        folder = tmp_path / "raw" / ("ir" if is_infrared else "rgb") / file.parent.name
        folder.mkdir(parents=True, exist_ok=True)
        picture.save(folder / f"{file.stem}.png")
    prepare(Request("person_folder", tmp_path / "data", raw=tmp_path / "raw"))
    changes = ("data.name=person_folder", f"data.dir={tmp_path}/data")
    epochs = epochs_of(train(tiny(*changes), tmp_path / "run"))
    assert [line["stage"][-1] for line in epochs] == ["0", "0", "1", "2", "2"]
    for line in epochs:
        assert np.isfinite(line["loss"])
    for line in (epochs[0], epochs[3]):
        assert min(line["visible_clusters"], line["infrared_clusters"]) > 1
        assert line["visible_purity"] > 1 / len(photographs)


# ---- search ------------------------------------------------------------------------------------


def test_an_infrared_query_finds_visible_images(whole, tiny, tmp_path):
    """The modality is read from folders, or asked for."""
    folder, _ = whole
    data = loop.open_dataset(tiny(), methods.create(tiny()))
    for name, split in (("rgb", data.split("gallery")), ("ir", data.split("query"))):
        (tmp_path / name).mkdir()
        for number in range(6):
            picture = Image.fromarray(split.pixels["image"][number])
            picture.save(tmp_path / name / f"{number}.png")

    def run(command, *words):
        result = click.testing.CliRunner().invoke(command, [str(word) for word in words])
        if result.exception and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result.stdout

    where = ("--index", tmp_path / "index", "--quiet")
    run(index_command, "--workdir", folder, "--images", tmp_path / "rgb", *where)
    found = run(search_command, "--query", tmp_path / "ir" / "0.png", "--json", *where)
    asked = (
        *("--query", tmp_path / "ir" / "0.png", "--json", "--modality", "infrared"),
        *where,
    )
    assert json.loads(found)["results"] == json.loads(run(search_command, *asked))["results"]
    wrong = run(search_command, *asked[:-4], "visible", *where)
    (hits,), (others,) = ([r["hits"] for r in json.loads(o)["results"]] for o in (found, wrong))
    assert len(hits) == 6 and hits != others
    (tmp_path / "plain").mkdir()
    shutil.copy(tmp_path / "ir" / "0.png", tmp_path / "plain")
    with pytest.raises(UserError, match="no folder says its modality"):
        run(search_command, "--query", tmp_path / "plain" / "0.png", "--json", *where)
