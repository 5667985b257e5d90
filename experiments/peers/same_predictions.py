"""Whether PyTorch predicts the same as flaxbert from the same fine-tuned weights; prints one JSON line.

    python -m experiments.peers.same_predictions --model=RUN
    python -m experiments.peers.same_predictions --model=EXPORTED --task=mrpc --data_dir=DIR

A run is exported first; its task and data are then its own unless flags say otherwise. Both sides compute in
float32 on the CPU.
"""

import argparse
import dataclasses
import json
import tempfile
from pathlib import Path
from typing import Any

import jax
import numpy as np
import torch
import transformers

from experiments.peers.batches import Collator, features
from experiments.peers.hf_trainer import Choices, outputs
from flaxbert import predict, records, tasks
from flaxbert.config import Config
from flaxbert.data import Encoded
from flaxbert.errors import InputError, one_of
from flaxbert.export import export
from flaxbert.families import Family
from flaxbert.heads import NEVER
from flaxbert.huggingface import HEADS


def torch_outputs(folder: str, family: Family, encoded: Encoded, batch: int = 32) -> np.ndarray:
    """What PyTorch's BERT says of a split, as `families.Family` has it; dropout off.

    Args:
      folder: a Hugging Face folder.
      family: of the task.
      encoded: N examples with labels.
      batch: examples at a time.
    """
    kind = family.task.kind
    model_class = Choices if kind == "choice" else getattr(transformers, HEADS[kind].architecture)
    model = model_class.from_pretrained(folder, dtype=torch.float32).eval()
    collate, rows, found = Collator(), features(encoded), []
    for begin in range(0, len(rows), batch):
        with torch.no_grad():
            said = model(**collate(rows[begin:begin + batch]))
        logits = (said.start_logits.numpy(), said.end_logits.numpy()) if kind == "span" else said.logits.numpy()
        found.append(outputs(logits, family, encoded.lengths[begin:begin + batch]))
    return np.concatenate(found)


def compare(model: str, folder: str, config: Config, split: str) -> dict[str, Any]:
    """The largest difference between the two sides on one split, and how many answers differ.

    Args:
      model: a run or an exported folder, for `flaxbert.load`.
      folder: the same weights as a Hugging Face folder.
      config: names the task and its data.
      split: dev, ...
    """
    task, splits, _ = tasks.load(config)
    if task.kind == "pretraining":
        raise InputError(f"--task={task.name}: has no answers to compare; give a fine-tuned run")
    examples = splits[one_of(split, tuple(splits), "--split")]
    predictor = predict.load(model)
    encoded = predictor.encode(examples, split)
    ours, theirs = predictor.outputs(encoded), torch_outputs(folder, predictor.family, encoded)
    answers = [predictor.family.answers(logits, encoded, examples, predictor.dev) for logits in (ours, theirs)]
    there = np.maximum(ours, theirs) > NEVER / 2  # a choice that there is not has no logit
    return {"model": model, "task": task.name, "split": split, "examples": len(examples),
            "largest_logit_difference": float(np.abs(ours - theirs)[there].max()),
            "different_answers": sum(_decided(a) != _decided(b) for a, b in zip(*answers, strict=True)),
            "torch": torch.__version__, "jax": jax.__version__}


def _decided(answer: Any) -> Any:
    """An answer without its scores and probabilities."""
    if isinstance(answer, dict):
        return {name: _decided(value) for name, value in answer.items()}
    if isinstance(answer, list):
        return [_decided(value) for value in answer]
    return None if isinstance(answer, float) else answer


def main() -> None:
    """Flags in, one JSON line out."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="A run, or an exported folder.")
    parser.add_argument("--task", help="The run's own task where not given.")
    parser.add_argument("--data_dir", help="Likewise.")
    parser.add_argument("--split", default="dev")
    args = parser.parse_args()
    jax.config.update("jax_platforms", "cpu")
    given = {name: value for name in ("task", "data_dir") if (value := getattr(args, name)) is not None}
    if not records.is_run(Path(args.model)):
        print(json.dumps(compare(args.model, args.model, Config.make(**given), args.split)))
        return
    config = dataclasses.replace(records.read_run(args.model)[0], **given)
    with tempfile.TemporaryDirectory() as folder:
        export(args.model, f"{folder}/export")
        print(json.dumps({**compare(args.model, f"{folder}/export", config, args.split), "dtype": config.dtype}))


if __name__ == "__main__":
    main()
