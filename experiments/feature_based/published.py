"""The published numbers that the study is beside, as fractions.

[S]: read in the paper.
"""

from experiments.features import FINE_TUNED

ROWS = ("embeddings", "second_to_last", "last", "sum_last4", "concat_last4", "sum_all", FINE_TUNED)

# Task -> row -> score. Devlin 2018, table 7 [S]: BERT-base, F1 on dev, mean of five runs.
DEVLIN = {"conll2003": dict(zip(ROWS, (0.910, 0.956, 0.949, 0.959, 0.961, 0.955, 0.964), strict=True))}
