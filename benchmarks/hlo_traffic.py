"""Reads a program that XLA optimised for a GPU: its kernels, and the bytes that each moves."""

import dataclasses
import math
import re
from collections.abc import Iterator, Mapping

_LINE = re.compile(r"(?:ROOT )?%(?P<name>[\w.\-]+) = (?P<shape>\(.*?\)|\S+) (?P<op>[\w\-]+)\(")
_GEMM = re.compile(r'"__(?:cublas|triton_\w*gemm)')
_NO_KERNEL = frozenset(
    ["parameter", "tuple", "get-tuple-element", "bitcast", "constant", "after-all", "opt-barrier"]
)
_TAKES_ROWS = frozenset(("gather", "dynamic-slice"))
_COLLECTIVES = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute")


@dataclasses.dataclass(frozen=True)
class Instruction:
    """A line of a computation.

    Attributes:
        name: Its name.
        shape: Its type as written; several in parentheses for a tuple.
        op: What it does.
        operands: Names of what it reads.
        text: The whole line.
    """

    name: str
    shape: str
    op: str
    operands: tuple[str, ...]
    text: str

    @property
    def kind(self) -> str:
        """What runs it: cuDNN, a matrix product, a collective, or a fused loop."""
        if "__cudnn$" in self.text:
            return "convolution"
        if self.op == "dot" or _GEMM.search(self.text):
            return "matrix product"
        if self.op.startswith(_COLLECTIVES):
            return "collective"
        return "fused loop" if self.op == "fusion" else self.op


Computation = dict[str, Instruction]


def computations(text: str) -> dict[str, Computation]:
    """All computations of a program by name."""
    found: dict[str, Computation] = {}
    current: Computation = {}
    for line in text.splitlines():
        if header := re.match(r"(?:ENTRY )?%?([\w.\-]+) \(.*\{$", line):
            current = found.setdefault(header[1], {})
        elif parsed := _LINE.match(line.strip()):
            rest = line.strip()[parsed.end() :]
            operands = tuple(re.findall(r"%([\w.\-]+)", rest.partition("), ")[0]))
            instruction = Instruction(*parsed.group("name", "shape", "op"), operands, line.strip())
            current[instruction.name] = instruction
    return found


def loop_of_steps(program: Mapping[str, Computation]) -> Computation:
    """The computation of one step: of those that loops repeat, the one with most convolutions."""
    return max(program.values(), key=lambda body: sum("__cudnn$" in i.text for i in body.values()))


def kernels(body: Computation, program: Mapping[str, Computation]) -> Iterator[tuple[str, int]]:
    """Kind of each kernel of a computation, and the bytes that it has to read and write."""
    for instruction in body.values():
        if instruction.op in _NO_KERNEL or instruction.op.endswith("-done"):
            continue
        yield instruction.kind, _traffic(instruction, body, program)


def _traffic(instruction: Instruction, body: Computation, program) -> int:
    called = re.search(r"calls=%([\w.\-]+)", instruction.text)
    if called and called[1] in program:
        return _fusion_traffic(program[called[1]])
    written = instruction.shape
    if instruction.op == "custom-call":  # A library's, which writes into its workspace too.
        written = written.strip("()").partition("}")[0]
    read = (body[name].shape for name in instruction.operands if name in body)
    return _size(written) + sum(map(_size, read))


def _fusion_traffic(inner: Computation) -> int:
    """Rows that are taken from an array or written into it count, not the array."""
    total = 0
    for instruction in inner.values():
        if instruction.op == "parameter":
            users = (i for i in inner.values() if instruction.name in i.operands)
            total += max((_read(instruction, user) for user in users), default=0)
        if instruction.text.startswith("ROOT"):
            total += _written(instruction, inner)
    return total


def _read(parameter: Instruction, user: Instruction) -> int:
    first = bool(user.operands) and user.operands[0] == parameter.name
    if first and user.op in _TAKES_ROWS:
        return _size(user.shape)
    if first and user.op in ("scatter", "dynamic-update-slice"):
        return 0
    return _size(parameter.shape)


def _written(root: Instruction, inner: Computation) -> int:
    if root.op == "tuple":
        return sum(_written(inner[name], inner) for name in root.operands)
    if root.op == "dynamic-update-slice":
        return _size(inner[root.operands[1]].shape)
    if root.op == "scatter":
        return 2 * _size(inner[root.operands[-1]].shape)
    return _size(root.shape)


def _size(shape: str) -> int:
    """Bytes of a type, or of all types of a tuple."""
    return sum(
        _item_bytes(kind) * math.prod(int(n) for n in extent.split(",") if n)
        for kind, extent in re.findall(r"(\w+)\[([\d,]*)\]", shape)
    )


def _item_bytes(kind: str) -> int:
    bits = re.match(r"[a-z]+(\d+)", kind)
    return int(bits[1]) // 8 if bits else kind == "pred"
