"""The peer of the span tasks: Hugging Face's BertForQuestionAnswering and Trainer; prints one JSON line.

It trains in float32 on the very windows and labels of `flaxbert finetune`, whose flags it borrows, padded to the
longest of a batch, and its answers are found and scored by the same code:

    python -m experiments.peers.hf_span --task=squad --data_dir=DIR --model=FOLDER --max_train_examples=8000

The softmax of its loss runs over the padding too, as in Google's code.
"""

import argparse
import json
import tempfile
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForQuestionAnswering, Trainer, TrainingArguments

from experiments.peers.hf_trainer import SHARED, Clock, Collator, timing
from flaxbert import families, pretrained, tasks
from flaxbert.config import Config
from flaxbert.families.windows import Windows

FLAGS = {**{name: kind for name, kind in SHARED.items() if name != "frozen_layers"},
         "doc_stride": int, "max_query_length": int, "max_answer_length": int}


def features(windows: Windows) -> list[dict[str, Any]]:
    """Ids, types and the columns of the answer of each window."""
    return [{"input_ids": windows.tokens[begin:end].tolist(),
             "token_type_ids": (np.arange(end - begin) >= second).astype(int).tolist(),
             "attention_mask": [1] * (end - begin), "start_positions": first, "end_positions": last}
            for begin, end, second, (first, last) in zip(windows.offsets[:-1], windows.offsets[1:], windows.second,
                                                         windows.labels.tolist(), strict=True)]


def train(args: argparse.Namespace) -> dict[str, Any]:
    """Trains, times and scores; the settings are the flags."""
    config = tasks.settled(Config.make(**{name: getattr(args, name) for name in FLAGS}))
    task, splits, _ = tasks.load(config)
    family, tokenizer = families.make(task, config), pretrained.load(config.model).tokenizer
    windows = {split: family.encode(tokenizer, splits[split]) for split in ("train", "dev")}
    torch.manual_seed(config.seed)
    clock, collator = Clock(), Collator(tokenizer)
    trainer = Trainer(
        model=AutoModelForQuestionAnswering.from_pretrained(config.model, dtype=torch.float32),
        train_dataset=features(windows["train"]), data_collator=collator, callbacks=[clock],
        args=TrainingArguments(
            output_dir=tempfile.mkdtemp(), num_train_epochs=config.epochs, max_steps=config.max_steps or -1,
            per_device_train_batch_size=config.batch_size, per_device_eval_batch_size=config.batch_size,
            learning_rate=config.learning_rate, weight_decay=config.weight_decay, warmup_steps=config.warmup,
            max_grad_norm=config.clip_norm, seed=config.seed, use_cpu=not torch.cuda.is_available(), report_to=[],
            save_strategy="no", logging_steps=10**6, disable_tqdm=True))
    trainer.train()
    rates = timing(clock.ends, collator.seen, args.skip_steps)
    padded = np.stack(trainer.predict(features(windows["dev"])).predictions[:2], axis=-1)
    outputs = np.concatenate([row[:n] for row, n in zip(padded, windows["dev"].lengths, strict=True)])
    return {"peer": "hf_span", **rates, "dev": family.scores(outputs, windows["dev"], splits["dev"]),
            "steps": len(clock.ends), "windows": {split: len(each) for split, each in windows.items()},
            "device": torch.cuda.get_device_name() if torch.cuda.is_available()
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
