"""Pre-training made visible: the same network fine-tuned from trained and from random weights, in one picture."""

import dataclasses
from typing import Any

from flaxbert import parallel, records, tasks
from flaxbert.config import Config
from flaxbert.curves import learning_curves
from flaxbert.errors import InputError, note
from flaxbert.metrics import LOWER_IS_BETTER
from flaxbert.train import finetune, output_dir

# What each run starts from -> (its folder, its settings).
STARTS = {"pre-trained": ("pretrained", {"random_init": False}), "random": ("random", {"random_init": True})}


def demo(config: Config) -> dict[str, Any]:
    """Fine-tunes twice under the same settings, from the model's weights and from random ones, and draws both.

    Args:
      config: the settings; --output_dir is the folder of both runs and of the picture.

    Returns:
      {"run": folder, "picture": PNG, "main_metric", "scores": {"pre-trained": best dev score, "random":
      likewise}}; no scores where a run was interrupted.

    Raises:
      InputError: anything wrong with flags, files or weights.
    """
    if config.random_init:
        raise InputError("--random_init: a demo makes both runs, one of them from random weights")
    metric = tasks.get(config.task).main_metric
    parallel.start(config)  # the processes of a pod have to agree on the folder
    folder = output_dir(config, f"demo-{config.task}")
    scores, curves = {}, {}
    for start, (name, given) in STARTS.items():
        note(f"{config.task} from {start} weights")
        run = folder / name
        result = finetune(dataclasses.replace(config, output_dir=str(run), **given))
        if result["status"] == "interrupted":
            return {"run": str(folder), "main_metric": metric, "scores": {}}
        metric = result["main_metric"]
        scores[start] = result["best"]["dev"][metric]
        curves[start] = records.read_metrics(run)
    picture = folder / "learning_curves.png"
    if parallel.is_main():
        learning_curves(curves, metric, picture, f"{config.task}: the same network, two starts",
                        metric in LOWER_IS_BETTER)
    return {"run": str(folder), "picture": str(picture), "main_metric": metric, "scores": scores}
