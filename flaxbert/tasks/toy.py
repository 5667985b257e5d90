"""Bundled tasks of our own making: everyday English from a small grammar, nothing to download.

Every split is a pure function of its name. Training sentences use only the common words of `words.py`; a
slot of a dev or test sentence may take a new word too. No dev or test example occurs in train. Random
draws go through `Random.random` alone, whose sequence Python guarantees for a seed.
"""

import random
import re
from collections.abc import Callable, Iterator
from functools import cache, partial

import numpy as np

from flaxbert.tasks import words as w
from flaxbert.tasks.base import Examples, Layout, Task

SIZES = {"train": 2000, "dev": 400, "test": 400}
_SEEDS = {"train": 11, "dev": 22, "test": 33}


class Writer:
    """Fills templates with words; `new` lets in the words that train never shows."""

    def __init__(self, seed: int, new: bool):
        self.random, self.new = random.Random(seed), new

    def pick(self, options: tuple) -> object:
        """One of them, all equally likely."""
        return options[int(self.random.random() * len(options))]

    def word(self, slot: w.Words) -> str:
        """A word of the slot."""
        return self.pick(slot.common + slot.new if self.new else slot.common)

    def sentence(self, template: str, slots: dict[str, w.Words | str]) -> str:
        """Fills `{slot}` (a number after the name asks for another word of the slot) and adds the full stop."""
        used: dict[str, str] = {}

        def fill(match: re.Match) -> str:
            name = match[1]
            slot = slots[name.rstrip("0123456789")]
            while name not in used:
                word = slot if isinstance(slot, str) else self.word(slot)
                if isinstance(slot, str) or word not in used.values():
                    used[name] = word
            return used[name]

        text = re.sub(r"\{(\w+)\}", fill, template)
        text = re.sub(r"\b([Aa]) (?=[aeiou])", r"\1n ", text)
        return text[0].upper() + text[1:] + "."


# --- toy_sentence. {this} is of the label's field, {that} of the other one, which the sentence rules out.
TALK = (
    "{time} {who} talked about the {this}",
    "{who} talked about the {this} and the {this2} {time}",
    "the {thing} {place} was about the {this}",
    "{who} saw a {thing} about the {this} and the {this2}",
    "{time} {who} did not talk about the {that}, only about the {this}",
    "the {thing} was about the {this} and not about the {that}",
    "not the {that} but the {this} was what {who} talked about {time}",
    "although {who} had asked about the {that}, the {thing} was about the {this}",
    "{who} liked what was said about the {this}, even though the {thing} should have been about the {that}",
    "nobody talked about the {that} {place}, everybody talked about the {this}",
)
_SIDES = (dict(this=w.SOCIETY, that=w.NATURE), dict(this=w.NATURE, that=w.SOCIETY))
_SCENE = dict(thing=w.SHOWN, who=w.PEOPLE, time=w.TIMES, place=w.PLACES)


def topics(writer: Writer) -> Iterator[tuple[str, None, int]]:
    """Sentences in which people talk about the state and its powers (0) or about nature (1)."""
    while True:
        for label in (0, 1):
            yield writer.sentence(writer.pick(TALK), {**_SCENE, **_SIDES[label]}), None, label


# --- toy_pair. {did} {done} {base} is the premise's verb, {same} says the same, {against}... rules it out.
PREMISES = (
    "{time} the {look} {person} {did} the {size} {thing} {place}",
    "the {look} {person} {did} the {size} {thing} {time}",
    "the {person} {place} {same} the {size} {thing} {time}",
    "the {size} {thing} was {done} by the {look} {person} {place}",
    "{time} the {thing} was {same} by the {look} {person}",
)
HYPOTHESES = (
    ("the {person} {same} the {thing}",           # entailment
     "the {person} {did} {kind}",
     "somebody {same} {kind}",
     "somebody {did} the {thing}",
     "the {thing} was {same} by somebody",
     "the {person} did not {against_base} the {thing}"),
    ("the {person} {same} the {thing} {purpose}",  # neutral
     "the {person} {did} the {thing} {purpose}",
     "the {thing} was {done} {purpose}",
     "somebody {same} {kind} {purpose}",
     "the {person} did not {base} the {thing2}"),
    ("the {person} {against} the {thing}",        # contradiction
     "the {thing} was {against_done} by the {person}",
     "the {person} {against_same} the {thing}",
     "nobody {did} the {thing}",
     "the {person} did not {base} the {thing}",
     "the {thing} was {against_same} by the {person}"),
)
_STAGE = dict(person=w.PERSONS, look=w.LOOKS, size=w.KINDS_OF_THING, time=w.TIMES, place=w.PLACES,
              purpose=w.PURPOSES)


def inferences(writer: Writer) -> Iterator[tuple[str, str, int]]:
    """A premise, and a hypothesis that it entails (0), says nothing about (1) or contradicts (2)."""
    while True:
        for label, hypotheses in enumerate(HYPOTHESES):
            deed = writer.pick(w.DEEDS)
            usual = writer.random.random() < 0.75
            verb, against = (deed.verb, deed.opposite) if usual else (deed.opposite, deed.verb)
            slots = dict(_STAGE, did=verb.did, done=verb.done, base=verb.base, same=verb.same, kind=deed.kind,
                         against=against.did, against_done=against.done, against_base=against.base,
                         against_same=against.same, thing=deed.things)
            other = w.Words(tuple(thing for each in w.DEEDS if each is not deed for thing in each.things.common))
            slots |= {name: writer.word(slots[name]) for name in ("person", "thing")}  # the same in both
            premise = writer.sentence(writer.pick(PREMISES), slots)
            hypothesis = writer.pick(hypotheses).replace("{thing2}", "{other}")
            yield premise, writer.sentence(hypothesis, {**slots, "other": other}), label


# --- toy_regression. How sure the speaker is, from 0 (it will not be) to 5 (it will be).
CERTAINTY = (
    (0, w.words("{who} will definitely not {do}, I am certain that {who} will not {do}, "
                "there is no chance that {who} will {do}, it is impossible that {who} will {do}",
                "it is out of the question that {who} will {do}")),
    (1, w.words("{who} will probably not {do}, I doubt that {who} will {do}, "
                "it is unlikely that {who} will {do}, I do not expect that {who} will {do}",
                "{who} will hardly {do}")),
    (2, w.words("{who} might {do}, perhaps {who} will {do}, maybe {who} will {do}, "
                "it is not certain that {who} will {do}", "conceivably {who} will {do}")),
    (3, w.words("{who} may well {do}, there is a good chance that {who} will {do}, I think that {who} will {do}",
                "it is quite possible that {who} will {do}")),
    (4, w.words("{who} will probably {do}, it is very likely that {who} will {do}, "
                "I expect that {who} will {do}, I am fairly sure that {who} will {do}",
                "{who} will presumably {do}")),
    (5, w.words("{who} will definitely {do}, I am certain that {who} will {do}, "
                "there is no doubt that {who} will {do}, everybody knows that {who} will {do}",
                "{who} will undoubtedly {do}")),
)
# What may follow, and how far it moves the score away from the middle (below 0: towards it).
TAILS = (("", 0.0), ("", 0.0), (", but I may be wrong", -0.8), (", although nobody can be sure", -0.8),
         (", and I would bet on it", 0.4), (", and everyone agrees", 0.4))
_ACTORS = (dict(who=w.WHO, do=w.PLANS), dict(who=w.VEHICLES, do=w.RIDES))


def certainties(writer: Writer) -> Iterator[tuple[str, None, float]]:
    """Sentences about the future and how sure the speaker is of them, 0 to 5."""
    while True:
        for level, heads in CERTAINTY:
            tail, change = writer.pick(TAILS)
            away = 1 if level > 2.5 else -1
            template = writer.word(heads).replace("{do}", "{do} {future}") + tail
            score = min(5.0, max(0.0, level + away * change))
            yield writer.sentence(template, {**writer.pick(_ACTORS), "future": w.FUTURES}), None, score


def _draw(write: Callable, split: str, taken: set) -> list[tuple]:
    """SIZES[split] different examples, none of them in `taken`, shuffled."""
    writer, found = Writer(_SEEDS[split], new=split != "train"), {}
    for first, second, label in write(writer):
        if (first, second) not in taken:
            found.setdefault((first, second), label)
        if len(found) == SIZES[split]:
            break
    rows = [(*texts, label) for texts, label in found.items()]
    return sorted(rows, key=lambda row: writer.random.random())  # any order that does not tell the label


@cache
def generate(write: Callable, dtype: type, split: str) -> Examples:
    """One split of a toy task.

    Args:
      write: yields (first, second or None, label) for ever.
      dtype: of the labels.
      split: train, dev or test.
    """
    taken: set = set()
    for name in SIZES:
        rows = _draw(write, name, taken)
        if name == split:
            break
        taken |= {row[:2] for row in rows}
    first, second, labels = zip(*rows, strict=True)
    return Examples(list(first), None if second[0] is None else list(second), np.asarray(labels, dtype),
                    [str(number) for number in range(len(rows))])


TASKS = (
    Task("toy_sentence", "classification", "do people talk about nature, or about society", ("accuracy", "f1"),
         ("society", "nature"), layouts=(Layout(("sentence",), "label", "index"),),
         generate=partial(generate, topics, np.int32)),
    Task("toy_pair", "classification", "does the first sentence entail the second", ("accuracy",),
         ("entailment", "neutral", "contradiction"), pair=True,
         layouts=(Layout(("sentence1", "sentence2"), "label", "index"),),
         generate=partial(generate, inferences, np.int32)),
    Task("toy_regression", "regression", "how sure the speaker is of the future, 0 to 5",
         ("pearson", "spearman"), layouts=(Layout(("sentence",), "score", "index"),), bounds=(0.0, 5.0),
         generate=partial(generate, certainties, np.float32)),
)
