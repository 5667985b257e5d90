"""The shape of what stands on the encoder: the settings of the group "head", made concrete for one task."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from flaxbert.config import Config
from flaxbert.errors import InputError
from flaxbert.heads.layers import parse

OF_TEXTS = ("classification", "regression", "multi_label")  # kinds that ask about a text or a pair of texts
WHOLE = (*OF_TEXTS, "choice")  # kinds that answer for whole sequences


@dataclass(frozen=True)
class HeadConfig:
    """What stands on the encoder; names are those of the settings, and defaults make BERT's own head."""

    layers: str = "last"
    mix_layer_norm: bool = False
    head: str = "linear"
    head_width: int = 0
    head_layers: int = 2
    crf: bool = False
    pooling: str = "pooler"
    pair: str = "joint"

    @classmethod
    def of(cls, config: Config, kind: str, of_pairs: bool, layers: int) -> "HeadConfig":
        """The head that the settings describe.

        Args:
          config: the settings; --pooling=auto is the pooler under a head that is BERT's own but for its product,
            on an encoder that is kept or trained as a whole, and the mean elsewhere.
          kind: of the task.
          of_pairs: whether the task has two texts an example.
          layers: L of the encoder.

        Raises:
          InputError: --layers that the encoder does not have, or a head that the task cannot take.
        """
        given = {f.name: getattr(config, f.name) for f in fields(cls)}
        changed = flags(given, Config)
        if kind == "pretraining":
            for flag in changed.values():
                raise InputError(f"{flag}: pre-training has heads of its own; leave it out")
            if config.strategy == "features":
                raise InputError("--strategy=features: pre-training has heads of its own; head trains them alone")
            return cls()
        mixing, recurrent = parse(config.layers, layers), config.head == "bilstm"
        if mixing == parse("last", layers):  # also where given by its number
            given["layers"] = "last"
        side_by_side = mixing.how == "concat" and len(mixing.layers) > 1
        for name, refused, why in (
                ("crf", kind != "token", "only for tasks that label words; leave it out"),
                ("crf", config.class_weights, "its labels have no weights; leave out --class_weights"),
                ("pooling", kind not in WHOLE, "this task asks for tokens, not for whole texts; leave it out"),
                ("pooling", config.pooling == "pooler" and (side_by_side or recurrent),
                 "BERT's own reads one state of the encoder's width; valid here: cls, mean, max, attention"),
                ("pair", not of_pairs or kind not in OF_TEXTS,
                 "only for classes and scores of pairs; leave it out"),
                ("head_width", config.head == "linear", "needs --head=mlp or bilstm"),
                ("head_layers", not recurrent, "needs --head=bilstm")):
            if refused and name in changed:
                raise InputError(f"{changed[name]}: {why}")
        if config.pooling == "auto":
            usual = (given["layers"], config.pair) == ("last", "joint") and not recurrent
            other = kind in WHOLE and (config.strategy == "features" or not usual)
            given["pooling"] = "mean" if other else "pooler"
        return cls(**given)


def flags(given: Mapping[str, Any], usual: type) -> dict[str, str]:
    """Name -> `--name=value` of each setting that is not the default of that name in `usual`."""
    return {name: f"--{name}={'true' if value is True else value}" for name, value in given.items()
            if value != getattr(usual, name)}
