"""Features: what chosen layers of a model say of a user's own texts, in memory or as files.

Letters: N texts, R rows, T tokens a row, E texts a row, S layers, D width.
"""

import dataclasses
import itertools
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from flaxbert import disk_cache, families, pretrained, tasks
from flaxbert.activations import Bottom
from flaxbert.array_formats import FORMATS
from flaxbert.config import Config
from flaxbert.data import Encoded
from flaxbert.disk_cache import readable
from flaxbert.errors import InputError, note, one_of
from flaxbert.heads.layers import parse
from flaxbert.heads.pooling import at, highest, mean
from flaxbert.tasks import custom, files
from flaxbert.tasks.base import Examples, Layout

DTYPES = ("float32", "float16", "bfloat16")


class Features(NamedTuple):
    """Features of N texts, and the tokens that they are of.

    Attributes:
      features: [tokens, S, D], of one text after the other; pooled: [N, S, D].
      offsets: [N + 1] int64 where the tokens of each text begin.
      token_ids: [tokens] int32, special tokens included.
      tokens: of each text, its tokens as text.
      layers: their S numbers, 0 the embeddings' output.
    """

    features: np.ndarray
    offsets: np.ndarray
    token_ids: np.ndarray
    tokens: list[list[str]]
    layers: tuple[int, ...]


def _of_sequences(function: Callable[[jax.Array, jax.Array, int], jax.Array]) -> Callable:
    """One of `heads.pooling`'s functions as one of states and batch."""
    return lambda states, batch: function(states, batch["sequence"], batch["first"].shape[1])


# --pooling -> (states [R, T, F], batch) -> [R, E, F]
POOLINGS: dict[str, Callable | None] = {
    "none": None, "cls": lambda states, batch: at(states, batch["first"]),
    "mean": _of_sequences(mean), "max": _of_sequences(highest)}


def numbers(layers: Sequence[str | int], count: int) -> tuple[int, ...]:
    """The numbers of the layers that numbers and names mean, in this order, each once.

    Args:
      layers: numbers from 0 (the embeddings' output) to `count`, or names as of `finetune`'s --layers.
      count: of the encoder.

    Raises:
      InputError: another number or name, or that of a sum whose weights are learnt.
    """
    found: list[int] = []
    for each in layers or [""]:
        mixing = parse(str(each), count)
        if mixing.how != "concat":
            raise InputError(f"--layers={each}: its weights are learnt in training; give the layers themselves, "
                             f"0 (the embeddings) to {count}")
        found += mixing.layers
    return tuple(dict.fromkeys(found))


class Extractor:
    """A model's layers as a function of texts.

    Args:
      model: as --model.
      layers: as of `numbers`; from Python also one number, or a text with commas.
      pooling: a key of POOLINGS.
      max_length: longest sequence in tokens; 0: the model's own.
      dtype: of the features, one of DTYPES. With bfloat16 the arithmetic is of bfloat16 too, else of float32.
      checkpoint: best or last, of a run.

    Raises:
      InputError: no such model, layer, pooling or dtype.
    """

    def __init__(self, model: str = "bundled", layers: str | int | Sequence[str | int] = "last",
                 pooling: str = "none", max_length: int = 0, dtype: str = "float32", checkpoint: str = "best"):
        one_of(pooling, POOLINGS, "--pooling")
        one_of(dtype, DTYPES, "--dtype")
        source = pretrained.load(model, checkpoint)
        shape, longest = source.config, source.tokenizer.model_max_length
        if max_length > longest:
            raise InputError(f"--max_length={max_length}: the model has positions for {longest} tokens")
        listed = str(layers).split(",") if isinstance(layers, str | int) else layers
        self.layers = numbers(listed, shape.num_hidden_layers)
        config = Config.make(max_length=max_length or longest)
        self.max_length, self.tokenizer = config.max_length, source.tokenizer
        self.family = families.make(tasks.of_kind("classification", ()), config)
        self.bottom = Bottom(shape, source.params["bert"], self.layers,
                             "bfloat16" if dtype == "bfloat16" else "float32", dtype, pool=POOLINGS[pooling])
        self.about = {"model": model, "layers": list(self.layers), "pooling": pooling, "dtype": dtype,
                      "max_length": self.max_length}

    def encode(self, examples: Examples, name: str) -> Encoded:
        """Token sequences; says how many may have been cut."""
        encoded = self.family.encode(self.tokenizer, examples, name)
        full = int((encoded.lengths == self.max_length).sum())
        if full:
            note(f"{name}: {full} of {len(encoded)} fill --max_length={self.max_length}; what is longer is cut")
        return encoded

    def tokens(self, encoded: Encoded) -> Iterator[list[str]]:
        """The tokens of each text as text."""
        for begin, end in itertools.pairwise(encoded.offsets.tolist()):
            yield self.tokenizer.convert_ids_to_tokens(encoded.tokens[begin:end].tolist())


def features(inputs: Any, **settings: Any) -> Features:
    """Features of texts.

    Args:
      inputs: a list of texts, or of pairs (A, B); a lone text is a list of one.
      **settings: those of `Extractor`.

    Raises:
      InputError: as `Extractor`; no inputs, or other ones.
    """
    inputs = [inputs] if isinstance(inputs, str) else list(inputs)
    if not inputs:
        raise InputError("inputs: none; give a list of texts, or of pairs of texts")
    extractor = Extractor(**settings)
    encoded = extractor.encode(extractor.family.inputs(inputs), "inputs")
    found = np.zeros(extractor.bottom.shape(encoded), extractor.bottom.dtype)
    extractor.bottom.write(encoded, "inputs", found)
    return Features(found, encoded.offsets, encoded.tokens, list(extractor.tokens(encoded)), extractor.layers)


def extract(output: str, input: str = "-", text_columns: Sequence[str] = (), skip_bad_rows: bool = False,
            **settings: Any) -> Path:
    """Writes the features of a file of texts: FILE.safetensors or FILE.npz, and FILE.tokens.json beside.

    The arrays are those of `Features`. They go to disk batch by batch; what is not whole is not there.

    Args:
      output: a file by its ending, or a folder, for features.safetensors and features.tokens.json.
      input: TSV, CSV or JSONL by its ending, or "-" for standard input.
      text_columns: one column, or two for pairs. Without: the column `text`; or no header and one text a line, or
        two with a tab between; JSONL likewise: strings, or lists of two.
      skip_bad_rows: count rows that cannot be read in place of stopping.
      **settings: those of `Extractor`.

    Returns:
      the file with the arrays.

    Raises:
      InputError: as `Extractor`; a file that cannot be read, or written; a disk without room.
    """
    target = Path(output).expanduser()
    if target.suffix not in FORMATS and (not target.suffix or target.is_dir()):
        target /= "features.safetensors"
    if target.suffix not in FORMATS:
        raise InputError(f"--output={output}: give a file that ends in {' or '.join(FORMATS)}, or a folder")
    if target.suffix == ".npz" and settings.get("dtype") == "bfloat16":
        raise InputError(f"--dtype=bfloat16: numpy's files have none; give --output={target.stem}.safetensors")
    extractor = Extractor(**settings)
    examples, report = read_texts(input, text_columns, skip_bad_rows)
    report.tell()
    name = "standard input" if input == "-" else input
    encoded, bottom = extractor.encode(examples, name), extractor.bottom
    others = {"offsets": encoded.offsets, "token_ids": encoded.tokens}
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        size = disk_cache.size_of(bottom.shape(encoded), bottom.dtype)
        _tell_room(target, size * FORMATS[target.suffix].copies, len(encoded))
        with _whole(target) as part, _whole(target.with_suffix(".tokens.json")) as beside:
            FORMATS[target.suffix].write(part, bottom.shape(encoded), bottom.dtype, others, extractor.about,
                                  lambda into: bottom.write(encoded, name, into))
            _write_tokens(beside, extractor.about, extractor.tokens(encoded))
    except disk_cache.NotFinite as error:
        raise InputError(f"--dtype={bottom.dtype}: cannot hold what these layers say; float32 or bfloat16 can, if "
                         f"{extractor.about['model']} is sound") from error
    except OSError as error:
        raise InputError(f"--output={output}: cannot be written: {error.strerror or error}") from error
    return target


def read_texts(path: str, columns: Sequence[str], skip_bad_rows: bool) -> tuple[Examples, tasks.Report]:
    """Texts or pairs of a file; arguments as of `extract`."""
    if len(columns) > 2:
        raise InputError(f"--text_columns={','.join(columns)}: give one column, or two for pairs")
    layouts = (Layout(tuple(columns)),) if columns else (Layout(("text",)), files.PLAIN[False], files.PLAIN[True])
    task = dataclasses.replace(custom.TASK, name="features")
    records = files.read_records(task, path, skip_bad_rows, layouts=layouts)
    pair = bool(records.texts) and len(records.texts[0]) == 2
    return files.to_examples(dataclasses.replace(task, pair=pair), records, labels_required=False)


def _tell_room(target: Path, size: int, count: int) -> None:
    """Tells what will be written and what is free; refuses what does not fit."""
    free = disk_cache.free(target.parent)
    if size > free:
        raise InputError(f"--output={target}: writing the features takes {readable(size)}, {readable(free)} are "
                         "free; fewer --layers, --dtype=float16 or --pooling would help")
    note(f"{target}: features of {count} texts; writing them takes {readable(size)}, {readable(free)} are free")


def _write_tokens(path: Path, about: Mapping[str, Any], tokens: Iterable[list[str]]) -> None:
    """{**about, "tokens": [...]} as JSON, a text a line, without all of it in memory."""
    with path.open("w", encoding="utf-8") as file:
        file.write(json.dumps({**about, "tokens": []}, ensure_ascii=False).removesuffix("]}"))
        for number, each in enumerate(tokens):
            file.write((",\n" if number else "\n") + json.dumps(each, ensure_ascii=False))
        file.write("]}\n")


@contextmanager
def _whole(target: Path) -> Iterator[Path]:
    """A file to write that takes the place of `target` at the end; deleted where that is not come to."""
    part = target.with_name(f"{target.name}.part")
    try:
        yield part
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)
