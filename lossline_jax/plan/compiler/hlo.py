"""Read the optimised HLO text of a program: its collectives, the bytes that they send, and its buffers.

This file reads text because jax gives a compiled program in no other form. Only the computations that the entry
computation reaches are counted. Each one counts as often as the loops around it run.
"""

import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

# Opcodes of the collectives, in the order of the report.
KINDS = ("all-gather", "reduce-scatter", "all-reduce", "all-to-all", "collective-permute")
# Bits of an element in memory. For other types, the digits in the name give the bits (`s32`: 32).
_BITS = {"pred": 8, "bf16": 16, "f16": 16, "f32": 32, "f64": 64, "c64": 64}
_HEAD = re.compile(r"^(ENTRY )?%(\S+) \(.*\{$")
_OPCODES = "|".join((*KINDS, *(f"{kind}-start" for kind in KINDS), r"[a-z][a-z0-9-]*"))
_INSTRUCTION = re.compile(rf"^\s+(ROOT )?%(\S+) = (.*?) ({_OPCODES})\((.*)$")
_ARRAY = re.compile(r"\b([a-z]+[0-9]*)\[([0-9,]*)\]")
_CALLEE = re.compile(r"\b(calls|to_apply|body|condition)=%([^\s,)}]+)")
_BRANCHES = re.compile(r"\b(?:branch_computations|called_computations)=\{([^}]*)\}")


@dataclass(frozen=True)
class Array:
    """An array of a program: its element type, by the name that HLO gives it, and its shape."""

    dtype: str
    shape: tuple[int, ...]

    @property
    def num_bytes(self) -> int:
        """The size of the array in bytes."""
        bits = _BITS.get(self.dtype) or int(re.sub(r"\D", "", self.dtype) or 8)
        return math.prod(self.shape) * bits // 8


@dataclass(frozen=True)
class Collective:
    """A collective instruction of a program.

    Attributes:
        kind: one of `KINDS`.
        results: the arrays that the collective returns.
        group_size: number of devices that take part in the collective together.
        runs: how often the collective runs.
    """

    kind: str
    results: tuple[Array, ...]
    group_size: int
    runs: int

    @property
    def sent_bytes(self) -> float:
        """The bytes that a device sends in all runs, with the algorithms that send least.

        With g devices in a group, a device sends these shares of the results:
            all-gather, all-to-all: (g - 1) / g.
            reduce-scatter: g - 1, because the result is only the shard that the device keeps.
            all-reduce: 2 (g - 1) / g (Patarasuk & Yuan 2009).
            collective-permute: 1.
        """
        size, g = sum(array.num_bytes for array in self.results), self.group_size
        shares = {"reduce-scatter": g - 1, "all-reduce": 2 * (g - 1) / g, "collective-permute": 1}
        return self.runs * size * shares.get(self.kind, (g - 1) / g)


@dataclass(frozen=True)
class Program:
    """The facts that are read from the text of one program.

    Attributes:
        collectives: the collectives that run.
        buffers: the results of instructions outside fusions. Arrays of equal type and shape appear once.
        uncounted_loops: number of loops whose length the text does not give. Each is assumed to run once.
    """

    collectives: tuple[Collective, ...]
    buffers: tuple[Array, ...]
    uncounted_loops: int


@dataclass(frozen=True)
class _Instruction:
    name: str
    result: str
    opcode: str
    rest: str  # operands and attributes
    is_root: bool


def read_program(text: str) -> Program:
    """Read the text of a compiled program.

    Args:
        text: result of `compiled.as_text()`.

    Raises:
        ValueError: the text has no entry computation.
    """
    computations, entry = _computations(text)
    runs, in_fusion, uncounted = _runs(computations, entry)
    collectives, buffers, chains = [], {}, set()
    for name, times in runs.items():
        for instruction in computations[name]:
            if name not in in_fusion:
                buffers |= dict.fromkeys(_arrays(instruction.result))
            kind = instruction.opcode.removesuffix("-start")
            if kind not in KINDS:
                continue
            # libtpu divides one asynchronous collective over several fusions. Each of them shows the whole collective,
            # and they share a chain id.
            if chain := re.search(r'chain_id="(\d+)"', instruction.rest):
                if chain[1] in chains:
                    continue
                chains.add(chain[1])
            is_async = instruction.opcode != kind
            results = _results(instruction.result, kind) if is_async else tuple(_arrays(instruction.result))
            collectives.append(Collective(kind, results, _group_size(instruction.rest), times))
    return Program(tuple(collectives), tuple(buffers), uncounted)


def count_by_kind(program: Program) -> Mapping[str, tuple[int, float]]:
    """Return, for each kind of collective, how often it runs and how many bytes a device sends in these runs.

    Args:
        program: the program.

    Returns:
        The two numbers for each kind in the program, in the order of `KINDS`. Other kinds are left out.
    """
    counts: Counter[str] = Counter()
    sent: defaultdict[str, float] = defaultdict(float)
    for collective in program.collectives:
        counts[collective.kind] += collective.runs
        sent[collective.kind] += collective.sent_bytes
    return {kind: (counts[kind], sent[kind]) for kind in KINDS if counts[kind]}


def _computations(text: str) -> tuple[dict[str, list[_Instruction]], str]:
    computations: dict[str, list[_Instruction]] = {}
    entry, current = "", None
    for line in text.splitlines():
        if head := _HEAD.match(line):
            current = computations.setdefault(head[2], [])
            entry = head[2] if head[1] else entry
        elif current is not None and (match := _INSTRUCTION.match(line)):
            root, name, result, opcode, rest = match.groups()
            current.append(_Instruction(name, result, opcode, rest, bool(root)))
    if not entry:
        raise ValueError("no entry computation: this is not the text of a compiled program")
    return computations, entry


def _runs(computations: Mapping[str, list[_Instruction]], entry: str) -> tuple[dict[str, int], frozenset[str], int]:
    """Return the runs of each reached computation, the computations inside fusions, and the number of unknown loops."""
    runs, in_fusion, uncounted = defaultdict(int), set(), 0
    pending = [(entry, 1, False)]
    while pending:  # this ends, because the graph of calls has no cycle
        name, times, fused = pending.pop()
        runs[name] += times
        if fused:
            in_fusion.add(name)
        for instruction in computations[name]:
            length = 1
            if instruction.opcode == "while":
                length = _trip_count(instruction, computations)
                uncounted += length is None
            for role, callee in _callees(instruction.rest):
                # `to_apply` is the scalar function of a reduction, which has no collectives or buffers.
                if callee in computations and role != "to_apply":
                    factor = (length or 1) if role == "body" else 1
                    pending.append((callee, times * factor, fused or instruction.opcode == "fusion"))
    return dict(runs), frozenset(in_fusion), uncounted


def _callees(rest: str) -> Iterator[tuple[str, str]]:
    for role, name in _CALLEE.findall(rest):
        yield role, name
    for names in _BRANCHES.findall(rest):
        for name in re.findall(r"%([^\s,}]+)", names):
            yield "branch", name


def _trip_count(loop: _Instruction, computations: Mapping[str, list[_Instruction]]) -> int | None:
    """Return how often a loop runs. None: the text does not give it.

    XLA may state the number. If not, it is the bound in the loop's condition, because jax counts up from 0.
    """
    if known := re.search(r'"known_trip_count":\{"n":"(\d+)"', loop.rest):
        return int(known[1])
    condition = computations[dict(_callees(loop.rest))["condition"]]
    constants = {
        instruction.name: int(value[0])
        for instruction in condition
        if instruction.opcode == "constant" and (value := re.match(r"-?\d+(?=\))", instruction.rest))
    }
    operands = [
        name
        for instruction in condition
        if instruction.is_root and instruction.opcode == "compare" and "direction=LT" in instruction.rest
        for name in re.findall(r"%([^\s,)]+)", instruction.rest)
    ]
    bounds = [constants[name] for name in operands if name in constants]
    return bounds[0] if len(bounds) == 1 else None


def _arrays(result: str) -> Iterator[Array]:
    for dtype, dims in _ARRAY.findall(result):
        yield Array(dtype, tuple(int(size) for size in dims.split(",") if size))


def _results(result: str, kind: str) -> tuple[Array, ...]:
    """Return the results of an asynchronous collective from the tuple that its start instruction returns.

    The tuple has the operands, then the results, then `u32` counters. The tuple of an all-reduce has no operands.
    """
    arrays = [array for array in _arrays(result) if array.shape or array.dtype != "u32"]
    return tuple(arrays) if kind == "all-reduce" else tuple(arrays[len(arrays) // 2 :])


def _group_size(rest: str) -> int:
    """Return the number of devices in a group, or 1 if the text names no group.

    HLO writes groups as `{{0,1},{2,3}}`, `[2,2]<=[4]` or `mesh['a'=2,'b'=2] {'a'}`.
    """
    if listed := re.search(r"replica_groups=\{\{([0-9,]+)\}", rest):
        return len(listed[1].split(","))
    if iota := re.search(r"replica_groups=\[\d+,(\d+)\]", rest):
        return int(iota[1])
    if mesh := re.search(r"replica_groups=mesh\[([^\]]*)\] \{([^}]*)\}", rest):
        sizes = dict(re.findall(r"'(\w+)'=(\d+)", mesh[1]))
        return math.prod(int(sizes[axis]) for axis in re.findall(r"'(\w+)'", mesh[2]))
    return 1
