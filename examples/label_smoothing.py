"""Does label smoothing move the loss-to-loss line? An objective that is not part of lossline, in twenty lines.

Question   A smoothed target gives a share epsilon of its probability to all tokens alike (Szegedy et al. 2016, arXiv
           1512.00567, section 7). Training lowers another loss then, while evaluation stays the same.
Command    lossline-jax run examples/label_smoothing.py
Cost       5 runs of 120k tokens, 4 minutes on two cores; no accelerator, no download
"""

import dataclasses
from dataclasses import dataclass

import jax
import jax.numpy as jnp

import lossline_jax as ll
from lossline_jax.train.gradient import LossSums


@dataclass(frozen=True)
class LabelSmoothing(ll.CustomObjective):
    """The cross-entropy with smoothed targets."""

    epsilon: float = 0.1  # share of the probability that is spread over all tokens

    def loss(self, model):
        """Return the loss of a microbatch. The log of a run has the plain loss, and this one as `smoothed`."""

        def loss(params, batch, randomness):
            log_probs_BTV = jax.nn.log_softmax(model.logits(params, batch.tokens_BT, batch.segments_BT))
            nll_BT = -jnp.take_along_axis(log_probs_BTV, batch.targets_BT[..., None], axis=-1)[..., 0]
            smoothed_BT = (1 - self.epsilon) * nll_BT - self.epsilon * log_probs_BTV.mean(axis=-1)
            nats, smoothed = (jnp.sum(nats_BT * batch.weights_BT) for nats_BT in (nll_BT, smoothed_BT))
            return smoothed, LossSums(nats, {"smoothed": smoothed})

        return loss


def study(
    tokens: int = 120_000, epsilon: float = 0.1, base_seeds: int = 3, seeds: int = 2, d_model: int = 64
) -> ll.StudyConfig:
    """Return the study.

    Args:
        tokens: training tokens of each run.
        epsilon: the smoothing that is compared with none.
        base_seeds: runs without smoothing.
        seeds: runs with smoothing.
        d_model: width of the model.
    """
    base = ll.RunConfig(
        model=ll.LlamaConfig(d_model=d_model, num_layers=2, num_heads=2),
        data=ll.DataConfig(mixture=(("wiki", 1.0),)),
        tokenizer=ll.TrainedTokenizer("wiki", 512),
        context_length=128,
        batch_size=8,
        tokens=tokens,
        num_checkpoints=6,
        checkpoint_spacing="log",
    )
    smoothed = dataclasses.replace(base, objective=LabelSmoothing(epsilon))
    return ll.StudyConfig(
        name="label_smoothing",
        question="Does label smoothing move the loss-to-loss line?",
        corpora=(ll.BuiltinCorpus("wiki"), ll.BuiltinCorpus("techdoc")),
        runs=tuple(
            dataclasses.replace(run, seed=seed)
            for run, count in ((base, base_seeds), (smoothed, seeds))
            for seed in range(count)
        ),
        suite=ll.SuiteConfig(
            validation=tuple(ll.ValidationSet(name, max_documents=60) for name in ("wiki", "techdoc")),
            context_length=128,
            overlap=32,
        ),
        x="wiki",
        y="techdoc",
    )
