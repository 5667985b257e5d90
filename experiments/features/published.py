"""The published numbers that the study is beside, as fractions.

[S]: read in the paper; [R]: recalled, not checked again.
"""

FINE_TUNED = "fine-tuned"
ROWS = ("embeddings", "second_to_last", "last", "sum_last4", "concat_last4", "sum_all", FINE_TUNED)

# Task -> row -> score. Devlin 2018, table 7 [S]: BERT-base, F1 on dev, mean of five runs.
DEVLIN = {"conll2003": dict(zip(ROWS, (0.910, 0.956, 0.949, 0.959, 0.961, 0.955, 0.964), strict=True))}

# Task -> score of features, of the fine-tuned model. Peters 2019 [R]: BERT-base.
PETERS = {"conll2003": (0.922, 0.924), "sst2": (0.930, 0.935), "mnli": (0.846, 0.846), "sick_e": (0.848, 0.858),
          "sick_r": (0.864, 0.887), "mrpc": (0.781, 0.848), "stsb": (0.829, 0.871)}
