"""OSNet, LMBN and DeskPro's parts against closed forms: what no golden file says."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import sicl_jax
from sicl_jax import config as configs
from sicl_jax import devices, methods
from sicl_jax.errors import UserError
from sicl_jax.methods.deskpro import losses, model, weights
from sicl_jax.models import lmbn, osnet
from sicl_jax.models.layers import Conv, Frozen, SideBySide, Uniform, draw
from sicl_jax.report import run_report
from sicl_jax.weights import lmbn as lmbn_names
from sicl_jax.weights import osnet as osnet_names
from sicl_jax.weights import torch_names
from sicl_jax.weights.torch_files import save_state_dict

TINY = osnet.OSNetConfig(blocks=(1, 2, 1), channels=(16, 64, 64, 64))


def drawn(module: nnx.Module, seed: int = 0):
    """The module with its initial weights, as JAX arrays."""
    draw(module, seed)
    nnx.update(module, jax.tree.map(jnp.asarray, nnx.state(module)))
    return module


@pytest.fixture(scope="module")
def rng():
    return np.random.default_rng(0)


def test_depthwise_convolution_is_xlas(rng):
    conv = drawn(Conv(6, 6, 3, groups=6))
    graph, weights_ = nnx.split(conv)
    x, cotangent = (jnp.asarray(rng.standard_normal((2, 5, 4, 6))) for _ in range(2))

    def grouped(weights_, x):
        return jax.lax.conv_general_dilated(
            *(x, weights_["kernel"].get_value(), (1, 1), ((1, 1), (1, 1))),
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
            feature_group_count=6,
        )

    results = []
    for function in (lambda weights_, x: nnx.merge(graph, weights_)(x), grouped):
        y, backward = jax.vjp(function, weights_, x)
        results.append(jax.tree.leaves((y, backward(cotangent))))
    for found, wanted in zip(*results, strict=True):
        np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_modules_side_by_side_are_the_modules(rng):
    def make():
        return osnet.LightConv(8, init=Uniform())

    together = drawn(SideBySide(make, ["one", "other"]))
    x = jnp.asarray(rng.standard_normal((2, 3, 4, 4, 8)))
    apart = [drawn(make()) for _ in x]
    for number, layer in enumerate(apart):
        nnx.update(layer, jax.tree.map(lambda leaf, n=number: leaf[n], nnx.state(together.module)))
    outputs = together(x, train=True)
    for number, layer in enumerate(apart):
        np.testing.assert_allclose(outputs[number], layer(x[number], train=True), atol=1e-5)
        states = (jax.tree.leaves(nnx.state(m, nnx.BatchStat)) for m in (together.module, layer))
        for found, wanted in zip(*states, strict=True):
            np.testing.assert_allclose(found[number], wanted, atol=1e-6)


def test_intended_block_uses_the_stream_that_the_released_one_leaves_out(rng):
    x = jnp.asarray(rng.standard_normal((1, 4, 4, 64)))
    changed = {}
    for streams in ("released", "intended"):
        block = drawn(osnet.Block(64, 64, streams=streams))
        before = block(x, train=False)
        names = osnet_names.block("block", block)
        bias = {"block.conv2b.1.bn.bias": np.ones(16)}
        torch_names.assign({name: names[name] for name in bias}, bias, "")
        changed[streams] = bool(jnp.any(block(x, train=False) != before))
        variable = torch_names.variable_of(names["block.conv2b.0.conv1.weight"])
        assert isinstance(variable, nnx.Param) == (streams == "intended")
    assert changed == {"released": False, "intended": True}


def test_branches_and_heads_begin_as_copies():
    network = drawn(lmbn.LMBN(TINY, 32, 3))
    kernels = network.branches.module.conv4.blocks[0].conv1.conv.kernel[...]
    heads = network.map_heads.module.reduction.kernel[...]
    assert np.array_equal(kernels[0], kernels[1]) and np.array_equal(kernels[0], kernels[2])
    assert np.array_equal(heads[0], heads[1]) and np.array_equal(heads[2], heads[4])
    assert not np.array_equal(heads[0], heads[2])
    channel = network.channel_heads.module.classifier.kernel[...]
    assert not np.array_equal(*channel)
    gate = network.bottleneck.gate
    assert 0 < np.abs(gate.fc2.bias[...]).max() <= 1 and not np.any(
        network.trunk.conv3.gate.fc2.bias[...]
    )


def test_rows_of_the_largest_activation_are_dropped():
    maps = np.ones((2, 6, 2, 3))
    maps[0, 4, 1], maps[0, 1, 0], maps[1, 0] = 5, -4, 2
    maps[1, 5, 0, 0] = 9
    dropped = lmbn.drop_rows(jnp.asarray(maps))
    kept = np.any(dropped != 0, axis=(2, 3))
    assert kept.tolist() == [
        [True, False, True, True, False, True],
        [False, True, True, True, True, False],
    ]


def test_attention_target_is_opencvs():
    mask = np.zeros((1, 16, 8))
    mask[0, 3], mask[0, :, 4] = 1, 1
    target = np.asarray(losses.attention_target(jnp.asarray(mask), 2, 1))
    # Of each 8 x 8 cell, the mean of pixels 3 and 4 both ways; exact zeros become 0.1.
    np.testing.assert_allclose(target[0, :, 0], [0.75, 0.5], atol=1e-6)
    assert float(losses.attention_target(jnp.zeros((1, 8, 8)), 1, 1)[0, 0, 0]) == pytest.approx(0.1)


def test_odd_sizes_are_pooled_as_in_torch(rng):
    x = jnp.asarray(rng.standard_normal((1, 5, 4, 2)))
    halved = osnet.halve(x)
    assert halved.shape == (1, 2, 2, 2)
    np.testing.assert_allclose(halved[0, 1, 1], x[0, 2:4, 2:4].mean((0, 1)), atol=1e-6)
    upper, lower = lmbn._halves(x)
    assert upper.shape[1] == lower.shape[1] == 3


def test_columns_of_zeros_stay_zero_or_become_nan(rng):
    columns = jnp.asarray(rng.standard_normal((2, 4, 3))).at[1].set(0)
    rows = lmbn.flatten_columns(columns)
    unit = np.asarray(lmbn.unit_columns(rows, 3))
    np.testing.assert_allclose(np.linalg.norm(unit[0].reshape(3, 4), axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(rows[0, :4], columns[0, :, 0])
    assert not unit[1].any()
    assert np.isnan(np.asarray(lmbn.unit_columns(rows, 3, zeros_stay=False))[1]).all()


def public_osnet(config) -> dict[str, np.ndarray]:
    """What the public ImageNet file of an OSNet of this shape holds."""
    backbone = drawn(osnet.OSNet(config))
    arrays = torch_names.collect(osnet_names.names(backbone))
    head = {
        "fc.0.weight": np.zeros((8, 64), np.float32),
        "fc.1.running_var": np.ones(8, np.float32),
        "classifier.bias": np.zeros(1000, np.float32),
    }
    return arrays | head


def test_the_public_imagenet_file_fills_trunk_and_branches():
    arrays = public_osnet(TINY)
    network = drawn(lmbn.LMBN(TINY, 32, 3))
    lmbn_names.assign_osnet(network, arrays, "osnet.pth")
    ours = torch_names.collect(lmbn_names.names("net", network))
    np.testing.assert_array_equal(
        ours["net.backbone.2.1.0.conv.weight"], arrays["conv2.1.0.conv.weight"]
    )
    for branch in ("global", "part", "channel"):
        np.testing.assert_array_equal(
            ours[f"net.{branch}_branch.backbone2.0.1.conv2d.3.conv2.weight"],
            arrays["conv3.1.conv2d.3.conv2.weight"],
        )
        np.testing.assert_array_equal(
            ours[f"net.{branch}_branch.backbone2.2.conv.weight"], arrays["conv5.conv.weight"]
        )
    backbone = osnet.OSNet(TINY)
    osnet_names.assign(backbone, arrays, "osnet.pth")
    del arrays["conv4.0.gate.fc1.bias"]
    with pytest.raises(UserError, match=r"osnet.pth: .*lacks conv4.0.gate.fc1.bias"):
        osnet_names.assign(backbone, arrays, "osnet.pth")


def test_names_are_those_of_the_published_checkpoint(golden):
    case = golden("deskpro/full_size")
    config = osnet.OSNetConfig(streams="released")
    network = nnx.eval_shape(lambda: model.DeskProModel(config, 512, int(case["num_classes"])))
    names = weights.names(network)
    published = {
        str(name): tuple(map(int, str(shape).split()))
        for name, shape in zip(case["parameter_names"], case["parameter_shapes"], strict=True)
        if not str(name).endswith("num_batches_tracked")
    }
    assert {name: torch_names.torch_shape(v) for name, v in names.items()} == published
    variables = {name: torch_names.variable_of(entry) for name, entry in names.items()}
    trained = {name for name, variable in variables.items() if isinstance(variable, nnx.Param)}
    frozen = {name for name in names.keys() - trained if "running" not in name}
    unused = {n for n in published if n.startswith("face_net.") or ".conv2b." in n}
    held = {n for n in published if "reduction" in n and n.endswith("bn.bias")}
    assert frozen == {n for n in unused | held if "running" not in n}
    assert all(isinstance(v, Frozen | nnx.BatchStat | nnx.Param) for v in variables.values())


def test_a_teacher_has_to_know_the_same_identities():
    network = drawn(model.DeskProModel(TINY, 32, 3))
    arrays = torch_names.collect(weights.names(network))
    published = {f"model.{n}": a for n, a in lmbn_names.with_repeats(arrays).items()}
    assert lmbn_names.published(published).keys() == arrays.keys()
    lmbn_names.assign_teacher(network.teacher, arrays, "teacher.pth")
    other = nnx.eval_shape(lambda: lmbn.LMBN(TINY, 32, 4))
    with pytest.raises(UserError, match="knows 3 identities, the training data have 4"):
        lmbn_names.assign_teacher(other, arrays, "teacher.pth")
    with pytest.raises(UserError, match="holds no face teacher"):
        lmbn_names.assign_teacher(network.teacher, public_osnet(TINY), "osnet.pth")


@pytest.mark.parametrize("name", ["osnet", "lmbn", "deskpro_teacher"])
def test_a_file_that_is_written_is_known_again(name, tmp_path):
    shape = {"blocks": "(1, 1, 1)", "channels": "(8, 64, 64, 64)", "features": 16}
    words = [f"--config.model.{field}={value}" for field, value in shape.items()]
    method = methods.create(configs.load(f"{name}_demo", words), {"classes": 5})
    arrays = devices.put_replicated(method.initial_weights(3))
    content = method.checkpoint(method.model(arrays), epoch=1, steps=2)
    save_state_dict(tmp_path / "own.pth", content)
    again = sicl_jax.load(tmp_path / "own.pth")
    assert again.method.name == method.name and again.method.sizes == method.sizes
    assert again.method.streams == method.streams and again.image_size[0] >= 224
    assert again.config.model.streams == method.config.model.streams
    for ours, read in zip(*map(jax.tree.leaves, (arrays, again.weights)), strict=True):
        np.testing.assert_array_equal(ours, read)


@pytest.mark.parametrize("name", ["deskpro_teacher", "deskpro", "sicl"])
def test_a_report_shows_images_of_whatever_is_read(name):
    method = methods.create(configs.load(f"{name}_demo"), {"classes": 5})
    forms = run_report.shown(method)
    assert forms["image"].mode == "rgb" and forms.items() >= method.forms.items()
