"""toy_span: questions about a few sentences, each of which tells who did what, where and when; made as in `toy.py`.

Every sentence has the same kinds of words, so that only who, what and the verb tell which one a question is about; the
question may use another verb for the same deed.
"""

from collections.abc import Iterator
from functools import cache

from flaxbert.tasks import words as w
from flaxbert.tasks.base import SpanExamples, Task
from flaxbert.tasks.toy import SIZES, Writer

_SEEDS = {"train": 44, "dev": 55, "test": 66}
LEAST, MOST = 3, 6  # sentences of a context

FACTS = (
    "{time} the {look} {person} {did} the {size} {thing} {place}",
    "the {look} {person} {did} the {size} {thing} {place} {time}",
    "{place} the {look} {person} {did} the {size} {thing} {time}",
    "the {size} {thing} was {done} by the {look} {person} {place} {time}",
)
# A question, and which words of its sentence answer it.
QUESTIONS = (
    ("who {did} the {thing}", "{look} {person}"),
    ("who {same} the {thing}", "{look} {person}"),
    ("what did the {person} {base}", "{size} {thing}"),
    ("what was {done} by the {person}", "{size} {thing}"),
    ("where did the {person} {base} the {thing}", "{place}"),
    ("where was the {thing} {same}", "{place}"),
    ("when did the {person} {base} the {thing}", "{time}"),
    ("when was the {thing} {done}", "{time}"),
)


def _different(writer: Writer, slot: w.Words, count: int) -> list[str]:
    """`count` words of a slot, none twice."""
    found: dict[str, None] = {}
    while len(found) < count:
        found[writer.word(slot)] = None
    return list(found)


def _fact(deed: w.Deed, writer: Writer) -> dict[str, str]:
    """What a sentence about a deed says, but for who, where and when."""
    verb = deed.verb if writer.random.random() < 0.5 else deed.opposite
    return dict(did=verb.did, done=verb.done, base=verb.base, same=writer.word(verb.same), look=writer.word(w.LOOKS),
                size=writer.word(w.KINDS_OF_THING), thing=writer.word(deed.things))


def questions(writer: Writer) -> Iterator[tuple[str, str, tuple[str, int]]]:
    """(question, context, (answer, its offset)) for ever."""
    while True:
        count = LEAST + int(writer.random.random() * (MOST - LEAST + 1))
        deeds = _different(writer, w.Words(tuple(map(str, range(len(w.DEEDS))))), count)
        facts = [_fact(w.DEEDS[int(deed)], writer) for deed in deeds]
        for name, slot in (("person", w.PERSONS), ("place", w.PLACES), ("time", w.TIMES)):
            for fact, word in zip(facts, _different(writer, slot, count), strict=True):
                fact[name] = word
        sentences = [writer.sentence(writer.pick(FACTS), fact) for fact in facts]
        asked = int(writer.random.random() * count)
        question, answer = (writer.sentence(template, facts[asked])[:-1] for template in writer.pick(QUESTIONS))
        context = " ".join(sentences)
        begin = context.lower().index(answer.lower(), len(" ".join([*sentences[:asked], ""])))
        yield f"{question}?", context, (context[begin:begin + len(answer)], begin)


@cache
def generate(split: str) -> SpanExamples:
    """One split: train, dev or test. Contexts are so many that no draw of one split occurs in another."""
    writer = Writer(_SEEDS[split], new=split != "train")
    asked, contexts, answers = zip(*(row for row, _ in zip(questions(writer), range(SIZES[split]), strict=False)),
                                   strict=True)
    return SpanExamples(list(asked), list(contexts), [[answer] for answer in answers],
                        [str(number) for number in range(len(asked))])


TASKS = (Task("toy_span", "span", "which words of a short story answer the question", ("f1", "exact_match"), pair=True,
              generate=generate),)
