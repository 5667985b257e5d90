"""The heads of spans, tokens, choices and pre-training against PyTorch's numbers; none of it needs torch."""

import json
from pathlib import Path

import jax
import numpy as np
import pytest

from flaxbert import heads, trees
from flaxbert.bert import BertConfig
from flaxbert.huggingface import from_tensors, to_tensors

GOLDEN = sorted((Path(__file__).parent / "golden" / "heads").glob("*.npz"))
CLOSE = 2e-5


def part(golden, prefix):
    return {name.removeprefix(prefix): value for name, value in golden.items() if name.startswith(prefix)}


def standing(kind, batch):
    """What the head says something about: name -> where, of its outputs."""
    if kind == "pretraining":
        return {"mlm": batch["weights"]["mlm"] > 0, "nsp": batch["weights"]["nsp"] > 0}
    return {"logits": batch["first"] >= 0 if kind == "choice" else batch["sequence"] > 0}


@pytest.mark.parametrize("file", GOLDEN, ids=lambda file: file.stem)
def test_scores_loss_and_gradients_equal_the_golden_numbers(file):
    golden = dict(np.load(file))
    about = json.loads(str(golden["about"]))
    kind, config = about["kind"], BertConfig(**about["config"])
    params = from_tensors(part(golden, "weights/"), config, file, kind)
    batch, want, norms = trees.unflatten(part(golden, "batch/")), part(golden, "want/"), part(golden, "norm/")
    model = heads.MODELS[kind](config, about["outputs"])

    @jax.jit
    def compute(params, batch):
        def loss(params):
            out = model.apply({"params": params}, batch)
            means = jax.tree.map(lambda each, w: (each * w).sum() / w.sum(), heads.loss(kind)(out, batch),
                                 batch["weights"])
            return sum(jax.tree.leaves(means)), out
        return jax.value_and_grad(loss, has_aux=True)(params)
    (loss, out), gradients = compute(params, batch)
    out = out if isinstance(out, dict) else {"logits": out}
    for name, where in standing(kind, batch).items():
        assert where.any()
        assert np.abs(want[name][where]).max() > 0.3
        np.testing.assert_allclose(np.asarray(out[name])[where], want[name][where], atol=CLOSE, rtol=0)
    assert float(loss) == pytest.approx(float(want["loss"]), abs=CLOSE)
    got = to_tensors(gradients, kind)
    assert len(norms) >= 3
    for name, norm in norms.items():
        np.testing.assert_allclose(np.linalg.norm(got[name]), norm, rtol=1e-4, err_msg=name)


def test_each_new_kind_has_its_golden_numbers():
    assert {file.stem for file in GOLDEN} == heads.MODELS.keys() - {"classification", "regression", "multi_label"}
