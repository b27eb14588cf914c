"""Make a long table with known groups, so that the runs of each line of the figures are known beforehand."""

import itertools

import numpy as np
import pandas as pd

X, Y = "wiki", "quiz"
VALIDATION, TASKS = ("wiki", "code", "letters"), ("quiz", "riddle")
BASE = {
    "data": "wiki",
    "tokenizer": "bpe",
    "architecture": "llama",
    "size": "small",
    "context_length": 64,
    "optimiser": "adamw",
}
DATA_GAP, TOKENIZER_GAP = -0.3, 0.1  # bits/byte of tasks, for runs on code and for the byte tokenizer
PARAMS = {"small": 1e6, "large": 3e6, "small-mamba": 1.05e6}


def settings() -> list[dict]:
    """Return the settings of the table, each as its difference from the base.

    Two data sets, tokenizers and architectures are crossed. A size, a context and an optimiser change alone. One run
    matches no other: it has another optimiser and is trained on letters.
    """
    crossed = [
        {"data": data, "tokenizer": tokenizer, "architecture": architecture, "size": size}
        for data, tokenizer, (architecture, size) in itertools.product(
            ("wiki", "code"), ("bpe", "bytes"), (("llama", "small"), ("mamba", "small-mamba"))
        )
    ]
    alone = [{"size": "large"}, {"context_length": 128}, {"optimiser": "sgd"}]
    return [*crossed, *alone, {"data": "letters", "optimiser": "sgd", "size": "large"}]


def run_id(change: dict, seed: int = 0) -> str:
    return "/".join(map(str, (BASE | change).values())) + f"/{seed}"


def table(num_seeds: int = 2, num_steps: int = 8, noise: float = 0.002) -> pd.DataFrame:
    """Return a losses table with the columns that figures need.

    In bits/byte, the loss of a task is that of wiki - 0.5 + gaps. A token has four bytes with the bpe tokenizer and one
    byte with the other.
    """
    generator = np.random.Generator(np.random.PCG64(3))
    rows = []
    for change, seed in itertools.product(settings(), range(num_seeds)):
        factors = BASE | change
        nats = np.log(2) * (4 if factors["tokenizer"] == "bpe" else 1)
        gap = DATA_GAP * (factors["data"] == "code") + TOKENIZER_GAP * (factors["tokenizer"] == "bytes")
        for step in range(1, num_steps + 1):
            on_wiki = 1.5 + 2.0 * step**-0.5 + 0.1 * (factors["size"] == "large")
            for k, name in enumerate((*VALIDATION, *TASKS)):
                task = name in TASKS
                bits = on_wiki + (gap - 0.5 if task else 0.2 * k) + generator.normal(0, noise) * (k > 0)
                rows.append(
                    factors
                    | {
                        "run_id": run_id(change, seed),
                        "seed": seed,
                        "step": step,
                        "tokens_seen": 1000 * step,
                        "params_total": PARAMS[factors["size"]],
                        "params_non_embedding": PARAMS[factors["size"]] / 2,
                        "train_flops": 6e3 * step * PARAMS[factors["size"]],
                        "eval_set": name,
                        "eval_kind": "task" if task else "validation",
                        "nats_per_token": bits * nats,
                        "bits_per_byte": bits,
                    }
                )
    return pd.DataFrame(rows)


def isoflop_table(exponent: float = 0.5, curvature: float = 0.02) -> pd.DataFrame:
    """Return runs at three budgets, whose last losses lie on a parabola with its minimum at (budget / 6e2)^exponent."""
    rows = []
    for budget, share in itertools.product((6e16, 6e17, 6e18), (0.2, 0.5, 1.0, 2.0, 5.0)):
        best = (budget / 6e2) ** exponent
        size = best * share
        loss = 3.0 - 0.1 * np.log10(budget / 6e16) + curvature * np.log(share) ** 2
        common = BASE | {"size": f"{size:.0f}", "seed": 0, "params_total": size, "params_non_embedding": size}
        tokens = {"tokens_seen": budget / 6 / size, "train_flops": budget * (1 + 0.01 * (share > 1))}
        rows += [
            common
            | tokens
            | {"run_id": f"{budget:.0e}/{share}", "step": step, "eval_set": name, "bits_per_byte": value}
            for name in ("wiki", "quiz")
            for step, value in ((1, 9.0), (2, loss))
        ]
    return pd.DataFrame(rows)
