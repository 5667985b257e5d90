"""The published numbers that the study is beside, as fractions.

[R]: recalled, not checked again.
"""

from typing import NamedTuple


class Scores(NamedTuple):
    """Of 25 seeds: sample standard deviation, mean and highest."""

    std: float
    mean: float
    highest: float


# Task -> metric.
METRIC = {"rte": "accuracy", "mrpc": "f1", "cola": "mcc"}

# Task -> (few epochs without bias correction, many with it), which the paper calls Devlin and ours. Mosbach et al.
# 2021, table 1 [R]: BERT-large, both arms run with the authors' own code.
MOSBACH = {"rte": (Scores(0.045, 0.509, 0.675), Scores(0.027, 0.673, 0.711)),
           "mrpc": (Scores(0.039, 0.840, 0.912), Scores(0.008, 0.903, 0.917)),
           "cola": (Scores(0.256, 0.456, 0.646), Scores(0.018, 0.621, 0.653))}
