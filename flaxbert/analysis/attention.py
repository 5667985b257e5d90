"""How far apart two models look: the divergence of their attention, by layer and head.

    JS(p, q) = 1/2 sum_s p_s log(2 p_s / (p_s + q_s)) + 1/2 sum_s q_s log(2 q_s / (p_s + q_s))

in nats: 0 where the two attend alike, log 2 = 0.693 where they attend to different tokens altogether. p and q are
what one token's query gives to all tokens of its sequence, [CLS] and [SEP] included; the mean is over all tokens
that ask, these included.

Letters: R rows, T tokens a row (S on the side of the keys), H heads, L layers.

Source: Lin 1991 (the divergence); Clark et al. 2019 (1906.04341) for attention heads compared by it.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import xlog1py

from flaxbert import parallel
from flaxbert.analysis import own_figures
from flaxbert.analysis.base import Row, names, only
from flaxbert.analysis.models import SIDES
from flaxbert.analysis.subject import Subject
from flaxbert.bert import Bert, BertConfig
from flaxbert.heads import Batch
from flaxbert.inference import Inference


def jensen_shannon(p: jax.Array, q: jax.Array) -> jax.Array:
    """The divergence of distributions over the last axis, in nats; [..., S], [..., S] -> [...].

    With m = (p + q) / 2 and t = (p - q) / (p + q) it is 1/2 sum_s m ((1 + t) log(1 + t) + (1 - t) log(1 - t)):
    nothing underflows, and 0 log 0 is 0. For small t that is t^2, what is left of t - t; there it is computed as
    2 t artanh(t) + log(1 - t^2), about 2 t^2 - t^2, so that what is nearly the same keeps its digits.
    """
    both = p + q
    t = (p - q) / jnp.maximum(both, jnp.finfo(both.dtype).tiny)
    each = jnp.where(abs(t) < 0.5, t * (jnp.log1p(t) - jnp.log1p(-t)) + jnp.log1p(-t * t),
                     xlog1py(1 + t, t) + xlog1py(1 - t, -t))
    return jnp.maximum((both * each).sum(-1) / 4, 0)


def probabilities(config: BertConfig, params: Mapping[str, Any], batch: Batch) -> list[jax.Array]:
    """What the encoder attends to, [R, H, T, S] of each of the L layers; 0 at other sequences and padding.

    Args:
      config: the encoder's shape.
      params: of the encoder.
      batch: as of `Bert`. What a token of padding itself attends to means nothing.
    """
    _, kept = Bert(config).apply({"params": params}, batch, mutable=["attention"])
    return [kept["attention"][f"layer_{i}"]["attention"]["probabilities"][0]
            for i in range(config.num_hidden_layers)]


def divergences(config: BertConfig, params: Sequence[Mapping[str, Any]], batch: Batch) -> jax.Array:
    """[R, T, L, H] how far apart two encoders of one shape look, for each token that asks; arguments as above."""
    each = zip(*(probabilities(config, tree, batch) for tree in params), strict=True)
    return jnp.stack([jensen_shannon(p, q).swapaxes(1, 2) for p, q in each], axis=2)


class Sums:
    """Sums over tokens of divergences [n, L, H], as `Inference` hands them out, and of their squares."""

    def __init__(self):
        self.count, self.total, self.squares = 0, np.zeros(()), np.zeros(())

    def __setitem__(self, where: slice, values: np.ndarray) -> None:
        values = values.astype(np.float64)
        self.count += len(values)
        self.total, self.squares = self.total + values.sum(0), self.squares + np.square(values).sum(0)

    @property
    def moments(self) -> tuple[np.ndarray, np.ndarray]:
        """[L, H] mean, and standard deviation."""
        mean = self.total / self.count
        return mean, np.sqrt(np.maximum(self.squares / self.count - mean ** 2, 0))


def measure(subject: Subject) -> list[Row]:
    """{"text", "layer", "head", "measure", "value", "spread", "tokens"}: mean and deviation over tokens that ask.

    Layers and heads are counted from 1.
    """
    pair = subject.pair

    def apply(params: Mapping[str, Any], batch: Batch, dropout: None) -> jax.Array:
        with jax.default_matmul_precision("highest"):
            return divergences(pair.shape, tuple(params[side] for side in SIDES), batch)
    inference = Inference(apply, pair.placement, per_token=True)
    rows = []
    for name, text in subject.texts.items():
        with parallel.memory_told(f"sequences of {text.encoded.lengths.max()} tokens: try a smaller --max_length"):
            sums = inference.outputs(pair.placed, text.encoded, f"attention on {text.source}", into=Sums())
        mean, spread = sums.moments
        if not np.isfinite(mean).all():
            subject.both.run(text.encoded, ())  # raises: it finds of which model, and in which layer first
        rows += [{"text": name, "layer": layer + 1, "head": head + 1, "measure": "Jensen-Shannon divergence, nats",
                  "value": float(value), "spread": float(spread[layer, head]), "tokens": sums.count}
                 for (layer, head), value in np.ndenumerate(mean)]
    return rows


figure = own_figures.heads


def table(rows: Sequence[Row]) -> list[list[str]]:
    """A line a layer: mean over its heads, and the head that moved most, for each text."""
    texts = names(rows, "text")
    lines = [["layer", *(f"{text} {what}" for text in texts for what in ("mean", "most", "of head"))]]
    for layer in names(rows, "layer"):
        line = [str(layer)]
        for text in texts:
            mine = only(rows, text=text, layer=layer)
            most = max(mine, key=lambda row: row["value"])
            line += [f"{np.mean([row['value'] for row in mine]):.4g}", f"{most['value']:.4g}", str(most["head"])]
        lines.append(line)
    return lines
