"""Words, each with its label: names, phrases, parts of speech (Devlin 2018, section 5.3).

Only the first sub-token of a word has a label, and the loss is divided by the number of labelled tokens.

Letters: N sentences, W words of all of them, S sequences, C labels.
"""

from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

import numpy as np

from flaxbert import heads, metrics, token_metrics
from flaxbert.data import Encoded, token_ids
from flaxbert.errors import InputError, note
from flaxbert.families.base import Family, cell
from flaxbert.families.ensembles import of_chains
from flaxbert.tasks import conll, sentences, tagged
from flaxbert.tasks.base import TokenExamples
from flaxbert.tasks.rows import BadRow

Window = tuple[int, int, int, int]  # first and end of the words that a sequence labels, and of those that it holds


@dataclass(frozen=True, kw_only=True)
class TokenEncoded(Encoded):
    """S sequences, of which each labels words of one sentence, and each word is labelled in one of them.

    Attributes:
      firsts: [W] index in `tokens` of the first sub-token of each word, where it is labelled.
    """

    firsts: np.ndarray


class TokenFamily(Family):
    """A label for each word and, where the labels are IOB2 tags, the spans that they mark.

    The model says of a token the logits of its C labels; with --crf C probabilities, the label that it has in the
    best sequence of labels, and its loss (`heads.crf.told`).
    """

    per_token = True

    @property
    def needs_labels(self) -> bool:
        """A chain runs over the tokens that have labels, and its loss is computed where its scores are."""
        return self.config.crf

    def readout(self, outputs: Any, batch: Mapping[str, Any]) -> Any:
        return heads.crf.told(outputs, batch) if self.config.crf else outputs

    def together(self, outputs: np.ndarray) -> np.ndarray:
        return of_chains(outputs) if self.config.crf else super().together(outputs)

    def encode(self, tokenizer: Any, examples: TokenExamples, name: str = "inputs") -> TokenEncoded:
        """[CLS] words [SEP]. A sentence longer than --max_length is cut between words into several sequences.

        With --context=document a sequence holds the words around its own too, as many as fit; their weight is 0.
        """
        room = self.config.max_length - 2
        stream, begins = pieces(tokenizer, list(chain.from_iterable(examples.words)), room,
                                f"tokenising {name}")
        first, end, low, high = np.transpose([*windows(begins, examples, room, self.config.context == "document")])
        lengths = begins[high] - begins[low] + 2
        offsets = np.cumsum([0, *lengths])
        cls, sep = np.int32([tokenizer.cls_token_id]), np.int32([tokenizer.sep_token_id])
        tokens = np.concatenate([part for a, b in zip(begins[low], begins[high], strict=True)
                                 for part in (cls, stream[a:b], sep)])
        firsts = begins[:-1] + np.repeat(offsets[:-1] + 1 - begins[low], end - first)
        labels, weights = None, np.zeros(len(tokens), np.float32)
        weights[firsts] = 1
        if examples.labels is not None:
            labels = np.zeros(len(tokens), np.int32)
            labels[firsts] = [*chain.from_iterable(examples.labels)]
            if self.config.class_weights:
                weights[firsts] = np.float32(self.config.class_weights)[labels[firsts]]
        return TokenEncoded(tokens, offsets, lengths, labels, weights, labelled="token", firsts=firsts)

    def scores(self, outputs: np.ndarray, encoded: TokenEncoded, examples: TokenExamples,
               dev: Mapping[str, float] | None = None) -> dict[str, float]:
        found, weights = outputs[encoded.firsts], encoded.weights[encoded.firsts]
        losses = found[:, -1] if self.config.crf else np.asarray(
            self.loss(found, {"labels": encoded.labels[encoded.firsts]}))
        return {"loss": float((losses * weights).sum() / max(weights.sum(), 1e-30)),
                **self._judged(self._tags(found, examples), examples)}

    def _judged(self, predicted: list[list[str]], examples: TokenExamples) -> dict[str, float]:
        """The metrics of predicted labels by sentence."""
        gold = [[self.task.labels[label] for label in labels] for labels in examples.labels]
        if not conll.marks_spans(self.task):
            return {"accuracy": token_metrics.accuracy(gold, predicted)}
        types = dict.fromkeys(label[2:] for label in self.task.labels if label != "O")
        found = token_metrics.span_scores(gold, predicted, types)
        return {**found, "accuracy": token_metrics.accuracy(gold, predicted)}

    def _tags(self, found: np.ndarray, examples: TokenExamples) -> list[list[str]]:
        """The label of each word, from the outputs of its token, by sentence."""
        return list(by_sentence([self.task.labels[label] for label in self._best(found)], examples))

    def _best(self, found: np.ndarray) -> np.ndarray:
        """[W] the number of each word's label."""
        return found[:, -2].astype(int) if self.config.crf else found.argmax(-1)

    def answers(self, outputs: np.ndarray, encoded: TokenEncoded, examples: TokenExamples,
                dev: Mapping[str, float] | None = None) -> list[dict[str, Any]]:
        """{"words": [{"word", "label", "probability"}, ...], "entities": [...]}: these where labels mark spans.

        An entity is {"text", "type", "start", "end", "probability"}. `start` and `end` count the characters of an
        input that was a text, and the words of one that was a list of words; the probability is that of all its
        words' labels, as if they were independent.
        """
        told = outputs[encoded.firsts]
        p = told[:, :-2] if self.config.crf else metrics.softmax(told.astype(np.float64))
        likely = list(by_sentence(np.take_along_axis(p, self._best(told)[:, None], 1)[:, 0].tolist(), examples))
        tags = self._tags(told, examples)
        found = [{"words": [{"word": word, "label": tag, "probability": x}
                            for word, tag, x in zip(*each, strict=True)]}
                 for each in zip(examples.words, tags, likely, strict=True)]
        if conll.marks_spans(self.task):
            for n, answer in enumerate(found):
                answer["entities"] = [{**_place(examples, n, first, end), "type": kind,
                                       "probability": float(np.prod(likely[n][first:end]))}
                                      for kind, first, end in token_metrics.spans(tags[n])]
        return found

    def table(self, answers: Sequence[dict[str, Any]]) -> list[str]:
        """Word, label and probability a row, a blank line after each input: columns without a header."""
        return [line for answer in answers
                for line in (*("\t".join(map(cell, word.values())) for word in answer["words"]), "")]

    def write(self, split: str, outputs: np.ndarray, encoded: TokenEncoded, examples: TokenExamples, folder: Path,
              dev: Mapping[str, float] | None = None) -> None:
        """Columns as of the task's files, with the predicted label as the last: see `tasks.tagged`."""
        tagged.write(self.task, split, self._tags(outputs[encoded.firsts], examples), examples, folder)

    def score_file(self, path: Path, examples: TokenExamples) -> dict[str, float]:
        return self._judged(tagged.read(self.task, path, examples, self.config.skip_bad_rows), examples)

    def label_names(self, path: Path) -> list[str]:
        return tagged.labels(self.task, path)

    def inputs(self, values: Sequence[Any]) -> sentences.Sentences:
        """From texts, or lists of words, or {"text": ...} or {"words": ...}."""
        found = []
        for i, value in enumerate(values):
            try:
                found.append(sentences.words_of(value))
            except BadRow as error:
                raise InputError(f"input {i}: {error}") from None
        return sentences.examples(found)


def pieces(tokenizer: Any, words: list[str], longest: int, what: str) -> tuple[np.ndarray, np.ndarray]:
    """The ids of all words, one after the other, and [W + 1] where each word begins.

    Args:
      longest: most pieces of a word; the others are left out. A word without any, of control characters say, is
        the unknown one.
    """
    known: dict[str, np.ndarray] = dict.fromkeys(words)
    unknown = np.int32([tokenizer.unk_token_id])
    for word, ids in zip(known, token_ids(tokenizer, list(known), what), strict=True):
        known[word] = ids[:longest] if len(ids) else unknown
    found = [known[word] for word in words]
    return np.concatenate([np.int32([]), *found]), np.cumsum([0, *map(len, found)])


def windows(begins: np.ndarray, examples: TokenExamples, room: int, documents: bool) -> Iterator[Window]:
    """What each sequence labels and what it holds; every word is labelled once.

    Args:
      begins: [W + 1] where each word begins, in tokens; none is longer than `room`.
      examples: N sentences.
      room: most tokens of a sequence, without [CLS] and [SEP].
      documents: it holds words of the same document around those that it labels too.
    """
    edges = np.cumsum([0, *map(len, examples.words)])
    number = np.cumsum(np.diff(examples.documents, prepend=examples.documents[0]) != 0)
    low, high = edges[np.searchsorted(number, number)], edges[np.searchsorted(number, number, "right")]
    if documents and len(number) > 1 and not number[-1]:
        note(f"--context=document: {len(number)} sentences are one document; {conll.DOCUMENT} lines begin others")
    for n in range(len(examples)):
        for first, end in cut(begins, edges[n], edges[n + 1], room):
            yield first, end, *(around(begins, first, end, low[n], high[n], room) if documents else (first, end))


def cut(begins: np.ndarray, first: int, end: int, room: int) -> list[tuple[int, int]]:
    """Words `first` to `end` in as few pieces of at most `room` tokens as can be, the longest as short as can be.

    Args:
      begins: [W + 1] where each word begins, in tokens; none is longer than `room`.
    """
    def pieces(longest: int) -> list[tuple[int, int]]:
        edges = [first]
        while edges[-1] < end:
            edges.append(min(end, np.searchsorted(begins, begins[edges[-1]] + longest, "right") - 1))
        return list(pairwise(edges)) or [(first, end)]
    few = pieces(room)
    if len(few) == 1:
        return few
    least = np.diff(begins[first:end + 1]).max()
    return pieces(least + bisect_left(range(least, room), True, key=lambda size: len(pieces(size)) == len(few)))


def around(begins: np.ndarray, first: int, end: int, low: int, high: int, room: int) -> tuple[int, int]:
    """The words to hold around `first` to `end`: whole ones, as many on either side; more where one side has few.

    Args:
      begins, room: as of `windows`.
      low, high: where the document begins and ends.
    """
    spare = room - (begins[end] - begins[first])
    after = begins[high] - begins[end]
    left = max(low, np.searchsorted(begins, begins[first] - max(spare // 2, spare - after)))
    spare -= begins[first] - begins[left]
    return left, min(high, np.searchsorted(begins, begins[end] + spare, "right") - 1)


def by_sentence(values: list[Any], examples: TokenExamples) -> Iterator[list[Any]]:
    """The values of W words, cut into sentences."""
    begin = 0
    for words in examples.words:
        yield values[begin:begin + len(words)]
        begin += len(words)


def _place(examples: TokenExamples, n: int, first: int, end: int) -> dict[str, Any]:
    """`text`, `start` and `end` of words of sentence n."""
    offsets = examples.offsets[n] if isinstance(examples, sentences.Sentences) else None
    if offsets is None:
        return {"text": " ".join(examples.words[n][first:end]), "start": first, "end": end}
    start, stop = offsets[first][0], offsets[end - 1][1]
    return {"text": examples.texts[n][start:stop], "start": start, "end": stop}
