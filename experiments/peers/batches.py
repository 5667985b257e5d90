"""The sequences that flaxbert encoded, as the padded batches that PyTorch's BERT classes take."""

from typing import Any

import numpy as np
import torch

from flaxbert.data import Encoded

IGNORED = -100  # PyTorch's label of a token that has none
Features = list[dict[str, np.ndarray]]  # one dict an example: [T] a sequence, [P, T] where it has several


def _labels(encoded: Encoded, example: int) -> dict[str, np.ndarray]:
    if encoded.labelled == "span":
        first, last = encoded.labels[example]
        return {"start_positions": first, "end_positions": last}
    if encoded.labelled == "token":
        tokens = slice(*encoded.starts[example:example + 2])
        return {"labels": np.where(encoded.weights[tokens] > 0, encoded.labels[tokens], IGNORED)}
    return {"labels": encoded.labels[example]}


def features(encoded: Encoded) -> Features:
    """Ids, sentence types, mask and labels of each example, without padding.

    Of several sequences an example (choices), each is padded to the longest, and `there` says which exist.
    """
    found = []
    for example in range(len(encoded)):
        numbers = range(example * encoded.sequences, (example + 1) * encoded.sequences)
        sequences = [encoded.tokens[encoded.offsets[n]:encoded.offsets[n + 1]] for n in numbers]
        kinds = {"input_ids": sequences,
                 "token_type_ids": [np.arange(len(ids)) >= encoded.second[n]
                                    for n, ids in zip(numbers, sequences, strict=True)],
                 "attention_mask": [np.ones(len(ids)) for ids in sequences]}
        if encoded.sequences == 1:
            inputs = {name: each[0].astype(np.int64) for name, each in kinds.items()}
        else:
            inputs = {name: padded(each).astype(np.int64) for name, each in kinds.items()}
            inputs["there"] = np.array([len(ids) > 0 for ids in sequences])
            inputs["attention_mask"][~inputs["there"], 0] = 1  # a row that sees nothing is NaN to some kernels
        found.append(inputs | _labels(encoded, example))
    return found


def padded(arrays: list[np.ndarray], fill: int = 0) -> np.ndarray:
    """Arrays that differ in their last axis alone, stacked."""
    longest = max(array.shape[-1] for array in arrays)
    return np.stack([np.pad(array, [(0, 0)] * (array.ndim - 1) + [(0, longest - array.shape[-1])],
                            constant_values=fill) for array in arrays])


class Collator:
    """Pads to the longest of the batch, and keeps (examples, real tokens, processed tokens) of each batch."""

    def __init__(self):
        self.seen: list[tuple[int, int, int]] = []

    def __call__(self, batch: Features) -> dict[str, torch.Tensor]:
        arrays: dict[str, Any] = {}
        for name in batch[0]:
            values = [np.asarray(each[name]) for each in batch]
            fill = IGNORED if name == "labels" else 0
            arrays[name] = padded(values, fill) if values[0].ndim else np.stack(values)
        mask = arrays["attention_mask"]
        self.seen.append((len(mask), int(mask.sum()), mask.size))
        return {name: torch.from_numpy(array if array.dtype in (bool, np.float32) else array.astype(np.int64))
                for name, array in arrays.items()}
