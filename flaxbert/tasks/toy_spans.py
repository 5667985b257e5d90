"""toy_span: questions about a few sentences, each of which tells who did what, and where or when; see `toy.py`.

All sentences have the same kinds of words: only the person, the thing and the verb, for which the question may
have another one of the same meaning, tell which of them answers it.
"""

from collections.abc import Iterator
from functools import cache
from itertools import islice

from flaxbert.tasks import words as w
from flaxbert.tasks.base import SpanExamples, Task
from flaxbert.tasks.toy import SIZES, Writer

_SEEDS = {"train": 44, "dev": 55, "test": 66}
SENTENCES = (3, 4, 5, 6)  # of a context

# A sentence, and what may be asked about it.
FACTS = (
    ("the {look} {person} {did} the {thing} {place}", ("who", "what", "where")),
    ("{place} the {person} {did} the {size} {thing}", ("who", "what", "where")),
    ("the {look} {person} {did} the {thing} {time}", ("who", "what", "when")),
    ("{time} the {person} {did} the {size} {thing}", ("who", "what", "when")),
    ("the {size} {thing} was {done} by the {person} {time}", ("who", "what", "when")),
    ("the {thing} was {done} by the {look} {person} {place}", ("who", "what", "where")),
)
QUESTIONS = {
    "who": ("who {did} the {thing}", "who {same} the {thing}", "by whom was the {thing} {done}"),
    "what": ("what did the {person} {base}", "what was {done} by the {person}"),
    "where": ("where did the {person} {base} the {thing}", "where was the {thing} {same}"),
    "when": ("when did the {person} {base} the {thing}", "when was the {thing} {done}"),
}
# What answers a question, more words first.
ANSWERS = {"who": ("{look} {person}", "{person}"), "what": ("{size} {thing}", "{thing}"), "where": ("{place}",),
           "when": ("{time}",)}


def _facts(writer: Writer, count: int) -> list[dict[str, str]]:
    """What `count` sentences say; no deed, person, place or time is in two of them."""
    facts = []
    for deed in sorted(w.DEEDS, key=lambda deed: writer.random.random())[:count]:
        verb = writer.pick((deed.verb, deed.opposite))
        facts.append(dict(did=verb.did, done=verb.done, base=verb.base, same=writer.word(verb.same),
                          thing=writer.word(deed.things), look=writer.word(w.LOOKS),
                          size=writer.word(w.KINDS_OF_THING)))
    for name, slot in (("person", w.PERSONS), ("place", w.PLACES), ("time", w.TIMES)):
        words: dict[str, None] = {}
        while len(words) < count:
            words[writer.word(slot)] = None
        for fact, word in zip(facts, words, strict=True):
            fact[name] = word
    return facts


def questions(writer: Writer) -> Iterator[tuple[str, str, tuple[str, int]]]:
    """(question, context, (answer, its offset)) for ever."""
    while True:
        facts = _facts(writer, writer.pick(SENTENCES))
        templates = [writer.pick(FACTS) for _ in facts]
        sentences = [writer.sentence(template, fact) for (template, _), fact in zip(templates, facts, strict=True)]
        asked = writer.pick(range(len(facts)))
        template, kinds = templates[asked]
        kind = writer.pick(kinds)
        question = writer.sentence(writer.pick(QUESTIONS[kind]), facts[asked])[:-1] + "?"
        answer = next(answer for answer in ANSWERS[kind] if answer in template)
        # Not searched for in the text: its words may stand within others there.
        before, words = (part.format(**facts[asked]) for part in (template.partition(answer)[0], answer))
        context, begin = " ".join(sentences), len(" ".join([*sentences[:asked], before]))
        yield question, context, (context[begin:begin + len(words)], begin)


@cache
def generate(split: str) -> SpanExamples:
    """One split: train, dev or test. Contexts are so many that no draw of one split occurs in another."""
    writer = Writer(_SEEDS[split], new=split != "train")
    asked, contexts, answers = zip(*islice(questions(writer), SIZES[split]), strict=True)
    return SpanExamples(list(asked), list(contexts), [[answer] for answer in answers],
                        list(map(str, range(len(asked)))))


TASKS = (Task("toy_span", "span", "which words of a short story answer the question", ("f1", "exact_match"),
              pair=True, generate=generate),)
