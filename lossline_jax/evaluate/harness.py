"""Any task of lm-evaluation-harness on a model of ours (extra `harness`); docs/harness.md has the recipe."""

from collections.abc import Hashable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
from jax.sharding import Mesh

from lossline_jax.distributed.sharding import shardings
from lossline_jax.errors import LosslineError, install_hint
from lossline_jax.evaluate.evaluator import RowScorer
from lossline_jax.evaluate.packing.rows import Request, pack_sets
from lossline_jax.evaluate.packing.windows import Text

try:
    from lm_eval.api.model import TemplateLM
    from lm_eval.utils import get_rolling_token_windows, make_disjoint_window
except ImportError as missing:
    raise LosslineError(f"lossline_jax.evaluate.harness: needs lm-eval: {install_hint('harness')}") from missing

if TYPE_CHECKING:
    from lm_eval.api.instance import Instance

    from lossline_jax.data.tokenizers.build import Tokenizer
    from lossline_jax.models.model import Model


class HarnessModel(TemplateLM):
    """The harness's model interface on the evaluator's engine: packed rows, few programs, one transfer a call.

    Tokens, truncation and windows are those of the harness's own `HFLM`, so the numbers are too.
    """

    def __init__(
        self,
        model: "Model",
        params: Any,
        tokenizer: "Tokenizer",
        mesh: Mesh,
        context_length: int,
        bos: bool = True,
        tokens_per_batch: int | None = None,
        fsdp: bool | None = None,
    ) -> None:
        """
        Args:
            context_length: inputs of the longest text; longer ones lose their beginning, BOS and all.
            bos: whether BOS precedes every text, as it does everywhere in lossline (`add_bos_token=True` of HFLM);
                else only one without a context, as with HFLM for tokenizers that add none.
            tokens_per_batch, fsdp: as of `evaluator.RowScorer`.
        """
        super().__init__()
        self._model, self._mesh, self._tokenizer, self._bos = model, mesh, tokenizer, bos
        self._batching = {"tokens_per_batch": tokens_per_batch, "fsdp": fsdp, "reuse_shapes": True}
        self.max_length = context_length
        self._params = jax.device_put(params, shardings(model.axes(), mesh, params, fsdp=fsdp))

    @property
    def eot_token_id(self) -> int:
        return self._tokenizer.eos_id

    @property
    def prefix_token_id(self) -> int:
        return self._tokenizer.bos_id

    @property
    def tokenizer_name(self) -> str:
        """Names the harness's cache of requests."""
        return f"lossline-{self._tokenizer.fingerprint}"

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **_: Any) -> list[int]:
        """The tokens of a text; `add_special_tokens` None: BOS as the model was made."""
        prefix = [self.prefix_token_id] if (self._bos if add_special_tokens is None else add_special_tokens) else []
        return prefix + self._tokenizer.encode(string).tolist()

    def loglikelihood(self, requests: list["Instance"], disable_tqdm: bool = False) -> list[tuple[float, bool]]:
        """Log-probability of each continuation after its context, and whether greedy decoding would give it."""
        pairs = [request.args for request in requests]
        tokens = [(pair, *ids) for pair, ids in zip(pairs, self._encode_pairs(pairs), strict=True)]
        # requests that were made by hand may name no document
        items = [
            (request.task_name, request.args[0] if request.doc_id is None else request.doc_id) for request in requests
        ]
        answers = self._loglikelihood_tokens(tokens, items=items)
        for pair, answer in zip(pairs, answers, strict=True):
            self.cache_hook.add_partial("loglikelihood", pair, answer)
        return answers

    def loglikelihood_rolling(self, requests: list["Instance"], disable_tqdm: bool = False) -> list[float]:
        """Log-probability of each whole text: every token once, the first after BOS, in windows as HFLM has them."""
        windows, owners = [], []
        for number, request in enumerate(requests):
            ids = self.tok_encode(*request.args, add_special_tokens=False)
            token_windows = get_rolling_token_windows(ids, self.prefix_token_id, self.max_length, context_len=1)
            windows += [(None, *make_disjoint_window(window)) for window in token_windows]
            owners += [number] * (len(windows) - len(owners))
        sums = np.zeros(len(requests))
        for owner, (log_probability, _) in zip(owners, self._loglikelihood_tokens(windows), strict=True):
            sums[owner] += log_probability
        for request, answer in zip(requests, sums.tolist(), strict=True):
            self.cache_hook.add_partial("loglikelihood_rolling", request.args, answer)
        return sums.tolist()

    def generate_until(self, requests: list["Instance"], disable_tqdm: bool = False) -> list[str]:
        raise NotImplementedError(
            "lossline scores text and does not generate it; export the model (`lossline-jax export-weights`) and run "
            "this task with `--model hf`"
        )

    def _loglikelihood_tokens(
        self,
        requests: Sequence[tuple[tuple[str, str] | None, Sequence[int], Sequence[int]]],
        items: Iterable[Hashable] | None = None,
        **_: Any,
    ) -> list[tuple[float, bool]]:
        """
        Args:
            requests: (strings, context, continuation), the last two as tokens.
            items: of each request; those of one item are laid out as branches of what their beginnings share.
        """
        if not requests:
            return []
        texts = [self._text(*request) for request in requests]
        numbers: dict[Hashable, int] = {}
        item_Q = np.array([numbers.setdefault(item, len(numbers)) for item in items or range(len(texts))])
        order = np.argsort(item_Q, kind="stable")  # requests of an item stand together there
        # Nothing is divided here, so bytes and characters are not counted.
        laid_out = [Request((texts[k],), int(item_Q[k]), 0, gold=False, num_bytes=0, num_chars=0) for k in order]
        columns, blocks = pack_sets([laid_out], self.max_length, reuse_shapes=True)
        score_rows = RowScorer(
            self._model, self._mesh, blocks, len(texts), **self._batching, duplicate_of_Q=columns.duplicate_of_Q
        )
        scores = score_rows(self._params)
        answers = [(0.0, False)] * len(texts)
        for place, nats, greedy in zip(order.tolist(), scores.nats_Q.tolist(), scores.greedy_Q.tolist(), strict=True):
            answers[place] = (-nats, greedy)
        return answers

    def _encode_pairs(self, pairs: Sequence[tuple[str, str]]) -> list[tuple[np.ndarray, np.ndarray]]:
        """As `TemplateLM.loglikelihood`: the joined text, split after the tokens of the context alone."""
        stems = [context.rstrip() for context, _ in pairs]
        distinct = sorted(set(stems))
        ids_of_stem = dict(zip(distinct, self._tokenizer.encode_batch(distinct), strict=True))
        joined = self._tokenizer.encode_batch([context + continuation for context, continuation in pairs])
        bos = np.array([self.prefix_token_id], np.int32)
        encoded = []
        for (context, _), stem, ids in zip(pairs, stems, joined, strict=True):
            context_ids = ids_of_stem[stem]
            prefix = bos if self._bos or not context else bos[:0]
            encoded.append((np.concatenate([prefix, context_ids]), ids[len(context_ids) :]))
        return encoded

    def _text(self, strings: tuple[str, str] | None, context: Sequence[int], continuation: Sequence[int]) -> Text:
        if not 0 < len(continuation) <= self.max_length:
            raise LosslineError(
                f"harness request {strings!r:.200}: its continuation has {len(continuation)} tokens; it must have "
                f"1 to context_length={self.max_length}"
            )
        if not len(context):
            raise LosslineError(f"harness request {strings!r:.200}: its context has no tokens; make the model with bos")
        ids = np.concatenate([context, continuation]).astype(np.int32)[-(self.max_length + 1) :]
        return Text(ids, first=len(ids) - len(continuation) - 1)
