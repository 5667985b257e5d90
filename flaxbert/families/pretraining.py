"""Pre-training: telling masked words, and whether sentence B follows A (Devlin 2018, section 3.1).

Letters: N sequences, R rows, T tokens a row, E slots a row, M masked tokens a row, V vocabulary.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from flaxbert import heads, masking, segments
from flaxbert.data import Encoded, token_ids
from flaxbert.errors import InputError, note
from flaxbert.families.base import Family
from flaxbert.masking import Vocabulary
from flaxbert.tasks.base import Documents, Examples

CHUNK = 1024  # sequences that are masked at a time
ENDS = (".", "!", "?")  # tokens after which a sentence may end


class PretrainingFamily(Family):
    """Sequences of running text, masked anew at each training step.

    An encoded split holds each sequence as an evaluation sees it, masked once and for all, and as labels the
    words themselves; at its [CLS] the label of the next sentence. The model says four numbers of a masked
    token: cross entropy, whether the best word is right, the best word, and its probability; of a [CLS] the
    same about the next sentence.
    """

    per_token = True
    needs_labels = True
    counts: np.ndarray | None = None  # [V] of each ordinary token in the training text

    @property
    def next_sentence(self) -> bool:
        """Whether sequences have a second part, and it is asked whether that follows."""
        return bool(self.task.labels)

    def encode(self, tokenizer: Any, examples: Documents | Examples, name: str = "inputs") -> Encoded:
        """Documents as sequences; or texts with [MASK] in them, one sequence each, as they are."""
        self._know(tokenizer)
        if isinstance(examples, Examples):
            return self._given(examples, name)
        cls, sep = tokenizer.cls_token_id, tokenizer.sep_token_id
        rows, second, following = [], [], []
        for first, then, label in self._segments(examples, name):
            pair = [then, [sep]] if self.next_sentence else []
            rows.append(np.concatenate([[cls], first, [sep], *pair]).astype(np.int32))
            second.append(len(first) + 2)
            following.append(label)
        offsets = np.cumsum([0, *map(len, rows)])
        encoded = self._asked(np.concatenate(rows), offsets, np.array(second))
        encoded.labels[offsets[:-1]] = following
        return encoded

    def encode_tokens(self, tokenizer: Any, encoded: Encoded) -> Encoded:
        """Token sequences of any task, none longer than --max_length, as those of this one."""
        self._know(tokenizer)
        return self._asked(encoded.tokens, encoded.offsets, encoded.second)

    def _know(self, tokenizer: Any) -> None:
        self.vocabulary = Vocabulary.of(tokenizer, f"--model={self.config.model}")
        self.tokenizer = tokenizer

    def _asked(self, tokens: np.ndarray, offsets: np.ndarray, second: np.ndarray) -> Encoded:
        """Sequences as an evaluation sees them; the ragged `tokens` are the words themselves."""
        seen, chosen = self._held_out(tokens, offsets)
        return Encoded(seen, offsets, second, tokens, chosen.astype(np.float32), labelled="token")

    def _held_out(self, tokens: np.ndarray, offsets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """What an evaluation sees of the ragged tokens, and which of them it asks for; by the seed alone."""
        seen, chosen, width = tokens.copy(), np.zeros(len(tokens), bool), self.config.max_length
        for begin in range(0, len(offsets) - 1, CHUNK):
            edges = offsets[begin:begin + CHUNK + 1]
            here, present = slice(edges[0], edges[-1]), np.arange(width) < np.diff(edges)[:, None]
            padded = np.full(present.shape, self.tokenizer.pad_token_id, np.int32)
            padded[present] = tokens[here]
            random = masking.generator(self.config.seed, masking.HELD_OUT, row=begin)
            masked, asked = self._masked(padded, random.random((len(padded), 3, width)))
            seen[here], chosen[here] = masked[present], asked[present]
        return seen, chosen

    def _masked(self, tokens: np.ndarray, random: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return masking.mask(tokens, self.vocabulary, self.config.mask_rate, self.config.whole_word_masking, random)

    def _given(self, examples: Examples, name: str) -> Encoded:
        """Texts whose [MASK]s are to be told."""
        cls, sep, longest = self.tokenizer.cls_token_id, self.tokenizer.sep_token_id, self.config.max_length
        rows = [np.array([cls, *ids[:longest - 2], sep], np.int32)
                for ids in token_ids(self.tokenizer, examples.first, f"tokenising {name}")]
        for number, row in enumerate(rows):
            if self.vocabulary.mask not in row:
                raise InputError(f"text {number}: no {self.tokenizer.mask_token}, which stands for a word to be "
                                 f"told, in its first {longest} tokens")
        tokens, lengths = np.concatenate(rows), [len(row) for row in rows]
        return Encoded(tokens, np.cumsum([0, *lengths]), np.array(lengths), None,
                       (tokens == self.vocabulary.mask).astype(np.float32), labelled="token")

    def _segments(self, examples: Documents, name: str) -> Iterator[segments.Segment]:
        """The documents in pieces that --max_length holds; with a next sentence where there is one."""
        paragraphs = [paragraph for document in examples.paragraphs for paragraph in document]
        ids = iter(token_ids(self.tokenizer, paragraphs, f"tokenising {name}"))
        parts = [[next(ids) for _ in paragraphs] for paragraphs in examples.paragraphs]
        parts = [each for each in parts if sum(map(len, each))]
        documents = [np.concatenate(each) for each in parts]
        continues = self.vocabulary.continues
        if not documents:
            raise InputError(f"{name}: no text with any word in it")
        if len(documents) < len(examples):  # `tasks.corpus` has told of all but rare ones
            note(f"{name}: documents left out, of which no token comes: {len(examples) - len(documents)}")
        if not self.next_sentence:
            return segments.whole(documents, self.config.max_length - 2, continues)
        if len(documents) < 2:
            raise InputError(f"{name}: one document; --next_sentence needs two, with a blank line between them")
        ends = self.tokenizer.convert_tokens_to_ids(list(ENDS))
        # A sentence begins where a paragraph does, and after what may end one.
        starts = [np.union1d(np.cumsum([0, *map(len, each[:-1])]), np.flatnonzero(np.isin(document, ends)) + 1)
                  for each, document in zip(parts, documents, strict=True)]
        random = masking.generator(self.config.seed, masking.PAIRS)
        return segments.pairs(documents, starts, self.config.max_length - 3, continues, random)

    def fit(self, train: Encoded) -> None:
        """Counts the words, for the unigram model that perplexities are compared with."""
        words = np.delete(train.labels, train.offsets[:-1])
        self.counts = np.bincount(words, minlength=len(self.vocabulary.maskable)) * self.vocabulary.maskable

    def train_batch(self, arrays: dict[str, Any], step: int) -> dict[str, Any]:
        """Masks that are a function of (seed, step, number of the row) alone."""
        tokens = np.where(arrays["positions"] > 0, arrays["labels"], arrays["tokens"])
        tokens = np.where(arrays["sequence"] > 0, tokens, self.tokenizer.pad_token_id)  # 0 may be a word
        length = tokens.shape[1]
        masked, chosen = self._masked(tokens, masking.uniform(self.config.seed, step, arrays["row"], length))
        return self._batch({**arrays, "tokens": masked}, chosen, int(masking.quota(length, self.config.mask_rate)))

    def eval_batch(self, arrays: dict[str, Any]) -> dict[str, Any]:
        """The masks that the split was encoded with."""
        chosen = arrays["weights"] > 0
        length = chosen.shape[1]
        # Each sequence has its own share, rounded up at worst; texts of a user may hold any number of [MASK]s.
        words = np.arange(1, length)
        most = math.ceil((masking.quota(words, self.config.mask_rate) / (words + 2)).max() * length)
        needed = int(chosen.sum(axis=1).max())
        return self._batch(arrays, chosen, most if needed <= most else length)

    def _batch(self, arrays: dict[str, Any], chosen: np.ndarray, most: int) -> dict[str, Any]:
        """The model's batch; `masked` [R, M], and labels and weights by the names of the model's outputs."""
        columns, there = masking.columns(chosen, max(1, most))
        labels = {"mlm": np.take_along_axis(arrays["labels"], columns, 1)}
        weights = {"mlm": there.astype(np.float32)}
        if self.next_sentence:
            first = arrays["first"]
            labels["nsp"] = np.take_along_axis(arrays["labels"], first, 1)
            occupied = np.take_along_axis(arrays["sequence"], first, 1) == np.arange(1, first.shape[1] + 1)
            weights["nsp"] = occupied.astype(np.float32)
        return {**arrays, "masked": columns, "labels": labels, "weights": weights}

    def readout(self, outputs: Mapping[str, jax.Array], batch: Mapping[str, Any]) -> jax.Array:
        """[R, T, 4] the numbers that the class speaks of, 0 at all other tokens."""
        losses = heads.pretraining_losses(outputs, batch)
        told = jnp.zeros((*batch["tokens"].shape, 4))
        for name, columns in (("mlm", batch["masked"]), ("nsp", batch["first"])):
            if name in losses:
                best = outputs[name].argmax(-1)
                probability = jnp.exp(outputs[name].max(-1) - jax.nn.logsumexp(outputs[name], -1))
                each = jnp.stack([losses[name], best == batch["labels"][name], best, probability], -1)
                told = jax.vmap(lambda row, at, x: row.at[at].add(x))(
                    told, columns, each * batch["weights"][name][..., None])
        return told

    def scores(self, outputs: np.ndarray, encoded: Encoded, examples: Documents,
               dev: Mapping[str, float] | None = None) -> dict[str, float]:
        """Perplexity exp(mean cross entropy) and accuracy of masked words, beside that of a unigram model.

        The unigram model is that of the training text, p(w) = (count(w) + 1) / (words + V), of the same masked
        tokens; it is left out where the training text is not at hand.
        """
        masked = encoded.weights > 0
        if not masked.any():
            raise InputError("the held-out text is too short: not one token of it is masked")
        entropy, accuracy = outputs[masked, :2].mean(axis=0, dtype=np.float64)
        found = {"loss": entropy, "perplexity": np.exp(min(entropy, 700.0)), "mlm_accuracy": accuracy}
        if self.counts is not None:
            share = (self.counts + 1) / (self.counts.sum() + len(self.vocabulary.ordinary))
            found["unigram_perplexity"] = np.exp(-np.log(share[encoded.labels[masked]]).mean())
        if self.next_sentence:
            entropy, accuracy = outputs[encoded.offsets[:-1], :2].mean(axis=0, dtype=np.float64)
            found |= {"loss": found["loss"] + entropy, "nsp_accuracy": accuracy}
        return {name: float(value) for name, value in found.items()}

    def answers(self, outputs: np.ndarray, encoded: Encoded, examples: Examples,
                dev: Mapping[str, float] | None = None) -> list[dict[str, Any]]:
        """{"masked": [{"token", "probability"}, ...]}, one a [MASK] of the text."""
        found = []
        for begin, end in zip(encoded.offsets[:-1], encoded.offsets[1:], strict=True):
            told = outputs[begin:end][encoded.weights[begin:end] > 0]
            tokens = self.tokenizer.convert_ids_to_tokens(told[:, 2].astype(int).tolist())
            found.append({"masked": [{"token": token, "probability": float(p)}
                                     for token, p in zip(tokens, told[:, 3], strict=True)]})
        return found

    def write(self, split: str, outputs: np.ndarray, encoded: Encoded, examples: Documents, folder: Path,
              dev: Mapping[str, float] | None = None) -> None:
        note(f"{self.task.name} has no official format of predictions; none are written")

    def score_file(self, path: Path, examples: Documents) -> dict[str, float]:
        raise InputError(f"{path}: {self.task.name} has no official format of predictions")

    def inputs(self, values: Sequence[Any]) -> Examples:
        """From texts with [MASK] in them."""
        for i, value in enumerate(values):
            if not isinstance(value, str):
                raise InputError(f"input {i}: {value!r:.60} is no text")
        return Examples(list(values), None, None)
