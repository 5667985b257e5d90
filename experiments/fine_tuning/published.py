"""The published numbers that the study is beside, as fractions. [S]: read in the source; [R]: recalled."""

from typing import NamedTuple


class Score(NamedTuple):
    """One score of BERT-base."""

    metric: str
    value: float
    split: str


# Task -> BERT-base-uncased. Devlin et al. 2018 (1810.04805): GLUE's test set, dev elsewhere [S]; that GLUE's
# number of STS-B is Spearman's correlation [R].
DEVLIN = {
    "sst2": Score("accuracy", 0.935, "test"), "mrpc": Score("f1", 0.889, "test"),
    "stsb": Score("spearman", 0.858, "test"), "cola": Score("mcc", 0.521, "test"),
    "mnli": Score("accuracy", 0.846, "test"), "qqp": Score("f1", 0.712, "test"),
    "rte": Score("accuracy", 0.664, "test"), "qnli": Score("accuracy", 0.905, "test"),
    "squad": Score("f1", 0.885, "dev"), "swag": Score("accuracy", 0.816, "dev"),
    "conll2003": Score("f1", 0.964, "dev"),
}

# Task -> metric -> mean of 5 seeds of bert-base-cased on dev: the Flax BERT that transformers had until version 5
# [S]. In the table there F1 comes first of MRPC, Pearson's correlation of STS-B, and accuracy of QQP.
HUGGING_FACE = {
    "cola": {"mcc": 0.5904}, "sst2": {"accuracy": 0.9223}, "mrpc": {"f1": 0.8897, "accuracy": 0.8436},
    "stsb": {"pearson": 0.8894, "spearman": 0.8863}, "qqp": {"f1": 0.8751, "accuracy": 0.9076},
    "mnli": {"accuracy": 0.8380}, "qnli": {"accuracy": 0.9082}, "rte": {"accuracy": 0.6476},
}


def in_metric(task: str, metric: str) -> float | None:
    """BERT-base's published score in this metric, on dev rather than on test; None where there is none."""
    devlin = DEVLIN.get(task)
    theirs = devlin.value if devlin and devlin.metric == metric else None
    return HUGGING_FACE.get(task, {}).get(metric, theirs)


def text(task: str) -> str:
    """Devlin's score of a task, with its mark; empty where there is none."""
    score = DEVLIN.get(task)
    return f"{task} {score.metric} {score.value:.3f}, {score.split} [S]" if score else ""
