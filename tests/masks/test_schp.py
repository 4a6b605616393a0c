"""The parser against the published network's numbers, and the loading of its checkpoints."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from safetensors.numpy import save_file

from sicl_jax.errors import UsageError, UserError
from sicl_jax.masks import params, schp
from sicl_jax.masks.resize import resize_align_corners


def test_golden_logits(golden, parser):
    archive = golden("schp")
    inputs = archive["input"].transpose(0, 2, 3, 1)
    outputs = nnx.jit(lambda model, x: model(x))(parser, inputs)
    for name in ("fusion", "parsing", "edge"):
        expected = archive[f"{name}_logits"].transpose(0, 2, 3, 1)
        np.testing.assert_allclose(getattr(outputs, name), expected, rtol=1e-3, atol=1e-5)


def test_every_parameter_of_the_checkpoint_is_used_once(golden, parser):
    names = [name for name, _ in params.torch_variables(parser)]
    assert sorted(names) == sorted(golden("schp")["parameter_names"])


def test_safetensors_without_prefix_load_alike(schp_arrays, parser, tmp_path):
    path = tmp_path / "schp.safetensors"
    save_file({name.removeprefix("module."): array for name, array in schp_arrays.items()}, path)
    loaded, _ = params.load_parser(path)
    expected = dict(params.torch_variables(parser))
    for name, variable in params.torch_variables(loaded):
        np.testing.assert_array_equal(variable[...], expected[name][...], err_msg=name)


def _with_classes(arrays, num_classes):
    """The golden arrays (less `module.`), cut or repeated to another number of classes."""
    arrays = {name.removeprefix("module."): array for name, array in arrays.items()}
    for name in ("decoder.conv4", "fushion.3"):
        for part in ("weight", "bias"):
            array = arrays[f"{name}.{part}"]
            arrays[f"{name}.{part}"] = np.resize(array, (num_classes, *array.shape[1:]))
    return arrays


@pytest.fixture
def load(monkeypatch):
    """Loads a parser from arrays instead of a file."""

    def load(arrays, **options):
        monkeypatch.setattr(params, "load_state_dict", lambda *_, **__: dict(arrays))
        return params.load_parser("weights.pth", **options)

    return load


@pytest.mark.parametrize(
    ("num_classes", "dataset", "input_size"), [(20, "lip", 473), (7, "pascal", 512)]
)
def test_kind_is_recognised_by_the_number_of_classes(
    schp_arrays, load, num_classes, dataset, input_size
):
    parser, kind = load(_with_classes(schp_arrays, num_classes), dtype=jnp.bfloat16)
    assert (kind.dataset, kind.input_size) == (dataset, input_size)
    assert parser.classify.kernel.shape == (256, num_classes)
    assert parser.classify.kernel.dtype == jnp.bfloat16
    assert parser.fusion.norm.weight.dtype == jnp.float32


def test_unsuitable_checkpoints_are_refused(schp_arrays, load):
    good = _with_classes(schp_arrays, 18)
    with pytest.raises(UserError, match=r"weights.pth: has 19 classes.*20 \(lip\)"):
        load(_with_classes(schp_arrays, 19))
    with pytest.raises(UsageError, match="--dataset lip: weights.pth has 18 classes.*atr"):
        load(good, dataset="lip")
    with pytest.raises(UserError, match="weights.pth: lacks fushion.3.weight"):
        load({"base.0.weight": np.zeros((64, 3, 7, 7), np.float32)})
    with pytest.raises(UserError, match="lacks edge.conv5.bias"):
        load({name: array for name, array in good.items() if name != "edge.conv5.bias"})
    with pytest.raises(UserError, match="conv1.weight has shape"):
        load({**good, "conv1.weight": np.zeros((64, 3, 7, 7), np.float32)})
    with pytest.raises(UserError, match=r"holds layer3.23.bn1.weight"):
        load({**good, "layer3.23.bn1.weight": np.zeros(256, np.float32)})


def test_a_pickle_that_runs_code_is_refused(tmp_path):
    path, trace = tmp_path / "evil.pth", tmp_path / "trace"
    # Protocol 2: os.system("touch trace"), as a poisoned checkpoint of the older format holds it.
    path.write_bytes(b"\x80\x02cos\nsystem\nX" + _text(f"touch {trace}") + b"\x85R.")
    with pytest.raises(UserError, match="evil.pth: .*os.system") as caught:
        params.load_parser(path)
    assert "\n" not in str(caught.value)
    assert not trace.exists()


def _text(text):
    return len(text).to_bytes(4, "little") + text.encode()


def test_bfloat16_reaches_every_stage_and_logits_stay_float32():
    model = nnx.eval_shape(lambda: schp.Parser(7, dtype=jnp.bfloat16, rngs=nnx.Rngs(0)))
    images = jax.ShapeDtypeStruct((2, 65, 33, 3), jnp.bfloat16)
    stages = nnx.eval_shape(lambda m, x: m.backbone(x), model, images)
    assert [stage.dtype for stage in stages] == [jnp.bfloat16] * 4
    images = jax.ShapeDtypeStruct((2, 65, 33, 3), jnp.float32)
    outputs = nnx.eval_shape(lambda m, x: m(x), model, images)
    assert [output.dtype for output in outputs] == [jnp.float32] * 3
    assert [output.shape for output in outputs] == [(2, 17, 9, classes) for classes in (7, 7, 2)]


def test_norm_takes_the_absolute_weight():
    norm = schp.AbsoluteNorm(2, leaky=True)
    norm.weight.set_value(jnp.array([-2.0, 0.5]))
    norm.bias.set_value(jnp.array([0.0, -3.0]))
    norm.mean.set_value(jnp.array([1.0, 0.0]))
    norm.variance.set_value(jnp.array([4.0, 1.0]))
    result = norm(jnp.array([[3.0, 1.0]]))
    # 2 * (3 - 1) / 2 = 2, and 0.5 * 1 - 3 = -2.5, which the leaky ReLU makes -0.025.
    np.testing.assert_allclose(result, [[2.0, -0.025]], rtol=1e-4)


def test_linear_of_joined_equals_resize_concatenate_multiply():
    random = np.random.default_rng(0)
    parts = [random.normal(size=shape) for shape in ((2, 9, 5, 3), (2, 5, 3, 4), (2, 3, 2, 2))]
    parts = [jnp.asarray(part, jnp.float32) for part in parts]
    kernel = jnp.asarray(random.normal(size=(9, 6)), jnp.float32)
    joined = jnp.concatenate([resize_align_corners(part, (9, 5)) for part in parts], axis=-1)
    result = schp.linear_of_joined(parts, kernel, (9, 5))
    np.testing.assert_allclose(result, joined @ kernel, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("cells", "size"), [(1, (5, 3)), (3, (7, 4)), (6, (4, 4)), (2, (1, 2))])
def test_conv3x3_of_resized_equals_resize_then_convolve(cells, size):
    random = np.random.default_rng(cells)
    x = jnp.asarray(random.normal(size=(2, cells, cells, 3)), jnp.float32)
    kernel = jnp.asarray(random.normal(size=(3, 3, 3, 4)), jnp.float32)
    expected = jax.lax.conv_general_dilated(
        resize_align_corners(x, size),
        kernel,
        (1, 1),
        ((1, 1), (1, 1)),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
    result = schp.conv3x3_of_resized(x, kernel, size)
    np.testing.assert_allclose(result, expected, rtol=1e-4, atol=1e-5)
