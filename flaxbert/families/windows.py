"""Questions and contexts as token sequences: windows that slide over a context of any length.

A window is [CLS] question [SEP] piece of the context [SEP]. Source: Devlin 2018's reference code for SQuAD.
Letters: Q questions, N windows, S tokens of a context.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from flaxbert.config import Config
from flaxbert.data import Encoded, token_ids
from flaxbert.errors import InputError
from flaxbert.progress import bar
from flaxbert.tasks.base import SpanExamples


@dataclass(frozen=True, kw_only=True)
class Windows(Encoded):
    """One split of questions; each window is a sequence, and an example to the model.

    Attributes:
      question: [N] number of the question that a window belongs to, ascending.
      begin: [N] the token of the context that a window's piece begins with.
      characters: of each question, [S, 2] where each token of its context begins and ends, in characters;
        questions about one context share one array.
    """

    question: np.ndarray
    begin: np.ndarray
    characters: list[np.ndarray]
    labelled: str = "span"

    def of(self, question: int) -> range:
        """The windows of one question."""
        return range(*np.searchsorted(self.question, [question, question + 1]))

    def piece(self, window: int) -> slice:
        """The tokens of a window that are the context's."""
        return slice(self.offsets[window] + self.second[window], self.offsets[window + 1] - 1)


def encode(tokenizer: Any, examples: SpanExamples, config: Config, what: str = "tokenising") -> Windows:
    """All windows of a split. Each context is tokenised once, however many questions it has.

    A window is labelled with the first accepted answer, or, without the whole of it, with [CLS] twice.

    Args:
      tokenizer: a fast transformers tokenizer.
      examples: Q questions.
      config: --max_length, --max_query_length, and --doc_stride, how far a window advances.

    Raises:
      InputError: --max_length leaves no room for a context.
    """
    questions = token_ids(tokenizer, examples.questions, what)
    contexts = list(dict.fromkeys(examples.contexts))
    known = dict(zip(contexts, _pieces(tokenizer, contexts, what), strict=True))
    cls, sep = np.array([tokenizer.cls_token_id], np.int32), np.array([tokenizer.sep_token_id], np.int32)
    rows, second, owner, begins, labels = [], [], [], [], []
    for number, (ids, context) in enumerate(zip(questions, examples.contexts, strict=True)):
        tokens, characters = known[context]
        head = np.concatenate([cls, ids[:config.max_query_length], sep])
        room = config.max_length - len(head) - 1
        if room < 1:
            raise InputError(f"--max_length={config.max_length}: no room for a context beside a question of "
                             f"{len(head) - 2} tokens; give more, or a smaller --max_query_length")
        answers = examples.answers[number] if examples.answers is not None else None
        span = _tokens_of(characters, *answers[0]) if answers else None
        for begin in _begins(len(tokens), room, config.doc_stride):
            piece = tokens[begin:begin + room]
            rows.append(np.concatenate([head, piece, sep]))
            second.append(len(head))
            owner.append(number)
            begins.append(begin)
            whole = span and begin <= span[0] <= span[1] < begin + len(piece)
            labels.append([len(head) + token - begin for token in span] if whole else [0, 0])
    return Windows(np.concatenate(rows), np.cumsum([0] + [len(row) for row in rows]), np.array(second, np.int64),
                   None if examples.answers is None else np.array(labels, np.int32),
                   np.ones(len(rows), np.float32), question=np.array(owner), begin=np.array(begins),
                   characters=[known[context][1] for context in examples.contexts])


def _begins(count: int, room: int, stride: int) -> range:
    """Where the windows of `count` tokens begin: each `stride` after the one before, until one reaches the end."""
    advance = min(stride, room)  # no token is left out
    return range(0, max(count - room + advance, 1), advance)


def _tokens_of(characters: np.ndarray, text: str, start: int) -> tuple[int, int]:
    """First and last token that overlap an answer; the last is before the first where none does."""
    return (int(np.searchsorted(characters[:, 1], start, "right")),
            int(np.searchsorted(characters[:, 0], start + len(text), "left")) - 1)


def _pieces(tokenizer: Any, texts: list[str], what: str,
            chunk: int = 512) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Word-piece ids [S] of each text and [S, 2] where each begins and ends, in characters."""
    with bar(len(texts), f"{what}: contexts", unit="texts", hidden=len(texts) <= 4 * chunk) as progress:
        for begin in range(0, len(texts), chunk):
            part = texts[begin:begin + chunk]
            found = tokenizer(part, add_special_tokens=False, truncation=False, padding=False, verbose=False,
                              return_attention_mask=False, return_token_type_ids=False,
                              return_offsets_mapping=True)
            for ids, places in zip(found["input_ids"], found["offset_mapping"], strict=True):
                yield np.array(ids, np.int32), np.array(places, np.int32).reshape(-1, 2)
            progress.update(len(part))
