"""What fine-tuning forgets: how well the fine-tuned encoder still tells masked words.

The pre-trained model's head for masked words stands on the fine-tuned encoder; it scores with the encoder's own
word embeddings, those of fine-tuning. A share of the words of each text is masked as in pre-training, once and for
all, and both models are asked for the same ones:

    loss = mean of -log p(word), in nats        perplexity = exp(loss)

A text of the task tells less than others: what the task taught of such texts may make up for some of the loss.
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp

from flaxbert import families, heads, tasks
from flaxbert.analysis import own_figures
from flaxbert.analysis.base import Row
from flaxbert.analysis.models import SIDES, Pair
from flaxbert.analysis.subject import Subject
from flaxbert.backbone import Backbone, Head
from flaxbert.config import Config
from flaxbert.data import Encoded
from flaxbert.errors import InputError
from flaxbert.families.pretraining import PretrainingFamily


def family_of(pair: Pair, longest: int, seed: int) -> PretrainingFamily:
    """How words are masked: as the run `after` does, where it pre-trains; else 15 %, by the seed.

    Args:
      longest: sequence in tokens.
    """
    task = tasks.get("pretrain")
    if pair.config and pair.config.task == task.name:
        config = dataclasses.replace(pair.config, next_sentence=False)
    else:
        config = Config.make(task=task.name, model=pair.before.source, seed=seed)
    # Every sequence is as wide as the longest may be: the masks of a run are drawn so.
    return families.make(task, dataclasses.replace(config, max_length=max(config.max_length, longest)))


def scores(pair: Pair, encoded: Encoded, family: PretrainingFamily, what: str = "") -> dict[str, dict[str, float]]:
    """Side -> loss, perplexity and accuracy of masked words.

    Args:
      pair: whose `before` has a head for masked words.
      encoded: sequences from `family.encode_tokens`.
      what: names the progress bar.

    Raises:
      InputError: a loss is not finite.
    """
    model = heads.PretrainingModel(pair.shape, 0, jnp.float32)
    head = pair.placement.put(pair.before.params["mlm"])
    found: dict[str, dict[str, float]] = {}
    first: Backbone | None = None
    for side in SIDES:
        each: dict[str, Any] = {"bert": pair.placed[side], "mlm": head}
        backbone = Backbone([Head(model, family, each)], pair.placement, first)
        first = first or backbone
        found[side] = family.scores(backbone.outputs([encoded], f"masked words, {what} {side}")[0], encoded, None)
        if not math.isfinite(found[side]["loss"]):
            raise InputError(f"--{side}={getattr(pair, side).source}: what it says of masked words is not finite; "
                             "its weights are too large, as of a run that diverged")
    return found


def check(subject: Subject) -> None:
    """Raises `InputError` where `before` cannot tell masked words."""
    before = subject.pair.before
    if "mlm" not in before.params:
        raise InputError(f"--before={before.source}: has no head for masked words, so nothing tells what is "
                         "forgotten of them; --before=bundled and checkpoints for masked words have one")


def measure(subject: Subject) -> list[Row]:
    """{"text", "layer", "side", "measure", "value", "masked"} of loss, perplexity and mlm_accuracy."""
    pair, rows = subject.pair, []
    for name, text in subject.texts.items():
        family = family_of(pair, int(text.encoded.lengths.max()), subject.settings.seed)
        encoded = family.encode_tokens(pair.tokenizer, text.encoded)
        rows += [{"text": name, "layer": None, "side": side, "measure": measure, "value": value,
                  "masked": int((encoded.weights > 0).sum())}
                 for side, told in scores(pair, encoded, family, text.source).items()
                 for measure, value in told.items()]
    return rows


figure = own_figures.forgetting


def table(rows: Sequence[Row]) -> list[list[str]]:
    """A line for each text and measure: before and after."""
    value = {(row["text"], row["measure"], row["side"]): row["value"] for row in rows}
    return [["text", "measure", *SIDES], *([*key, *(f"{value[*key, side]:.4g}" for side in SIDES)]
                                           for key in dict.fromkeys(key[:2] for key in value))]
