"""Names of methods, data sets and protocols."""

import importlib.metadata
import subprocess
import sys

import pytest

from sicl_jax.errors import UsageError, UserError
from sicl_jax.register import DATASETS, METHODS, Registry


def entry_points(monkeypatch, **values):
    points = [importlib.metadata.EntryPoint(n, v, "shapes") for n, v in values.items()]
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: points)
    return Registry("shape", {"dict": "builtins:dict"}, "shapes")


def test_own_registered_and_declared_names(monkeypatch):
    shapes = entry_points(monkeypatch, counter="collections:Counter", dict="builtins:list")
    shapes.register("number", 7)
    assert shapes.names() == ["counter", "dict", "number"]
    assert "counter" in shapes and "cube" not in shapes
    assert shapes.get("dict") is dict  # Not the other package's.
    assert shapes.get("counter").__name__ == "Counter"
    assert shapes.get("number") == 7


def test_unknown_name_tells_the_nearest_and_the_list():
    shapes = Registry("shape", {"square": "m:a", "circle": "m:b"})
    with pytest.raises(UsageError, match=r"config.shape: no shape 'Sqare'; did you mean square\? "):
        shapes.get("Sqare", "config.shape")
    with pytest.raises(UsageError, match="no shape 'xyz'; choose one of: circle, square"):
        shapes.get("xyz")


def test_a_name_means_one_thing():
    shapes = Registry("shape", {"square": "builtins:dict"})
    shapes.register("cube", dict)
    shapes.register("cube", dict)
    for name in ("cube", "square"):
        with pytest.raises(UsageError, match=f"shape '{name}' is registered already"):
            shapes.register(name, list)


def test_a_package_that_cannot_be_imported_is_one_line(monkeypatch):
    shapes = entry_points(monkeypatch, cube="no_such_module:Cube")
    with pytest.raises(UserError, match="shape 'cube': no_such_module:Cube .* cannot be imported"):
        shapes.get("cube")


def test_own_things_are_there():
    for registry in (METHODS, DATASETS):
        for name in registry.names():
            assert isinstance(registry.get(name), type)
    assert {"prcc", "ltcc", "person_folder"} <= set(DATASETS.names())


def test_names_import_no_method_and_no_builder():
    program = (
        "import sys; from sicl_jax.register import DATASETS, METHODS; DATASETS.names(), METHODS"
        ".names(); print([m for m in ('jax', 'tensorflow_datasets') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr
