"""Which tokens of a text are scored in which window, so that each is scored exactly once.

    document   BOS t1 t2 t3 t4 t5 t6 t7          context_length 4, overlap 2
    window 0   BOS t1 t2 t3                      scores t1 t2 t3 t4
    window 1         t2 t3 t4 t5                 scores       t5 t6   (t2 t3 only give context)
    window 2               t4 t5 t6              scores             t7

A model reads the inputs of a text and predicts, from each, the token after it.
"""

from typing import NamedTuple

import numpy as np


class Window(NamedTuple):
    """Inputs `start .. stop - 1` of a document (BOS is position 0) predict positions `start + 1 .. stop`."""

    start: int
    stop: int
    first: int  # predictions of the first `first` inputs were scored by the window before


class Text(NamedTuple):
    """One window as the model sees it: a stretch of tokens that is run on its own, whatever it is packed with."""

    ids: np.ndarray  # int32, BOS or what precedes first; inputs are all but the last, targets all but the first
    first: int  # the first input whose prediction is scored; all after it are scored

    @property
    def num_inputs(self) -> int:
        return len(self.ids) - 1

    @property
    def num_scored(self) -> int:
        return self.num_inputs - self.first


def windows(num_tokens: int, context_length: int, overlap: int) -> list[Window]:
    """Windows over a document of `num_tokens` tokens after its BOS.

    Each has at most `context_length` inputs and repeats the last `overlap` inputs of the one before. A token
    is predicted from at least `overlap + 1` tokens, or from all that precede it in its document. (The rolling
    log-likelihood of lm-evaluation-harness with `context_len = overlap + 1`, but for its last window, which
    there is moved back to full length.)

    Args:
        num_tokens: at least 1.
        context_length: inputs of a window.
        overlap: in 0 .. context_length - 1.
    """
    all_windows = [Window(start=0, stop=min(context_length, num_tokens), first=0)]
    while all_windows[-1].stop < num_tokens:
        start = all_windows[-1].stop - overlap
        all_windows.append(Window(start=start, stop=min(start + context_length, num_tokens), first=overlap))
    return all_windows


def document_texts(ids: np.ndarray, bos_id: int, context_length: int, overlap: int) -> list[Text]:
    """The texts that score every token of a document once; EOS is not among them, for it has no bytes."""
    document = np.concatenate([[bos_id], ids]).astype(np.int32)
    return [
        Text(document[window.start : window.stop + 1], window.first)
        for window in windows(len(ids), context_length, overlap)
    ]


def option_text(context_ids: np.ndarray, option_ids: np.ndarray, bos_id: int, context_length: int) -> Text:
    """The text that scores the tokens of an option after BOS and as much of the end of its context as fits.

    Args:
        option_ids: 1 to `context_length` tokens.
    """
    room = context_length - len(option_ids)
    kept = context_ids[max(len(context_ids) - room, 0) :]
    ids = np.concatenate([[bos_id], kept, option_ids]).astype(np.int32)
    return Text(ids, first=len(kept))
