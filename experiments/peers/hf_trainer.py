"""The peer: fine-tunes with the Hugging Face Trainer on PyTorch and times it; prints one JSON line.

It reads the same files with the same reader and the same weights as `flaxbert finetune`, whose flags it
borrows, and scores with the same metrics:

    python -m experiments.peers.hf_trainer --task=mrpc --data_dir=DIR --model=FOLDER --batch_size=32 --epochs=1

Its fastest settings are usually `--bf16 --group_by_length`, on a GPU with `--compile`. The training rate
leaves out the first `--skip_steps` steps. float32 parameters whatever the checkpoint's type, as ours are.
"""

import argparse
import json
import math
import tempfile
import time
from typing import Any

import numpy as np
import torch
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)

from flaxbert import metrics, tasks
from flaxbert.config import Config
from flaxbert.pretrained import HEADS
from flaxbert.tasks.base import Examples

# Flags that are settings of `flaxbert finetune` too: name -> type.
SHARED = {"task": str, "data_dir": str, "model": str, "batch_size": int, "max_length": int, "epochs": float,
          "max_steps": int, "learning_rate": float, "weight_decay": float, "warmup": float,
          "max_train_examples": int, "max_eval_examples": int, "frozen_layers": int, "seed": int}
SWITCHES = {"random_init": "Random weights in the shape of --model.", "bf16": "Autocast to bfloat16.",
            "group_by_length": "Batches of similar lengths.", "compile": "torch.compile."}


class Clock(TrainerCallback):
    """When each step ended."""

    def __init__(self):
        self.ends: list[float] = []

    def on_step_end(self, args, state, control, **kwargs):
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.ends.append(time.perf_counter())


class Collator:
    """Pads to the longest of the batch, and keeps (examples, real tokens, processed tokens) of each."""

    def __init__(self, tokenizer: Any):
        self._pad = DataCollatorWithPadding(tokenizer)
        self.seen: list[tuple[int, int, int]] = []

    def __call__(self, features: list[dict[str, Any]]) -> Any:
        batch = self._pad(features)
        mask = batch["attention_mask"]
        self.seen.append((len(mask), int(mask.sum()), mask.numel()))
        return batch


def encode(tokenizer: Any, examples: Examples, max_length: int) -> list[dict[str, Any]]:
    """The features that the Trainer wants, without padding."""
    texts = [examples.first] if examples.second is None else [examples.first, examples.second]
    found = tokenizer(*texts, truncation=True, max_length=max_length)
    return [{**{name: found[name][i] for name in found}, "labels": label}
            for i, label in enumerate(examples.labels.tolist())]


def build_model(args: argparse.Namespace, task: tasks.Task) -> Any:
    """BERT and a fresh head, the bottom layers frozen where asked for."""
    head = {"num_labels": task.outputs, "problem_type": HEADS[task.kind].problem_type}
    if args.random_init:
        config = AutoConfig.from_pretrained(args.model, **head)
        model = AutoModelForSequenceClassification.from_config(config, dtype=torch.float32)
    else:
        model = AutoModelForSequenceClassification.from_pretrained(args.model, dtype=torch.float32, **head)
    if args.frozen_layers:
        for part in (model.bert.embeddings, *model.bert.encoder.layer[:args.frozen_layers]):
            part.requires_grad_(False)
    return model


def train(args: argparse.Namespace) -> dict[str, Any]:
    """Trains, times and scores; the settings are the flags."""
    config = Config.make(**{name: getattr(args, name) for name in SHARED})
    task, splits, _ = tasks.load(config)
    torch.manual_seed(args.seed)
    tokenizer = AutoTokenizer.from_pretrained(args.model)
    sets = {split: encode(tokenizer, splits[split], args.max_length) for split in ("train", "dev")}
    clock, collator = Clock(), Collator(tokenizer)
    trainer = Trainer(
        model=build_model(args, task), train_dataset=sets["train"], eval_dataset=sets["dev"],
        data_collator=collator, callbacks=[clock],
        args=TrainingArguments(
            output_dir=tempfile.mkdtemp(), num_train_epochs=args.epochs, max_steps=args.max_steps or -1,
            per_device_train_batch_size=args.batch_size, per_device_eval_batch_size=args.batch_size,
            learning_rate=args.learning_rate, weight_decay=args.weight_decay, warmup_steps=args.warmup,
            max_grad_norm=config.clip_norm, seed=args.seed, bf16=args.bf16, torch_compile=args.compile,
            train_sampling_strategy="group_by_length" if args.group_by_length else "random",
            use_cpu=not torch.cuda.is_available(), report_to=[], save_strategy="no", logging_steps=10**6,
            disable_tqdm=True))
    trainer.train()
    rates = timing(clock.ends, collator.seen, args.skip_steps)
    begun = time.perf_counter()
    out = trainer.predict(sets["dev"])
    seconds = time.perf_counter() - begun
    logits = out.predictions[0] if isinstance(out.predictions, tuple) else out.predictions
    dev = metrics.evaluate(task.kind, task.metrics, np.asarray(logits, np.float32), splits["dev"].labels)
    dev = {name: value if math.isfinite(value) else None for name, value in dev.items()}  # JSON has no NaN
    return {"peer": "hf_trainer", **rates, "dev_examples_per_second": len(sets["dev"]) / seconds, "dev": dev,
            "steps": len(clock.ends), "device": torch.cuda.get_device_name() if torch.cuda.is_available()
            else f"cpu ({torch.get_num_threads()} threads)", "torch": torch.__version__, "settings": vars(args)}


def timing(ends: list[float], seen: list[tuple[int, int, int]], skip: int) -> dict[str, float]:
    """Rates over the steps after the first `skip`.

    Args:
      ends: when each step ended, seconds.
      seen: (examples, real tokens, processed tokens) of each step's batch.
      skip: steps left out; lowered where a run has hardly more.
    """
    skip = min(skip, len(ends) - 2)
    if skip < 0:
        raise SystemExit("hf_trainer: too few steps to time; at least 2 are needed")
    seconds = ends[-1] - ends[skip]
    examples, tokens, processed = map(sum, zip(*seen[skip + 1:len(ends)], strict=True))
    return {"train_examples_per_second": examples / seconds, "train_tokens_per_second": tokens / seconds,
            "padding_share": 1 - tokens / processed, "mean_step_seconds": seconds / (len(ends) - 1 - skip)}


def main() -> None:
    """Flags in, one JSON line out."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, kind in SHARED.items():
        parser.add_argument(f"--{name}", type=kind, default=getattr(Config, name))
    for name, text in SWITCHES.items():
        parser.add_argument(f"--{name}", action="store_true", help=text)
    parser.add_argument("--skip_steps", type=int, default=5, help="First steps that are not timed.")
    result = train(parser.parse_args())
    print(json.dumps(result))


if __name__ == "__main__":
    main()
