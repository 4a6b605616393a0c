"""Methods, data sets and test protocols by name, from this package and from others.

    from sicl_jax.register import METHODS

    METHODS.register("my_method", MyMethod)     # in your own program, or
    METHODS.get("my_method")                    # from the installed package that declares it:

    [project.entry-points."sicl_jax.methods"]   # in that package's pyproject.toml
    my_method = "my_package:MyMethod"

Nothing is imported before its name is asked for. A config holds names alone, never a module's
path, so a stranger's config runs no code that is not installed and declared here.
"""

import difflib
import importlib
import importlib.metadata
import pkgutil
from collections.abc import Mapping

import tfds_builders
from sicl_jax.errors import UsageError, UserError, one_line


class Registry:
    """Things of one kind by name.

    A name means what was registered in this process first, then this package's own, then what an
    installed package declares, so that no other package can take the place of one of ours.
    """

    def __init__(self, kind: str, own: Mapping[str, str] | None = None, group: str | None = None):
        """Makes a registry.

        Args:
            kind: What the things are, in the singular, for messages: `method`.
            own: This package's things by name, each as `module:attribute`.
            group: Group of entry points by which installed packages declare theirs.
        """
        self.kind = kind
        self._own = dict(own or {})
        self._group = group
        self._registered: dict[str, object] = {}

    def register(self, name: str, thing: object) -> None:
        """Makes a thing known by a name, for this process.

        Raises:
            UsageError: The name already means something else.
        """
        if name in self._own or self._registered.get(name, thing) is not thing:
            raise UsageError(f"{self.kind} {name!r} is registered already; choose another name")
        self._registered[name] = thing

    def names(self) -> list[str]:
        """Every known name, sorted; nothing is imported for it."""
        return sorted({*self._registered, *self._own, *self._entry_points()})

    def __contains__(self, name: str) -> bool:
        return name in self._registered or name in self._own or name in self._entry_points()

    def get(self, name: str, where: str = "") -> object:
        """What a name stands for, imported now if it has not been.

        Args:
            name: A known name.
            where: Flag or config field that gave the name, for the message.

        Raises:
            UsageError: There is none of that name; the message has the nearest name and the list.
            UserError: The package that declares it cannot be imported.
        """
        if name in self._registered:
            return self._registered[name]
        if name in self._own:
            module, _, attribute = self._own[name].partition(":")
            return getattr(importlib.import_module(module), attribute)
        entry = self._entry_points().get(name)
        if entry is None:
            raise UsageError(self._unknown(name, where))
        try:
            self._registered[name] = entry.load()
        except Exception as error:
            raise UserError(
                f"{self.kind} {name!r}: {entry.value} of an installed package cannot be imported: "
                f"{one_line(error)}; mend that package or remove it"
            ) from error
        return self._registered[name]

    def _entry_points(self) -> dict[str, importlib.metadata.EntryPoint]:
        if self._group is None:
            return {}
        return {entry.name: entry for entry in importlib.metadata.entry_points(group=self._group)}

    def _unknown(self, name: str, where: str) -> str:
        known = self.names()
        near = difflib.get_close_matches(name.lower().replace("-", "_"), known, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]}? " if near else ""
        place = f"{where}: " if where else ""
        return f"{place}no {self.kind} {name!r}; {hint}choose one of: {', '.join(known)}"


def _builders() -> dict[str, str]:
    """The TFDS builder of every package in `tfds_builders/` but `reid`, the code they share."""
    packages = (entry.name for entry in pkgutil.iter_modules(tfds_builders.__path__) if entry.ispkg)
    return {
        name: f"tfds_builders.{name}.{name}_dataset_builder:Builder"
        for name in packages
        if name != "reid"
    }


METHODS = Registry(
    "method",
    {
        "cclnet": "sicl_jax.methods.cclnet:CclNet",
        "cluster_contrast": "sicl_jax.methods.cluster_contrast:ClusterContrast",
        "cssc": "sicl_jax.methods.cssc:Cssc",
        "deskpro": "sicl_jax.methods.deskpro:DeskPro",
        "lmbn": "sicl_jax.methods.lmbn:Lmbn",
        "osnet": "sicl_jax.methods.osnet:Osnet",
        "sicl": "sicl_jax.methods.sicl:Sicl",
    },
    "sicl_jax.methods",
)
"""Classes of `sicl_jax.methods.base.Method`."""

DATASETS = Registry("data set", _builders(), "sicl_jax.datasets")
"""TFDS builder classes."""

PROTOCOLS = Registry("data set with test protocols", group="sicl_jax.protocols")
"""`sicl_jax.evaluation.protocols.Protocols` by the data set's name, filled there; a data set that
has none gets default ones."""

DRAW = "draw_{}"
"""Label of an image's place in a published trial's order of its person and camera, from 0."""


def parts_of(dataset_name: str) -> list[str]:
    """The data sets in a name: `prcc+ltcc` are two that are trained on as one.

    Raises:
        UsageError: One of them has no name, or one stands there twice.
    """
    parts = dataset_name.split("+")
    if len(parts) > 1 and (not all(parts) or len(set(parts)) < len(parts)):
        raise UsageError(
            f"data set {dataset_name!r}: give each once, with + between, such as prcc+ltcc"
        )
    return parts


def part_name(part: str, name: str) -> str:
    """What a split or a protocol of one of several joined data sets is called: `prcc/train`."""
    return f"{part}/{name}"
