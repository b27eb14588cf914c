"""Run any task of lm-evaluation-harness on a lossline model (extra `harness`). docs/harness.md has the recipe."""

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
    from lm_eval.api.model import TemplateLM  # pyright: ignore[reportMissingImports]
    from lm_eval.utils import get_rolling_token_windows, make_disjoint_window  # pyright: ignore[reportMissingImports]
except ImportError as missing:
    raise LosslineError(f"lossline_jax.evaluate.harness: needs lm-eval: {install_hint('harness')}") from missing

if TYPE_CHECKING:
    from lm_eval.api.instance import Instance  # pyright: ignore[reportMissingImports]

    from lossline_jax.data.tokenizers.build import Tokenizer
    from lossline_jax.models.model import Model

_Tokens = Sequence[int] | np.ndarray


class HarnessModel(TemplateLM):
    """An implementation of the harness's model interface with packed rows, few programs and one transfer per call.

    Tokens, truncation and windows are the same as in the harness's own `HFLM`, so the numbers are the same too.
    """

    def __init__(
        self,
        model: "Model",
        params: Any,
        tokenizer: "Tokenizer",
        mesh: Mesh,
        *,
        context_length: int,
        bos: bool = True,
        tokens_per_batch: int | None = None,
        fsdp: bool | None = None,
    ) -> None:
        """Place the parameters on the devices.

        Args:
            model: the model.
            params: the parameters of the model.
            tokenizer: the tokenizer that the model was trained with.
            mesh: a mesh of `mesh.make_mesh`.
            context_length: the largest number of input tokens of a text. A longer text loses its beginning and its BOS.
            bos: whether BOS precedes every text, as everywhere in lossline (`add_bos_token=True` of HFLM). If not, BOS
                precedes only a text without a context. HFLM does this for tokenizers that add no BOS.
            tokens_per_batch: tokens of a batch on each device, see `evaluator.RowScorer`.
            fsdp: whether parameters are also sharded over the mesh axis `data`, see `evaluator.RowScorer`.
        """
        super().__init__()
        self._model, self._mesh, self._tokenizer, self._bos = model, mesh, tokenizer, bos
        self._tokens_per_batch, self._fsdp = tokens_per_batch, fsdp
        self.max_length = context_length
        self._params = jax.device_put(params, shardings(model.axes(), mesh, params, fsdp=fsdp))

    @property
    def eot_token_id(self) -> int:
        """The token that ends a text."""
        return self._tokenizer.eos_id

    @property
    def prefix_token_id(self) -> int:
        """The token before a text without a context."""
        return self._tokenizer.bos_id

    @property
    def tokenizer_name(self) -> str:
        """The name of the tokenizer in the harness's cache of requests."""
        return f"lossline-{self._tokenizer.fingerprint}"

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **_: Any) -> list[int]:
        """Return the tokens of a text.

        Args:
            string: the text.
            add_special_tokens: whether BOS comes first. None: as `bos` of the constructor.
        """
        prefix = [self.prefix_token_id] if (self._bos if add_special_tokens is None else add_special_tokens) else []
        return prefix + self._tokenizer.encode(string).tolist()

    def loglikelihood(self, requests: list["Instance"], disable_tqdm: bool = False) -> list[tuple[float, bool]]:
        """Return the log-probability of each continuation, and whether greedy decoding gives the continuation.

        Args:
            requests: the requests, with arguments (context, continuation).
            disable_tqdm: not used, because there is no progress bar.
        """
        pairs = [(context, continuation) for context, continuation in (request.arguments for request in requests)]
        tokens = [(pair, *ids) for pair, ids in zip(pairs, self._encode_pairs(pairs), strict=True)]
        # The requests of one document share its tree. A hand-made request has no document, so its context stands in.
        items = [
            (request.task_name, context if request.doc_id is None else request.doc_id)
            for request, (context, _) in zip(requests, pairs, strict=True)
        ]
        answers = self._loglikelihood_tokens(tokens, items=items)
        for pair, answer in zip(pairs, answers, strict=True):
            self.cache_hook.add_partial("loglikelihood", pair, answer)
        return answers

    def loglikelihood_rolling(self, requests: list["Instance"], disable_tqdm: bool = False) -> list[float]:
        """Return the log-probability of each whole text. Every token is scored once, the first token after BOS.

        The windows are the same as in HFLM.

        Args:
            requests: the requests, with arguments (text,).
            disable_tqdm: not used, because there is no progress bar.
        """
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
        """Refuse to generate text, which lossline cannot do."""
        raise NotImplementedError(
            "lossline scores text and does not generate it; export the model (`lossline-jax export-weights`) and run "
            "this task with `--model hf`"
        )

    def _loglikelihood_tokens(
        self,
        requests: Sequence[tuple[tuple[str, str] | None, _Tokens, _Tokens]],
        items: Iterable[Hashable] | None = None,
        **_: Any,
    ) -> list[tuple[float, bool]]:
        """Return the log-probability and the greediness of each continuation.

        Args:
            requests: (strings, context, continuation); the context and the continuation are tokens.
            items: the item of each request. Requests of one item become branches of their shared beginning.
                None: every request is an item of its own.
        """
        if not requests:
            return []
        texts = [self._text(*request) for request in requests]
        numbers: dict[Hashable, int] = {}
        item_Q = np.array([numbers.setdefault(item, len(numbers)) for item in items or range(len(texts))])
        order = np.argsort(item_Q, kind="stable").tolist()  # `pack_sets` needs the requests of an item together
        # These scores are not divided by a length, so bytes and characters are not counted.
        ordered = [Request((texts[k],), int(item_Q[k]), 0, gold=False, num_bytes=0, num_chars=0) for k in order]
        columns, blocks = pack_sets([ordered], self.max_length, reuse_shapes=True)
        score_rows = RowScorer(
            self._model,
            self._mesh,
            blocks,
            len(texts),
            tokens_per_batch=self._tokens_per_batch,
            fsdp=self._fsdp,
            reuse_shapes=True,
            duplicate_of_Q=columns.duplicate_of_Q,
        )
        scores = score_rows(self._params)
        answers = [(0.0, False)] * len(texts)
        for k, nats, greedy in zip(order, scores.nats_Q.tolist(), scores.greedy_Q.tolist(), strict=True):
            answers[k] = (-nats, greedy)
        return answers

    def _encode_pairs(self, pairs: Sequence[tuple[str, str]]) -> list[tuple[np.ndarray, np.ndarray]]:
        """Return (context, continuation) as tokens, as `TemplateLM.loglikelihood` does.

        The tokens of the joined text are split after as many tokens as the context alone has.
        """
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

    def _text(self, strings: tuple[str, str] | None, context: _Tokens, continuation: _Tokens) -> Text:
        if not 0 < len(continuation) <= self.max_length:
            raise LosslineError(
                f"harness request {strings!r:.200}: its continuation has {len(continuation)} tokens; it must have "
                f"1 to context_length={self.max_length}"
            )
        if not len(context):
            raise LosslineError(f"harness request {strings!r:.200}: its context has no tokens; make the model with bos")
        ids = np.concatenate([context, continuation]).astype(np.int32)[-(self.max_length + 1) :]
        return Text(ids, first=len(ids) - len(continuation) - 1)
