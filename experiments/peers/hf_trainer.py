"""The peer: fine-tunes with the Hugging Face Trainer on PyTorch and times it; prints one JSON line.

It trains the class of Hugging Face's for the kind of task on the very sequences and labels of `flaxbert finetune`,
whose flags it borrows, from the same weights, and is scored by the same code:

    python -m experiments.peers.hf_trainer --task=mrpc --data_dir=DIR --model=FOLDER --batch_size=32 --epochs=1

Its fastest settings are usually `--bf16 --group_by_length`, on a GPU with `--compile`. The training rate
leaves out the first `--skip_steps` steps. float32 parameters whatever the checkpoint's type, as ours are.
The softmax of a span's loss runs over the padding too, as in Google's code.
"""

import argparse
import json
import math
import tempfile
import time
from typing import Any

import numpy as np
import torch
import transformers
from transformers import (
    AutoConfig,
    AutoTokenizer,
    BertForMultipleChoice,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)
from transformers.modeling_outputs import MultipleChoiceModelOutput

from experiments.peers.batches import Collator, features
from flaxbert import families, tasks
from flaxbert.config import Config
from flaxbert.heads import NEVER
from flaxbert.huggingface import HEADS

# Flags that are settings of `flaxbert finetune` too: name -> type.
SHARED = {"task": str, "data_dir": str, "model": str, "batch_size": int, "max_length": int, "epochs": float,
          "max_steps": int, "learning_rate": float, "weight_decay": float, "warmup": float,
          "max_train_examples": int, "max_eval_examples": int, "frozen_layers": int, "seed": int,
          "context": str, "doc_stride": int, "max_query_length": int, "max_answer_length": int}
SWITCHES = {"random_init": "Random weights in the shape of --model.", "bf16": "Autocast to bfloat16.",
            "group_by_length": "Batches of similar lengths.", "compile": "torch.compile."}


class Choices(BertForMultipleChoice):
    """The same with some choices missing: they get no probability."""

    def forward(self, input_ids, attention_mask, token_type_ids, there, labels):
        out = super().forward(input_ids, attention_mask=attention_mask, token_type_ids=token_type_ids)
        logits = out.logits.masked_fill(~there, NEVER)
        return MultipleChoiceModelOutput(loss=torch.nn.functional.cross_entropy(logits, labels), logits=logits)


class Clock(TrainerCallback):
    """When each step ended."""

    def __init__(self):
        self.ends: list[float] = []

    def on_step_end(self, args, state, control, **kwargs):
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.ends.append(time.perf_counter())


def build_model(args: argparse.Namespace, task: tasks.Task) -> Any:
    """BERT and a fresh head, the bottom layers frozen where asked for."""
    row = HEADS[task.kind]
    model_class = Choices if task.kind == "choice" else getattr(transformers, row.architecture)
    head = {"problem_type": row.problem_type} if row.problem_type else {}
    if task.kind != "choice":
        head["num_labels"] = task.outputs
    if args.random_init:
        model = model_class(AutoConfig.from_pretrained(args.model, **head)).float()
    else:
        model = model_class.from_pretrained(args.model, dtype=torch.float32, **head)
    if args.frozen_layers:
        for part in (model.bert.embeddings, *model.bert.encoder.layer[:args.frozen_layers]):
            part.requires_grad_(False)
    return model


def outputs(found: Any, family: families.Family, lengths: np.ndarray) -> np.ndarray:
    """The Trainer's predictions as our families want them.

    Args:
      found: [N, C] or [N, T, C]; of spans two arrays [N, T], and hidden states where a model returns them.
      family: of the task.
      lengths: [N] tokens of each example, the rest of T being padding.
    """
    if isinstance(found, tuple):
        found = np.stack(found[:2], axis=-1) if family.task.kind == "span" else found[0]
    rows = np.asarray(found, np.float32)
    return np.concatenate([row[:n] for row, n in zip(rows, lengths, strict=True)]) if family.per_token else rows


def train(args: argparse.Namespace) -> dict[str, Any]:
    """Trains, times and scores; the settings are the flags."""
    config = tasks.settled(Config.make(**{name: getattr(args, name) for name in SHARED}))
    task, splits, _ = tasks.load(config)
    family, tokenizer = families.make(task, config), AutoTokenizer.from_pretrained(config.model)
    encoded = {split: family.encode(tokenizer, splits[split]) for split in ("train", "dev")}
    sets = {split: features(each) for split, each in encoded.items()}
    torch.manual_seed(config.seed)
    clock, collator = Clock(), Collator()
    trainer = Trainer(
        model=build_model(args, task), train_dataset=sets["train"], data_collator=collator, callbacks=[clock],
        args=TrainingArguments(
            output_dir=tempfile.mkdtemp(), num_train_epochs=config.epochs, max_steps=config.max_steps or -1,
            per_device_train_batch_size=config.batch_size, per_device_eval_batch_size=config.batch_size,
            learning_rate=config.learning_rate, weight_decay=config.weight_decay, warmup_steps=config.warmup,
            max_grad_norm=config.clip_norm, seed=config.seed, bf16=args.bf16, torch_compile=args.compile,
            train_sampling_strategy="group_by_length" if args.group_by_length else "random",
            use_cpu=not torch.cuda.is_available(), report_to=[], save_strategy="no", logging_steps=10**6,
            disable_tqdm=True))
    trainer.train()
    rates = timing(clock.ends, collator.seen, args.skip_steps)
    trainer.args.train_sampling_strategy = "random"  # else predictions come in an order by length
    begun = time.perf_counter()
    found = trainer.predict(sets["dev"]).predictions
    seconds = time.perf_counter() - begun
    dev = family.scores(outputs(found, family, encoded["dev"].lengths), encoded["dev"], splits["dev"])
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
