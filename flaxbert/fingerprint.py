"""Which encoder is it: digests of shapes and parameters."""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from flaxbert import trees
from flaxbert.bert import BertConfig

# Of an encoder's shape, what changes nothing in the states of its layers, or shows in its parameters.
_INDIFFERENT = ("num_hidden_layers", "hidden_dropout_prob", "attention_probs_dropout_prob", "initializer_range",
                "pad_token_id")


def digest(text: str, arrays: Mapping[str, np.ndarray]) -> str:
    """SHA-256 of a text and of named arrays, 64 hexadecimal digits."""
    found = hashlib.sha256(text.encode())
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        found.update(f"{name} {array.dtype} {array.shape}".encode())
        found.update(array)
    return found.hexdigest()


def shape(config: BertConfig) -> dict[str, Any]:
    """What of an encoder's shape the states of its layers depend on, as far as parameters do not show it."""
    return {name: x for name, x in dataclasses.asdict(config).items() if name not in _INDIFFERENT}


def of_encoder(config: BertConfig, params: Mapping[str, Any]) -> str:
    """SHA-256 of an encoder: its shape and all its float32 parameters, whichever layers a head reads."""
    return digest(json.dumps(shape(config)), trees.flatten(params))
