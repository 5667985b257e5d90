"""The texts that two models are looked at on: the fine-tuned one's own, and others.

Every token of a sequence counts, [CLS] and [SEP] too.
"""

import dataclasses
import re
from dataclasses import dataclass

import numpy as np

from flaxbert import families, tasks
from flaxbert.analysis.base import Settings
from flaxbert.analysis.models import Pair
from flaxbert.config import Config
from flaxbert.data import Encoded
from flaxbert.errors import InputError, note
from flaxbert.extraction import read_texts
from flaxbert.tasks.base import Examples

OWN, OTHER = "own", "other"
BUILT_IN = ("toy_sentence", "toy_token")  # the first that is not the run's task is the other text


@dataclass(frozen=True, eq=False)
class Text:
    """Token sequences of one source.

    Attributes:
      name: OWN or OTHER.
      source: where they are from, for records.
      encoded: the sequences, at most --texts of them.
    """

    name: str
    source: str
    encoded: Encoded

    @property
    def tokens(self) -> int:
        """How many there are."""
        return len(self.encoded.tokens)

    def sample(self, count: int, seed: int) -> np.ndarray:
        """Numbers of `count` of the tokens, or of all where there are fewer; ascending, a function of the seed."""
        if count >= self.tokens:
            return np.arange(self.tokens)
        return np.sort(np.random.default_rng([seed, 1]).choice(self.tokens, count, replace=False))


def read(pair: Pair, settings: Settings) -> dict[str, Text]:
    """OWN, where a run tells its task and the files are there, and OTHER.

    Raises:
      InputError: a file cannot be read, or holds no text; or --max_length is more than the model takes.
    """
    longest = min(pair.shape.max_position_embeddings, pair.tokenizer.model_max_length)
    if settings.max_length > longest:
        raise InputError(f"--max_length={settings.max_length}: the models have positions for {longest} tokens")
    if 0 < settings.max_length < 3:
        raise InputError(f"--max_length={settings.max_length}: out of range; valid: 3 to {longest}")
    found = {OTHER: _other(pair, settings, longest)}
    if pair.config:
        try:
            found = {OWN: _own(pair, pair.config, settings), **found}
        except InputError as error:
            if settings.data_dir:  # which says where they are
                raise
            reason = re.split(r"; | \(", str(error))[0]  # without its advice, which is for those who train
            note(f"{pair.after.source}: its own texts cannot be read ({reason}) and are left out; --data_dir says "
                 "where a task's files are, --input takes any texts")
    elif settings.data_dir:
        raise InputError(f"--data_dir={settings.data_dir}: {pair.after.source} is no run, so it has no task")
    else:
        note(f"{pair.after.source}: no run, so it has no texts of its own")
    for text in found.values():
        note(f"{text.name} text: {text.source}, {len(text.encoded)} sequences of {text.tokens} tokens in all")
    return found


def _own(pair: Pair, config: Config, settings: Settings) -> Text:
    """The dev split of the run's task; masked words of pre-training are put back."""
    if settings.data_dir:
        config = dataclasses.replace(config, data_dir=settings.data_dir, hub_dataset="")
    config = tasks.settled(dataclasses.replace(config, max_length=settings.max_length or config.max_length))
    if tasks.get(config.task).kind == "pretraining":
        task, splits, report = tasks.load(config)
        examples = splits["dev"]
    else:
        task, examples, report = tasks.load_split(config, "dev")
    report.tell()
    encoded = families.make(task, config).encode(pair.tokenizer, examples.head(config.max_eval_examples), "dev")
    tokens = encoded.tokens
    if task.kind == "pretraining":
        tokens, cls = encoded.labels.copy(), encoded.offsets[:-1]
        tokens[cls] = encoded.tokens[cls]  # whose label is that of the next sentence
    return Text(OWN, f"dev of {task.name}", _drawn(dataclasses.replace(_bare(encoded), tokens=tokens), settings))


def _other(pair: Pair, settings: Settings, longest: int) -> Text:
    """The texts of --input, or of a toy task."""
    if settings.input:
        examples, _ = read_texts(settings.input, settings.text_columns, False)
        source = settings.input
    else:
        name = next(name for name in BUILT_IN if not pair.config or name != pair.config.task)
        said = tasks.get(name).generate("dev").inputs
        texts = [each if isinstance(each, str) else " ".join(each) for each in said]
        examples, source = Examples(texts, None, None), f"dev of {name}"
    config = Config.make(max_length=settings.max_length or (pair.config and pair.config.max_length) or longest)
    family = families.make(tasks.of_kind("classification", ()), config)
    return Text(OTHER, source, _drawn(_bare(family.encode(pair.tokenizer, examples, source)), settings))


def _bare(encoded: Encoded) -> Encoded:
    """Sequences alone, each an example, without labels; those that are not there are left out."""
    there = np.diff(encoded.offsets) > 0
    return Encoded(encoded.tokens, np.append(encoded.offsets[:-1][there], encoded.offsets[-1]),
                   encoded.second[there], None, np.ones(there.sum(), np.float32))


def _drawn(encoded: Encoded, settings: Settings) -> Encoded:
    """At most --texts of the sequences, in their order."""
    if not settings.texts or len(encoded) <= settings.texts:
        return encoded
    chosen = np.sort(np.random.default_rng([settings.seed, 0]).choice(len(encoded), settings.texts, replace=False))
    parts = [encoded.tokens[encoded.offsets[i]:encoded.offsets[i + 1]] for i in chosen]
    return Encoded(np.concatenate(parts), np.cumsum([0, *map(len, parts)]), encoded.second[chosen], None,
                   encoded.weights[chosen])
