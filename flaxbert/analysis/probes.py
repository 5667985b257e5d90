"""What each layer knows of words: probes for parts of speech, phrases and names, before and after fine-tuning.

The state of a word is that of its first sub-token. Probes (`classifiers.py`) learn from the first --sentences of
the training split, and are asked about the words of half as many of dev: other sentences. Beside the accuracy

    control        the accuracy of the same probe on labels that say nothing but which word it is
    selectivity    accuracy - control: what the layer tells, above what the probe can learn by heart

Words are the same where the tokenizer makes the same pieces of them: The and the, where case does not count.
A word of dev that does not train has a control label that nobody can know; `seen` is the share of those that do.

Source: Hewitt and Liang 2019 (1909.03368), for selectivity; Tenney et al. 2019 (1905.05950) and Merchant et al.
2020 (2004.14448), for probes of layers.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from flaxbert import families, tasks, token_metrics
from flaxbert.analysis import own_figures
from flaxbert.analysis.base import ANALYSES, Row, Settings
from flaxbert.analysis.classifiers import PROBES, Words, answers, control_labels
from flaxbert.analysis.figures import layer_name
from flaxbert.analysis.models import SIDES, Pair
from flaxbert.analysis.states import Pass, Sample
from flaxbert.analysis.subject import Subject
from flaxbert.config import Config
from flaxbert.errors import InputError, note
from flaxbert.families.token import by_sentence, pieces
from flaxbert.progress import bar
from flaxbert.tasks.base import Task, TokenExamples
from flaxbert.tasks.conll import marks_spans

COLUMNS = ("conll2003_pos", "conll2003_chunk", "conll2003")  # of one folder of files
BUILT_IN = "toy_token"
EPOCHS = 20


@dataclass(frozen=True, eq=False)
class Asked:
    """The words of one split.

    Attributes:
      examples: its sentences.
      words: W words of all of them, as the encoder sees them: their pieces.
      labels: [W] int32.
      states: side -> [S, W, D], the embeddings' output and L layers.
    """

    examples: TokenExamples
    words: list[tuple[int, ...]]
    labels: np.ndarray
    states: dict[str, np.ndarray]


def folder_of(pair: Pair, settings: Settings) -> str:
    """Where the files with columns are: --conll_dir, or those of a run on them; "": nowhere."""
    of_run = pair.config and pair.config.task in COLUMNS
    return settings.conll_dir or (of_run and (settings.data_dir or pair.config.data_dir)) or ""


def read(name: str, folder: str, sentences: int) -> tuple[Task, dict[str, TokenExamples]]:
    """A task with its labels, and the sentences of train and dev; those that both have stay in train alone.

    Args:
      name: of the task.
      folder: with its files; "": it needs none.
      sentences: of train at most, of dev half as many; 0: all.

    Raises:
      InputError: the files cannot be read, or dev has no sentence of its own.
    """
    config = Config.make(task=name, data_dir=folder, max_train_examples=sentences,
                         max_eval_examples=sentences and max(1, sentences // 2))
    task, splits, _ = tasks.load(config)
    known = set(map(tuple, splits["train"].words))
    dev = splits["dev"]
    kept = [i for i, words in enumerate(dev.words) if tuple(words) not in known]
    if not kept:
        raise InputError(f"probes, {name}: every sentence of dev is one of train; give more --sentences, or other "
                         "files")
    dev = TokenExamples(*([each[i] for i in kept] for each in (dev.words, dev.labels, dev.documents, dev.ids)))
    return task, {"train": splits["train"], "dev": dev}


def asked(pair: Pair, both: Pass, task: Task, examples: TokenExamples, what: str,
          like: Asked | None = None) -> Asked:
    """The words of sentences, with the states of both models; those of `like` where its sentences are the same."""
    labels = np.fromiter(itertools.chain.from_iterable(examples.labels), np.int32)
    if like and like.examples.words == examples.words:
        return Asked(examples, like.words, labels, like.states)
    longest = min(pair.shape.max_position_embeddings, pair.tokenizer.model_max_length)
    family = families.make(task, Config.make(task=task.name, max_length=longest))
    encoded = family.encode(pair.tokenizer, examples, what)
    sample = Sample(encoded.firsts, (pair.layers + 1, pair.shape.hidden_size))  # each word has one, in their order
    both.run(encoded, [sample], f"states of {what}")
    ids, begins = pieces(pair.tokenizer, [*itertools.chain.from_iterable(examples.words)], longest - 2, what)
    words = [tuple(ids[begin:end].tolist()) for begin, end in itertools.pairwise(begins)]
    return Asked(examples, words, labels, {side: getattr(sample, side) for side in SIDES})


def check(subject: Subject) -> None:
    """Raises `InputError` where --data_dir would be read by no analysis, or the files cannot be read."""
    pair, settings = subject.pair, subject.settings
    of_run = pair.config and pair.config.task in COLUMNS and not settings.conll_dir
    others = [name for name in settings.what if name != "probes" and "data_dir" in ANALYSES[name].reads]
    if settings.data_dir and not of_run and not others:
        raise InputError(f"--data_dir={settings.data_dir}: probes read it of a run on {' or '.join(COLUMNS)}; "
                         "--conll_dir names their files for all others")
    if folder := folder_of(pair, settings):
        for name in COLUMNS:
            read(name, folder, settings.sentences)


def measure(subject: Subject) -> list[Row]:
    """{"task", "side", "probe", "layer", "measure", "value", ...} of accuracy, control and selectivity.

    Where labels mark spans there is f1 too; `majority` is the accuracy of the most frequent label of train.
    """
    pair, settings = subject.pair, subject.settings
    folder = folder_of(pair, settings)
    if not folder:
        note(f"probes: of the names in {BUILT_IN}; --conll_dir=FOLDER takes CoNLL-2003's parts of speech, phrases "
             "and names")
    rows, found = [], {}
    for name in COLUMNS if folder else (BUILT_IN,):
        task, splits = read(name, folder, settings.sentences)
        for split in ("train", "dev"):
            found[split] = asked(pair, subject.both, task, splits[split], f"{split} of {name}", found.get(split))
        rows += probed(task, found["train"], found["dev"], settings.seed)
    return rows


def probed(task: Task, train: Asked, dev: Asked, seed: int = 0) -> list[Row]:
    """The rows of one task."""
    control = dict(zip(("train", "dev"), control_labels(train.words, train.labels, dev.words, seed), strict=True))
    known, count = set(train.words), len(task.labels)
    about = {"task": task.name, "tokens": len(dev.words), "train_tokens": len(train.words),
             "seen": float(np.mean([word in known for word in dev.words])),
             "majority": float((dev.labels == np.bincount(train.labels).argmax()).mean())}
    rows = []
    layers = len(train.states["before"])
    with bar(len(SIDES) * len(PROBES) * layers, f"probes of {task.name}", unit="probes") as progress:
        for side, (probe, hidden), layer in itertools.product(SIDES, PROBES.items(), range(layers)):
            x, y = train.states[side][layer], dev.states[side][layer]
            told = answers(Words(x, train.labels), y, count, hidden, seed, EPOCHS)
            by_heart = answers(Words(x, control["train"]), y, count, hidden, seed, EPOCHS)
            found = {"accuracy": float((told == dev.labels).mean()),
                     "control": float((by_heart == control["dev"]).mean())}
            found["selectivity"] = found["accuracy"] - found["control"]
            if marks_spans(task):
                found["f1"] = _f1(task, told, dev)
            rows += [{**about, "side": side, "probe": probe, "layer": layer, "measure": name, "value": value}
                     for name, value in found.items()]
            progress.update()
    return rows


def _f1(task: Task, told: np.ndarray, dev: Asked) -> float:
    """Of the spans that the labels of words mark."""
    def tags(labels: Sequence[int]) -> list[list[str]]:
        return list(by_sentence([task.labels[label] for label in labels], dev.examples))
    return token_metrics.span_scores(tags(dev.labels), tags(told), ())["f1"]


figure = own_figures.probes


def table(rows: Sequence[Row]) -> list[list[str]]:
    """A line for each task and layer: accuracy and selectivity of each probe, before and after."""
    columns = [(probe, measure, side) for probe in PROBES for measure in ("accuracy", "selectivity")
               for side in SIDES]
    value = {(row["task"], row["layer"], row["probe"], row["measure"], row["side"]): row["value"] for row in rows}
    return [["task", "layer", *(" ".join(column) for column in columns)],
            *([task, layer_name(layer), *(f"{value[task, layer, *column]:.3f}" for column in columns)]
              for task, layer in dict.fromkeys(key[:2] for key in value))]
