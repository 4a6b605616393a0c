"""A pickle machine that can build tensors and plain containers, and nothing else.

`pickle.Unpickler` with a guarded `find_class` is not enough for files from
strangers: it still allocates what a forged memo index asks for, hashes nested
tuples until the stack overflows, and sets any attribute. Here every opcode
works on inert values: a global is a name, a tensor is a description of where
its numbers lie, and work and memory are bounded by the length of the pickle.
"""

from __future__ import annotations

import dataclasses
import pickletools
import struct
from collections.abc import Callable
from typing import Any, BinaryIO


class RefusedError(ValueError):
    """The pickle names something that is neither a tensor nor a plain container."""


@dataclasses.dataclass(frozen=True)
class Global:
    """A module-level name that the pickle refers to; never imported."""

    name: str


@dataclasses.dataclass(frozen=True)
class Storage:
    """One run of numbers in the file.

    Attributes:
      dtype: torch's name of the number type, such as `FloatStorage`.
      key: what the file calls this storage.
      length: how many numbers it has (bytes for an `UntypedStorage`).
      offset: where it starts within the storage `key`, in numbers.
    """

    dtype: str
    key: str
    length: int
    offset: int = 0


@dataclasses.dataclass(frozen=True)
class Tensor:
    """A window on a storage; offset and strides count numbers, not bytes."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    dtype: str


@dataclasses.dataclass
class Module:
    """An object of a TorchScript archive: what it holds by name; its code is never looked at."""

    name: str
    attributes: dict[str, Any] = dataclasses.field(default_factory=dict)


_STORAGES = frozenset(
    f"{kind}Storage"
    for kind in (
        *("Float", "Double", "Half", "BFloat16", "Long", "Int", "Short", "Char", "Byte", "Bool"),
        *("ComplexFloat", "ComplexDouble"),
    )
)
_SCRIPT_LISTS = (
    *("build_intlist", "build_doublelist", "build_boollist", "build_tensorlist"),
    "restore_type_tag",
)
_NUMPY = ("scalar", "_reconstruct")
_DTYPES = frozenset({"uint16", "uint32", "uint64", "float8_e4m3fn", "float8_e5m2"})
_MAX_RANK = 32
# A large model with its optimiser's state takes some hundred thousand.
_MAX_STEPS = 4_000_000
_MARK = object()
# Where TorchScript puts the classes of an archive: names in its own code, not of any package.
_SCRIPT = "__torch__."


def load(file: BinaryIO, storages: dict[str, Storage] | None = None) -> Any:
    """Reads one pickle from where `file` stands and leaves it standing behind it.

    Args:
      file: an in-memory file, so that a forged length cannot reserve more than it holds.
      storages: takes up each storage that the pickle names, by key.

    Returns:
      Dicts, lists, tuples, strings, numbers, `Tensor`s, `Module`s and inert `Global`s.

    Raises:
      RefusedError: a global outside the list at the foot of this file.
      ValueError: the bytes are no such pickle.
    """
    machine = _Machine({} if storages is None else storages)
    try:
        for opcode, argument, _ in pickletools.genops(file):
            if opcode.name == "STOP":
                return machine.pop()
            machine.step(opcode.name, argument)
    except (IndexError, KeyError, struct.error) as error:
        raise ValueError("its pickle is damaged") from error
    raise ValueError("its pickle is cut short")


class _Machine:
    """The stack, the memo and one method per family of opcodes."""

    def __init__(self, storages: dict[str, Storage]):
        self.storages = storages
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        self.steps = 0
        self.copied = 0

    def pop(self) -> Any:
        value = self.stack.pop()
        if value is _MARK:
            raise ValueError("its pickle is damaged")
        return value

    def pop_to_mark(self) -> list[Any]:
        for position in range(len(self.stack) - 1, -1, -1):
            if self.stack[position] is _MARK:
                values = self.stack[position + 1 :]
                del self.stack[position:]
                return values
        raise ValueError("its pickle is damaged")

    def step(self, name: str, argument: Any) -> None:
        self.steps += 1
        if self.steps > _MAX_STEPS:
            raise ValueError("its pickle is too long for weights")
        if name in _LITERALS:
            self.stack.append(argument)
        elif name in _CONSTANTS:
            self.stack.append(_CONSTANTS[name]())
        elif (operation := _OPERATIONS.get(name)) is not None:
            operation(self, argument)
        elif name not in ("PROTO", "FRAME"):
            raise RefusedError(f"the pickle opcode {name}")

    def memoize(self, _: Any) -> None:
        self.memo[len(self.memo)] = self.stack[-1]

    def put(self, index: int) -> None:
        self.memo[int(index)] = self.stack[-1]

    def get(self, index: int) -> None:
        self.stack.append(self.memo[int(index)])

    def tuple_of(self, count: int) -> None:
        values = [self.pop() for _ in range(count)]
        self.stack.append(tuple(reversed(values)))

    def append(self, values: list[Any]) -> None:
        target = self.stack[-1]
        if type(target) is not list:
            raise ValueError("its pickle is damaged")
        target.extend(values)

    def set_items(self, values: list[Any]) -> None:
        target = self.stack[-1]
        if type(target) is not dict or len(values) % 2:
            raise ValueError("its pickle is damaged")
        for key, value in zip(values[::2], values[1::2], strict=True):
            target[_checked_key(key)] = value

    def new_dict(self, _: Any) -> None:
        values = self.pop_to_mark()
        self.stack.append({})
        self.set_items(values)

    def set_item(self, _: Any) -> None:
        value = self.pop()
        self.set_items([self.pop(), value])

    def push_global(self, module: Any, name: Any) -> None:
        if not (type(module) is str and type(name) is str):
            raise ValueError("its pickle is damaged")
        self.stack.append(_checked_global(f"{module}.{name}"))

    def stack_global(self, _: Any) -> None:
        name = self.pop()
        self.push_global(self.pop(), name)

    def persistent(self, _: Any) -> None:
        storage = _storage(self.pop())
        if self.storages.setdefault(storage.key, storage).dtype != storage.dtype:
            raise ValueError("it gives one storage two number types")
        self.stack.append(storage)

    def new_object(self, _: Any) -> None:
        arguments, kind = self.pop(), self.pop()
        if type(kind) is not Global or arguments != ():
            raise ValueError("its pickle is damaged")
        if not kind.name.startswith(_SCRIPT):
            raise RefusedError(kind.name)
        self.stack.append(Module(kind.name))

    def build(self, _: Any) -> None:
        state, target = self.pop(), self.stack[-1]
        # What is set beside a container's items, such as `_metadata`, is not needed.
        if type(target) is Module and type(state) is dict:
            target.attributes = state

    def call(self, _: Any) -> None:
        arguments, function = self.pop(), self.pop()
        if type(function) is not Global or type(arguments) is not tuple:
            raise ValueError("its pickle is damaged")
        if function.name not in _CALLS:
            raise RefusedError(function.name)
        if function.name == "collections.OrderedDict":
            # Each call may copy a list that the memo lets it name again and again.
            self.copied += len(arguments[0]) if arguments and type(arguments[0]) is list else 0
            if self.copied > self.steps:
                raise ValueError("its pickle copies a container over and over")
        self.stack.append(_CALLS[function.name](*_counted(function.name, arguments)))


def _checked_key(key: Any) -> Any:
    """Keys are atoms: the hash of a nested tuple may never end."""
    if type(key) not in (str, int, float, bool, bytes, type(None)):
        raise RefusedError(f"a dict with a key of type {type(key).__name__}")
    return key


def _checked_global(name: str) -> Global:
    if name in _CALLS or name in _NAMES or name.startswith(_SCRIPT):
        return Global(name)
    raise RefusedError(name)


def _whole(value: Any) -> int:
    if type(value) is not int or value < 0:
        raise ValueError("a tensor's size, stride or offset is not a whole number")
    return value


def _storage(identifier: Any) -> Storage:
    """Reads a persistent id: ('storage', type, key, device, length[, view])."""
    if type(identifier) is not tuple or len(identifier) not in (5, 6) or identifier[0] != "storage":
        raise ValueError("its pickle refers to something that is not a storage")
    kind, key, length = identifier[1], identifier[2], _whole(identifier[4])
    if type(kind) is not Global or type(key) is not str:
        raise ValueError("its pickle refers to something that is not a storage")
    view = identifier[5] if len(identifier) == 6 else None
    offset = 0
    if view is not None:  # Files of PyTorch before 0.4: a storage that is a part of another one.
        if type(view) is not tuple or len(view) != 3:
            raise ValueError("its pickle refers to something that is not a storage")
        offset, length = _whole(view[1]), _whole(view[2])
    return Storage(kind.name.rsplit(".", 1)[-1], key, length, offset)


def _rebuild_tensor(storage: Any, offset: Any, shape: Any, strides: Any, *_: Any) -> Tensor:
    return _tensor(storage, offset, shape, strides, None)


def _rebuild_tensor_v3(storage, offset, shape, strides, _grad, _hooks, dtype, *_) -> Tensor:
    if type(dtype) is not Global:
        raise ValueError("a tensor's number type is damaged")
    return _tensor(storage, offset, shape, strides, dtype.name.removeprefix("torch."))


def _tensor(storage: Any, offset: Any, shape: Any, strides: Any, dtype: str | None) -> Tensor:
    if type(storage) is not Storage or type(shape) is not tuple or type(strides) is not tuple:
        raise ValueError("a tensor's description is damaged")
    if len(shape) != len(strides) or len(shape) > _MAX_RANK:
        raise ValueError("a tensor's sizes and strides do not fit each other")
    shape, strides = tuple(map(_whole, shape)), tuple(map(_whole, strides))
    return Tensor(storage, _whole(offset), shape, strides, dtype or storage.dtype)


def _ordered_dict(pairs: Any = ()) -> dict[Any, Any]:
    result = {}
    for pair in pairs if type(pairs) in (list, tuple) else [None]:
        if type(pair) not in (list, tuple) or len(pair) != 2:
            raise ValueError("its pickle is damaged")
        result[_checked_key(pair[0])] = pair[1]
    return result


def _size(values: Any) -> tuple[Any, ...]:
    if type(values) is not tuple:
        raise ValueError("its pickle is damaged")
    return values


def _counted(name: str, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    least, most = _ARITY.get(name, (1, 2))
    if not least <= len(arguments) <= most:
        raise ValueError(f"its pickle calls {name} with {len(arguments)} arguments")
    return arguments


_LITERALS = frozenset(
    {"INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "FLOAT", "BINFLOAT"}
    | {"STRING", "BINSTRING", "SHORT_BINSTRING", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8"}
    | {"UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"}
)
_CONSTANTS: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_LIST": list,
    "EMPTY_TUPLE": tuple,
    "EMPTY_DICT": dict,
    "MARK": lambda: _MARK,
}
_OPERATIONS: dict[str, Callable[[_Machine, Any], None]] = {
    "POP": lambda machine, _: machine.stack.pop(),
    "POP_MARK": lambda machine, _: machine.pop_to_mark(),
    "DUP": lambda machine, _: machine.stack.append(machine.stack[-1]),
    **dict.fromkeys(("PUT", "BINPUT", "LONG_BINPUT"), _Machine.put),
    **dict.fromkeys(("GET", "BINGET", "LONG_BINGET"), _Machine.get),
    "MEMOIZE": _Machine.memoize,
    "TUPLE1": lambda machine, _: machine.tuple_of(1),
    "TUPLE2": lambda machine, _: machine.tuple_of(2),
    "TUPLE3": lambda machine, _: machine.tuple_of(3),
    "TUPLE": lambda machine, _: machine.stack.append(tuple(machine.pop_to_mark())),
    "LIST": lambda machine, _: machine.stack.append(machine.pop_to_mark()),
    "APPEND": lambda machine, _: machine.append([machine.pop()]),
    "APPENDS": lambda machine, _: machine.append(machine.pop_to_mark()),
    "DICT": _Machine.new_dict,
    "SETITEM": _Machine.set_item,
    "SETITEMS": lambda machine, _: machine.set_items(machine.pop_to_mark()),
    "GLOBAL": lambda machine, name: machine.push_global(*name.split(" ", 1)),
    "STACK_GLOBAL": _Machine.stack_global,
    "BINPERSID": _Machine.persistent,
    "NEWOBJ": _Machine.new_object,
    "BUILD": _Machine.build,
    "REDUCE": _Machine.call,
}
# What a pickle may call, and with how many arguments; and what it may name without calling.
_CALLS: dict[str, Callable[..., Any]] = {
    "collections.OrderedDict": _ordered_dict,
    "torch._utils._rebuild_tensor": _rebuild_tensor,
    "torch._utils._rebuild_tensor_v2": _rebuild_tensor,
    "torch._utils._rebuild_tensor_v3": _rebuild_tensor_v3,
    "torch._utils._rebuild_parameter": lambda tensor, *_: tensor,
    "torch._utils._rebuild_parameter_with_state": lambda tensor, *_: tensor,
    "torch.Size": _size,
    # TorchScript's lists of one type, beside a module's tensors. Not needed, so not decoded.
    **dict.fromkeys((f"torch.jit._pickle.{name}" for name in _SCRIPT_LISTS), lambda *_: None),
    # NumPy's numbers and arrays: training scripts save their best mAP and CMC as such. Not needed,
    # so not decoded.
    "numpy.dtype": lambda *_: None,
    **dict.fromkeys(
        (f"numpy.{core}.multiarray.{name}" for core in ("core", "_core") for name in _NUMPY),
        lambda *_: None,
    ),
    "_codecs.encode": lambda *_: None,
}
_ARITY = {
    "collections.OrderedDict": (0, 1),
    "torch._utils._rebuild_tensor": (4, 4),
    "torch._utils._rebuild_tensor_v2": (6, 7),
    "torch._utils._rebuild_tensor_v3": (7, 8),
    "torch._utils._rebuild_parameter": (3, 3),
    "torch._utils._rebuild_parameter_with_state": (4, 4),
    "torch.Size": (1, 1),
    "numpy.dtype": (1, 3),
    **{f"numpy.{core}.multiarray._reconstruct": (3, 3) for core in ("core", "_core")},
}
_NAMES = frozenset(
    {f"torch.{kind}" for kind in _STORAGES | _DTYPES}
    | {"torch.storage.UntypedStorage", "torch.UntypedStorage", "numpy.ndarray"}
)
