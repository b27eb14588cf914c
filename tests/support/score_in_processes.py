"""Run one of several processes that score a suite together: `python score_in_processes.py RANK COUNT PORT FOLDER`."""

import json
import sys

import jax

rank, count, port, folder = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4]
jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_num_cpu_devices", 4 // count)
if count > 1:
    jax.distributed.initialize(f"localhost:{port}", num_processes=count, process_id=rank)

from etils import epath  # noqa: E402  (jax must know its processes first)

from lossline_jax.config.evaluation import ClozeTask, SuiteConfig, ValidationSet  # noqa: E402
from lossline_jax.config.model import LlamaConfig  # noqa: E402
from lossline_jax.distributed.mesh import build_mesh  # noqa: E402
from lossline_jax.evaluate.evaluator import Evaluator  # noqa: E402
from lossline_jax.evaluate.suite import prepare_suite  # noqa: E402
from lossline_jax.models.model import build_model  # noqa: E402
from tests.support.scoring_stand_ins import PairTokenizer, sentences  # noqa: E402

tokenizer = PairTokenizer((b"th", b"he"))
config = SuiteConfig(
    validation=(ValidationSet("a"),),
    cloze=(ClozeTask("a", num_items=10, context_bytes=40, continuation_bytes=20),),
    context_length=64,
    overlap=32,
)
suite = prepare_suite(config, tokenizer, {"a": sentences(0, 12, 30)}, epath.Path(folder) / str(rank))
mesh = build_mesh(jax.devices(), data=4)
model = build_model(LlamaConfig(d_model=16, num_layers=1, num_heads=2, d_ff=32), tokenizer.vocab_size)
scores = Evaluator(model, mesh, suite, tokens_per_batch=300).request_scores(model.init(jax.random.key(0)))
print(json.dumps(scores.nats_Q.tolist()))
