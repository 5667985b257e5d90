"""Writes flaxbert/assets/bundled: the shape of the small bundled BERT, and its WordPiece vocabulary.

Run it as `python -m experiments.make_bundled [FOLDER]`. The vocabulary comes from the toy tasks' sentences,
dev and test words included, and holds every printable ASCII character and common typographic ones, alone and as
a continuation, so that any English text can be written in it. Two runs give the same bytes.
"""

import json
import string
import sys
import tempfile
from pathlib import Path

from tokenizers import BertWordPieceTokenizer
from transformers import BertConfig, BertTokenizer

from flaxbert.tasks import toy

FOLDER = Path(__file__).parents[1] / "flaxbert" / "assets" / "bundled"
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
CHARACTERS = sorted(set(string.ascii_lowercase + string.digits + string.punctuation + "‘’“”–—…£€°·•"))
LARGEST = 2000
LENGTH = 512


def sentences() -> list[str]:
    """All text of the bundled tasks of texts and pairs."""
    splits = (task.generate(split) for task in toy.TASKS for split in ("train", "dev", "test"))
    return [text for examples in splits for text in (*examples.first, *(examples.second or []))]


def vocabulary() -> list[str]:
    """Special tokens, single characters, then learnt pieces in alphabetical order.

    The trainer breaks ties between merges by piece number, and numbers continuations in the order of a
    randomly seeded hash table unless they are given to it as special tokens: so they are.
    """
    fixed = [*SPECIAL, *CHARACTERS, *(f"##{character}" for character in CHARACTERS)]
    trainer = BertWordPieceTokenizer(lowercase=True)
    trainer.train_from_iterator(sentences(), vocab_size=LARGEST, min_frequency=2, special_tokens=fixed,
                                show_progress=False)
    return [*fixed, *sorted(set(trainer.get_vocab()) - set(fixed))]


def config(size: int) -> dict[str, object]:
    """The model's config.json: four layers of width 128."""
    shape = BertConfig(vocab_size=size, hidden_size=128, num_hidden_layers=4, num_attention_heads=4,
                       intermediate_size=512, max_position_embeddings=LENGTH, type_vocab_size=2,
                       hidden_act="gelu", layer_norm_eps=1e-12, hidden_dropout_prob=0.1,
                       attention_probs_dropout_prob=0.1, initializer_range=0.02, pad_token_id=0)
    keys = ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size",
            "max_position_embeddings", "type_vocab_size", "vocab_size", "hidden_act", "layer_norm_eps",
            "hidden_dropout_prob", "attention_probs_dropout_prob", "initializer_range", "pad_token_id")
    return {"architectures": ["BertModel"], "model_type": "bert", **{key: getattr(shape, key) for key in keys}}


def main(folder: Path = FOLDER) -> None:
    """Writes config.json, tokenizer.json and tokenizer_config.json."""
    folder.mkdir(parents=True, exist_ok=True)
    pieces = vocabulary()
    tokenizer = BertTokenizer(vocab={piece: number for number, piece in enumerate(pieces)}, do_lower_case=True,
                              model_max_length=LENGTH)
    if len(tokenizer) != len(pieces):
        raise RuntimeError(f"the tokenizer has {len(tokenizer)} pieces of {len(pieces)}")
    with tempfile.TemporaryDirectory() as scratch:
        tokenizer.save_pretrained(scratch)
        for name in ("tokenizer.json", "tokenizer_config.json"):
            content = json.loads((Path(scratch) / name).read_text(encoding="utf-8"))
            text = json.dumps(content, indent=1, ensure_ascii=False) + "\n"
            (folder / name).write_text(text, encoding="utf-8", newline="\n")
    (folder / "config.json").write_text(json.dumps(config(len(pieces)), indent=2) + "\n", encoding="utf-8",
                                        newline="\n")
    print(f"{folder}: {len(pieces)} pieces")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
