"""The network that comes with the package, and the script that makes it."""

import dataclasses
import hashlib
import pathlib
import subprocess
import sys

import jax
import numpy as np
import pytest
import safetensors.numpy

import sicl_jax
from sicl_jax import config as configs
from sicl_jax import devices, methods
from sicl_jax.data.dataset import load_dataset
from sicl_jax.data.pixels import Form
from sicl_jax.errors import UserError
from sicl_jax.methods.embedder import Embedder
from sicl_jax.methods.state import Batch
from sicl_jax.register import METHODS
from sicl_jax.weights import drawn_people as networks
from sicl_jax.weights import torch_names
from tfds_builders.synthetic_people import photograph
from tfds_builders.synthetic_people.synthetic_people_dataset_builder import MANY_OUTFITS
from tfds_builders.synthetic_people.world import shots, splits_as_prcc

network = pytest.importorskip(
    "drawn_people_network", reason="the benchmarks are not beside the tests"
)


@pytest.fixture(scope="module")
def drawn_people():
    return sicl_jax.load("drawn-people")


@pytest.fixture(scope="module")
def strangers():
    """Of twelve people nobody trained on: images and identities, in other clothes and in A's."""
    world = dataclasses.replace(
        MANY_OUTFITS,
        seed=77,
        train_people=1,
        test_people=12,
        splits=splits_as_prcc(train=3, query_same=12, query_changed=48, gallery=48),
    )
    assert world.seed != MANY_OUTFITS.seed

    def split(name):
        wanted = list(shots(world, name))
        images = [photograph.take(world, shot)[0] for shot in wanted]
        return images, np.array([shot.identity for shot in wanted])

    return split("query_changed"), split("gallery")


def rank1(model, strangers):
    (queries, people), (gallery, theirs) = strangers
    similarity = model.embed(queries) @ model.embed(gallery).T
    return np.mean(theirs[similarity.argmax(axis=1)] == people)


def test_it_embeds_at_once_and_knows_strangers_in_other_clothes(drawn_people, strangers):
    assert drawn_people.image_size == (128, 64)
    config = drawn_people.config.copy_and_resolve_references().unlock()
    config.model.pretrained = ""
    method = methods.create(config.lock())
    weights = devices.put_replicated(method.initial_weights(0))
    untrained = type(drawn_people)(method, weights, pathlib.Path("untrained"))
    found, by_chance = rank1(drawn_people, strangers), rank1(untrained, strangers)
    assert found > 0.6 and found > 2 * by_chance, (found, by_chance)


def test_runs_begin_with_it_in_every_stream(drawn_people, strangers):
    images = np.stack(strangers[0][0][:4])
    expected = drawn_people.embed(list(images))
    for name in ("sicl", "cluster_contrast"):
        config = configs.base(name)
        config.update_from_flattened_dict(networks.RESNET.fields)
        config.model.pretrained = "drawn-people"
        if name == "cluster_contrast":
            config.model.pooling = "average"
        method = methods.create(config.lock())
        weights = devices.put_replicated(method.initial_weights(3))
        embedder = Embedder(method, flip=False, batch_size=4)
        features = embedder(weights, {"image": images})
        np.testing.assert_allclose(features, expected, atol=1e-5)
        if name == "sicl":
            model = method.model(weights)
            ours, silhouettes = (model.rgb.backbone, model.silhouette.backbone)
            np.testing.assert_array_equal(ours.conv1.kernel[...], silhouettes.conv1.kernel[...])


def test_blocks_that_it_lacks_begin_by_handing_on(drawn_people, strangers):
    images = np.stack(strangers[0][0][:4])
    config = configs.base("sicl")
    config.update_from_flattened_dict(networks.RESNET.fields | {"silhouettes": False})
    config.model.pretrained, config.model.stage_sizes = "drawn-people", (1, 1, 1, 2)
    method = methods.create(config.lock())
    weights = devices.put_replicated(method.initial_weights(0))
    features = Embedder(method, flip=False, batch_size=4)(weights, {"image": images})
    np.testing.assert_allclose(features, drawn_people.embed(list(images)), atol=1e-5)


def test_another_shape_is_refused_with_the_right_one():
    config = configs.base("sicl")
    config.update_from_flattened_dict(networks.RESNET.fields)
    config.model.pretrained, config.model.width = "drawn-people", 32
    with pytest.raises(
        UserError, match=r"model\.stage_sizes=\(1, 1, 1, 1\), model\.width=16; give these"
    ):
        methods.create(config.lock()).initial_weights(0)


def test_the_card_is_of_the_file_that_is_shipped():
    for shipped in (networks.RESNET, networks.CLIP):
        digest = hashlib.sha256(shipped.file.read_bytes()).hexdigest()
        assert digest in (shipped.file.parent / "drawn_people.md").read_text()


def test_the_clip_knows_strangers_in_grey(strangers):
    """As the demo begins: by the infrared stem, which is the visible one's copy."""
    (queries, people), (gallery, theirs) = strangers
    config = configs.load("cclnet_demo")
    method = methods.create(config)
    embedder = Embedder(method, flip=False, batch_size=64)
    weights = devices.put_replicated(method.initial_weights(0))

    def embed(images, modality):
        columns = {"image": np.stack(images), "modality": np.full(len(images), modality)}
        return embedder(weights, columns)

    grey = [np.repeat(np.uint8(i.mean(axis=-1, keepdims=True)), 3, axis=-1) for i in queries]
    similarity = embed(grey, 1) @ embed(gallery, 0).T
    found = np.mean(theirs[similarity.argmax(axis=1)] == people)
    assert found > 3 / len(set(people.tolist())), found


def test_another_shape_of_clip_is_refused_with_the_right_one():
    config = configs.load("cclnet_demo", ["--config.model.width=16"])
    with pytest.raises(UserError, match=r"model\.width=8, .*; give these"):
        methods.create(config).initial_weights(0)


# What makes the script's network one of seconds.
SMALL = tuple(
    f"--config.{override}"
    for override in (
        "data.name=synthetic_people/tiny", "data.image_size=(64, 32)", "model.width=4",
        "model.stage_sizes=(1, 1)", "epochs=1", "batch_size=32", "evaluate.before=False",
        "evaluate.every=9",
    )
)  # fmt: skip


@pytest.fixture(scope="module")
def made(tiny_data, tmp_path_factory):
    """Where the script has made a small network, of people who were drawn before."""
    workdir = tmp_path_factory.mktemp("made")
    with pytest.MonkeyPatch.context() as patch:
        # The script registers its method; other tests of this process must not see it.
        patch.setattr(METHODS, "_registered", dict(METHODS._registered))
        file = network.make(workdir, [*SMALL, f"--config.data.dir={tiny_data}"])
        yield file


def test_made_from_nothing_in_another_process_it_is_the_same_bit_for_bit(made, tmp_path):
    command = [sys.executable, network.__file__, "--workdir", tmp_path, *SMALL]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    again = (tmp_path / made.name).read_bytes()
    assert again == made.read_bytes()
    assert hashlib.sha256(again).hexdigest() in done.stdout


def test_what_the_script_makes_loads_as_a_file(made, tiny_data):
    run = sicl_jax.load(made.parent / "run")
    assert run.step == 3 and run.method.sizes == {"classes": 8}
    assert isinstance(run.method, METHODS.get("drawn_people"))

    config = configs.base("sicl")
    config.update_from_flattened_dict(
        networks.RESNET.fields | {"model.width": 4, "silhouettes": False}
    )
    config.data.image_size, config.model.stage_sizes = (64, 32), (1, 1)
    config.model.pretrained = str(made)
    method = methods.create(config.lock())
    form = Form((64, 32))
    gallery = load_dataset("synthetic_people/tiny", tiny_data, forms={"image": form})
    images = gallery.split("gallery").pixels["image"]
    features = Embedder(method, flip=False)(
        devices.put_replicated(method.initial_weights(1)), {"image": images}
    )
    np.testing.assert_allclose(features, run.embed(list(images), flip=False), atol=1e-5)


def test_the_clip_of_the_script_begins_the_demo(tmp_path, monkeypatch):
    """Its step is traced and not run; the file of its weights, in halves, CCLNet begins with."""
    monkeypatch.setattr(METHODS, "_registered", dict(METHODS._registered))
    METHODS.register(network.DrawnPeopleClip.name, network.DrawnPeopleClip)
    shape = ["data.image_size=(32, 16)", "model.width=2", "model.embed_dim=8"]
    shape = [f"--config.{override}" for override in (*shape, "model.text_layers=1")]
    file = pathlib.Path(network.__file__).with_name("drawn_people_clip.py")
    method = methods.create(configs.load(str(file), shape)).sized({"classes": 8})
    weights = devices.put_replicated(method.initial_weights(0))
    rows = np.zeros(16, np.int32)
    pixels = {"image": np.zeros((16, 32, 16, 3), np.uint8)}
    batch = Batch(pixels=pixels, labels={"identity": rows}, indexes=rows)
    state, key = method.start(weights, ()), jax.random.key(0)
    after, metrics = jax.eval_shape(method.train_step, state, batch, key)
    assert {"captions", "right"} < metrics.keys()
    assert jax.tree.structure(after) == jax.tree.structure(state)

    learned = method.arrays(method.model(weights), 3)
    safetensors.numpy.save_file(learned, tmp_path / "clip")
    shape.append(f"--config.model.pretrained={tmp_path / 'clip'}")
    demo = methods.create(configs.load("cclnet_demo", shape))
    begun = torch_names.collect(demo.names(demo.model(demo.initial_weights(1))))
    assert learned["base_resnet.base.layer1.0.conv1.weight"].dtype == np.float16
    for name, array in begun.items():
        if not name.startswith("prompt_learner.cls_ctx") and not name.endswith("_tracked"):
            np.testing.assert_array_equal(array, learned[name].astype(np.float32))
    stems = ("visible_module.visible", "thermal_module.thermal")
    np.testing.assert_array_equal(*(learned[f"{stem}.conv1.weight"] for stem in stems))
