"""The span head against PyTorch's BertForQuestionAnswering: logits, loss and gradients, padded and packed."""

from dataclasses import asdict

import cases
import jax
import numpy as np
import pytest

from flaxbert import heads, packing
from flaxbert.bert import BertConfig
from flaxbert.data import Encoded, collate
from flaxbert.huggingface import from_tensors, to_tensors

LOGITS, LOSS = 2e-5, 1e-5
LENGTHS = np.array([20, 7, 12, 3, 9])


def sequences(seed: int) -> Encoded:
    """Five windows with an answer, the last of them [CLS] alone."""
    rng = np.random.default_rng(seed)
    labels = np.sort(rng.integers(1, LENGTHS[:, None], (5, 2)), axis=1).astype(np.int32)
    labels[-1] = 0
    return Encoded(rng.integers(1, 40, LENGTHS.sum()).astype(np.int32), np.cumsum([0, *LENGTHS]),
                   rng.integers(2, LENGTHS + 1), labels, np.ones(5, np.float32), labelled="span")


@pytest.fixture(scope="module", params=[0, 1, 2])
def both(request):
    """(compiled losses and gradients, parameters, windows, PyTorch's logits of each window, loss, gradients)."""
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    import reference
    config = BertConfig(vocab_size=40, hidden_size=24, num_hidden_layers=1 + request.param % 2,
                        num_attention_heads=4, intermediate_size=40, max_position_embeddings=24,
                        hidden_act=("gelu", "gelu_new")[request.param % 2])
    bert = reference.randomised(transformers.BertForQuestionAnswering(transformers.BertConfig(
        **asdict(config), attn_implementation="eager")).eval(), request.param)
    windows = sequences(request.param)
    logits, losses = [], []
    for n in range(5):  # alone: PyTorch's softmax would run over the padding of a batch too, and ours never does
        own = slice(*windows.offsets[n:n + 2])
        types = torch.arange(LENGTHS[n]) >= windows.second[n]
        first, last = torch.from_numpy(windows.labels[n]).long()[:, None]
        out = bert(input_ids=torch.from_numpy(windows.tokens[own]).long()[None], token_type_ids=types.long()[None],
                   start_positions=first, end_positions=last)
        logits.append(torch.stack([out.start_logits[0], out.end_logits[0]], 1).detach().numpy())
        losses.append(out.loss)
    loss = sum(losses) / 5
    loss.backward()
    params = from_tensors(reference.tensors(bert), config, "torch", "span")
    gradients = {name: value.grad.numpy() for name, value in bert.named_parameters()}
    model = heads.SpanModel(config, 2)

    def loss_of(params, batch):
        logits = model.apply({"params": params}, batch)
        losses = heads.LOSSES["span"](logits, batch)
        return (losses * batch["weights"]).sum() / batch["weights"].sum(), logits
    compute = jax.jit(jax.value_and_grad(loss_of, has_aux=True))
    return compute, params, windows, logits, float(loss.detach()), gradients


@pytest.mark.parametrize("packed", [False, True])
def test_logits_loss_and_gradients_equal_pytorch(both, packed, record_property):
    compute, params, windows, want, want_loss, want_gradients = both
    plan = packing.pack(np.arange(5), LENGTHS, 24, packed)
    assert plan.rows == (3 if packed else 5)
    (loss, logits), gradients = compute(params, collate(windows, plan, 6, 24, 6))  # rows and slots stay empty
    errors = [float(np.abs(logits[row, column:column + LENGTHS[n]] - want[n]).max())
              for n, row, column in zip(plan.examples, plan.row, plan.start, strict=True)]
    gradient = cases.worst_gradient(to_tensors(gradients, "span"), want_gradients)
    record_property("errors", str({"logits": max(errors), "loss": abs(float(loss) - want_loss),
                                   "gradient": gradient}))
    assert max(errors) < LOGITS
    assert abs(float(loss) - want_loss) < LOSS
    assert to_tensors(gradients, "span").keys() == want_gradients.keys()
    assert gradient[0] < 1, gradient
