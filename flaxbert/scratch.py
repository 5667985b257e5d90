"""A model from scratch: its shape, its vocabulary, and the weights that its pre-training starts from.

Letters: D width, d width of a head, P positions.
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from flaxbert import pretrained, trees, vocabulary
from flaxbert.bert import BertConfig
from flaxbert.config import SHAPE, Config
from flaxbert.errors import InputError, note
from flaxbert.model_files import load_tokenizer
from flaxbert.pretrained import Pretrained
from flaxbert.tasks.base import Split

BASE_WIDTH, BASE_RANGE = 768, 0.02  # the spread of BERT-base's weights, which is that of a product with its width
SELF_LOGIT = 7.3728  # mimetic: the attention logit of a token with itself; a spread of 0.06 at width 256
POSITION_SHARE = 2.0  # mimetic: spread of position embeddings over that of words


def source(config: Config, train: Split, begun: Mapping[str, Any]) -> Pretrained:
    """The model to start from; without weights where it is new, with a vocabulary learnt where asked for.

    Args:
      config: the settings.
      train: the training split, which a vocabulary is learnt from.
      begun: config.json of a run that is gone on with, else empty; its backbone, where it stands on one, is the
        model.
    """
    run = Path(config.output_dir).expanduser()
    if backbone := begun.get("backbone"):
        return pretrained.recall(backbone, run)
    found = pretrained.load(config.model, weights=not (config.from_scratch or config.random_init))
    if not config.from_scratch:
        return found
    tokenizer = found.tokenizer
    if config.vocabulary_size:
        kept = run / "model"
        if config.resume and (kept / "tokenizer.json").is_file():  # not learnt again
            largest = dataclasses.replace(found.config, vocab_size=config.vocabulary_size)
            tokenizer = load_tokenizer(kept, largest)
        else:
            texts = [paragraph for document in train.paragraphs for paragraph in document]
            pieces = vocabulary.learn(texts, config.vocabulary_size, config.cased)
            tokenizer = vocabulary.tokenizer(pieces, config.cased)
            note(f"learnt a vocabulary of {len(pieces)} pieces from the training text")
    return reshaped(found, {name: getattr(config, name) for name in SHAPE if getattr(config, name)}, tokenizer)


def reshaped(source: Pretrained, shape: Mapping[str, int], tokenizer: Any) -> Pretrained:
    """A model without weights: `source` in another shape, for another vocabulary.

    Args:
      source: gives what `shape` leaves open.
      shape: fields of `BertConfig`; with a new hidden_size, heads are of width 64, the inner width is 4 times as
        large unless they are here too, and weights are drawn with a spread of 0.02 sqrt(768 / D).
      tokenizer: gives vocab_size; that of `source` keeps it.

    Raises:
      InputError: a width that is no multiple of the number of heads.
    """
    derived = {}
    if "hidden_size" in shape:
        width = shape["hidden_size"]
        derived = {"num_attention_heads": max(1, width // 64), "intermediate_size": 4 * width,
                   "initializer_range": round(BASE_RANGE * (BASE_WIDTH / width) ** 0.5, 4)}
    if tokenizer is not source.tokenizer:
        derived |= {"vocab_size": len(tokenizer), "pad_token_id": tokenizer.pad_token_id}
    settings = {**source.settings, **derived, **shape}
    try:
        config = BertConfig.from_dict(settings)
    except InputError as error:
        raise InputError(f"--hidden_size, --num_attention_heads: {error}") from error
    tokenizer.model_max_length = config.max_position_embeddings
    return Pretrained(source.source, config, settings, {}, tokenizer)


def mimetic(params: Mapping[str, Any], config: BertConfig) -> dict[str, Any]:
    """Random weights changed so that each token attends to its neighbours from the first step on.

    Masked words are learnt from their neighbours; with weights as BERT draws them attention is uniform and has to
    find these first, a plateau of the loss that costs a small run most of its time. Here position t is

        (sin(t w_0), ..., cos(t w_0), ...),  w_k = P^(-k / (D/2 - 1)),

    whose products fall with the distance, scaled to twice the spread of the words, and in every layer
    W_K = W_Q, scaled so that the logit of a token with itself is SELF_LOGIT: sqrt(d) spread^2 D.

    Args:
      params: of an encoder with or without heads, as drawn.
      config: its shape.

    Source: Trockman & Kolter 2023 (2305.09828), sections 3 and 4.
    """
    flat = trees.flatten(params)
    width, positions = config.hidden_size, config.max_position_embeddings
    rates = float(positions) ** (-np.arange(width // 2) / max(1, width // 2 - 1))
    angles = np.arange(positions)[:, None] * rates
    waves = np.zeros((positions, width))
    waves[:, :2 * len(rates)] = np.concatenate([np.sin(angles), np.cos(angles)], axis=1)
    scale = POSITION_SHARE * config.initializer_range * 2 ** 0.5  # a wave has a spread of sqrt(1/2)
    flat["bert/embeddings/position/embedding"] = (waves * scale).astype(np.float32)
    spread = (SELF_LOGIT / ((width // config.num_attention_heads) ** 0.5 * width)) ** 0.5
    for layer in range(config.num_hidden_layers):
        name = f"bert/layer_{layer}/attention/{{}}/kernel"
        query = flat[name.format("query")]
        flat[name.format("query")] = (query / query.std() * spread).astype(np.float32)
        flat[name.format("key")] = flat[name.format("query")].copy()  # the state is donated leaf by leaf
    return trees.unflatten(flat)
