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
from transformers import AutoTokenizer, BertForSequenceClassification

from flaxbert import predict, records, tasks
from flaxbert.config import Config
from flaxbert.errors import one_of
from flaxbert.export import export
from flaxbert.metrics import predictions
from flaxbert.tasks.base import Examples


def torch_logits(folder: str, examples: Examples, max_length: int, batch: int = 32) -> np.ndarray:
    """Logits [N, C] float32 of PyTorch's BERT, dropout off.

    Args:
      folder: a Hugging Face folder.
      examples: N examples.
      max_length: longest sequence in tokens.
      batch: examples at a time.
    """
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = BertForSequenceClassification.from_pretrained(folder, dtype=torch.float32).eval()
    sides = [examples.first] if examples.second is None else [examples.first, examples.second]
    found = []
    for begin in range(0, len(examples), batch):
        texts = [side[begin:begin + batch] for side in sides]
        encoded = tokenizer(*texts, truncation=True, max_length=max_length, padding=True, return_tensors="pt")
        with torch.no_grad():
            found.append(model(**encoded).logits.numpy())
    return np.concatenate(found)


def compare(model: str, folder: str, config: Config, split: str) -> dict[str, Any]:
    """The largest differences between the two sides on one split.

    Args:
      model: a run or an exported folder, for `flaxbert.load`.
      folder: the same weights as a Hugging Face folder.
      config: names the task and its data.
      split: dev, ...
    """
    task, splits, _ = tasks.load(config)
    examples = splits[one_of(split, tuple(splits), "--split")]
    predictor = predict.load(model)
    ours = predictor.outputs(predictor.encode(examples))
    theirs = torch_logits(folder, examples, predictor.max_length)
    answers = [predictor.answers(logits) for logits in (ours, theirs)]
    return {"model": model, "task": task.name, "split": split, "examples": len(examples),
            "largest_logit_difference": float(np.abs(ours - theirs).max()),
            "largest_probability_difference": max(_apart(*pair) for pair in zip(*answers, strict=True)),
            "different_labels": _different(task.kind, ours, theirs),
            "torch": torch.__version__, "jax": jax.__version__}


def _apart(ours: dict[str, Any], theirs: dict[str, Any]) -> float:
    """Largest difference of any probability, of the score for regression."""
    mine, other = ({"score": a["score"]} if "score" in a else a["probabilities"] for a in (ours, theirs))
    return max(abs(mine[name] - other[name]) for name in mine)


def _different(kind: str, ours: np.ndarray, theirs: np.ndarray) -> int | None:
    """Examples that get another label; None for regression."""
    if kind == "regression":
        return None
    unequal = predictions(kind, ours) != predictions(kind, theirs)
    return int(unequal.reshape(len(ours), -1).any(axis=1).sum())


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
