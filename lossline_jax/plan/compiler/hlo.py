"""What XLA's optimised HLO text says of a program: its collectives with what they send, and its buffers.

Text, because it is the only form of a compiled program that jax hands out. Only computations that the entry reaches
count, each as often as the loops around it run.
"""

import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

KINDS = ("all-gather", "reduce-scatter", "all-reduce", "all-to-all", "collective-permute")
_BITS = {"pred": 8, "bf16": 16, "f16": 16, "f32": 32, "f64": 64, "c64": 64}
_HEAD = re.compile(r"^(ENTRY )?%(\S+) \(.*\{$")
_OPCODES = "|".join((*KINDS, *(f"{kind}-start" for kind in KINDS), r"[a-z][a-z0-9-]*"))
_INSTRUCTION = re.compile(rf"^\s+(ROOT )?%(\S+) = (.*?) ({_OPCODES})\((.*)$")
_ARRAY = re.compile(r"\b([a-z]+[0-9]*)\[([0-9,]*)\]")
_CALLEE = re.compile(r"\b(calls|to_apply|body|condition)=%([^\s,)}]+)")
_BRANCHES = re.compile(r"\b(?:branch_computations|called_computations)=\{([^}]*)\}")


@dataclass(frozen=True)
class Array:
    """Element type and shape."""

    dtype: str
    shape: tuple[int, ...]

    @property
    def num_bytes(self) -> int:
        bits = _BITS.get(self.dtype) or int(re.sub(r"\D", "", self.dtype) or 8)
        return math.prod(self.shape) * bits // 8


@dataclass(frozen=True)
class Collective:
    """One collective of a program, as often as it runs."""

    kind: str
    results: tuple[Array, ...]
    group_size: int  # devices that take part in one of it
    runs: int

    @property
    def sent_bytes(self) -> float:
        """Bytes that a device sends in all runs, by the algorithms that send least.

        With g devices in a group: of a gathered or exchanged array (g - 1) / g; of a scattered sum g - 1 times the
        shard that is kept; of a sum twice (g - 1) / g (Patarasuk & Yuan 2009); all of what is passed on.
        """
        size, g = sum(array.num_bytes for array in self.results), self.group_size
        shares = {"reduce-scatter": g - 1, "all-reduce": 2 * (g - 1) / g, "collective-permute": 1}
        return self.runs * size * shares.get(self.kind, (g - 1) / g)


@dataclass(frozen=True)
class Program:
    """What the text of one program says."""

    collectives: tuple[Collective, ...]
    buffers: tuple[Array, ...]  # results of instructions outside fusions, each shape once
    uncounted_loops: int  # whose length the text does not tell; they are taken to run once


@dataclass(frozen=True)
class _Instruction:
    name: str
    result: str
    opcode: str
    rest: str  # operands and attributes
    is_root: bool


def read_program(text: str) -> Program:
    """The program of `compiled.as_text()`."""
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
            # libtpu spreads one asynchronous collective over several fusions, each with the whole of it
            if chain := re.search(r'chain_id="(\d+)"', instruction.rest):
                if chain[1] in chains:
                    continue
                chains.add(chain[1])
            is_async = instruction.opcode != kind
            results = _results(instruction.result, kind) if is_async else tuple(_arrays(instruction.result))
            collectives.append(Collective(kind, results, _group_size(instruction.rest), times))
    return Program(tuple(collectives), tuple(buffers), uncounted)


def count_by_kind(program: Program) -> Mapping[str, tuple[int, float]]:
    """How many of each kind run, and how many bytes a device sends in them; kinds that there are."""
    counts, sent = Counter(), Counter()
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
        raise ValueError("no entry computation: this is no text of a compiled program")
    return computations, entry


def _runs(computations: Mapping[str, list[_Instruction]], entry: str) -> tuple[dict[str, int], frozenset[str], int]:
    """How often each reached computation runs, those inside fusions, and loops of unknown length."""
    runs, in_fusion, uncounted = defaultdict(int), set(), 0
    pending = [(entry, 1, False)]
    while pending:  # the graph has no cycle
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
                if callee in computations and role != "to_apply":  # of a reduction: scalars
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
    """What XLA knows of it, or the bound that its condition compares the counter with (jax counts up from 0)."""
    if known := re.search(r'"known_trip_count":\{"n":"(\d+)"', loop.rest):
        return int(known[1])
    condition = computations[dict(_callees(loop.rest))["condition"]]
    constants = {
        each.name: int(value[0])
        for each in condition
        if each.opcode == "constant" and (value := re.match(r"-?\d+(?=\))", each.rest))
    }
    compared = [each for each in condition if each.is_root and each.opcode == "compare" and "direction=LT" in each.rest]
    bounds = [
        constants[name] for each in compared for name in re.findall(r"%([^\s,)]+)", each.rest) if name in constants
    ]
    return bounds[0] if len(bounds) == 1 else None


def _arrays(result: str) -> Iterator[Array]:
    for dtype, dims in _ARRAY.findall(result):
        yield Array(dtype, tuple(int(size) for size in dims.split(",") if size))


def _results(result: str, kind: str) -> tuple[Array, ...]:
    """Of the start of an asynchronous collective: it holds operands, then results, then counters."""
    arrays = [array for array in _arrays(result) if array.shape or array.dtype != "u32"]
    return tuple(arrays) if kind == "all-reduce" else tuple(arrays[len(arrays) // 2 :])


def _group_size(rest: str) -> int:
    """Devices of a group, as `{{0,1},{2,3}}`, `[2,2]<=[4]` or `mesh['a'=2,'b'=2] {'a'}`; 1 where none are named."""
    if listed := re.search(r"replica_groups=\{\{([0-9,]+)\}", rest):
        return len(listed[1].split(","))
    if iota := re.search(r"replica_groups=\[\d+,(\d+)\]", rest):
        return int(iota[1])
    if mesh := re.search(r"replica_groups=mesh\[([^\]]*)\] \{([^}]*)\}", rest):
        sizes = dict(re.findall(r"'(\w+)'=(\d+)", mesh[1]))
        return math.prod(int(sizes[axis]) for axis in re.findall(r"'(\w+)'", mesh[2]))
    return 1
