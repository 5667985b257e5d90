"""Models from scratch: their shapes, their vocabularies, and the weights that pre-training starts from."""

from itertools import pairwise

import numpy as np
from small import refused, shape

from flaxbert import heads, pretrained, scratch, tasks, trees
from flaxbert.config import Config


def attention_logits(params, config, length):
    """[H, T, T] of the first layer, of a sequence of different words."""
    flat = trees.flatten(params)
    x = sum(flat[f"bert/embeddings/{name}/embedding"][rows] for name, rows in
            (("word", np.arange(1, length + 1)), ("position", np.arange(length)), ("type", np.zeros(length, int))))
    x = (x - x.mean(-1, keepdims=True)) / x.std(-1, keepdims=True)
    q, k = ((x @ flat[f"bert/layer_0/attention/{name}/kernel"]).reshape(length, config.num_attention_heads, -1)
            for name in ("query", "key"))
    return np.einsum("ihd,jhd->hij", q, k) / np.sqrt(q.shape[-1])


def test_mimetic_weights_attend_to_neighbours_and_change_nothing_else():
    config = shape(vocab_size=200, hidden_size=128, num_attention_heads=2, max_position_embeddings=128)
    drawn = heads.init(heads.PretrainingModel(config, 2), 0)
    params = scratch.mimetic(drawn, config)
    logits = attention_logits(params, config, 100)
    at = [np.mean([np.diagonal(each, distance).mean() for each in logits]) for distance in (0, 1, 4, 16, 64)]
    assert abs(at[0] / scratch.SELF_LOGIT - 1) < 0.1
    assert all(near > far + 0.4 for near, far in pairwise(at)), at
    flat, before = trees.flatten(params), trees.flatten(drawn)
    changed = {name for name in flat if not np.array_equal(flat[name], before[name])}
    assert changed == {"bert/embeddings/position/embedding",
                       *(f"bert/layer_{i}/attention/{name}/kernel" for i in range(2) for name in ("query", "key"))}
    assert all(x.dtype == np.float32 for x in flat.values())
    uniform = attention_logits(drawn, config, 100)
    assert abs(np.diagonal(uniform, 1, 1, 2).mean() - np.diagonal(uniform, 64, 1, 2).mean()) < 0.1


def test_an_odd_width_and_one_position_are_fine():
    config = shape(layers=1, hidden_size=3, num_attention_heads=1, max_position_embeddings=1)
    params = scratch.mimetic(heads.init(heads.PretrainingModel(config, 2), 0), config)
    assert all(np.isfinite(x).all() for x in trees.flatten(params).values())


def test_mimetic_weights_are_for_new_models():
    said = refused(tasks.resolve, Config.make(task="pretrain", train_file="a.txt", mimetic_init=True))
    assert "--mimetic_init: only for a model from scratch" in said


def test_spread_of_new_weights_follows_the_width(tiny):
    source = pretrained.load(tiny)
    for width, spread in ((768, 0.02), (192, 0.04)):
        made = scratch.reshaped(source, {"hidden_size": width}, source.tokenizer)
        assert (made.config.initializer_range, made.config.num_attention_heads) == (spread, width // 64)
    assert scratch.reshaped(source, {"num_hidden_layers": 1}, source.tokenizer).config.initializer_range == 0.02
