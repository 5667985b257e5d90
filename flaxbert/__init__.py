"""flaxbert: BERT in JAX, fine-tuned well, and a laboratory for what fine-tuning does to it.

    import flaxbert
    result = flaxbert.finetune(task="mrpc", data_dir="data/glue/MRPC", model="bert-base-uncased")
    predict = flaxbert.load(result["run"])
    predict([("He left.", "He went away.")])
    flaxbert.load([result["run"], other_run])([("He left.", "He went away.")])  # heads of one backbone, run once

Names and defaults of `finetune` are those of the command line's flags.
"""

from collections.abc import Sequence
from typing import Any

__version__ = "0.1.0"
__all__ = ["analyze", "features", "finetune", "load", "pretrain"]


def finetune(**settings: Any) -> dict[str, Any]:
    """Fine-tunes one run; see `flaxbert.train.finetune` for what comes back.

    Args:
      **settings: fields of `flaxbert.config.Config`, in other words the flags of `flaxbert finetune`.
    """
    from flaxbert import train
    from flaxbert.config import Config
    return train.finetune(Config.make(**settings))


def pretrain(**settings: Any) -> dict[str, Any]:
    """Pre-trains one run, as `finetune` does; the flags of `flaxbert pretrain`."""
    return finetune(**settings, task="pretrain")


def load(path: str | Sequence[str], checkpoint: str = "best", seed: str | int = "best") -> Any:
    """A predictor from a run, an exported folder or a fine-tuned hub model: `flaxbert.predict.Predictor`.

    From a list of those, heads of one backbone, one for all of them: `flaxbert.predict.Predictors`. From a folder
    of many seeds the best by dev, the one that `seed` names, or their `ensemble`.
    """
    from flaxbert import predict
    return predict.load(path, checkpoint, seed)


def features(inputs: Any, **settings: Any) -> Any:
    """What layers of a model say of texts or pairs, as arrays: `flaxbert.extraction.Features`.

    Args:
      inputs: a list of texts, or of pairs (A, B).
      **settings: model, layers, pooling, max_length, dtype, checkpoint: the flags of `flaxbert features`.
    """
    from flaxbert import extraction
    return extraction.features(inputs, **settings)


def analyze(before: str, after: str, **settings: Any) -> Any:
    """Compares a pre-trained and a fine-tuned model, layer by layer: the rows of `flaxbert.analysis.analyze`.

    Args:
      before: as --model; "": what the run `after` started from.
      after: a run, an exported folder, or as --model.
      **settings: fields of `flaxbert.analysis.Settings`, in other words the flags of `flaxbert analyze`.
    """
    from flaxbert import analysis
    return analysis.analyze(before=before, after=after, **settings)
