"""toy_span: which person, place, food or time did somebody talk about? See `toy.py`.

Two things make it hard. Nothing around a word tells its kind, and dev and test have names that train never shows:
what is a place has to be known. And where others talked about places too, one has to read who talked about which.
"""

from collections.abc import Iterator, Sequence
from functools import cache
from itertools import islice

from flaxbert.tasks.base import SpanExamples, Task
from flaxbert.tasks.toy import SIZES, Writer
from flaxbert.tasks.toy_tokens import SLOTS
from flaxbert.tasks.words import Words, words

_SEEDS = {"train": 44, "dev": 55, "test": 66}
SENTENCES = (1, 1, 2)  # of a context
NAMED = (3, 4, 5)  # kinds of things that a sentence names, one of each

WHO = words("we, they, my parents, the children, my sister, the teacher, our neighbours, her brother, "
            "the students, your aunt", "the tourists, his cousins")
# Past and base form.
DEEDS = (("talked about", "talk about"), ("thought of", "think of"), ("dreamt of", "dream of"),
         ("wrote about", "write about"), ("laughed at", "laugh at"), ("asked about", "ask about"),
         ("complained about", "complain about"), ("mentioned", "mention"))
FACTS = ("{who} {did} {names}", "{who} {did} {names} {manner}", "it was {names} that {who} {did}",
         "what {who} {did} was {names}", "{names}, these are what {who} {did}")
MANNERS = words("again, at great length, as always, as nobody else did, with a smile", "once more, of course")
# Kind of thing, a slot of `toy_tokens.SLOTS` -> what is asked for one; nobody asks for what is in OTHER.
ASKED = {"someone": ("which person", "what man or woman"), "somewhere": ("which place", "which city or country"),
         "dish": ("which food", "what to eat or drink"), "day": ("which time", "which day or month")}
OTHER = "other"
QUESTIONS = ("{kind} did {who} {do}", "{kind} was it that {who} {did}")


def _shuffled(writer: Writer, items: Sequence) -> list:
    return sorted(items, key=lambda item: writer.random.random())


def questions(writer: Writer) -> Iterator[tuple[str, str, tuple[str, int]]]:
    """(question, context, (answer, its offset)) for ever."""
    while True:
        count = writer.pick(SENTENCES)
        people = _shuffled(writer, WHO.common + WHO.new if writer.new else WHO.common)[:count]
        asked, kind = writer.pick(range(count)), writer.pick(tuple(ASKED))
        taken: list[str] = []
        context = ""
        for number, who in enumerate(people):
            did, do = writer.pick(DEEDS)
            others = _shuffled(writer, [each for each in (*ASKED, OTHER) if each != kind])
            kinds = _shuffled(writer, [kind, *others[:writer.pick(NAMED) - 1]])
            names = [_name(writer, each, taken) for each in kinds]
            taken += names
            slots = dict(who=who, did=did, do=do, names=f"{', '.join(names[:-1])} and {names[-1]}", manner=MANNERS)
            fact = writer.pick(FACTS)
            if number == asked:
                what = writer.pick(QUESTIONS).replace("{kind}", writer.pick(ASKED[kind]))
                question = writer.sentence(what, slots)[:-1] + "?"
                # Not searched for in the text: tea stands within a teacher.
                before = "".join(name + ", " for name in names[:kinds.index(kind)])
                if before and kinds[-1] == kind:
                    before = before[:-2] + " and "
                begin = len(context) + len(fact.partition("{names}")[0].format(who=who, did=did) + before)
                size = len(names[kinds.index(kind)])
            context += writer.sentence(fact, slots) + " "
        yield question, context[:-1], (context[begin:begin + size], begin)


def _name(writer: Writer, kind: str, taken: list[str]) -> str:
    """One of the kind whose text is in none of those taken, nor they in it."""
    while True:
        lists: tuple[Words, ...] = SLOTS[kind][1]
        name = writer.word(writer.pick(lists))
        if not any(name in other or other in name for other in taken):
            return name


@cache
def generate(split: str) -> SpanExamples:
    """One split: train, dev or test. No context of one is in another."""
    taken: set[str] = set()
    for name, size in SIZES.items():
        writer = Writer(_SEEDS[name], new=name != "train")
        rows = {context: (question, answer) for question, context, answer in islice(questions(writer), 2 * size)
                if context not in taken}
        taken |= rows.keys()
        if name == split:
            break
    chosen = list(rows.items())[:size]
    return SpanExamples([question for _, (question, _) in chosen], [context for context, _ in chosen],
                        [[answer] for _, (_, answer) in chosen], list(map(str, range(size))))


TASKS = (Task("toy_span", "span", "which words of a short text answer the question", ("f1", "exact_match"),
              pair=True, generate=generate),)
