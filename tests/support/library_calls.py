"""Make the calls of a notebook one after another, and print what each call has changed of its process.

python tests/support/library_calls.py FOLDER      a JSON object: names of settings that differ, by the name of the call
"""

import dataclasses
import json
import locale
import logging
import multiprocessing
import os
import random
import resource
import signal
import sys
import warnings
from pathlib import Path

import jax
import matplotlib
import numpy as np
import orbax.checkpoint  # noqa: F401  (imported first, since changes at the import of a third party do not count)
import pandas as pd
import scipy.optimize  # noqa: F401
import tensorboardX.record_writer  # noqa: F401
from etils import epath

from tests.support.paths import SUPPORT

LOGGERS = (None, "absl", "asyncio", "jax", "matplotlib", "fontTools", "fsspec", "gcsfs", "orbax")


def process_state() -> dict:
    """Return the settings of the process that a library must not change."""
    state = {f"jax.{name}": value for name, value in jax.config.values.items()}
    state |= {f"environment {name}": value for name, value in os.environ.items()}
    state |= {f"signal {number}": signal.getsignal(number) for number in signal.valid_signals()}
    for name in LOGGERS:
        logger = logging.getLogger(name)
        state[f"logger {name}"] = (logger.level, logger.disabled, logger.propagate, list(logger.handlers))
    state |= {f"matplotlib {name}": str(value) for name, value in matplotlib.rcParams.items()}
    state |= {f"numpy {name}": value for name, value in np.geterr().items()}
    umask = os.umask(0)
    os.umask(umask)
    return state | {
        "hooks": (sys.unraisablehook, sys.excepthook, sys.displayhook),
        "warnings": list(warnings.filters),
        "working folder": os.getcwd(),
        "umask": umask,
        "start method": multiprocessing.get_start_method(allow_none=True),
        "locale": locale.setlocale(locale.LC_ALL),
        "random": random.getstate(),
        "numpy.random": str(np.random.get_state()),  # noqa: NPY002
        "numpy print": str(np.get_printoptions()),
        "pandas": {
            name: pd.get_option(name) for name in ("display.max_rows", "display.precision", "io.excel.xlsx.writer")
        },
        "sys.path": list(sys.path),
    }


def calls(folder: Path):
    """Yield (name, call) for the calls of a notebook: data, training, checkpoints, scores, tables, fits, pages."""
    from lossline_jax import fit
    from lossline_jax.config.execution import ExecutionConfig
    from lossline_jax.config.validate import validate_study
    from lossline_jax.distributed.mesh import make_mesh
    from lossline_jax.errors import LosslineError
    from lossline_jax.evaluate.evaluator import Evaluator
    from lossline_jax.fit.study.fit_study import fit_study
    from lossline_jax.losses.table import read_losses, write_frame
    from lossline_jax.models.model import build_model
    from lossline_jax.pipeline.experiment import load_study_function
    from lossline_jax.pipeline.prepare import prepare_data
    from lossline_jax.pipeline.study_files import open_study, save_study
    from lossline_jax.plan.plan import plan_study
    from lossline_jax.report.page import write_report
    from lossline_jax.status.study import read_status
    from lossline_jax.storage.paths import RunDir, StudyDir
    from lossline_jax.storage.run_records import CheckpointMeta
    from lossline_jax.summary import as_text
    from lossline_jax.summary.results import show_text
    from lossline_jax.train.checkpoint import Checkpointer, load_checkpoint_params
    from tests.support.report_study import X, Y, losses_table, step_rows, study_config
    from tests.support.tiny_study import study
    from tests.support.tiny_training import Bigram, train_bigram

    execution, home = ExecutionConfig(), StudyDir(epath.Path(folder) / "tiny")
    tiny, table = study(max_bytes=60_000), losses_table(study_config())
    one_run = dataclasses.replace(tiny, runs=tiny.runs[:1])
    size = np.repeat([1e6, 3e6, 1e7, 3e7], 4)
    tokens = np.tile([1e8, 3e8, 1e9, 3e9], 4)
    losses = 1.7 + 400 / size**0.34 + 400 / tokens**0.28
    frame = pd.DataFrame({"params_total": size, "tokens_seen": tokens, "loss": losses, "run_id": range(16)})

    def score():
        prepared, run = prepare_data(one_run, home, info=lambda line: None), one_run.runs[0]
        model = build_model(run.model, prepared.tokenizer(run).vocab_size)
        suite = prepared.suite(run)
        with jax.set_mesh(make_mesh(execution)):
            params = model.init(jax.random.key(0))
            Evaluator(model, make_mesh(execution), suite).score(params)

    def fail_to_save():
        """Save on a disk that refuses, which a limit to the size of files imitates."""
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        params = {"w": jax.random.normal(jax.random.key(0), (400, 400))}
        resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))
        try:
            Checkpointer(RunDir(epath.Path(folder / "full"))).save_params(4, params, CheckpointMeta(4, 0, "", ""))
        except LosslineError:
            return
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        raise AssertionError("the save did not fail")

    def load():
        load_checkpoint_params(RunDir(epath.Path(folder / "run")), 12, Bigram(), make_mesh(execution))

    yield "load_study_function", lambda: load_study_function(str(SUPPORT / "tiny_study.py"))()
    yield "check_study", lambda: validate_study(tiny, "here")
    yield "save_study, open_study", lambda: (save_study(one_run, home), open_study(str(home.root)))
    yield "plan_study", lambda: as_text(plan_study(tiny))
    yield "prepare_data, Evaluator.score", score
    yield "train_run", lambda: train_bigram(folder / "run", execution)
    yield "load_params", load
    yield "a save that fails", fail_to_save
    yield "read_status, show_text", lambda: (as_text(read_status(one_run, home)), show_text(one_run, home, None))
    yield (
        "write_frame, read_table",
        lambda: (write_frame(frame, epath.Path(folder / "t.csv")), read_losses(folder / "t.csv")),
    )
    yield "fit.fit_law", lambda: fit.fit_law(fit.LAWS["chinchilla"], losses, N=size, D=tokens)
    yield "fit.fit_line", lambda: fit.fit_line(losses, 0.2 + 0.9 * losses)
    yield "fit.fit_lines", lambda: fit.fit_lines(table, X, Y, ["data"])
    yield (
        "fit.fit_laws",
        lambda: fit.fit_laws(frame, "chinchilla", {"N": "params_total", "D": "tokens_seen"}, ["loss"]),
    )
    yield "fit.backtest", lambda: fit.backtest(frame, "loss")
    yield "fit.forecast", lambda: as_text(fit.forecast(frame, "loss").predict(flops=1e20))
    config = study_config()
    yield (
        "fit_study, write_report",
        lambda: write_report(
            table,
            fit_study(table, X, Y, config.base.factors),
            epath.Path(folder / "report"),
            "small",
            study=config,
            steps=step_rows(config),
        ),
    )


def main(folder: str) -> None:
    changed = {}
    for name, call in calls(Path(folder)):
        before = process_state()
        call()
        after = process_state()
        changed[name] = sorted(key for key in before.keys() | after.keys() if before.get(key) != after.get(key))
    print(json.dumps(changed))


if __name__ == "__main__":
    main(sys.argv[1])
