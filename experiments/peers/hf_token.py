"""The peer of the token tasks: Hugging Face's BertForTokenClassification and Trainer; prints one JSON line.

It trains in float32 on the very sequences and labels of `flaxbert finetune`, whose flags it borrows, padded to
the longest of a batch, and is scored by the same code:

    python -m experiments.peers.hf_token --task=conll2003 --data_dir=DIR --model=FOLDER --learning_rate=5e-5
"""

import argparse
import json
import tempfile
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForTokenClassification, Trainer, TrainingArguments

from experiments.peers.hf_trainer import SHARED, Clock, timing
from flaxbert import families, pretrained, tasks
from flaxbert.config import Config
from flaxbert.data import Encoded

FLAGS = {**{name: kind for name, kind in SHARED.items() if name != "frozen_layers"}, "context": str}
IGNORED = -100  # PyTorch's label of a token that has none


class Collator:
    """Pads to the longest of the batch, and keeps (sequences, real tokens, processed tokens) of each."""

    def __init__(self):
        self.seen: list[tuple[int, int, int]] = []

    def __call__(self, features: list[dict[str, np.ndarray]]) -> dict[str, torch.Tensor]:
        lengths = [len(each["input_ids"]) for each in features]
        batch = {name: torch.full((len(features), max(lengths)), fill) for name, fill in
                 (("input_ids", 0), ("attention_mask", 0), ("labels", IGNORED))}
        for i, each in enumerate(features):
            for name, values in each.items():
                batch[name][i, :lengths[i]] = torch.from_numpy(values)
        self.seen.append((len(features), sum(lengths), batch["input_ids"].numel()))
        return batch


def features(encoded: Encoded) -> list[dict[str, np.ndarray]]:
    """Ids, mask and labels of each sequence."""
    labels = np.where(encoded.weights > 0, encoded.labels, IGNORED)
    return [{"input_ids": encoded.tokens[a:b].astype(np.int64), "attention_mask": np.ones(b - a, np.int64),
             "labels": labels[a:b].astype(np.int64)}
            for a, b in zip(encoded.offsets[:-1], encoded.offsets[1:], strict=True)]


def train(args: argparse.Namespace) -> dict[str, Any]:
    """Trains, times and scores; the settings are the flags."""
    config = tasks.settled(Config.make(**{name: getattr(args, name) for name in FLAGS}))
    task, splits, _ = tasks.load(config)
    family, tokenizer = families.make(task, config), pretrained.load(config.model).tokenizer
    encoded = {split: family.encode(tokenizer, splits[split]) for split in ("train", "dev")}
    torch.manual_seed(config.seed)
    model = AutoModelForTokenClassification.from_pretrained(config.model, dtype=torch.float32,
                                                            num_labels=task.outputs)
    clock, collator = Clock(), Collator()
    trainer = Trainer(
        model=model, train_dataset=features(encoded["train"]), data_collator=collator, callbacks=[clock],
        args=TrainingArguments(
            output_dir=tempfile.mkdtemp(), num_train_epochs=config.epochs, max_steps=config.max_steps or -1,
            per_device_train_batch_size=config.batch_size, per_device_eval_batch_size=config.batch_size,
            learning_rate=config.learning_rate, weight_decay=config.weight_decay, warmup_steps=config.warmup,
            max_grad_norm=config.clip_norm, seed=config.seed, use_cpu=not torch.cuda.is_available(), report_to=[],
            save_strategy="no", logging_steps=10**6, disable_tqdm=True))
    trainer.train()
    rates = timing(clock.ends, collator.seen, args.skip_steps)
    padded = trainer.predict(features(encoded["dev"])).predictions
    outputs = np.concatenate([row[:n] for row, n in zip(padded, encoded["dev"].lengths, strict=True)])
    return {"peer": "hf_token", **rates, "dev": family.scores(outputs, encoded["dev"], splits["dev"]),
            "steps": len(clock.ends), "device": torch.cuda.get_device_name() if torch.cuda.is_available()
            else f"cpu ({torch.get_num_threads()} threads)", "torch": torch.__version__, "settings": vars(args)}


def main() -> None:
    """Flags in, one JSON line out."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, kind in FLAGS.items():
        parser.add_argument(f"--{name}", type=kind, default=getattr(Config, name))
    parser.add_argument("--skip_steps", type=int, default=5, help="First steps that are not timed.")
    print(json.dumps(train(parser.parse_args())))


if __name__ == "__main__":
    main()
