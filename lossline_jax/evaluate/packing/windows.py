"""Cut a text into windows so that every token is scored exactly once.

    document   BOS t1 t2 t3 t4 t5 t6 t7          context_length 4, overlap 2
    window 0   BOS t1 t2 t3                      scores t1 t2 t3 t4
    window 1         t2 t3 t4 t5                 scores       t5 t6   (t2 t3 only give context)
    window 2               t4 t5 t6              scores             t7

A model reads the inputs of a window. At each input it predicts the next token.
"""

from typing import NamedTuple

import numpy as np


class Window(NamedTuple):
    """A window over a document. Inputs `start .. stop - 1` predict positions `start + 1 .. stop`; BOS is position 0."""

    start: int
    stop: int
    first: int  # the number of first inputs whose predictions were scored by the window before


class Text(NamedTuple):
    """A window in tokens. The model's predictions do not depend on other texts of the same row."""

    ids: np.ndarray  # int32; inputs are all tokens but the last, targets all tokens but the first
    first: int  # the index of the first input whose prediction is scored; all later predictions are scored

    @property
    def num_inputs(self) -> int:
        """The number of tokens that the model reads."""
        return len(self.ids) - 1

    @property
    def num_scored(self) -> int:
        """The number of tokens whose prediction is scored."""
        return self.num_inputs - self.first


def windows(num_tokens: int, context_length: int, overlap: int) -> list[Window]:
    """Return the windows over a document of `num_tokens` tokens after its BOS.

    Each window has at most `context_length` inputs and repeats the last `overlap` inputs of the window before. A token
    is predicted from at least `overlap + 1` tokens, or from all tokens before it in its document.

    This is the rolling log-likelihood of lm-evaluation-harness with `context_len = overlap + 1`, except for the last
    window. The harness moves the last window back to full length.

    Args:
        num_tokens: at least 1.
        context_length: the largest number of inputs of a window.
        overlap: in 0 .. context_length - 1.
    """
    all_windows = [Window(start=0, stop=min(context_length, num_tokens), first=0)]
    while all_windows[-1].stop < num_tokens:
        start = all_windows[-1].stop - overlap
        all_windows.append(Window(start=start, stop=min(start + context_length, num_tokens), first=overlap))
    return all_windows


def document_texts(ids: np.ndarray, bos_id: int, context_length: int, overlap: int) -> list[Text]:
    """Return the texts that score every token of a document once. EOS is not scored, because it has no bytes.

    Args:
        ids: int32, the tokens of the document, without BOS.
        bos_id: the token before the document.
        context_length: the largest number of inputs of a text.
        overlap: the inputs that a text repeats from the text before, in 0 .. context_length - 1.
    """
    document = np.concatenate([[bos_id], ids]).astype(np.int32)
    return [
        Text(document[window.start : window.stop + 1], window.first)
        for window in windows(len(ids), context_length, overlap)
    ]


def option_text(context_ids: np.ndarray, option_ids: np.ndarray, bos_id: int, context_length: int) -> Text:
    """Return the text that scores the tokens of an option after BOS and the end of its context.

    The start of the context is left out if the text would be too long.

    Args:
        context_ids: int32, the tokens of the context, without BOS.
        option_ids: int32, 1 to `context_length` tokens.
        bos_id: the token before the context.
        context_length: the largest number of inputs of the text.
    """
    room = context_length - len(option_ids)
    kept = context_ids[max(len(context_ids) - room, 0) :]
    ids = np.concatenate([[bos_id], kept, option_ids]).astype(np.int32)
    return Text(ids, first=len(kept))
