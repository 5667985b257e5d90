"""Masked words told by a fine-tuned encoder: a closed form; a real run is in test_pretraining.py."""

import dataclasses
import json

import numpy as np
import pytest
from small import TINY, lively, refused

from flaxbert import analysis, heads, pretrained, trees
from flaxbert.analysis import forgetting, models
from flaxbert.analysis.base import Settings
from flaxbert.analysis.subject import Subject

V = TINY.vocab_size


@pytest.fixture(scope="module")
def subject(tiny):
    """Before: a model that tells masked words; after: one whose word embeddings are 0."""
    model = pretrained.load(tiny)
    params = lively(heads.shapes(heads.PretrainingModel(TINY, 0)))
    params = {"bert": model.params["bert"], "mlm": {**params["mlm"], "bias": np.zeros(V, np.float32)}}
    blank = {**model.params["bert"]["embeddings"], "word": {"embedding": np.zeros((V, 16), np.float32)}}
    before = dataclasses.replace(model, params=params)
    after = dataclasses.replace(model, params={"bert": {**model.params["bert"], "embeddings": blank}})
    settings = Settings.make(after=tiny, before=tiny, what=["forgetting"], texts=30)
    return Subject(models.Pair(before, after), settings)


def test_an_encoder_whose_words_are_gone_guesses_among_all(subject, tmp_path):
    rows = analysis.ANALYSES["forgetting"].measure(subject)
    json.dumps(rows, allow_nan=False)
    told = {(row["side"], row["measure"]): row["value"] for row in rows}
    assert told["after", "loss"] == pytest.approx(np.log(V), rel=1e-6)
    assert told["after", "perplexity"] == pytest.approx(V, rel=1e-5)
    assert told["before", "perplexity"] == pytest.approx(np.exp(told["before", "loss"]))
    assert told["before", "loss"] != told["after", "loss"]
    [masked] = {row["masked"] for row in rows}
    assert masked == pytest.approx(0.15 * subject.texts["other"].tokens, rel=0.2)
    assert forgetting.table(rows)[0] == ["text", "measure", "before", "after"]
    forgetting.figure(rows, tmp_path / "x.png")
    assert (tmp_path / "x.png").stat().st_size > 10_000


def test_a_loss_that_is_not_finite_is_told_with_its_side(subject):
    """Weights may be finite and too large all the same."""
    before = subject.pair.before
    huge = trees.map_named(lambda name, x: 1.5e38 * x if name.endswith("mlp/layer_norm/scale") else x,
                           before.params)
    pair = models.Pair(before, dataclasses.replace(before, params=huge))
    assert (f"--after={before.source}: what it says of masked words is not finite"
            in refused(forgetting.measure, Subject(pair, subject.settings)))


def test_masks_are_a_function_of_the_seed(subject):
    text = subject.texts["other"].encoded
    family = forgetting.family_of(subject.pair, int(text.lengths.max()), 0)
    seen = [forgetting.family_of(subject.pair, int(text.lengths.max()), seed).encode_tokens(
        subject.pair.tokenizer, text) for seed in (0, 0, 1)]
    np.testing.assert_array_equal(seen[0].tokens, seen[1].tokens)
    assert (seen[0].tokens != seen[2].tokens).any()
    np.testing.assert_array_equal(seen[0].labels, text.tokens)
    assert (seen[0].tokens[seen[0].weights == 0] == text.tokens[seen[0].weights == 0]).all()
    assert family.config.mask_rate == 0.15


def test_a_model_without_that_head_is_refused(subject, tiny):
    model = pretrained.load(tiny)
    found = refused(forgetting.check, Subject(models.Pair(model, model), subject.settings))
    assert "no head for masked words" in found
    assert tiny in found
