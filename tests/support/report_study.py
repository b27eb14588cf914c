"""Make a small study with a planted gap: its configuration, losses and training log."""

import dataclasses
import math

import numpy as np
import pandas as pd

from lossline_jax.config.data import BuiltinCorpus, ByteTokenizer, DataConfig, TrainedTokenizer
from lossline_jax.config.evaluation import SuiteConfig
from lossline_jax.config.model import LlamaConfig
from lossline_jax.config.serialise import fingerprint
from lossline_jax.config.study import RunConfig, StudyConfig
from lossline_jax.losses.loss_row import LossRow
from lossline_jax.storage.run_records import RunResult

X, Y = "wiki", "wiki_cloze"
SETS = {"wiki": 0.0, "code": 0.5, "wiki_cloze": -0.1}
CORPORA = {"wiki": {"documents": 1234, "bytes": 5_000_000, "sha256": "ab" * 32, "licence": "CC BY-SA"}}
PLANTED_GAP = -0.3  # bits/byte of the runs trained on code


def study_config(label: str = "code", question: str = "Does the data move the line?") -> StudyConfig:
    base = RunConfig(
        model=LlamaConfig(d_model=64, num_layers=4, num_heads=4),
        data=DataConfig((("wiki", 1.0),)),
        tokenizer=TrainedTokenizer("wiki", 1024),
        context_length=64,
        batch_size=16,
        tokens=200_000,
    )
    runs = (
        base,
        *(dataclasses.replace(base, seed=seed) for seed in (1, 2, 3)),
        dataclasses.replace(base, data=DataConfig(((label, 1.0),))),
        dataclasses.replace(base, tokenizer=ByteTokenizer()),
        dataclasses.replace(base, model=LlamaConfig(d_model=32, num_layers=2, num_heads=2)),
    )
    corpora = (BuiltinCorpus("wiki"), BuiltinCorpus("code"))
    return StudyConfig("small", corpora, runs, SuiteConfig(), X, Y, question=question)


def losses_table(study: StudyConfig) -> pd.DataFrame:
    """Return the rows of all runs on a planted line: y = 0.2 + 0.95 x, lower by PLANTED_GAP for other data."""
    generator = np.random.Generator(np.random.PCG64(7))
    rows = []
    for run in study.runs:
        factors = run.factors
        bytes_per_token = 1 if factors["tokenizer"] == "bytes" else 4
        nats_per_bit = math.log(2) * bytes_per_token
        for step in run.checkpoint_steps:
            wiki_loss = 1.6 + 0.5 * (step / run.num_steps) ** -0.3 + 0.02 * (factors["size"] != "d64-L4")
            for name, shift in SETS.items():
                task = name.endswith("_cloze")
                data_gap = PLANTED_GAP * (task and factors["data"] != "wiki")
                bits = (0.2 + 0.95 * wiki_loss + data_gap if task else wiki_loss + shift) + generator.normal(0, 0.002)
                rows.append(
                    LossRow(
                        study=study.name, run_id=run.run_id, **factors, params_total=331_776,
                        params_embedding=131_072, params_non_embedding=200_704, vocab_size=1024, step=step,
                        tokens_seen=step * run.tokens_per_step, train_flops=2e6 * step * run.tokens_per_step,
                        eval_set=name, eval_kind="task" if task else "validation", eval_fingerprint="f",
                        loss_definition="correct option" if task else "token-weighted",
                        nats_per_token=bits * nats_per_bit, bits_per_byte=bits, nats_sum=9000 * bits * nats_per_bit,
                        nats_per_token_standard_error=0.01, bits_per_byte_standard_error=0.004,
                        nats_per_token_document_mean=None if task else 3.5,
                        nats_per_token_document_mean_standard_error=None if task else 0.01,
                        nats_per_token_all_options=3.7 if task else None,
                        nats_per_token_all_options_standard_error=0.01 if task else None,
                        accuracy=0.375 if task else None, accuracy_standard_error=0.03 if task else None,
                        accuracy_per_char=0.4 if task else None,
                        accuracy_per_char_standard_error=0.03 if task else None,
                        accuracy_per_byte=0.5 if task else None,
                        accuracy_per_byte_standard_error=0.03 if task else None,
                        num_tokens=9000, num_bytes=9000 * bytes_per_token, n=200,
                    )
                )  # fmt: skip
    return pd.DataFrame([dataclasses.asdict(row) for row in rows])


def step_rows(study: StudyConfig) -> dict[str, list[dict]]:
    return {
        run.run_id: [
            {
                "step": step,
                "tokens_seen": step * run.tokens_per_step,
                "loss_nats_per_token": 3 + 4 * math.exp(-step / 40),
                "step_seconds": 0.5,
            }
            for step in range(10, run.num_steps + 1, 10)
        ]
        for run in study.runs
    }


def result_of(run: RunConfig, wall_seconds: float, **devices) -> RunResult:
    """Return the totals of a finished run that took `wall_seconds`. Older results have no `devices`."""
    return RunResult(
        run_fingerprint=fingerprint(run),
        step=run.num_steps,
        tokens=run.num_steps * run.tokens_per_step,
        tokens_per_second=run.num_steps * run.tokens_per_step / wall_seconds,
        wall_seconds=wall_seconds,
        compile_seconds=0.0,
        seconds={"wall": wall_seconds},
        **devices,
    )
