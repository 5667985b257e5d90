"""The BiLSTM in packed rows against PyTorch's, and that sequences do not see each other."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flaxbert import trees
from flaxbert.heads import bilstm
from flaxbert.heads.bilstm import BiLstm

pytestmark = pytest.mark.usefixtures("strict_ranks")
FEATURES, WIDTH = 5, 4
# Row 0: a gap, then sequences of 3, 1 and 4 tokens; row 1: one of 6 and padding; row 2: padding alone.
SEQUENCE = np.array([[0, 1, 1, 1, 2, 3, 3, 3, 3], [1] * 6 + [0] * 3, [0] * 9], np.int32)
NUMBERS = [(0, 1), (0, 2), (0, 3), (1, 1)]  # row and number of each sequence


def model(layers=2, dtype=jnp.float32):
    return BiLstm(WIDTH, layers, 0.0, 4, dtype)


@pytest.fixture(scope="module")
def drawn():
    """Parameters, inputs [R, T, F], and what each output counts in a loss [R, T, 2 H]."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(*SEQUENCE.shape, FEATURES)).astype(np.float32)
    shapes = jax.eval_shape(lambda: model().init(jax.random.key(0), x, SEQUENCE, None))["params"]
    params = trees.map_named(lambda _, leaf: rng.normal(size=leaf.shape).astype(np.float32) * 0.5, shapes)
    counts = rng.normal(size=(*SEQUENCE.shape, 2 * WIDTH)).astype(np.float32) * (SEQUENCE > 0)[..., None]
    return params, x, counts


@functools.cache
def program(**given):
    return jax.jit(lambda params, x, sequence: model(**given).apply({"params": params}, x, sequence, None))


def run(params, x, sequence=SEQUENCE, **given):
    return np.asarray(program(**given)(params, x, sequence))


def test_equals_pytorchs_lstm_of_packed_sequences(drawn):
    torch = pytest.importorskip("torch", reason="PARITY IS NOT CHECKED: pip install 'flaxbert[torch]'")
    from torch.nn.utils.rnn import pack_sequence, unpack_sequence
    params, x, counts = drawn
    theirs = torch.nn.LSTM(FEATURES, WIDTH, num_layers=2, bidirectional=True)

    def names(layer, d):
        return (f"{name}_l{layer}{'_reverse' * d}" for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"))
    with torch.no_grad():
        for layer in range(2):
            for d in range(2):
                ours = params[f"layer_{layer}"]
                values = ours["kernel"][:, d].T, ours["recurrent"][d].T, ours["bias"][d], 0 * ours["bias"][d]
                for name, value in zip(names(layer, d), values, strict=True):
                    getattr(theirs, name).copy_(torch.from_numpy(np.ascontiguousarray(value)))
    own = [SEQUENCE[row] == number for row, number in NUMBERS]
    inputs = [torch.tensor(x[row, mine], requires_grad=True)
              for (row, _), mine in zip(NUMBERS, own, strict=True)]
    found = unpack_sequence(theirs(pack_sequence(inputs, enforce_sorted=False))[0])

    def loss(params, x):
        y = model().apply({"params": params}, x, SEQUENCE, None)
        return (y * counts).sum(), y
    (_, y), (gradients, by_x) = jax.jit(jax.value_and_grad(loss, (0, 1), has_aux=True))(params, x)
    sum((each * torch.from_numpy(counts[row, mine])).sum()
        for each, (row, _), mine in zip(found, NUMBERS, own, strict=True)).backward()
    for each, given, (row, _), mine in zip(found, inputs, NUMBERS, own, strict=True):
        np.testing.assert_allclose(y[row, mine], each.detach().numpy(), atol=1e-5)
        np.testing.assert_allclose(by_x[row, mine], given.grad.numpy(), atol=1e-5)
    for layer in range(2):
        for d in range(2):
            ours, theirs_of = gradients[f"layer_{layer}"], [getattr(theirs, name).grad for name in names(layer, d)]
            got = ours["kernel"][:, d].T, ours["recurrent"][d].T, ours["bias"][d]
            assert np.abs(got[1]).max() > 0.01
            for a, b in zip(got, theirs_of, strict=False):
                np.testing.assert_allclose(a, b.numpy(), atol=1e-5)


def test_neighbours_and_padding_never_change_a_sequence(drawn):
    params, x, _ = drawn
    want = run(params, x)
    rng = np.random.default_rng(1)
    for row, number in NUMBERS:
        mine = np.zeros(SEQUENCE.shape, bool)
        mine[row] = SEQUENCE[row] == number
        other = np.where(mine[..., None], x, rng.normal(size=x.shape)).astype(np.float32)
        got = run(params, other)
        np.testing.assert_array_equal(got[mine], want[mine])
        assert not np.array_equal(got, want)


def test_where_a_sequence_stands_changes_nothing(drawn):
    params, x, _ = drawn
    moved, sequence = np.zeros_like(x), np.zeros_like(SEQUENCE)
    moved[2, 4:8], sequence[2, 4:8] = x[0, 5:], 2
    np.testing.assert_allclose(run(params, moved, sequence)[2, 4:8], run(params, x)[0, 5:], atol=1e-6)


def test_every_token_of_its_sequence_counts_for_every_state(drawn):
    params, x, _ = drawn
    want = run(params, x, layers=1)
    for column in range(5, 9):
        changed = x.copy()
        changed[0, column] += 1
        moved = np.abs(run(params, changed, layers=1) - want)[0].reshape(-1, 2, WIDTH).max(-1) > 0
        np.testing.assert_array_equal(moved[:, 0], (np.arange(9) >= column))  # forwards: this token and later ones
        np.testing.assert_array_equal(moved[:, 1], (np.arange(9) <= column) & (np.arange(9) >= 5))


def test_the_gradient_is_that_of_the_plain_scan(drawn):
    rng = np.random.default_rng(2)
    gates, recurrent, counts = (rng.normal(size=shape).astype(np.float32) for shape in (
        (9, 2, 3, 4 * WIDTH), (2, WIDTH, 4 * WIDTH), (9, 2, 3, WIDTH)))
    on = bilstm.goes_on(jnp.asarray(SEQUENCE))
    for got, want in zip(*(jax.jit(jax.grad(lambda g, u, f=f: (f(g, on, u) * counts).sum(), (0, 1)))(
            gates, recurrent) for f in (bilstm.recur, bilstm.scanned)), strict=True):
        assert np.abs(want).max() > 0.1
        np.testing.assert_allclose(got, want, atol=1e-5)


def test_the_first_forget_gate_is_open_and_bfloat16_is_near(drawn):
    params, x, _ = drawn
    new = model().init(jax.random.key(0), x, SEQUENCE, None)["params"]["layer_0"]
    np.testing.assert_array_equal(new["bias"], np.repeat([[0, 1, 0, 0]] * 2, WIDTH, axis=1))
    assert 0.4 < np.abs(new["kernel"]).max() <= WIDTH ** -0.5
    near = run(params, x, dtype=jnp.bfloat16)
    assert near.dtype == jnp.bfloat16
    assert 0 < np.abs(near.astype(np.float32) - run(params, x))[SEQUENCE > 0].max() < 0.05
