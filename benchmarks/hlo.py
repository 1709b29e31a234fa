"""What a compiled GPU program does, read off its text: kernels launched, and bytes moved by them.

    counts = counted(compiled.as_text())
    counts.launches, counts.bytes, counts.collectives

A loop counts as often as it is known to run, one of unknown length once. Of what is cut out of an
array, or put into one in place, only that part is counted, as loops over steps do it.
"""

import collections
import dataclasses
import functools
import math
import re
from collections.abc import Iterator, Mapping, Sequence

__all__ = ["Counts", "counted", "counted_step"]

_BITS = {
    **dict.fromkeys(("pred", "s8", "u8", "f8e4m3fn", "f8e5m2"), 8),
    **dict.fromkeys(("bf16", "f16", "s16", "u16"), 16),
    **dict.fromkeys(("f32", "s32", "u32"), 32),
    **dict.fromkeys(("f64", "s64", "u64", "c64"), 64),
    "c128": 128,
}

# What no kernel is launched for.
_FREE = {
    *("parameter", "constant", "tuple", "get-tuple-element", "bitcast", "iota", "after-all"),
    *("partition-id", "replica-id", "opt-barrier", "copy-done", "async-done", "call-done"),
}
_CALLS = ("call", "conditional", "async-start", "call-start")
_COLLECTIVES = re.compile(
    r" (all-reduce|all-gather|reduce-scatter|all-to-all|collective-permute)(?:-start)?\("
)

_COMPUTATION = re.compile(r"^(ENTRY )?%?([\w.\-]+) (?:\(.*\) -> .*)?\{")
_OPERATION = re.compile(r"^\s+(ROOT )?%?([\w.\-]+) = (\(.*?\)|\S+) ([\w\-]+)\((.*)$")


@dataclasses.dataclass(frozen=True)
class Counts:
    """Of a program, or of a part of it.

    Attributes:
      launches: kernels.
      bytes: that they read and write, outside of loops.
      loop_bytes: within them: of what is read in every turn, small arrays come from a cache.
      collectives: operation -> how many there are in the text.
    """

    launches: int
    bytes: int
    loop_bytes: int
    collectives: Mapping[str, int]


@dataclasses.dataclass(frozen=True)
class _Operation:
    name: str
    type: str
    code: str
    operands: tuple[str, ...]
    attributes: str
    is_root: bool


def counted(text: str) -> Counts:
    """Of a whole program."""
    program = _Program(text)
    return Counts(*program.work_of(program.entry), _collectives(text))


def counted_step(text: str) -> Counts:
    """Of one turn of a program's longest loop; of the whole where it has none."""
    program = _Program(text)
    loops = [op for op in program.operations[program.entry] if op.code == "while"]
    works = [program.work_of(_called(op, "body")) for op in loops]
    return Counts(*max(works, default=program.work_of(program.entry)), _collectives(text))


def _collectives(text: str) -> dict[str, int]:
    return dict(collections.Counter(_COLLECTIVES.findall(text)))


class _Program:
    """The computations of a text, by name."""

    def __init__(self, text: str) -> None:
        self.operations: dict[str, list[_Operation]] = {}
        self.entry = ""
        for name, is_entry, operation in _lines(text):
            self.operations.setdefault(name, []).append(operation)
            if is_entry:
                self.entry = name

    @functools.cache  # noqa: B019 - as long as the program
    def work_of(self, computation: str) -> tuple[int, int, int]:
        """Launches, and bytes outside and inside of loops, of a computation."""
        operations = self.operations[computation]
        types = {op.name: op.type for op in operations}
        total = (0, 0, 0)
        for op in operations:
            if op.code in _FREE:
                continue
            if op.code == "while":
                launches, moved, inside = self.work_of(_called(op, "body"))
                work = (launches * _turns(op), 0, (moved + inside) * _turns(op))
            elif op.code in _CALLS:
                branches = [name for name in _called_all(op) if name in self.operations]
                work = max(map(self.work_of, branches), default=(0, 0, 0))
            else:
                work = (1, self._moved_by(op, types), 0)
            total = (total[0] + work[0], total[1] + work[1], total[2] + work[2])
        return total

    def _moved_by(self, op: _Operation, types: Mapping[str, str]) -> int:
        """Bytes that a kernel reads and writes."""
        sizes = [_bytes(types.get(name, "")) for name in op.operands]
        if op.code == "dynamic-slice":
            return 2 * _bytes(op.type)
        if op.code == "dynamic-update-slice":
            return 2 * sizes[1]
        if op.code == "custom-call":
            # Bytes beside results are space to work in.
            return sum(sizes) + _bytes(re.sub(r"\bs8\[[\d,]*\]", "", op.type))
        if op.code != "fusion":
            return sum(sizes) + _bytes(op.type)
        inside = self.operations[_called(op, "calls")]
        return round(self._read_inside(inside, sizes)) + self._written_inside(inside)

    def _read_inside(self, inside: Sequence[_Operation], sizes: Sequence[int]) -> float:
        """Bytes of the operands that a fusion needs: of what it cuts out, what is cut out."""
        users = collections.defaultdict(list)
        for op in inside:
            for place, name in enumerate(op.operands):
                users[name].append((op, place))
        shares: dict[str, float] = {}
        for op in reversed(inside):
            share = float(op.is_root)
            for user, place in users[op.name]:
                if user.code in ("dynamic-slice", "slice") and place == 0:
                    share += shares[user.name] * _bytes(user.type) / max(_bytes(op.type), 1)
                elif not (user.code == "dynamic-update-slice" and place == 0):
                    share += shares[user.name]
            shares[op.name] = min(share, 1.0)
        numbers = {
            op.name: int(op.attributes.split(")")[0]) for op in inside if op.code == "parameter"
        }
        return sum(shares[name] * sizes[number] for name, number in numbers.items())

    def _written_inside(self, inside: Sequence[_Operation]) -> int:
        by_name = {op.name: op for op in inside}

        def written(op: _Operation) -> int:
            if op.code == "tuple":
                return sum(written(by_name[name]) for name in op.operands)
            if op.code == "bitcast" and op.operands[0] in by_name:
                return written(by_name[op.operands[0]])
            if op.code == "dynamic-update-slice":
                return _bytes(by_name[op.operands[1]].type)
            return _bytes(op.type)

        return written(next(op for op in inside if op.is_root))


def _lines(text: str) -> Iterator[tuple[str, bool, _Operation]]:
    """(computation, whether it is the entry, operation) of every line that has one."""
    name, is_entry = "", False
    for line in text.splitlines():
        if not line.startswith(" "):
            found = _COMPUTATION.match(line)
            name, is_entry = (found[2], bool(found[1])) if found else ("", False)
            continue
        found = _OPERATION.match(re.sub(r"/\*[^*]*\*/", "", line)) if name else None
        if found:
            root, operation, type_, code, rest = found.groups()
            operands = tuple(re.findall(r"%([\w.\-]+)", rest.split(")")[0]))
            yield name, is_entry, _Operation(operation, type_, code, operands, rest, bool(root))


def _called(op: _Operation, role: str) -> str:
    found = re.search(rf"\b{role}=%?([\w.\-]+)", op.attributes)
    if found is None:
        raise ValueError(f"{op.name} ({op.code}) calls nothing as its {role}.")
    return found[1]


def _called_all(op: _Operation) -> list[str]:
    lists = re.findall(
        r"(?:to_apply|calls|true_computation|false_computation)=%?([\w.\-]+)", op.attributes
    )
    for branches in re.findall(r"branch_computations=\{([^}]*)\}", op.attributes):
        lists += re.findall(r"%?([\w.\-]+)", branches)
    return lists


def _turns(op: _Operation) -> int:
    """How often a loop is known to run; 1 where that is not known."""
    found = re.search(r'known_trip_count\\?":\{\\?"n\\?":\\?"(\d+)', op.attributes)
    return int(found[1]) if found else 1


def _bytes(type_: str) -> int:
    """Of an array, or of all arrays of a tuple."""
    total = 0
    for kind, shape in re.findall(r"\b([a-z]\w*)\[([\d,]*)\]", type_):
        if kind in _BITS:
            total += math.prod(int(size) for size in shape.split(",") if size) * _BITS[kind] // 8
    return total
