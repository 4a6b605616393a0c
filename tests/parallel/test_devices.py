"""The same training on one device and on eight, with images on the devices and on the host."""

import os
import pathlib
import subprocess
import sys

import jax
import numpy as np
import pytest
import tiny_training

from sicl_jax import devices
from sicl_jax.training import feeds, steps

_TOLERANCE = 1e-7  # Banks start from float32 features.


@pytest.fixture(scope="module")
def one_device():
    with jax.enable_x64(True):
        return {feed: tiny_training.train(feed) for feed in (feeds.ResidentFeed, feeds.HostFeed)}


@pytest.fixture(scope="module")
def eight_devices(tmp_path_factory):
    out = tmp_path_factory.mktemp("eight") / "out.npz"
    flags = os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8"
    script = pathlib.Path(tiny_training.__file__)
    environment = os.environ | {"XLA_FLAGS": flags, "JAX_ENABLE_X64": "1"}
    subprocess.run([sys.executable, script, out], check=True, env=environment)
    with np.load(out) as archive:
        return dict(archive)


def _of(results, feed):
    prefix = f"{getattr(feed, '__name__', feed)}/"
    return {k.removeprefix(prefix): v for k, v in results.items() if k.startswith(prefix)}


def _layers(arrays, prefix):
    """The weights of each layer as one vector: a bias that starts at 0 has no scale of its own."""
    layers = {}
    for name in sorted(arrays):
        if name.startswith(prefix):
            layers.setdefault(name.rpartition(".")[0], []).append(arrays[name].ravel())
    return {name: np.concatenate(parts) for name, parts in layers.items()}


def _error(found, wanted):
    return np.linalg.norm(found - wanted) / np.linalg.norm(wanted)


@pytest.mark.parametrize("feed", [feeds.ResidentFeed, feeds.HostFeed])
def test_eight_devices_train_as_one(one_device, eight_devices, feed):
    """In float64: in float32 Adam and ReLUs amplify rounding as far as the machine has it."""
    one, eight = one_device[feed], _of(eight_devices, feed)
    assert _error(eight["losses"], one["losses"]) < _TOLERANCE
    for prefix in ("params", "statistics"):
        expected, got = _layers(one, prefix), _layers(eight, prefix)
        assert expected.keys() == got.keys()
        for layer, values in expected.items():
            assert _error(got[layer], values) < _TOLERANCE, layer
    for bank in ("rgb", "silhouette", "fusion"):
        rows = eight[f"bank {bank} rows"][: tiny_training.IMAGES]
        assert _error(rows, one[f"bank {bank} rows"]) < _TOLERANCE, bank


def test_eight_devices_match_clusters_of_two_modalities_as_one(eight_devices):
    with jax.enable_x64(True):
        one = tiny_training.cross_modal_step()
    eight = _of(eight_devices, "cross_modal")
    assert one.keys() == eight.keys() and one["matched_pairs"] == eight["matched_pairs"] > 0
    for name, array in one.items():
        assert _error(eight[name], array) < 1e-12, name


def test_training_changes_the_weights(one_device):
    """So that agreement says something: the layers move by far more than they may differ."""
    config = tiny_training.make_config()
    _, state = tiny_training.start(config, tiny_training.make_data())
    named = tiny_training.named(state.weights.params)
    before = _layers({f"params {name}": leaf for name, leaf in named}, "params")
    for layer, values in _layers(one_device[feeds.ResidentFeed], "params").items():
        assert _error(values, before[layer]) > 1000 * _TOLERANCE, layer


def test_feeds_agree_to_the_last_bit(one_device):
    resident, host = (one_device[feed] for feed in (feeds.ResidentFeed, feeds.HostFeed))
    for name in resident.keys() - {"program"}:
        np.testing.assert_array_equal(resident[name], host[name], err_msg=name)


def test_no_device_gathers_all_images(eight_devices):
    program = str(_of(eight_devices, feeds.ResidentFeed)["program"])
    assert "u8[8,32,16,3]" in program  # A device's own rows: 61 padded to 64, over 8.
    assert "u8[64,32,16,3]" not in program
    assert "f32[8,8]" in program and "f32[64,8]" not in program  # Likewise the banks.


def test_batch_that_devices_do_not_divide(eight_devices):
    assert str(eight_devices["batch of 20"]) == (
        "--config.batch_size=20 cannot be split evenly over 8 devices; "
        "choose a multiple of 8, such as 24"
    )


def test_implicit_transfer_is_refused():
    """The guard that both runs above were under does see a host array."""
    double = jax.jit(lambda x: 2 * x)
    with tiny_training.no_implicit_transfers():
        np.testing.assert_array_equal(double(devices.put(np.ones(3), devices.replicated())), 2)
        with pytest.raises(Exception, match="Disallowed host-to-device transfer"):
            double(np.ones(3))


def test_calls_divide_the_steps():
    columns = tiny_training.make_data().pixels
    batches = np.arange(5 * 16, dtype=np.int32).reshape(5, 16) % tiny_training.IMAGES
    resident, host = feeds.ResidentFeed(columns), feeds.HostFeed(columns)
    sent = list(host.calls(batches, 2))
    assert [len(call.indexes) for call in sent] == [2, 2, 1]
    assert [len(call) for call in resident.calls(batches, 2)] == [2, 2, 1]
    np.testing.assert_array_equal(sent[2].pixels["image"][0], columns["image"][batches[4]])
    np.testing.assert_array_equal(sent[1].pixels["mask"][1], columns["mask"][batches[3]])
    assert list(host.calls(batches[:0], 2)) == []


def test_feed_is_chosen_by_the_budget():
    columns = tiny_training.make_data().pixels
    gigabytes = sum(column.nbytes for column in columns.values()) / 1e9
    assert isinstance(feeds.choose(columns, 0.0), feeds.ResidentFeed)
    assert isinstance(feeds.choose(columns, 1.01 * gigabytes), feeds.ResidentFeed)
    assert isinstance(feeds.choose(columns, 0.99 * gigabytes), feeds.HostFeed)
    images = {"image": columns["image"]}
    assert isinstance(feeds.choose(images, 0.99 * gigabytes), feeds.ResidentFeed)


def test_steps_per_call():
    feed = feeds.HostFeed(tiny_training.make_data().pixels)
    assert steps.steps_per_call(7, feed) == 7
    default = 1 if jax.default_backend() == "cpu" else feed.steps_per_call
    assert steps.steps_per_call(0, feed) == default
