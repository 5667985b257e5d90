"""The peer of multiple choice: Hugging Face's BertForMultipleChoice and Trainer; prints one JSON line.

It trains in float32 on the very choices of `flaxbert finetune`, whose flags it borrows, each padded to the longest
of a batch, and is scored by the same code:

    python -m experiments.peers.hf_choice --task=arc_easy --data_dir=DIR --model=FOLDER --learning_rate=5e-5
"""

import argparse
import json
import tempfile
from typing import Any

import numpy as np
import torch
from transformers import BertForMultipleChoice, Trainer, TrainingArguments
from transformers.modeling_outputs import MultipleChoiceModelOutput

from experiments.peers.hf_trainer import SHARED, Clock, timing
from flaxbert import families, pretrained, tasks
from flaxbert.config import Config
from flaxbert.data import Encoded
from flaxbert.heads import NEVER


class Choices(BertForMultipleChoice):
    """The same with some choices missing: they get no probability."""

    def forward(self, input_ids, attention_mask, token_type_ids, there, labels):
        out = super().forward(input_ids, attention_mask=attention_mask, token_type_ids=token_type_ids)
        logits = out.logits.masked_fill(~there, NEVER)
        return MultipleChoiceModelOutput(loss=torch.nn.functional.cross_entropy(logits, labels), logits=logits)


class Collator:
    """[B, P, T] arrays of a split's questions; keeps (questions, real tokens, processed tokens) of each batch.

    Args:
      encoded: the split; an item of the Trainer's data set is the number of a question.
    """

    def __init__(self, encoded: Encoded):
        self.encoded = encoded
        self.lengths = np.diff(encoded.offsets).reshape(len(encoded), -1)
        self.seen: list[tuple[int, int, int]] = []

    def __call__(self, questions: list[int]) -> dict[str, torch.Tensor]:
        encoded, lengths = self.encoded, self.lengths[questions]
        fields = {name: np.zeros((*lengths.shape, lengths.max()), np.int64)
                  for name in ("input_ids", "token_type_ids", "attention_mask")}
        for place in np.ndindex(lengths.shape):
            number, size = questions[place[0]] * encoded.sequences + place[1], lengths[place]
            begin = encoded.offsets[number]
            fields["input_ids"][place][:size] = encoded.tokens[begin:begin + size]
            fields["token_type_ids"][place][encoded.second[number]:size] = 1
            fields["attention_mask"][place][:max(1, size)] = 1  # a row that sees nothing is NaN to some kernels
        self.seen.append((len(questions), int(lengths.sum()), fields["input_ids"].size))
        fields |= {"there": lengths > 0, "labels": encoded.labels[questions].astype(np.int64)}
        return {name: torch.from_numpy(x) for name, x in fields.items()}


def train(args: argparse.Namespace) -> dict[str, Any]:
    """Trains, times and scores; the settings are the flags."""
    config = tasks.settled(Config.make(**{name: getattr(args, name) for name in SHARED}))
    task, splits, _ = tasks.load(config)
    family, tokenizer = families.make(task, config), pretrained.load(config.model).tokenizer
    encoded = {split: family.encode(tokenizer, splits[split]) for split in ("train", "dev")}
    torch.manual_seed(config.seed)
    clock, collator = Clock(), Collator(encoded["train"])
    trainer = Trainer(
        model=Choices.from_pretrained(config.model, dtype=torch.float32),
        train_dataset=list(range(len(encoded["train"]))), data_collator=collator, callbacks=[clock],
        args=TrainingArguments(
            output_dir=tempfile.mkdtemp(), num_train_epochs=config.epochs, max_steps=config.max_steps or -1,
            per_device_train_batch_size=config.batch_size, per_device_eval_batch_size=config.batch_size,
            learning_rate=config.learning_rate, weight_decay=config.weight_decay, warmup_steps=config.warmup,
            max_grad_norm=config.clip_norm, seed=config.seed, use_cpu=not torch.cuda.is_available(), report_to=[],
            save_strategy="no", logging_steps=10**6, disable_tqdm=True, label_names=["labels"]))
    trainer.train()
    rates = timing(clock.ends, collator.seen, args.skip_steps)
    trainer.data_collator = Collator(encoded["dev"])
    outputs = trainer.predict(list(range(len(encoded["dev"])))).predictions
    return {"peer": "hf_choice", **rates, "dev": family.scores(outputs, encoded["dev"], splits["dev"]),
            "steps": len(clock.ends), "device": torch.cuda.get_device_name() if torch.cuda.is_available()
            else f"cpu ({torch.get_num_threads()} threads)", "torch": torch.__version__, "settings": vars(args)}


def main() -> None:
    """Flags in, one JSON line out."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, kind in SHARED.items():
        parser.add_argument(f"--{name}", type=kind, default=getattr(Config, name))
    parser.add_argument("--skip_steps", type=int, default=5, help="First steps that are not timed.")
    print(json.dumps(train(parser.parse_args())))


if __name__ == "__main__":
    main()
