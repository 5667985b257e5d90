"""The study of features against fine-tuning over several tasks, after Peters. All else: README.md."""

from typing import Any

from experiments import features
from experiments.features import FINE_TUNED
from experiments.records import Records
from experiments.tune_or_not import claims, figure, table
from experiments.tune_or_not.claims import MIX
from flaxbert import tasks

QUESTION = "Are features of the frozen model as good as fine-tuning, and on which tasks are they not?"

FLAGS = {**features.FLAGS, "tasks": "Only these tasks."}
CHOICES = ("tasks", "seeds", "cache_dir")

CLAIMS = claims.CLAIMS

_PETERS = ("sst2", "mnli", "sick_e", "sick_r", "mrpc", "stsb", "conll2003")

_REAL = {"tasks": _PETERS, "seeds": 1, "limits": ("conll2003=3000", "sst2=5000", "mnli=5000")}
# The bundled model learns at higher rates.
TOYS = {"tasks": ("toy_sentence", "toy_pair", "toy_regression", "toy_token"), "seeds": 3, "limits": (),
         "model": "bundled", "rate": 1e-3}

PRESETS: dict[str, dict[str, Any]] = {
    # Two minutes: does everything work.
    "tiny": {**features.PRESETS["tiny"], "tasks": ("toy_pair", "toy_token"), "seeds": 1,
             "limits": ("toy_pair=96", "toy_token=96")},
    # Two CPU cores: about eighty minutes.
    "small": {**features.PRESETS["small"], **_REAL},
    # An accelerator.
    "paper": {**features.PRESETS["paper"], "tasks": _PETERS, "seeds": 5, "limits": ()},
}


def points(settings: dict[str, Any]) -> list[dict[str, Any]]:
    """Both ways of every task of a seed before the next seed."""
    return features.points("tune_or_not", settings, "--tasks",
                           [(task, how) for task in settings["tasks"] for how in (MIX, FINE_TUNED)])


def head_of(task: str) -> dict[str, Any]:
    """What stands on the mix of all layers, by the kind of task."""
    row = tasks.get(task)
    top = {"crf": True} if row.kind == "token" else {"pooling": "max", "pair": "separate" if row.pair else "joint"}
    return {"layers": MIX, "mix_layer_norm": True, **top}


def measure_point(point: dict[str, Any], settings: dict[str, Any]) -> dict[str, Any]:
    """Peters' head for the task on features, or the model fine-tuned."""
    return features.measure(point, settings, head_of(point["task"]))


def report(record: Records) -> dict[str, Any]:
    """Writes table.md and figure.png; returns the claims, and a row a task."""
    rows = table.by_task(record.measured, MIX)
    verdicts = claims.verdicts(claims.of(record.measured))
    (record.folder / "table.md").write_text(table.markdown(record.about, rows, verdicts))
    figure.draw(record.about, rows, record.folder / "figure.png")
    return {"claims": [verdict._asdict() for verdict in verdicts], "tasks": rows}
