"""The families of tasks, by kind: adding one is adding a file here and a row below."""

from flaxbert.config import Config
from flaxbert.families.base import Family
from flaxbert.families.choice import ChoiceFamily
from flaxbert.families.pretraining import PretrainingFamily
from flaxbert.families.sequence import SequenceFamily
from flaxbert.families.span import SpanFamily
from flaxbert.families.token import TokenFamily
from flaxbert.tasks.base import Task

__all__ = ["FAMILIES", "Family", "make"]

FAMILIES: dict[str, type[Family]] = {
    "classification": SequenceFamily, "regression": SequenceFamily, "multi_label": SequenceFamily,
    "choice": ChoiceFamily,
    "span": SpanFamily,
    "token": TokenFamily,
    "pretraining": PretrainingFamily,
}


def make(task: Task, config: Config) -> Family:
    """The family of a task, under the settings of a run."""
    return FAMILIES[task.kind](task, config)
