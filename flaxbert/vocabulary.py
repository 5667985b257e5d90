"""A WordPiece vocabulary of one's own, learnt from text: the same text gives the same pieces."""

import string
from collections import Counter
from collections.abc import Iterable
from typing import Any

from flaxbert.errors import InputError

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
RARE = 2e-6  # a character's share of the text below which it gets no piece of its own


def learn(texts: Iterable[str], size: int, cased: bool = False) -> list[str]:
    """Special tokens, single characters (alone and as continuations), then learnt pieces, the oldest first.

    All printable ASCII characters are there, and others that are at least two in a million of the text's, in at
    most half of `size`; a word with any other is unknown.
    The trainer breaks ties between merges by piece number, and numbers continuations in the order of a
    randomly seeded hash table unless they are given to it as special tokens: so they are.

    Args:
      texts: the training text.
      size: of the vocabulary at most; a short text has fewer pieces to learn.
      cased: keep capitals and accents.

    Raises:
      InputError: `size` is too small for the characters.
    """
    from tokenizers import BertWordPieceTokenizer
    texts = list(texts)
    trainer = BertWordPieceTokenizer(lowercase=not cased)
    seen = Counter()
    for text in texts:
        seen.update(trainer.normalizer.normalize_str(text))
    ascii_ones = string.ascii_letters if cased else string.ascii_lowercase
    common = sorted({*ascii_ones, *string.digits, *string.punctuation})
    others = sorted({*seen} - {*common}, key=lambda c: (-seen[c], c))
    others = [c for c in others if not c.isspace() and seen[c] >= RARE * seen.total()]
    others = others[:max(0, size // 4 - len(common))]
    alphabet = [*common, *others]
    continued = [c for c in alphabet if c not in string.punctuation]  # a punctuation mark is a word of its own
    fixed = [*SPECIAL, *alphabet, *(f"##{c}" for c in continued)]
    if size <= len(fixed):
        raise InputError(f"--vocabulary_size={size}: too small; single characters and special tokens take "
                         f"{len(fixed)} already")
    trainer.train_from_iterator(texts, vocab_size=size, min_frequency=2, special_tokens=fixed,
                                initial_alphabet=alphabet, limit_alphabet=len(alphabet), show_progress=False)
    numbers = trainer.get_vocab()
    return [*fixed, *sorted({*numbers} - {*fixed}, key=numbers.get)]


def tokenizer(pieces: list[str], cased: bool) -> Any:
    """A transformers tokenizer for these pieces."""
    from transformers import BertTokenizer  # takes seconds
    return BertTokenizer(vocab={piece: number for number, piece in enumerate(pieces)}, do_lower_case=not cased)
