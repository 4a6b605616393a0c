"""All config fields, for people: what each means, its default, its range, who changes it.

Generated from `fields.py`, each method's `fields` and the config files; `docs/config.md` is it.
"""

import dataclasses
import pkgutil
from collections.abc import Iterator, Sequence
from typing import Any

from sicl_jax import config as configs
from sicl_jax import fields
from sicl_jax.errors import UsageError
from sicl_jax.fields import Field
from sicl_jax.register import METHODS

EVERY_METHOD = "every method"


@dataclasses.dataclass(frozen=True)
class Row:
    """A field as a method has it.

    Attributes:
        method: The method, or `EVERY_METHOD`.
        name: Dotted.
        field: What it is.
        set_by: Other values that config files give it, as `5 in sicl_prcc, sicl_ltcc`.
    """

    method: str
    name: str
    field: Field
    set_by: tuple[str, ...] = ()

    @property
    def default(self) -> str:
        """The default as it is written on the command line; a dash for no text."""
        return _value(self.field.default) or "-"

    @property
    def range(self) -> str:
        """What it may hold, in words."""
        kind = _KINDS[type(self.field.default)]
        words = "" if self.field.rule is fields.ANYTHING else f", {self.field.rule.words}"
        return kind + words

    @property
    def meaning(self) -> str:
        """What it means; and that it may differ when a run goes on, where it may."""
        same = "" if self.field.changes_results else " May differ when a run goes on."
        return self.field.meaning + same


_KINDS = {bool: "True or False", int: "whole number", float: "number", str: "text", tuple: "tuple"}


def _value(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def rows() -> list[Row]:
    """The fields of every method, then those that each method adds or whose default it changes."""
    changed = list(_set_by_files())
    found = [Row(EVERY_METHOD, name, field) for name, field in fields.COMMON.items()]
    for method in METHODS.names():
        own = METHODS.get(method).fields
        found += [Row(method, name, field) for name, field in own.items()]
    return [dataclasses.replace(row, set_by=_set_by(row, changed)) for row in found]


def _set_by(row: Row, changed: Sequence[tuple[str, str, str, Any]]) -> tuple[str, ...]:
    files: dict[str, list[str]] = {}
    for file, method, name, value in changed:
        is_this = row.method == method or _is_common(row, method)
        if name == row.name and is_this and name not in _NAMED_BY_ALL:
            files.setdefault(_value(value), []).append(file)
    return tuple(f"{value} in {', '.join(names)}" for value, names in files.items())


# Every config file says these, and means itself.
_NAMED_BY_ALL = frozenset({"method", "data.name"})


def _is_common(row: Row, method: str) -> bool:
    """Whether a method has a field as every method has it."""
    return row.method == EVERY_METHOD and row.name not in METHODS.get(method).fields


def _set_by_files() -> Iterator[tuple[str, str, str, Any]]:
    """File, its method, field and value, of all that config files of the package set otherwise."""
    import sicl_jax.configs

    for file in sorted(each.name for each in pkgutil.iter_modules(sicl_jax.configs.__path__)):
        config = configs.load(file)
        base = dict(configs.flatten(configs.base(config.method)))
        for name, value in configs.flatten(config):
            if value != base[name]:
                yield file, config.method, name, value


def choose(name: str) -> list[Row]:
    """The rows of a field, or of a group of fields such as `clustering`; all for no name.

    Raises:
        UsageError: There is none of that name.
    """
    name = name.removeprefix("--").removeprefix("config.")
    found = [r for r in rows() if not name or r.name == name or r.name.startswith(f"{name}.")]
    if not found:
        known = {row.name: row.field for row in rows()}
        raise UsageError(f"--explain {configs.unknown(name, known)}")
    return found


def text(shown: Sequence[Row]) -> str:
    """Rows for a terminal, a paragraph each."""
    lines = []
    for row in shown:
        lines.append(f"--config.{row.name}={row.default}  ({row.method}; {row.range})")
        lines.append(f"    {row.meaning}")
        lines += [f"    {each}" for each in row.set_by]
    return "\n".join(lines)


_HEAD = """# All config fields

Written by `sicl-jax config --markdown` from `sicl_jax/fields.py`, the methods' `fields` and the
files in `configs/`; do not edit. In a terminal: `sicl-jax config --explain`, or the same of a group
or a field, `sicl-jax config --explain clustering.eps`.

Any field is set as `--config.FIELD=VALUE` on the command line, or in a config file that begins with
`config.base("METHOD")`. A value out of its range, or of another type, is refused before any work.
"""


def markdown() -> str:
    """`docs/config.md`."""
    shown = rows()
    parts = [_HEAD]
    for method in dict.fromkeys(row.method for row in shown):
        title = "Of every method" if method == EVERY_METHOD else f"Of `{method}`"
        more = (
            "" if method == EVERY_METHOD else "Beside those of every method, or instead of them.\n"
        )
        lines = [
            f"| `{row.name}` | `{row.default}` | {row.range} | {row.meaning} | "
            f"{'<br>'.join(row.set_by)} |"
            for row in shown
            if row.method == method
        ]
        head = "| field | default | holds | meaning | set otherwise by |\n|---|---|---|---|---|"
        parts.append("\n".join([f"## {title}\n", more, head, *lines, ""]))
    return "\n".join(parts)
