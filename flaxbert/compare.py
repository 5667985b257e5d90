"""Two recipes, from the folders of their runs: over their seeds, and over the examples that they answer."""

from pathlib import Path
from typing import Any

import numpy as np

from flaxbert import evaluation, metrics, tasks
from flaxbert.errors import InputError
from flaxbert.records import read_run
from flaxbert.statistics import comparison, figures
from flaxbert.statistics.runs import scores_of

PICTURES = (".png", ".pdf", ".svg")


def compare(a: str | Path, b: str | Path, checkpoint: str = "last", output: str = "",
            examples: str = "") -> dict[str, Any]:
    """All that can be said of two recipes.

    Args:
      a, b: folders of runs.
      checkpoint: whose scores: last or best.
      output: of a picture; empty: none.
      examples: best, ensemble or a seed: what these models answer on dev is compared too; empty: it is not.

    Returns:
      what `comparison.compare` does, and `examples`: from `over_dev`, or None.

    Raises:
      InputError: no runs there, or such as cannot be compared.
    """
    if output and Path(output).suffix not in PICTURES:
        raise InputError(f"--output={output}: should end in {', '.join(PICTURES)}")
    for folder in (a, b):
        if (Path(folder) / "sweep.json").exists():
            raise InputError(f"{folder}: a sweep; give one of its cells, the folders in it")
    both = [scores_of(folder, checkpoint) for folder in (a, b)]
    found = comparison.compare(*both)
    found["examples"] = over_dev(a, b, checkpoint, examples) if examples else None
    if output:
        figures.difference(*both, found, Path(output))
    return found


def over_dev(a: str | Path, b: str | Path, checkpoint: str, seed: str) -> dict[str, Any]:
    """Two models on the same dev examples: the uncertainty that is due to these, and not to the seeds.

    Args:
      a, b: folders of runs.
      checkpoint: last or best.
      seed: as of `predict.load`.

    Returns:
      seed; metric; examples: how many; difference and interval, from `comparison.over_examples`; only_a, only_b
      and p, from `comparison.mcnemar`: None where answers are not right or wrong.

    Raises:
      InputError: runs of other kinds of tasks than of texts and pairs, or of other examples.
    """
    said, known = [], []
    for folder in map(Path, (a, b)):
        config, about = read_run(folder.expanduser())
        task = tasks.resolve(config, tuple(about["task"]["labels"]))
        if task.kind not in metrics.PREDICTIONS:
            raise InputError(f"--examples: not of {task.name}; of tasks whose answers are "
                             f"{', '.join(metrics.PREDICTIONS)}")
        outputs, labels = evaluation.dev_outputs(str(folder), checkpoint, seed)
        said.append(metrics.predictions(task.kind, outputs))
        known.append(labels)
    if not np.array_equal(*known):
        raise InputError(f"--examples: {a} and {b} were scored on other dev examples")
    score, labels = metrics.METRICS[task.main_metric], known[0]
    found = comparison.over_examples(lambda given, right: score(given, right, classes=task.outputs), *said, labels)
    right = [(each == labels).reshape(len(labels), -1).all(axis=1) for each in said]
    told = comparison.mcnemar(*right) if task.kind != "regression" else dict.fromkeys(("only_a", "only_b", "p"))
    return {"seed": seed, "metric": task.main_metric, "examples": len(labels), **found, **told}
