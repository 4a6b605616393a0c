"""Experiment configs: files with `get_config()`, `--config.FIELD=VALUE` overrides, identity."""

import ast
import difflib
import hashlib
import importlib.util
import json
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import ml_collections

from sicl_jax import fields
from sicl_jax.errors import UsageError, one_line
from sicl_jax.fields import Field
from sicl_jax.register import METHODS


def schema(method: str) -> dict[str, Field]:
    """The fields of a method's configs, by dotted name: the common ones, then its own.

    Raises:
        UsageError: There is no such method.
    """
    own = METHODS.get(method, "config.method").fields
    known = {**fields.COMMON, **own}
    return {**known, "method": known["method"].but(method)}


def base(method: str) -> ml_collections.ConfigDict:
    """A config with every field of a method at its default; experiments change some.

    Raises:
        UsageError: There is no such method.
    """
    tree: dict[str, Any] = {}
    for name, field in schema(method).items():
        *groups, last = name.split(".")
        inner = tree
        for group in groups:
            inner = inner.setdefault(group, {})
        inner[last] = field.default
    return ml_collections.ConfigDict(tree)


def load(path: str, overrides: Sequence[str] = ()) -> ml_collections.ConfigDict:
    """Reads a config file and applies `--config.FIELD=VALUE` overrides.

    Args:
        path: A Python file with `get_config()`, or the name of a config of the package
            (`sicl_prcc`).
        overrides: Arguments of the form `--config.a.b=value` or `config.a.b=value`.

    Returns:
        The config, locked.

    Raises:
        UsageError: The file is missing or is no config; an override is malformed, names a field
            that does not exist, or has a value of another type or out of its range.
    """
    config = _run_file(_find(path))
    known = schema(config.get("method", ""))
    if extra := sorted(dict(flatten(config)).keys() - known.keys()):
        raise UsageError(f"--config {path}: {unknown(extra[0], known)}")
    for override in overrides:
        _apply(config, override, known)
    values = dict(flatten(config))
    for name, field in known.items():
        if name not in values:
            raise UsageError(f"--config {path}: config.{name} is missing; begin with config.base()")
        if not fields.has_type(values[name], field.default):
            raise UsageError(
                f"--config {path}: config.{name}={values[name]!r}: has to be of type "
                f"{type(field.default).__name__}, like {field.default!r}"
            )
    if found := fields.misfit(known, values):
        raise UsageError(f"--config.{found[0]}={values[found[0]]}: has to be {found[1]}")
    return config.lock()


def _find(path: str) -> pathlib.Path:
    file = pathlib.Path(path)
    if file.is_file():
        return file
    packaged = importlib.util.find_spec("sicl_jax.configs")
    if packaged is not None and pathlib.PurePath(path).name == path:
        for folder in packaged.submodule_search_locations or ():
            file = pathlib.Path(folder) / f"{path.removesuffix('.py')}.py"
            if file.is_file():
                return file
    raise UsageError(f"--config {path}: no such file; name a Python file with get_config()")


def _run_file(file: pathlib.Path) -> ml_collections.ConfigDict:
    try:
        code = compile(file.read_bytes(), str(file), "exec")
    except (SyntaxError, ValueError) as error:
        raise UsageError(f"--config {file}: not a Python file: {_named(error)}") from error
    namespace: dict[str, Any] = {"__name__": file.stem, "__file__": str(file)}
    try:
        exec(code, namespace)  # noqa: S102 - a config is a Python program of the user's own.
        if "get_config" not in namespace:
            raise UsageError(f"--config {file}: it has no get_config(); add one")
        config = namespace["get_config"]()
    except UsageError:
        raise
    except Exception as error:
        raise UsageError(f"--config {file}: it failed: {_named(error)}") from error
    if not isinstance(config, ml_collections.ConfigDict):
        raise UsageError(f"--config {file}: get_config() must return an ml_collections.ConfigDict")
    return config


def _named(error: Exception) -> str:
    return f"{type(error).__name__}: {one_line(error)}"


def _apply(config: ml_collections.ConfigDict, override: str, known: Mapping[str, Field]) -> None:
    name, equals, text = override.removeprefix("--").partition("=")
    if not name.startswith("config.") or not equals:
        raise UsageError(f"{override}: unknown option; override fields as --config.FIELD=VALUE")
    name = name.removeprefix("config.")
    if name == "method" and text != config.method:
        METHODS.get(text, "--config.method")
        raise UsageError(
            f"--config.method={text}: another method has other fields; choose a config of it"
        )
    if name not in known:
        raise UsageError(f"--config.{unknown(name, known)}")
    value = _parse(text, known[name].default, name)
    *groups, last = name.split(".")
    for group in groups:
        config = config[group]
    with config.ignore_type():  # `_parse` has checked it.
        config[last] = value


def unknown(name: str, known: Mapping[str, Field]) -> str:
    """What is wrong with a field's name, and the nearest that there is."""
    if name in fields.RENAMED and fields.RENAMED[name] in known:
        return f"{name}: renamed; it is config.{fields.RENAMED[name]} now"
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.0)
    return f"{name}: no such field; did you mean --config.{near[0]}?"


def _parse(text: str, old: Any, name: str) -> Any:
    """The value of the old one's type that `text` spells."""
    if isinstance(old, str):
        return text
    try:
        value = ast.literal_eval({"true": "True", "false": "False"}.get(text, text))
    except (ValueError, SyntaxError):
        value = text
    if isinstance(old, float) and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if isinstance(old, tuple) and isinstance(value, list):
        value = tuple(value)
    if not fields.has_type(value, old):
        raise UsageError(
            f"--config.{name}={text}: expected a value of type {type(old).__name__} like {old!r}"
        )
    return value


def flatten(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Pairs of dotted field name and value, in order of name."""
    for key in sorted(config):
        value = config[key]
        if isinstance(value, Mapping | ml_collections.ConfigDict):
            yield from flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def to_json(config: ml_collections.ConfigDict) -> str:
    """The config as indented JSON; `from_json` reads it back."""
    return json.dumps(config.to_dict(), indent=2, sort_keys=True) + "\n"


def from_json(text: str) -> ml_collections.ConfigDict:
    """A config as `to_json` wrote it; lists become the tuples they were."""
    return ml_collections.ConfigDict(_tuples(json.loads(text))).lock()


def _tuples(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _tuples(item) for key, item in value.items()}
    if isinstance(value, list):
        return tuple(_tuples(item) for item in value)
    return value


def digest(config: ml_collections.ConfigDict) -> str:
    """Twelve hexadecimal digits that differ when the run's results may."""
    known = schema(config.method)
    values = {n: v for n, v in flatten(config) if n not in known or known[n].changes_results}
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:12]


def differences(old: ml_collections.ConfigDict, new: ml_collections.ConfigDict) -> list[str]:
    """`field: old -> new` for every field that makes these two different runs."""
    known = schema(new.method)
    before, after = dict(flatten(old)), dict(flatten(new))
    return [
        f"config.{name}: {before.get(name, '(absent)')} -> {after.get(name, '(absent)')}"
        for name in sorted(before.keys() | after.keys())
        if (name not in known or known[name].changes_results)
        and before.get(name) != after.get(name)
    ]


def describe(config: ml_collections.ConfigDict) -> str:
    """One `field = value` a line, for a person to read."""
    return "\n".join(f"config.{name} = {value!r}" for name, value in flatten(config))
