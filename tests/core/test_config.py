"""Configs: files, overrides, identity of a run."""

import pathlib

import pytest

from sicl_jax import config as configs
from sicl_jax.errors import UsageError

CONFIGS = sorted(pathlib.Path(__file__).parents[2].glob("configs/*.py"))


@pytest.mark.parametrize("file", [f for f in CONFIGS if f.stem != "__init__"], ids=lambda f: f.stem)
def test_every_config_of_the_repository_loads_and_builds_its_method(file):
    from sicl_jax import methods

    config = configs.load(str(file))
    assert methods.create(config).name == config.method


def test_published_hyper_parameters():
    """`algorithm.md`, sections 4 to 7."""
    expected = {  # data set: (neighbours, steps an epoch)
        "prcc": (5, 400),
        "ltcc": (10, 200),
        "vc_clothes": (3, 200),
        "celeb_reid": (10, 400),
        "celeb_reid_light": (10, 200),
    }
    for name, (neighbors, steps) in expected.items():
        config = configs.load(f"sicl_{name}")
        assert (config.neighbors.num, config.steps_per_epoch) == (neighbors, steps)
        assert config.data.name == name
        assert config.compat == "released"
        assert (config.clustering.k1, config.clustering.k2, config.clustering.eps) == (30, 6, 0.6)
        assert config.optimizer.to_dict() == {"learning_rate": 3.5e-4, "weight_decay": 5e-4}
        assert (config.schedule.name, config.schedule.every) == ("step", 20)


def test_overrides_take_the_type_of_the_field():
    config = configs.load(
        "sicl_prcc",
        [
            "--config.epochs=3",
            "--config.optimizer.learning_rate=1",
            "--config.data.image_size=(128, 64)",
            "--config.silhouettes=false",
            "--config.data.dir=/a=b",
        ],
    )
    assert config.epochs == 3
    assert config.optimizer.learning_rate == 1.0 and isinstance(
        config.optimizer.learning_rate, float
    )
    assert config.data.image_size == (128, 64)
    assert config.silhouettes is False
    assert config.data.dir == "/a=b"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("--config.epoch=3", r"no such field; did you mean --config\.epochs\?"),
        ("--config.clustering.epss=1.0", r"did you mean --config\.clustering\.eps\?"),
        ("--config.epochs=many", "expected a value of type int"),
        ("--config.silhouettes=1", "expected a value of type bool"),
        ("--epochs=3", "unknown option"),
        ("--config.epochs", "unknown option"),
    ],
)
def test_a_wrong_override_is_refused_in_one_line(override, message):
    with pytest.raises(UsageError, match=message) as caught:
        configs.load("sicl_prcc", [override])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("this is no Python", "not a Python file"),
        (b"\x00\xff", "not a Python file"),
        ("x = 1", r"no get_config\(\)"),
        ("def get_config(): return {}", "must return an ml_collections.ConfigDict"),
        ("def get_config(): raise RuntimeError('a\\nb')", "failed: RuntimeError: a b"),
        ("def get_config(): return {}['a']", "failed: KeyError: 'a'"),
        ("def get_config(): raise ValueError('width')", "failed: ValueError: width"),
    ],
)
def test_a_file_that_is_no_config_is_refused_in_one_line(tmp_path, content, message):
    file = tmp_path / "config.py"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UsageError, match=message) as caught:
        configs.load(str(file))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("batch_size=0", "from 1 to 1e+06"),
        ("epochs=-1", "from 1 to 1e+06"),
        ("sampler.num_instances=0", "from 1"),
        ("steps_per_epoch=0", "from 1"),
        ("embed_batch_size=0", "from 1"),
        ("seed=-1", "from 0"),
        ("steps_per_call=-1", "from 0"),
        ("evaluate.every=0", "from 1"),
        ("augment.pad=-1", "from 0"),
        ("augment.erase_area=(1.0,)", "2, above 0, at most 1"),
        ("memory.momentum=2.0", "from 0 to 1"),
        ("memory.temperature=0.0", "above 0"),
        ("optimizer.learning_rate=-1.0", "above 0"),
        ("optimizer.learning_rate=1e999", "above 0, at most 1e+30"),
        ("model.block=huge", "one of basic, bottleneck"),
        ("model.dtype=float64", "one of auto, float32, bfloat16"),
        ("model.width=0", "from 1 to 4096"),
        ("model.stage_sizes=()", "1 to 8, from 1 to 100"),
        ("data.image_size=(256, 128, 3)", "2, from 1 to 4096"),
    ],
)
def test_values_that_make_no_sense_are_refused_in_one_line(override, words):
    with pytest.raises(UsageError) as caught:
        configs.load("sicl_prcc", [f"--config.{override}"])
    name = override.partition("=")[0]
    assert str(caught.value).startswith(f"--config.{name}=")
    assert f": has to be {words}" in str(caught.value)


def test_a_missing_file_is_named():
    with pytest.raises(UsageError, match="nowhere.py: no such file"):
        configs.load("nowhere.py")


def test_json_keeps_the_config():
    config = configs.load("sicl_prcc")
    again = configs.from_json(configs.to_json(config))
    assert configs.differences(config, again) == []
    assert configs.digest(config) == configs.digest(again)


def test_only_what_changes_results_makes_another_run():
    config = configs.load("sicl_prcc")
    elsewhere = configs.load("sicl_prcc", ["--config.data.dir=elsewhere"])
    longer = configs.load("sicl_prcc", ["--config.epochs=61"])
    assert configs.digest(config) == configs.digest(elsewhere)
    assert configs.digest(config) != configs.digest(longer)
    assert configs.differences(config, longer) == ["config.epochs: 60 -> 61"]
