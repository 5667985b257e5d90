"""From tokens to one vector for a text, and pairs whose texts are two sequences."""

import jax
import numpy as np
import pytest
import small
from small import batch_of, lively, refused, units

from flaxbert import evaluation, export, families, heads, predict, tasks, train
from flaxbert.config import Config
from flaxbert.data import Encoded
from flaxbert.heads import HeadConfig, pooling
from flaxbert.tasks.base import Examples

# Row 0: a gap, then sequences 1 and 3, while there is no 2; row 1: sequence 1 alone, of one token; row 2: nothing.
SEQUENCE = np.array([[0, 1, 1, 1, 3, 3, 0], [1, 0, 0, 0, 0, 0, 0], [0] * 7], np.int32)
COUNT = 3


@pytest.fixture(scope="module")
def states():
    return np.random.default_rng(0).normal(-1, 1, size=(*SEQUENCE.shape, 5)).astype(np.float32)


def attention(states, sequence, count, query=None):
    query = np.linspace(-1, 1, states.shape[-1], dtype=np.float32)[:, None]
    return pooling.Attention(0.02).apply({"params": {"kernel": query}}, states, sequence, count)


def weighted(x):
    scores = x @ np.linspace(-1, 1, x.shape[-1])
    return (np.exp(scores) / np.exp(scores).sum()) @ x


POOLINGS = {"mean": (pooling.mean, lambda x: x.mean(0)), "max": (pooling.highest, lambda x: x.max(0)),
            "attention": (attention, weighted)}


@pytest.mark.usefixtures("strict_ranks")
@pytest.mark.parametrize("how", POOLINGS)
def test_each_sequence_is_pooled_over_its_own_tokens(how, states):
    pool, by_hand = jax.jit(POOLINGS[how][0], static_argnums=2), POOLINGS[how][1]
    got = np.asarray(pool(states, SEQUENCE, COUNT))
    assert got.shape == (3, COUNT, 5)
    for row in range(3):
        for number in range(1, COUNT + 1):
            mine = SEQUENCE[row] == number
            want = by_hand(states[row, mine].astype(np.float64)) if mine.any() else np.zeros(5)
            np.testing.assert_allclose(got[row, number - 1], want, atol=1e-6)
            other = np.where(mine[None, :, None] & (np.arange(3) == row)[:, None, None], states, 9.0)
            same = pool(other.astype(np.float32), SEQUENCE, COUNT)
            np.testing.assert_array_equal(same[row, number - 1], got[row, number - 1])


@pytest.mark.parametrize("how", POOLINGS)
def test_gradients_reach_a_sequences_own_tokens_alone(how, states):
    pool, by_hand = POOLINGS[how]
    counts = np.random.default_rng(1).normal(size=5).astype(np.float32)
    got = np.asarray(jax.jit(jax.grad(lambda x: (pool(x, SEQUENCE, COUNT)[0, 2] * counts).sum()))(states))
    assert (np.abs(got).max(-1) > 0).sum() == 2
    step = 1e-5
    for column in (4, 5):
        for feature in range(5):
            x = states[0, 4:6].astype(np.float64)
            values = []
            for sign in (1, -1):
                x[column - 4, feature] = float(states[0, column, feature]) + sign * step
                values.append(by_hand(x) @ counts)
            assert got[0, column, feature] == pytest.approx((values[0] - values[1]) / (2 * step), abs=1e-3)


def model_of(kind, outputs=3, **top):
    model = heads.MODELS[kind](small.shape(1), outputs, top=HeadConfig(**top))
    return model, lively(heads.shapes(model))


def compute(model, params, batch, method="__call__"):
    return np.asarray(jax.jit(lambda params, batch: model.apply({"params": params}, batch, method=method))(
        params, batch))


def test_parameters_are_those_of_the_pooling():
    parts = {how: set(model_of("classification", pooling=how)[1]) - {"bert", "head"}
             for how in ("pooler", "cls", "mean", "max", "attention")}
    assert parts == {"pooler": {"pooler"}, "cls": set(), "mean": set(), "max": set(), "attention": {"attention"}}


@pytest.mark.parametrize("how", ["pooler", "mean"])
def test_a_pair_of_two_sequences_is_u_v_their_distance_and_their_product(how):
    split = units(6, most=2, alike=True)
    model, params = model_of("classification", pooling=how, pair="separate")
    assert params["head"]["kernel"].shape == (4 * 16, 3)
    plan, batch = batch_of(split, range(6), slots=4)
    got = compute(model, params, batch)[plan.row, plan.slot]
    alone = Encoded(split.tokens, split.offsets, split.second, None, np.ones(12, np.float32))
    one, _ = model_of("classification", pooling=how)
    plan, batch = batch_of(alone, range(12), packed=False)
    vectors = compute(one, params, batch, "pooled")[plan.row, plan.slot]
    u, v = vectors[::2], vectors[1::2]
    x = np.concatenate([u, v, np.abs(u - v), u * v], -1)
    np.testing.assert_allclose(got, x @ params["head"]["kernel"] + params["head"]["bias"], atol=1e-4)


@pytest.mark.parametrize("how", ["cls", "max", "attention"])
def test_a_choice_scores_what_its_sequence_would_alone_and_a_missing_one_is_never_chosen(how):
    split = units(6)
    there = np.diff(split.offsets) > 0
    model, params = model_of("choice", outputs=1, pooling=how)
    plan, batch = batch_of(split, range(6), row_length=40)
    found = compute(model, params, batch)[plan.row, plan.slot].ravel()
    np.testing.assert_array_equal(found[~there], heads.NEVER)
    offsets = np.append(split.offsets[:-1][there], split.offsets[-1])
    alone = Encoded(split.tokens, offsets, split.second[there], None, np.ones(there.sum(), np.float32))
    one, _ = model_of("regression", outputs=1, pooling=how)
    plan, batch = batch_of(alone, range(len(alone)), packed=False)
    np.testing.assert_allclose(found[there], compute(one, params, batch)[plan.row, plan.slot, 0], atol=1e-5)
    assert found[there].std() > 0.1


# --- pairs as two sequences

def test_each_text_of_a_pair_is_cut_by_itself(tokenizer):
    task = tasks.get("toy_pair")
    family = families.make(task, Config.make(pair="separate", max_length=6, class_weights=(1.0, 2.0, 3.0)))
    first, second = "a b c d e f g", "a"
    examples = Examples([first, second], [second, first], np.array([2, 0], np.int32))
    encoded = family.encode(tokenizer, examples)
    assert (len(encoded), encoded.sequences) == (2, 2)
    np.testing.assert_array_equal(np.diff(encoded.offsets), [6, 3, 3, 6])
    np.testing.assert_array_equal(encoded.second, [6, 3, 3, 6])
    texts = [tokenizer.decode(part) for part in np.split(encoded.tokens, encoded.offsets[1:-1])]
    assert texts == ["[CLS] a b c d [SEP]", "[CLS] a [SEP]", "[CLS] a [SEP]", "[CLS] a b c d [SEP]"]
    np.testing.assert_array_equal(encoded.weights, [3, 1])
    np.testing.assert_array_equal(encoded.labels, [2, 0])


@pytest.fixture(scope="module")
def run(deep, tmp_path_factory):
    """A run on pairs as two sequences, with an MLP on frozen states."""
    folder = tmp_path_factory.mktemp("pairs") / "run"
    train.finetune(small.config(deep, folder, task="toy_pair", pair="separate", head="mlp", strategy="features",
                                layers="1,2", mix_layer_norm=True, pooling="attention", learning_rate=0.01))
    return folder


def test_a_run_on_pairs_is_read_back_as_it_was(run):
    best = small.result_of(run)["best"]["dev"]
    scores = evaluation.evaluate(str(run), "dev")
    assert {name: scores[name] for name in best} == pytest.approx(best, abs=1e-5)
    predictor = predict.load(str(run))
    assert set(predictor._params) == {"bert", "attention", "body", "head"}
    answers = predictor([("one text", "and another"), ("and another", "one text")])
    assert answers[0]["probabilities"] != answers[1]["probabilities"]
    assert sum(answers[0]["probabilities"].values()) == pytest.approx(1, abs=1e-6)
    assert refused(predictor, ["one text"]) == "inputs: single texts; this model compares two; give pairs of texts"


def test_another_run_takes_its_encoder_but_none_of_its_head(run, tmp_path):
    train.finetune(small.config(str(run), tmp_path / "next", task="toy_sentence", max_steps=1))
    assert set(predict.load(str(tmp_path / "next"))._params) == {"bert", "pooler", "head"}


def test_its_export_is_refused_in_a_line_that_says_what_would_do(run, tmp_path):
    said = refused(export.export, run, tmp_path / "out")
    assert said.startswith(f"--run={run}: transformers has no class for a head with --layers=1,2 ")
    assert f'flaxbert.load("{run}")' in said
    assert not (tmp_path / "out").exists()


def test_heads_are_refused_before_anything_is_computed(deep, tmp_path):
    for given, said in ((dict(layers="3"), "--layers=3: the model has no layer 3; valid: 0 (the embeddings) to 2"),
                        (dict(crf=True), "--crf=true: only for tasks that label words; leave it out")):
        assert refused(train.finetune, small.config(deep, tmp_path / "run", **given)) == said
        assert not (tmp_path / "run").exists()
