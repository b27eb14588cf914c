"""Measure how much scores depend on batches, devices, order and packing, on which they should not depend.

`python -m tests.support.invariance` prints the table. Each model has random weights that distinguish tokens. It scores
two validation sets and a task, then scores them again in other arrangements. A row shows the largest relative deviation
from the first arrangement: of the nats of any request, and of the nats/token of any set.
"""

import conftest  # noqa: F401  (eight CPU devices, before jax starts)
import jax
import numpy as np

from lossline_jax.config.evaluation import ClozeTask, SuiteConfig, ValidationSet
from lossline_jax.config.model import LlamaConfig, Mamba2Config
from lossline_jax.distributed.mesh import build_mesh
from lossline_jax.evaluate.evaluator import RowScorer
from lossline_jax.evaluate.packing.rows import pack_sets
from lossline_jax.evaluate.tasks.cloze import cloze_items
from lossline_jax.evaluate.tokenised_set import tokenise_documents, tokenise_items
from lossline_jax.formatting import text_table
from lossline_jax.models.model import build_model
from tests.support.scoring_stand_ins import MemoryModel, PairTokenizer, one_text_a_row, sentences, sharpen

SUITE = SuiteConfig(context_length=128, overlap=64)
TOKENIZER = PairTokenizer((b"th", b"he", b" t", b"in"))
TASK = ClozeTask("b", num_items=40, context_bytes=60, continuation_bytes=20)


def suite_sets():
    corpora = {"a": sentences(0, 20, 40), "b": sentences(1, 12, 120)}
    validation = [tokenise_documents(ValidationSet(n), c.texts, TOKENIZER, SUITE) for n, c in corpora.items()]
    task = tokenise_items("cloze", cloze_items(TASK, corpora["b"].texts), TOKENIZER, SUITE)
    return [tokenised.requests for tokenised in (*validation, task)]


def nats_of(model, params, sets, devices=1, tokens_per_batch=2048, blocks=None):
    """Return the nats of every request, set after set."""
    mesh = build_mesh(jax.devices()[:devices], data=devices)
    blocks = pack_sets(sets, SUITE.context_length)[1] if blocks is None else blocks
    return RowScorer(model, mesh, blocks, sum(map(len, sets)), tokens_per_batch=tokens_per_batch)(params).nats_Q


def arrangements(model, params, sets):
    """Yield arrangements, each as (what differs, nats of every request in the order of `sets`)."""
    yield "batches of one row", nats_of(model, params, sets, tokens_per_batch=1)
    yield "batches of 500 tokens", nats_of(model, params, sets, tokens_per_batch=500)
    for devices in (2, 3, 8):
        yield f"{devices} devices", nats_of(model, params, sets, devices, tokens_per_batch=500)
    backwards = np.split(nats_of(model, params, sets[::-1]), np.cumsum([len(s) for s in sets[::-1]])[:-1])
    yield "order of sets", np.concatenate(backwards[::-1])
    yield "each set alone", np.concatenate([nats_of(model, params, [one_set]) for one_set in sets])
    yield "one text a row, padded", nats_of(model, params, sets, blocks=one_text_a_row(sets))


def nats_per_token(nats_Q, sets):
    tokens = [sum(text.num_scored for request in requests for text in request.texts) for requests in sets]
    parts = np.split(nats_Q, np.cumsum([len(requests) for requests in sets])[:-1])
    return np.array([part.sum() for part in parts]) / tokens


def main():
    vocab_size = TOKENIZER.vocab_size
    models = {
        "memory": MemoryModel(vocab_size),
        "Llama": build_model(LlamaConfig(d_model=64, num_layers=4, num_heads=4), vocab_size),
        "Mamba-2": build_model(Mamba2Config(d_model=64, num_layers=4), vocab_size),
    }
    sets, rows = suite_sets(), []
    for name, model in models.items():
        params = sharpen(model.init(jax.random.key(0)))
        first = nats_of(model, params, sets)
        for arrangement, nats_Q in arrangements(model, params, sets):
            by_set = nats_per_token(nats_Q, sets) / nats_per_token(first, sets) - 1
            rows.append((name, arrangement, f"{np.abs(nats_Q / first - 1).max():.1e}", f"{np.abs(by_set).max():.1e}"))
    print(text_table(("model", "what differs", "request", "set"), rows))


if __name__ == "__main__":
    main()
