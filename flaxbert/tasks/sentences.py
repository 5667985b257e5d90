"""Sentences as words, from what people have: a text, a list of words, JSON of either."""

import dataclasses
import io
import json
from collections.abc import Iterable
from typing import Any

from flaxbert.errors import InputError
from flaxbert.tasks.base import TokenExamples
from flaxbert.tasks.rows import BadRow, BadRows, Report, text_lines, whole

Offsets = list[tuple[int, int]]
Words = tuple[list[str], str | None, Offsets | None]  # words; of a text, itself and where each word stands in it


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sentences(TokenExamples):
    """Sentences that came as texts or lists.

    Attributes:
      texts: N texts; None for one that came as a list of words.
      offsets: of each text, begin and end of its words in characters; None likewise.
    """

    texts: list[str | None]
    offsets: list[Offsets | None]

    @property
    def inputs(self) -> list[str | list[str]]:
        return [words if text is None else text for words, text in zip(self.words, self.texts, strict=True)]


def split(text: str) -> Words:
    """The words of a text by BERT's basic tokenizer: apart at white space, punctuation and CJK characters."""
    from tokenizers import PreTokenizedString
    from tokenizers.normalizers import BertNormalizer
    from tokenizers.pre_tokenizers import BertPreTokenizer
    pieces = PreTokenizedString(text)
    pieces.normalize(BertNormalizer(lowercase=False, strip_accents=False).normalize)
    BertPreTokenizer().pre_tokenize(pieces)
    offsets = [place for _, place, _ in pieces.get_splits(offset_referential="original", offset_type="char")]
    return [text[begin:end] for begin, end in offsets], text, offsets


def words_of(value: Any) -> Words:
    """The words of a text, a list of words, or a dict with one of them as "text" or "words".

    Raises:
      BadRow: it is none of these.
    """
    given = value
    if isinstance(value, dict):
        given = value.get("words", value.get("text"))
    if isinstance(given, str):
        return split(given)
    if isinstance(given, list | tuple) and all(isinstance(word, str) for word in given):
        return list(given), None, None
    raise BadRow(f"{value!r:.60} is neither a text nor a list of words, nor an object with one as text or words")


def examples(found: Iterable[Words]) -> Sentences:
    """Examples of what `words_of` returned; each is a document of its own."""
    words, texts, offsets = map(list, zip(*found, strict=True))
    numbers = range(len(words))
    return Sentences(words, None, list(numbers), list(map(str, numbers)), texts=texts, offsets=offsets)


def read(name: str, content: bytes, as_json: bool, skip_bad_rows: bool) -> tuple[Sentences, Report]:
    """Examples from the content of a file, one a line.

    Args:
      name: of the file.
      content: of it; UTF-8.
      as_json: a line is JSON of what `words_of` takes, and not a text.
      skip_bad_rows: count lines that cannot be read in place of stopping.

    Raises:
      InputError: names file, line and what would be right.
    """
    bad, found = BadRows(name, skip_bad_rows), []
    for number, line in text_lines(io.BytesIO(content), bad):
        try:
            words = words_of(whole(json.loads(line)) if as_json else line)
            if not words[0]:
                raise BadRow("no words")
            found.append(words)
        except json.JSONDecodeError as error:
            bad.add(f"line {number}", f"not JSON ({error.msg})")
        except BadRow as error:
            bad.add(f"line {number}", error)
    if not found:
        raise InputError(f"{name}: no lines that can be read")
    return examples(found), bad.report()
