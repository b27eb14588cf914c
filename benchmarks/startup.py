"""Measure the time from the start of a process to the first optimiser step of `lossline-jax train`.

A small study is prepared once. Each child process then does what `lossline-jax train` does, up to its first step. The
first child compiles the programs, and the others find them compiled. The last table has the time to import the package
alone, which must not import jax.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from shapes import SHAPES
from timing import use_cores

from lossline_jax.config.data import BuiltinCorpus, DataConfig, TrainedTokenizer
from lossline_jax.config.evaluation import ClozeTask, SuiteConfig, ValidationSet
from lossline_jax.config.study import RunConfig, StudyConfig
from lossline_jax.formatting import text_table

ARCHITECTURES = ("llama", "mamba2", "mamba")
CHILD = """
import json, os, sys, time
from lossline_jax.pipeline.study_files import open_study

spent = {}
def mark(name):
    spent[name] = time.process_time() - sum(spent.values())

study, folder = open_study(sys.argv[1])
from lossline_jax.pipeline.runner import StudyRunner
from lossline_jax.train.monitor.monitor import StepMonitor
mark("imports")
run = study.run_by_id(sys.argv[2])
runner = StudyRunner.open(study, folder, [run])
mark("data and devices")

def first_step(self, step, metrics):
    float(metrics.loss_nats_per_token)
    mark("state, program, step")
    print(json.dumps(spent), flush=True)
    os._exit(0)

StepMonitor.step_dispatched = first_step
runner.train(run)
"""

IMPORT = """
import sys, time
begin = time.perf_counter()
import lossline_jax
print(time.perf_counter() - begin, "jax" in sys.modules)
"""
MOST_IMPORT_SECONDS = 0.15  # wall seconds, the goal


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    use_cores(options.threads)
    with tempfile.TemporaryDirectory() as root:
        study = _study()
        folder = _prepare(study, Path(root))
        rows = [_measure(run, folder, options.repeats) for run in study.runs]
    parts = list(rows[0][2])
    table = [
        (name, *(f"{spent[part]:.2f}" for part in parts), f"{cold:.2f}", f"{warm:.2f}")
        for name, cold, spent, warm in rows
    ]
    print(text_table(("model", *parts, "in all, cold", "in all, warm"), table))
    print()
    print(_import_table(options.repeats))


def _import_table(repeats: int) -> str:
    """Return a table of wall seconds of `import lossline_jax`: the least and the median."""
    outputs = [
        subprocess.run([sys.executable, "-c", IMPORT], capture_output=True, text=True, check=True).stdout.split()
        for _ in range(repeats)
    ]
    seconds = [float(output[0]) for output in outputs]
    brings_jax = any(output[1] == "True" for output in outputs)
    row = ("import lossline_jax", f"{min(seconds):.3f}", f"{statistics.median(seconds):.3f}")
    return text_table(
        ("wall seconds", "least", "median", "at most", "brings jax"), [(*row, MOST_IMPORT_SECONDS, brings_jax)]
    )


def _study() -> StudyConfig:
    shape = SHAPES["S"]
    runs = tuple(
        RunConfig(
            model=shape.config(architecture),
            data=DataConfig((("code", 1.0),)),
            tokenizer=TrainedTokenizer("code", shape.vocab_size),
            context_length=shape.length,
            batch_size=16,
            tokens=100_000,
        )
        for architecture in ARCHITECTURES
    )
    return StudyConfig(
        name="startup",
        corpora=(BuiltinCorpus("code", max_bytes=2_000_000),),
        runs=runs,
        suite=SuiteConfig(
            validation=(ValidationSet("code", 20),),
            cloze=(ClozeTask("code", num_items=20, context_bytes=100, continuation_bytes=50),),
            context_length=shape.length,
            overlap=32,
        ),
        x="code",
        y="code_cloze",
    )


def _prepare(study: StudyConfig, root: Path) -> Path:
    from etils import epath

    from lossline_jax.pipeline import study as study_verbs
    from lossline_jax.storage.paths import StudyDir

    study_verbs.prepare(study, StudyDir(epath.Path(root) / study.name))
    return root / study.name


def _measure(run: RunConfig, folder: Path, repeats: int) -> tuple[str, float, dict[str, float], float]:
    """Return the architecture and CPU-seconds of a run's first step.

    The seconds are the total of the first process, then the medians of the parts and of the total once programs are
    compiled.
    """
    cold, *warm = [_child(run, folder) for _ in range(repeats + 1)]
    parts = {part: statistics.median(spent[part] for spent in warm) for part in cold}
    return run.model.architecture, sum(cold.values()), parts, statistics.median(sum(s.values()) for s in warm)


def _child(run: RunConfig, folder: Path) -> dict[str, float]:
    command = [sys.executable, "-c", CHILD, str(folder), run.run_id]
    process = subprocess.run(command, capture_output=True, text=True, check=False)
    if process.returncode:
        sys.exit(f"benchmarks: the child process failed\n{process.stderr}")
    return json.loads(process.stdout.splitlines()[-1])


if __name__ == "__main__":
    main()
