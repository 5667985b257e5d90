"""The published numbers that the study is beside, as fractions.

[S]: read in a source.
"""

# Task -> (mean, standard deviation) of the accuracy without and with re-initialised layers. Zhang et al. 2021 [S]:
# BERT-large, 3 epochs.
REINITIALISED = {"rte": ((0.695, 0.025), (0.726, 0.016))}


def reinitialised(task: str) -> str:
    """What is published of a task, as text; empty where nothing is."""
    if task not in REINITIALISED:
        return ""
    return "accuracy {:.3f} ± {:.3f} to {:.3f} ± {:.3f} [S]".format(*sum(REINITIALISED[task], ()))
