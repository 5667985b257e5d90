"""The published numbers that the study is beside, as fractions.

[R]: recalled, not checked again.
"""

# Task -> score of features, of the fine-tuned model. Peters 2019 [R]: BERT-base.
PETERS = {"conll2003": (0.922, 0.924), "sst2": (0.930, 0.935), "mnli": (0.846, 0.846), "sick_e": (0.848, 0.858),
          "sick_r": (0.864, 0.887), "mrpc": (0.781, 0.848), "stsb": (0.829, 0.871)}
