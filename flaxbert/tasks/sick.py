"""SICK: entailment (SICK-E) and relatedness (SICK-R) of the same pairs (Marelli et al. 2014).

The hub's own files need a script that `datasets` no longer runs; its Parquet copy of them does without.
"""

from flaxbert.tasks.base import HUB_SPLITS, Hub, Layout, Task

_TEXTS = ("sentence_A", "sentence_B")
_FILES = {"train": "SICK_train.txt", "dev": "SICK_trial.txt", "test": "SICK_test_annotated.txt"}


def _hub(label: str) -> Hub:
    return Hub("RobZamp/sick", None, _TEXTS, label, HUB_SPLITS, "id", "refs/convert/parquet")


TASKS = (
    Task("sick_e", "classification", "does sentence A entail sentence B", ("accuracy",),
         ("ENTAILMENT", "NEUTRAL", "CONTRADICTION"), pair=True,
         layouts=(Layout(_TEXTS, "entailment_judgment", "pair_ID"),), files=_FILES, hub=_hub("label")),
    Task("sick_r", "regression", "how related two sentences are, 1 to 5", ("pearson", "spearman"), pair=True,
         layouts=(Layout(_TEXTS, "relatedness_score", "pair_ID"),), files=_FILES, bounds=(1.0, 5.0),
         hub=_hub("relatedness_score")),
)
