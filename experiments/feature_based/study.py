"""The study of features by layer, Devlin's table 7. Question, commands and results: README.md."""

from typing import Any

from experiments import features
from experiments.claims import judge
from experiments.feature_based import claims, figure, table
from experiments.feature_based.published import ROWS
from experiments.records import Records
from flaxbert.errors import one_of

QUESTION = "Do features of the frozen model come close to fine-tuning, and which layers are the best?"

FLAGS = {**features.FLAGS, "rows": "Only these rows of Devlin's table, on --token_task.",
         "token_task": "The task of Devlin's table."}
CHOICES = ("rows", "seeds", "cache_dir")

CLAIMS = claims.CLAIMS

_CONLL = {"rows": ROWS, "token_task": "conll2003"}

_REAL = {**_CONLL, "seeds": 3, "limits": ("conll2003=3000",)}
# The bundled model learns at higher rates.
TOYS = {**_CONLL, "token_task": "toy_token", "seeds": 3, "limits": (), "model": "bundled", "rate": 1e-3}

PRESETS: dict[str, dict[str, Any]] = {
    # A minute: does everything work.
    "tiny": {**features.PRESETS["tiny"], "rows": ROWS, "token_task": "toy_token", "seeds": 1,
             "limits": ("toy_token=96",)},
    # Two CPU cores: fifteen minutes a seed.
    "small": {**features.PRESETS["small"], **_REAL},
    # An accelerator.
    "paper": {**features.PRESETS["paper"], **_CONLL, "seeds": 5, "limits": ()},
}


def points(settings: dict[str, Any]) -> list[dict[str, Any]]:
    """All rows of the table of a seed before the next seed."""
    for row in settings["rows"]:
        one_of(row, ROWS, "--rows")
    return features.points("feature_based", settings, "--token_task",
                           [(settings["token_task"], row) for row in settings["rows"]])


def measure_point(point: dict[str, Any], settings: dict[str, Any]) -> dict[str, Any]:
    """A BiLSTM on these layers, or the model fine-tuned."""
    return features.measure(point, settings, {"layers": point["how"]})


def report(record: Records) -> dict[str, Any]:
    """Writes table.md and figure.png; returns the claims, the table's rows, and those not in the paper's order."""
    task = record.about["settings"]["token_task"]
    rows = table.by_layers(record.measured, task)
    verdicts = judge(CLAIMS, [(task, claims.of(record.measured, task))])
    (record.folder / "table.md").write_text(table.markdown(record.about, rows, verdicts))
    figure.draw(record.about, rows, record.folder / "figure.png")
    return {"claims": [verdict._asdict() for verdict in verdicts], "layers": rows,
            "reversed": table.reversed_pairs(rows)}
