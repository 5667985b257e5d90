"""The model against PyTorch's BERT: live where torch is installed, and as golden numbers without it."""

import json
from pathlib import Path

import cases
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from flaxbert import heads, trees
from flaxbert.bert import BertConfig
from flaxbert.huggingface import from_tensors, to_tensors
from flaxbert.pretrained import load

GOLDEN = sorted((Path(__file__).parent / "golden").glob("*.npz"))
STATES, LOSS, PACKED = 2e-5, 1e-5, 1e-5
ADAMW = dict(lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01)


@pytest.fixture(scope="module")
def reference():
    pytest.importorskip("torch", reason="LIVE PARITY WITH PYTORCH IS NOT CHECKED: pip install 'flaxbert[torch]'")
    import reference
    return reference


def apart(ours, theirs, real=True):
    """The largest difference, where `real` [N, T] says."""
    return float(np.abs((np.asarray(ours) - np.asarray(theirs))[np.broadcast_to(real, theirs.shape[:2])]).max())


def params_of(case, tensors):
    return from_tensors(tensors, case.config, f"case {case.seed}")


@pytest.mark.parametrize("seed", range(20))
def test_equals_pytorch(reference, seed, record_property):
    case = cases.draw(seed)
    bert = reference.model(case)
    params, batch = params_of(case, reference.tensors(bert)), cases.batch(case, 0)
    want = reference.compute(bert, batch)
    states, pooled, logits, loss, gradients = cases.everything(case.model, case.kind)(params, batch)
    assert len(states) == len(want.states) == case.config.num_hidden_layers + 1
    real = batch["sequence"] > 0
    errors = {f"states {i}": apart(*pair, real) for i, pair in enumerate(zip(states, want.states, strict=True))}
    errors |= {"pooled": apart(pooled[:, 0], want.pooled), "logits": apart(logits[:, 0], want.logits)}
    gradient = cases.worst_gradient(to_tensors(gradients), want.gradients)
    record_property("errors", str({**errors, "loss": abs(float(loss) - want.loss), "gradient": gradient}))
    assert max(errors.values()) < STATES, errors
    assert abs(float(loss) - want.loss) < LOSS
    assert to_tensors(gradients).keys() == want.gradients.keys()
    assert gradient[0] < 1, gradient


@pytest.mark.parametrize("seed", [5, 6])
def test_twenty_steps_of_adamw_equal_pytorch(reference, seed, record_property):
    case = cases.draw(seed)
    bert = reference.model(case)
    params = params_of(case, reference.tensors(bert))
    batches = [cases.batch(case, i % 4) for i in range(20)]
    optimizer = optax.adamw(ADAMW["lr"], *ADAMW["betas"], ADAMW["eps"], weight_decay=ADAMW["weight_decay"])

    @jax.jit
    def update(params, moments, gradients):
        updates, moments = optimizer.update(gradients, moments, params)
        return optax.apply_updates(params, updates), moments
    moments, losses = optimizer.init(params), []
    for batch in batches:
        *_, loss, gradients = cases.everything(case.model, case.kind)(params, batch)
        params, moments = update(params, moments, gradients)
        losses.append(float(loss))
    want = reference.adamw_losses(bert, batches, **ADAMW)
    worst = float(np.abs(np.array(losses) - want).max())
    record_property("errors", str({"AdamW": worst}))
    assert worst < 1e-3
    assert np.mean(losses[16:]) < np.mean(losses[:4]), "it learns the four batches"


@pytest.mark.parametrize("file", GOLDEN, ids=lambda file: file.stem)
def test_equals_the_golden_numbers(file):
    """Needs no torch: weights, batch and PyTorch's numbers come from make_golden.py."""
    golden = dict(np.load(file))
    about = json.loads(str(golden["about"]))
    config = BertConfig(**about["config"])

    def part(prefix):
        return {name.removeprefix(prefix): value for name, value in golden.items() if name.startswith(prefix)}
    params = from_tensors(part("weights/"), config, file)
    batch, want, norms = part("batch/"), part("want/"), part("norm/")
    model = heads.SequenceModel(config, want["logits"].shape[-1])
    states, _, logits, loss, gradients = cases.everything(model, about["kind"], optimized=True)(params, batch)
    real = batch["sequence"] > 0
    assert apart(states[0], want["embeddings"], real) < STATES
    assert apart(states[1], want["layer_1"], real) < STATES
    assert apart(logits[:, 0], want["logits"]) < STATES
    assert abs(float(loss) - float(want["loss"])) < LOSS
    got = to_tensors(gradients)
    for name, norm in norms.items():
        np.testing.assert_allclose(np.linalg.norm(got[name]), norm, rtol=1e-4, err_msg=name)


def test_three_golden_models_are_stored():
    assert len(GOLDEN) == 3


@pytest.fixture(scope="module")
def random_case():
    """(case, parameters, batch) drawn here, so that what follows needs no torch."""
    case = cases.Case(3, BertConfig(vocab_size=40, hidden_size=24, num_hidden_layers=2, num_attention_heads=4,
                                    intermediate_size=36, max_position_embeddings=24), "classification", 3, 5, 11)
    return case, cases.params(case), cases.batch(case, 0)


def unpacked(batch):
    """In rows of 24 tokens and 4 slots, one sequence a row, so that packed and padded are one program."""
    return cases.packed(batch, [[(i, 0)] for i in range(len(batch["row"]))], 24, 4)


def test_packed_equals_padded(random_case):
    case, params, batch = random_case
    sizes = batch["sequence"].sum(1)
    # Row 0 begins with a gap; rows 2, 3 and 4 are empty.
    places = [[(3, 1), (0, 1 + sizes[3])], [(1, 0), (4, sizes[1]), (2, sizes[1] + sizes[4])], [], [], []]
    packed = cases.packed(batch, places, 24, 4)
    compute = cases.everything(case.model, case.kind)
    _, _, logits, loss, gradients = compute(params, unpacked(batch))
    _, _, packed_logits, packed_loss, packed_gradients = compute(params, packed)
    for row, place in enumerate(places):
        for slot, (old, _) in enumerate(place):
            np.testing.assert_allclose(packed_logits[row, slot], logits[old, 0], atol=PACKED, rtol=0)
    assert abs(float(loss) - float(packed_loss)) < LOSS
    assert cases.worst_gradient(trees.flatten(packed_gradients), trees.flatten(gradients))[0] < 1
    # Neighbours and padding do not reach a sequence, not even in the last bit.
    tokens = np.select([packed["sequence"] == 1, packed["sequence"] > 1], [packed["tokens"], 1], 5)
    np.testing.assert_array_equal(compute(params, {**packed, "tokens": tokens})[2][:2, 0], packed_logits[:2, 0])


def test_layers_a_to_b_from_given_hidden_states(random_case):
    case, params, batch = random_case

    def states(batch, start, stop):
        def bert(m, b):
            return m.bert(b, None, start, stop)
        return jax.jit(lambda params, b: case.model.apply({"params": params}, b, method=bert))(params, batch)
    whole = states(batch, 0, None)
    upper = states({**batch, "hidden": whole[1]}, 1, 2)
    assert len(upper) == 2
    np.testing.assert_array_equal(upper[0], whole[1])
    np.testing.assert_allclose(upper[1], whole[2], atol=1e-6)


def test_remat_changes_no_gradient(random_case):
    case, params, batch = random_case
    batch = unpacked(batch)
    model = heads.SequenceModel(case.config, case.outputs, remat=True)
    plain = trees.flatten(cases.everything(case.model, case.kind)(params, batch)[4])
    again = trees.flatten(cases.everything(model, case.kind)(params, batch)[4])
    for name, leaf in plain.items():
        np.testing.assert_allclose(again[name], leaf, atol=1e-6, rtol=1e-6, err_msg=name)


def test_bfloat16_is_finite_and_near_and_parameters_stay_float32(random_case):
    case, params, batch = random_case
    batch = unpacked(batch)
    model = heads.SequenceModel(case.config, case.outputs, dtype=jnp.bfloat16)
    states, _, logits, _, gradients = cases.everything(model, case.kind)(params, batch)
    exact = cases.everything(case.model, case.kind)(params, batch)[2]
    assert states[-1].dtype == jnp.bfloat16
    assert logits.dtype == jnp.float32
    assert np.isfinite(logits).all()
    assert np.abs(logits - exact).max() < 0.2
    for tree in (heads.init(model, 0), gradients):
        for name, leaf in trees.flatten(tree).items():
            assert leaf.dtype == jnp.float32, name
            assert np.isfinite(leaf).all(), name


PAIRS = [("The cat sat on the mat.", "A cat was sitting on a mat."),
         ("He said the foodservice pie business doesn't fit the company's long-term growth strategy.",
          "The foodservice pie business does not fit our long-term growth strategy."),
         ("Où est la gare?", "Nobody answered; it rained in São Paulo.")]


def test_a_real_model_equals_pytorch(reference, outside, record_property):
    """MiniLM-L6, whose weights are stored as float16 and whose tokenizer.json truncates and pads to 128."""
    import torch
    from transformers import AutoTokenizer, BertModel
    folder = outside / "models" / "minilm-l6-h384-uncased"
    pretrained = load(str(folder))
    theirs = AutoTokenizer.from_pretrained(folder)
    padded = theirs(*map(list, zip(*PAIRS, strict=True)), padding="longest", return_tensors="np")
    for i, (first, second) in enumerate(PAIRS):
        ours = pretrained.tokenizer(first, second)
        assert ours["input_ids"] == padded["input_ids"][i][padded["attention_mask"][i] > 0].tolist()
    names = {"tokens": "input_ids", "sequence": "attention_mask", "types": "token_type_ids"}
    batch = {field: padded[name] for field, name in names.items()}
    bert = BertModel.from_pretrained(folder, attn_implementation="eager", dtype=torch.float32).eval()
    with torch.no_grad():
        want = bert(*(torch.from_numpy(padded[name]) for name in names.values()), output_hidden_states=True)
    batch["positions"] = np.broadcast_to(np.arange(batch["tokens"].shape[1]), batch["tokens"].shape)
    batch["first"] = np.zeros((len(PAIRS), 1), np.int32)
    model = heads.SequenceModel(pretrained.config, 1)
    states, pooled = jax.jit(lambda p, b: model.apply(
        {"params": p}, b, method=lambda m, b: (m.bert(b), m.pooled(b))))(pretrained.params, batch)
    real = batch["sequence"] > 0
    errors = [apart(ours, theirs.numpy(), real) for ours, theirs in zip(states, want.hidden_states, strict=True)]
    errors.append(apart(pooled[:, 0], want.pooler_output.numpy()))
    record_property("errors", str({"MiniLM": max(errors)}))
    assert max(errors) < 5e-5, errors
