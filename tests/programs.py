"""Programs that would come out the same are made once, for all tests and all their processes.

JAX's own cache spares them XLA's part, and not the tracing, which takes as long here.
"""

import contextlib
import hashlib
import os
import pathlib
import pickle

import jax
from jax.experimental import serialize_executable
from jax.experimental.compilation_cache import compilation_cache

from sicl_jax.methods import embedder
from sicl_jax.training import steps

_MADE = {}
_WITHOUT_EFFECT = ("clustering", "stages", "evaluate")


def share(patch) -> None:
    """Has trainings and models share them, until the pytest.MonkeyPatch ends.

    What a test changes in a method's code is not seen: such a test has to do without.
    """
    compile_call, compile_features = steps.compile_train_call, embedder._compiled

    def train_call(method, state, feed):
        return _Shared(compile_call(method, state, feed), method, type(feed))

    def features(method, stream, flip):
        return _Shared(compile_features(method, stream, flip), method, stream, flip)

    patch.setattr(steps, "compile_train_call", train_call)
    patch.setattr(embedder, "_compiled", features)


@contextlib.contextmanager
def _without_cache():
    """What comes out of JAX's own cache cannot be written again: XLA leaves its kernels out."""
    jax.config.update("jax_enable_compilation_cache", False)
    compilation_cache.reset_cache()
    try:
        yield
    finally:
        jax.config.update("jax_enable_compilation_cache", True)
        compilation_cache.reset_cache()


class _Shared:
    """A jitted function that looks for its program first."""

    def __init__(self, function, method, *parts):
        config = method.config.to_dict()
        for name in ("name", "dir"):
            del config["data"][name]
        for name in _WITHOUT_EFFECT:
            config.pop(name, None)
        self._function = function
        self._parts = type(method), method.sizes, config, parts, jax.config.jax_enable_x64

    def __call__(self, *arguments):
        leaves, structure = jax.tree.flatten(arguments)
        described = [(jax.typeof(leaf), getattr(leaf, "sharding", None)) for leaf in leaves]
        key = hashlib.sha256(repr((self._parts, structure, described)).encode()).hexdigest()
        if key not in _MADE:
            _MADE[key] = self._load_or_make(key, arguments)
        return _MADE[key](*arguments)

    def _load_or_make(self, key, arguments):
        file = pathlib.Path(os.environ["JAX_COMPILATION_CACHE_DIR"], f"{key}.program")
        if file.exists():
            return serialize_executable.deserialize_and_load(*pickle.loads(file.read_bytes()))
        with _without_cache():
            program = self._function.lower(*arguments).compile()
        if not program._executable.unsafe_call.has_host_callbacks:  # These are of this process.
            part = file.with_suffix(f".{os.getpid()}")
            part.write_bytes(pickle.dumps(serialize_executable.serialize(program)))
            part.rename(file)
        return program
