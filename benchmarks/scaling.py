"""Measure weak scaling over 1, 2 and 4 processes, and the shares of time for saving and for waiting on input.

    python benchmarks/scaling.py [--processes 1 2 4] [--steps 100]

Every process has one CPU device and the same number of sequences a step, so that n processes train n times the batch.
All processes share the cores of this machine. Where there are fewer cores than processes, tokens a CPU-second show the
cost of the processes. Tokens a second then show only what the cores give.
"""

import argparse
import os
import resource
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

from etils import epath

from lossline_jax.config.data import BuiltinCorpus, DataConfig, TrainedTokenizer
from lossline_jax.config.evaluation import ClozeTask, SuiteConfig, ValidationSet
from lossline_jax.config.execution import ExecutionConfig
from lossline_jax.config.model import LlamaConfig
from lossline_jax.config.study import RunConfig, StudyConfig
from lossline_jax.formatting import text_table
from lossline_jax.pipeline.study import prepare
from lossline_jax.storage.files import read_json
from lossline_jax.storage.paths import StudyDir
from lossline_jax.storage.run_records import read_result

SEQUENCES = 8  # a step, for each process
CONTEXT = 256  # tokens


def study(count: int, steps: int) -> StudyConfig:
    """Return a study of one run for `count` processes, with ten checkpoints."""
    run = RunConfig(
        model=LlamaConfig(d_model=128, num_layers=6, num_heads=4),
        data=DataConfig((("code", 1.0),), max_epochs=None),
        tokenizer=TrainedTokenizer("code", 2048),
        context_length=CONTEXT,
        batch_size=SEQUENCES * count,
        tokens=steps * SEQUENCES * count * CONTEXT,
        num_checkpoints=10,
    )
    suite = SuiteConfig(
        validation=(ValidationSet("code", max_documents=8, max_document_bytes=2000),),
        cloze=(ClozeTask("code", num_items=8, context_bytes=200, continuation_bytes=60),),
        context_length=CONTEXT,
        overlap=64,
    )
    corpora = (BuiltinCorpus("code", max_bytes=2_000_000),)
    execution = ExecutionConfig(fsdp=True)  # as on accelerators, so that processes exchange parameters and gradients
    return StudyConfig("scaling", corpora, (run,), suite, x="code", y="code_cloze", execution=execution)


def train(folder: StudyDir, run: RunConfig, count: int) -> float:
    """Train a run with `count` processes, and return their CPU-seconds, start and compilation included."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        coordinator = f"127.0.0.1:{probe.getsockname()[1]}"
    command = [sys.executable, "-m", "lossline_jax", "train", str(folder.root), "--only", run.run_id]
    command += ["--processes.coordinator", coordinator, "--processes.count", str(count), "--processes.index"]
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": "1"}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    gang = [
        subprocess.Popen([*command, str(index)], env=environment, stdout=subprocess.DEVNULL) for index in range(count)
    ]
    if max(process.wait() for process in gang) or min(process.returncode for process in gang):
        sys.exit("a process failed")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def leaves(folder: StudyDir, run: RunConfig) -> int:
    """Return the number of arrays in a checkpoint."""
    newest = max(folder.run(run.run_id).checkpoints.iterdir())
    trees = [read_json(newest / item / "_METADATA")["tree_metadata"] for item in ("params", "opt")]
    return sum(entry["value_metadata"]["value_type"] == "jax.Array" for tree in trees for entry in tree.values())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--steps", type=int, default=100)
    arguments = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as root:
        for count in arguments.processes:
            config, folder = study(count, arguments.steps), StudyDir(epath.Path(root) / str(count))
            prepare(config, folder)
            run = config.base
            cpu_seconds = train(folder, run, count)
            result = read_result(folder.run(run.run_id))
            seconds = result.seconds
            stepping = seconds["train"] + seconds["input"]
            rows.append(
                [
                    count,
                    f"{result.tokens_per_second:,.0f}",
                    f"{result.tokens / cpu_seconds:,.0f}",
                    leaves(folder, run),
                    f"{1000 * seconds['checkpoint'] / 10:.0f}",
                    f"{seconds['checkpoint'] / seconds['wall']:.1%}",
                    f"{seconds['input'] / stepping:.2%}",
                ]
            )
    header = ["processes", "tokens/s", "tokens/CPU-s", "leaves", "ms a save", "saves of wall", "input of steps"]
    print(f"{os.cpu_count()} cores, {Path(sys.executable).name}, {arguments.steps} steps\n{text_table(header, rows)}")


if __name__ == "__main__":
    main()
