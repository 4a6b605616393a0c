"""No file is a program: no module here unpickles, or runs what it has read."""

import ast
import pathlib

import pytest

import sicl_jax
import tfds_builders

_PACKAGES = [pathlib.Path(next(iter(p.__path__))) for p in (sicl_jax, tfds_builders)]
_FILES = sorted(file for package in _PACKAGES for file in package.rglob("*.py"))

_MODULES = {"pickle", "_pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
_MODULES |= {"torch", "yaml", "jsonpickle", "tensorflow"}
# Where a name or a text becomes code, and whose name or text that is.
_ALLOWED = {
    ("sicl_jax/config.py", "exec"),  # A config is a Python program of the user's own.
    ("sicl_jax/config.py", "compile"),
    ("sicl_jax/cli/__init__.py", "import_module"),  # A command of this package.
    ("sicl_jax/register.py", "import_module"),  # Out of a table of ours.
    ("sicl_jax/methods/base.py", "import_module"),  # Beside the module of a method that runs.
}
_CALLS = {"eval", "exec", "compile", "__import__", "import_module"}


def imported(tree: ast.AST) -> set[str]:
    """Top-level names of the modules that a module imports anywhere."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        if isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module.partition(".")[0])
    return names


def code_runs(tree: ast.AST) -> set[str]:
    """Calls of what turns text into code."""
    found = set()
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        function = node.func
        owner = getattr(getattr(function, "value", None), "id", "")
        name = getattr(function, "attr", getattr(function, "id", ""))
        is_python = not isinstance(function, ast.Attribute) or owner in ("builtins", "importlib")
        if name in _CALLS and is_python:
            found.add(name)
        if any(keyword.arg == "allow_pickle" and not _is_false(keyword.value)
               for keyword in node.keywords):  # fmt: skip
            found.add("allow_pickle")
    return found


def _is_false(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and node.value is False


@pytest.mark.parametrize(
    ("text", "modules", "runs"),
    [
        ("def f():\n from pickle import loads", {"pickle"}, set()),
        ("import torch.nn as nn", {"torch"}, set()),
        ("np.load(f, allow_pickle=True)", set(), {"allow_pickle"}),
        ("np.load(f, allow_pickle=False); re.compile('x'); ast.literal_eval('1')", set(), set()),
        ("eval('1'); importlib.import_module(x)", set(), {"eval", "import_module"}),
    ],
)
def test_what_is_looked_for_is_seen(text, modules, runs):
    tree = ast.parse(text)
    assert imported(tree) & _MODULES == modules
    assert code_runs(tree) == runs


def test_no_module_of_ours_does():
    assert len(_FILES) > 100
    unpickling, running = [], set()
    for file in _FILES:
        tree = ast.parse(file.read_text())
        name = _name(file)
        unpickling += [(name, module) for module in imported(tree) & _MODULES]
        running |= {(name, call) for call in code_runs(tree)}
    assert unpickling == []
    assert running == _ALLOWED


def _name(file: pathlib.Path) -> str:
    (package,) = (package for package in _PACKAGES if file.is_relative_to(package))
    return file.relative_to(package.parent).as_posix()
