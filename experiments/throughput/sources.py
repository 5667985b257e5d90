"""The models and the data that throughput is measured with, by name.

MiniLM, MRPC and SQuAD are read from the folder that FLAXBERT_DATA names; without it they are left out.

Letters: N examples, T tokens a sequence.
"""

import atexit
import csv
import random
import shutil
import tempfile
from collections.abc import Collection, Iterable
from functools import cache
from pathlib import Path
from typing import Any

import jax
import numpy as np
from safetensors.numpy import save_file

from experiments.outside import outside
from flaxbert import heads, trees
from flaxbert.bert import BertConfig
from flaxbert.errors import note
from flaxbert.export import head_settings, save_model_folder
from flaxbert.huggingface import to_tensors
from flaxbert.model_files import BUNDLED, load_tokenizer
from flaxbert.pretrained import load

# Models that are read from files: name -> folder under FLAXBERT_DATA.
STORED = {"minilm": "models/minilm-l6-h384-uncased"}
# Models with random weights: name -> what differs from BERT-base.
SHAPES: dict[str, dict[str, Any]] = {
    # For trying things out: short to compile, and yet its matrices dominate.
    "tiny": dict(vocab_size=8192, hidden_size=64, num_hidden_layers=2, num_attention_heads=2,
                 intermediate_size=256, max_position_embeddings=64, hidden_dropout_prob=0.0,
                 attention_probs_dropout_prob=0.0),
    "bert_base": {},
    "bert_large": dict(hidden_size=1024, num_hidden_layers=24, num_attention_heads=16, intermediate_size=4096),
}
MODELS = ("bundled", *STORED, *SHAPES)
# Data of real lengths: name -> folder under FLAXBERT_DATA; toy_pair is made on the spot.
FOLDERS = {"mrpc": "data/glue/MRPC", "squad": "data/squad", "toy_pair": ""}
DATA = ("full_length", *FOLDERS)

_WORDS = ("the", "of", "and", "to", "a", "in", "that", "it", "is", "was", "for", "on", "are", "with", "as", "he")


def available(name: str) -> bool:
    """Whether a model or data of this name can be had here."""
    stored = {**STORED, **FOLDERS}.get(name, "")
    return not stored or outside(stored) is not None


def at_hand(setups: Iterable[dict[str, Any]], models: Collection[str], part: str) -> list[dict[str, Any]]:
    """The setups with one of these models that can be had here; what is missing is told.

    Args:
      setups: with `model` and `data`.
      models: names.
      part: of the study, for the message.
    """
    found = []
    for setup in setups:
        missing = [name for name in (setup["model"], setup["data"]) if not available(name)]
        if missing:
            note(f"throughput: {part} left out for want of FLAXBERT_DATA: {', '.join(missing)}")
        elif setup["model"] in models:
            found.append(setup)
    return found


@cache
def _temporary() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="flaxbert-throughput-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


@cache
def model_folder(name: str) -> str:
    """What --model is to be for one of MODELS; a shape is written out with random weights for this process."""
    if name in STORED:
        return str(outside(STORED[name]))
    if name in SHAPES:
        return write_model(_temporary() / name, BertConfig(**SHAPES[name]))
    return name


def layers(name: str) -> int:
    """How many layers one of MODELS has."""
    shape = BertConfig(**SHAPES[name]) if name in SHAPES else load(model_folder(name), weights=False).config
    return shape.num_hidden_layers


def cache_dir() -> str:
    """Where frozen layers' states are kept for this process; the user's own cache is left alone."""
    return str(_temporary() / "activations")


def write_model(folder: Path, shape: BertConfig) -> str:
    """A Hugging Face folder of random weights, for us and for PyTorch alike.

    Args:
      folder: made.
      shape: the encoder's; its tokenizer is MiniLM's (BERT's uncased one) where that is there and fits, else
        the bundled one.
    """
    vocabulary = outside(STORED["minilm"]) if shape.vocab_size >= BertConfig().vocab_size else None
    tokenizer = load_tokenizer(vocabulary or BUNDLED, shape)
    settings = {**vars(shape), **head_settings("classification", ("0", "1"))}
    save_model_folder(folder, settings, tokenizer)
    shapes = heads.shapes(heads.SequenceModel(shape, 2))
    draw = np.random.default_rng(0)

    def leaf(name: str, like: jax.ShapeDtypeStruct) -> np.ndarray:
        if name.endswith(("kernel", "embedding")):
            return draw.standard_normal(like.shape, np.float32) * np.float32(shape.initializer_range)
        return np.full(like.shape, name.endswith("scale"), np.float32)
    tensors = to_tensors(trees.map_named(leaf, shapes))
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return str(folder)


def data_settings(name: str, length: int, examples: int) -> dict[str, Any]:
    """The settings of a `Config` that read one of DATA.

    Args:
      name: full_length: every sequence has exactly T tokens.
      length: T, the longest sequence for the others.
      examples: N at least, for full_length.
    """
    common = {"max_length": length, "max_eval_examples": 64}
    if name in FOLDERS:
        return {**common, "task": name, "data_dir": str(outside(FOLDERS[name])) if FOLDERS[name] else ""}
    folder = _temporary() / f"{name}-{length}-{examples}"
    _write_full_length(folder, length, examples)
    return {**common, "task": "custom", "data_dir": str(folder), "train_file": "train.tsv",
            "dev_file": "dev.tsv", "text_columns": ("text",), "label_column": "label"}


def _write_full_length(folder: Path, length: int, examples: int) -> None:
    """T words are T tokens or more, which are cut to T."""
    folder.mkdir(exist_ok=True)
    draw = random.Random(0)
    for split, count in (("train", examples), ("dev", 8)):
        with (folder / f"{split}.tsv").open("w", newline="") as file:
            table = csv.writer(file, delimiter="\t")
            table.writerow(("text", "label"))
            table.writerows((" ".join(draw.choices(_WORDS, k=length)), i % 2) for i in range(count))
