"""Writes tests/golden/heads/*.npz: a small random BERT, a packed batch and PyTorch's numbers for each head.

The heads are those of tasks beyond texts and pairs. PyTorch saw each sequence alone and without padding.

    python tests/make_golden_heads.py        (needs torch; the files are made once and kept)
"""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import reference
import torch
import transformers

from flaxbert import heads, packing, trees
from flaxbert.bert import BertConfig
from flaxbert.data import Encoded, collate

SMALL = BertConfig(vocab_size=29, hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
                   intermediate_size=24, max_position_embeddings=13)
ROW = 40  # tokens a row
NORMS = ("bert.embeddings.word_embeddings.weight", "bert.encoder.layer.0.attention.self.query.weight")
# Kind of a task -> PyTorch's class, outputs, and the tensors whose gradients are kept beside those above.
HEADS = {
    "token": (transformers.BertForTokenClassification, 5, ("classifier.weight", "classifier.bias")),
    "span": (transformers.BertForQuestionAnswering, 2, ("qa_outputs.weight",)),
    "choice": (transformers.BertForMultipleChoice, 1, ("bert.pooler.dense.weight", "classifier.weight")),
    "pretraining": (transformers.BertForPreTraining, 2, (
        "bert.pooler.dense.weight", "cls.predictions.transform.dense.weight", "cls.predictions.bias",
        "cls.seq_relationship.weight"))}


def sequences(kind: str) -> Encoded:
    """Six sequences, or six questions with up to three choices, with labels of the kind and uneven weights."""
    rng = np.random.default_rng(4)
    each = 3 if kind == "choice" else 1
    lengths = rng.integers(4, SMALL.max_position_embeddings + 1, (6, each))
    lengths[1, each - 1] *= each == 1  # a choice that is not there
    total, second = int(lengths.sum()), np.minimum(lengths, 3).ravel()
    labels = {"token": lambda: rng.integers(0, 5, total), "choice": lambda: rng.integers(0, 2, 6),
              "span": lambda: np.sort(rng.integers(0, 4, (6, 2)), 1), "pretraining": lambda: rng.integers(0, 2, 6)}
    weights = rng.choice([0, 0.5, 1], total) if kind == "token" else rng.choice([0.5, 1], 6)
    return Encoded(rng.integers(1, SMALL.vocab_size, total).astype(np.int32), np.cumsum([0, *lengths.ravel()]),
                   second, labels[kind]().astype(np.int32), weights.astype(np.float32), each,
                   kind if kind in ("token", "span") else "example")


def batch_of(kind: str) -> dict[str, Any]:
    """A packed batch with an empty slot at least; for pre-training four words of each row are to be guessed."""
    split = sequences(kind)
    plan = packing.pack(np.arange(6), split.lengths, ROW)
    batch = collate(split, plan, plan.rows, ROW, plan.slots + 1)
    if kind != "pretraining":
        return batch
    rng = np.random.default_rng(5)
    columns = np.stack([rng.choice(np.flatnonzero(row), 4, replace=False) for row in batch["sequence"]])
    words = rng.integers(0, SMALL.vocab_size, columns.shape).astype(np.int32)
    counts = (np.arange(4) < [[3]] * len(words)).astype(np.float32)
    return {**batch, "masked": columns.astype(np.int32), "labels": {"mlm": words, "nsp": batch["labels"]},
            "weights": {"mlm": counts, "nsp": batch["weights"]}}


def told(bert: torch.nn.Module, batch: dict[str, Any], kind: str, outputs: int) -> dict[str, torch.Tensor]:
    """PyTorch's outputs where they stand in our batch; elsewhere NEVER for choices, 0 for others."""
    rows, length = batch["tokens"].shape
    slots, each = (*batch["first"].shape, 1)[1:3]
    tokens = torch.zeros(rows, length, SMALL.vocab_size if kind == "pretraining" else outputs)
    scores = torch.full((rows, slots, each), heads.NEVER)
    nsp = torch.zeros(rows, slots, 2)
    for row in range(rows):
        for number in range(1, batch["sequence"][row].max() + 1):
            here, (slot, p) = batch["sequence"][row] == number, divmod(number - 1, each)
            if not here.any():
                continue
            ids, types = (torch.from_numpy(batch[name][row, here]).long()[None] for name in ("tokens", "types"))
            if kind == "choice":
                scores[row, slot, p] = bert(input_ids=ids[None], token_type_ids=types[None]).logits[0, 0]
                continue
            out = bert(input_ids=ids, token_type_ids=types)
            if kind == "pretraining":
                tokens[row, here], nsp[row, slot] = out.prediction_logits[0], out.seq_relationship_logits[0]
            elif kind == "span":
                tokens[row, here] = torch.stack([out.start_logits[0], out.end_logits[0]], -1)
            else:
                tokens[row, here] = out.logits[0]
    if kind == "pretraining":
        return {"mlm": tokens[torch.arange(rows)[:, None], torch.from_numpy(batch["masked"]).long()], "nsp": nsp}
    return {"logits": scores if kind == "choice" else tokens}


def mean(logits: torch.Tensor, labels: np.ndarray, weights: np.ndarray) -> torch.Tensor:
    """Weighted mean of the cross entropies."""
    losses = torch.nn.functional.cross_entropy(logits.flatten(0, -2), torch.from_numpy(labels).long().flatten(),
                                               reduction="none")
    counts = torch.from_numpy(weights).flatten()
    return (losses * counts).sum() / counts.sum()


def span_loss(logits: torch.Tensor, batch: dict[str, Any]) -> torch.Tensor:
    """Each sequence's own tokens compete to begin the answer, and to end it."""
    places = np.argwhere(batch["weights"] > 0)
    weights = [float(batch["weights"][row, slot]) for row, slot in places]
    losses = []
    for row, slot in places:
        own = np.flatnonzero(batch["sequence"][row] == slot + 1)
        target = torch.from_numpy(batch["labels"][row, slot] - own[0]).long()
        losses.append(torch.nn.functional.cross_entropy(logits[row, own].T, target))
    return sum(w * loss for w, loss in zip(weights, losses, strict=True)) / sum(weights)


def write(kind: str, folder: Path) -> None:
    """folder/KIND.npz."""
    cls, outputs, norms = HEADS[kind]
    bert = reference.randomised(cls(transformers.BertConfig(
        **dataclasses.asdict(SMALL), num_labels=outputs, attn_implementation="eager")).eval(), seed=6)
    batch = batch_of(kind)
    out = told(bert, batch, kind, outputs)
    if kind == "pretraining":
        loss = sum(mean(out[name], batch["labels"][name], batch["weights"][name]) for name in out)
    else:
        loss = span_loss(out["logits"], batch) if kind == "span" else mean(
            out["logits"], batch["labels"], batch["weights"])
    loss.backward()
    gradients = {name: value.grad for name, value in bert.named_parameters()}
    about = {"config": dataclasses.asdict(SMALL), "kind": kind, "outputs": outputs}
    np.savez_compressed(
        folder / f"{kind}.npz", about=json.dumps(about),
        **{f"weights/{name}": value.numpy() for name, value in bert.state_dict().items()},
        **{f"batch/{name}": value for name, value in trees.flatten(batch).items()},
        **{f"want/{name}": value.detach().numpy() for name, value in {**out, "loss": loss}.items()},
        **{f"norm/{name}": gradients[name].norm().numpy() for name in (*NORMS, *norms)})


if __name__ == "__main__":
    for each in HEADS:
        write(each, Path(__file__).parent / "golden" / "heads")
