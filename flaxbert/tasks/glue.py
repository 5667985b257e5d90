"""The nine GLUE tasks (Wang et al. 2018, 1804.07461), from the official files or the hub.

MNLI's classes stand in Hugging Face's order (Google's code has contradiction first). The official QQP
training file holds a few broken rows: it needs --skip_bad_rows.
"""

from flaxbert.tasks.base import HUB_SPLITS, Hub, Layout, Task

_BINARY = ("0", "1")
_FILES = {"train": "train.tsv", "dev": "dev.tsv", "test": "test.tsv"}
_ENTAILMENT = ("entailment", "not_entailment")


def _hub(config: str, *texts: str, splits: dict[str, str] = HUB_SPLITS) -> Hub:
    return Hub("nyu-mll/glue", config, texts, "label", splits)


TASKS = (
    Task("cola", "classification", "is the sentence good English", ("mcc", "accuracy"),
         ("unacceptable", "acceptable"), _BINARY,
         layouts=(Layout(("sentence",), None, "index"), Layout((3,), 1, widths=(4,))),
         files=_FILES, hub=_hub("cola", "sentence"), submission={"test": "CoLA"}, numbers=True),
    Task("sst2", "classification", "mood of a film review's sentence", ("accuracy",),
         ("negative", "positive"), _BINARY,
         layouts=(Layout(("sentence",), "label", "index"),),
         files=_FILES, hub=_hub("sst2", "sentence"), submission={"test": "SST-2"}, numbers=True),
    Task("mrpc", "classification", "do two news sentences say the same", ("accuracy", "f1"),
         ("not_equivalent", "equivalent"), _BINARY, pair=True,
         layouts=(Layout(("#1 String", "#2 String"), "Quality", "index"),),
         files=_FILES, hub=_hub("mrpc", "sentence1", "sentence2"), submission={"test": "MRPC"}, numbers=True),
    Task("stsb", "regression", "how similar two sentences are, 0 to 5", ("pearson", "spearman"), pair=True,
         layouts=(Layout(("sentence1", "sentence2"), "score", "index"),
                  Layout((5, 6), 4, widths=(7, 8, 9))),  # the original release (sts-test.tsv)
         files=_FILES, hub=_hub("stsb", "sentence1", "sentence2"), submission={"test": "STS-B"},
         bounds=(0.0, 5.0)),
    Task("qqp", "classification", "do two questions ask the same", ("accuracy", "f1"),
         ("not_duplicate", "duplicate"), _BINARY, pair=True,
         layouts=(Layout(("question1", "question2"), "is_duplicate", "id"),),
         files=_FILES, hub=_hub("qqp", "question1", "question2"), submission={"test": "QQP"}, numbers=True),
    Task("mnli", "classification", "does a premise entail a hypothesis", ("accuracy",),
         ("entailment", "neutral", "contradiction"), pair=True,
         layouts=(Layout(("sentence1", "sentence2"), "gold_label", "index"), Layout((1, 2), 0, widths=(3,))),
         files={"train": "train.tsv", "dev": "dev_matched.tsv", "dev_mismatched": "dev_mismatched.tsv",
                "test": "test_matched.tsv", "test_mismatched": "test_mismatched.tsv"},
         hub=_hub("mnli", "premise", "hypothesis",
                  splits={"train": "train", "dev": "validation_matched", "dev_mismatched": "validation_mismatched",
                          "test": "test_matched", "test_mismatched": "test_mismatched"}),
         submission={"test": "MNLI-m", "test_mismatched": "MNLI-mm"}),
    Task("qnli", "classification", "does a sentence answer a question", ("accuracy",), _ENTAILMENT, pair=True,
         layouts=(Layout(("question", "sentence"), "label", "index"),),
         files=_FILES, hub=_hub("qnli", "question", "sentence"), submission={"test": "QNLI"}),
    Task("rte", "classification", "does a text entail a hypothesis", ("accuracy",), _ENTAILMENT, pair=True,
         layouts=(Layout(("sentence1", "sentence2"), "label", "index"),),
         files=_FILES, hub=_hub("rte", "sentence1", "sentence2"), submission={"test": "RTE"}),
    Task("wnli", "classification", "is the pronoun's noun the right one", ("accuracy",),
         ("not_entailment", "entailment"), _BINARY, pair=True,
         layouts=(Layout(("sentence1", "sentence2"), "label", "index"),),
         files=_FILES, hub=_hub("wnli", "sentence1", "sentence2"), submission={"test": "WNLI"}, numbers=True),
)
