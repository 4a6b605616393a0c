"""What all tests share: where the golden files and the real photographs lie."""

import gc
import os
import pathlib
import tempfile

import numpy as np
import pytest

_TESTS = pathlib.Path(__file__).parent
# Most of the suite's time is XLA compiling small programs. Tests compile the same few again and
# again, in processes of their own too; and without optimising loops, in one piece and with the
# older emitter of kernels, which takes a fifth of the time: convolutions and matrix products, what
# takes long to run, are libraries' on CPUs. On a machine with a GPU XLA compiles as it always does:
# the flag for loops is not the CPU's alone.
_QUICK = (
    "--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false "
    "--xla_cpu_parallel_codegen_split_count=1"
)
# Tracing makes so many objects that looking for cycles among them takes an eighth of the time.
gc.set_threshold(100_000, 10, 10)
if "PYTEST_XDIST_WORKER" not in os.environ:  # Workers are given their parent's environment.
    if not pathlib.Path("/dev/nvidiactl").exists():
        os.environ["XLA_FLAGS"] = f"{_QUICK} {os.environ.get('XLA_FLAGS', '')}".strip()
    _COMPILED = tempfile.TemporaryDirectory(prefix="compiled-")
    os.environ["JAX_COMPILATION_CACHE_DIR"] = _COMPILED.name
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.2"


def pytest_collection_modifyitems(items):
    """Skips what needs a GPU where there is none."""
    marked = [item for item in items if item.get_closest_marker("gpu")]
    if marked and _platform() == "cpu":
        for item in marked:
            item.add_marker(pytest.mark.skip(reason="needs a GPU; JAX sees none"))


def _platform() -> str:
    import jax

    return jax.default_backend()


@pytest.fixture(scope="session")
def golden():
    """Loads a golden file by its name: `golden('memory')`."""

    def load(name: str) -> dict[str, np.ndarray]:
        with np.load(_TESTS / "golden" / f"{name}.npz") as archive:
            return dict(archive)

    return load


@pytest.fixture(scope="session")
def real_photographs() -> pathlib.Path:
    """The folder of real walking people beside the checkout; skips where it is absent."""
    folder = _TESTS.parent.parent / "shared" / "real"
    if not folder.is_dir():
        pytest.skip(f"no real photographs: {folder.name} is not beside the checkout")
    return folder


@pytest.fixture(scope="module")
def compiled_once():
    """Has a module's runs and models share programs (`programs.share`)."""
    import programs

    with pytest.MonkeyPatch.context() as patch:
        programs.share(patch)
        yield


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory) -> pathlib.Path:
    """A folder with `synthetic_people/tiny`, prepared once for all tests."""
    from sicl_jax.data.prepare import Request, prepare

    folder = tmp_path_factory.mktemp("tiny_data")
    prepare(Request("synthetic_people/tiny", folder))
    return folder


@pytest.fixture
def tiny_config(tiny_data):
    """Makes the config of a run of seconds on the tiny data: `tiny_config('epochs=1', ...)`."""
    from sicl_jax import config as configs

    settings = (
        f"data.dir={tiny_data}",
        "data.name=synthetic_people/tiny",
        "data.image_size=(64, 32)",
        "model.stage_sizes=(1, 1)",
        "model.width=4",
        "model.pretrained=",
        "epochs=2",
        "steps_per_epoch=2",
        "batch_size=16",
        "embed_batch_size=32",
        "clustering.k1=8",
        "neighbors.num=2",
    )

    def make(*overrides: str):
        changes = [f"--config.{setting}" for setting in (*settings, *overrides)]
        return configs.load("sicl_demo", changes)

    return make
