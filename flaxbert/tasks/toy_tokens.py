"""toy_token: the persons, places, times and food of a sentence; made as in `toy.py`.

Three things make it hard. Some words are a name in one sentence and none, or another one, in the next (Rose, May,
Turkey): what stands around them decides. In other sentences nothing around a word tells its kind. And dev and test
have names that train never shows.
"""

import re
from functools import cache

from flaxbert.tasks.base import Task, TokenExamples
from flaxbert.tasks.conll import SPANS, WORD_AND_TAG
from flaxbert.tasks.toy import SIZES, Writer
from flaxbert.tasks.words import Words, words

_SEEDS = {"train": 77, "dev": 88, "test": 99}

FIRST = words("John, Mary, Robert, Anna, Peter, Sarah, David, Helen, Thomas, Laura, Paul, Emma, Henry, Susan",
              "George, Elizabeth, William, Margaret, James, Alice, Charles, Barbara, Michael, Jane, Louis, Edward")
LAST = words("Smith, Taylor, Johnson, Wilson, Clark, Moore, Davis, Evans, Harris, Martin",
             "Brown, Thompson, Williams, Lewis, Roberts, Anderson")
FULL = Words(*(tuple(f"{first} {last}" for first in firsts for last in lasts)
               for firsts, lasts in ((FIRST.common, LAST.common), (FIRST.new, LAST.new))))
PLACES = words("London, France, New York, Germany, Chicago, Italy, Boston, Spain, Hong Kong, India, Berlin, "
               "Japan, Los Angeles, Scotland",
               "Paris, Australia, New Zealand, Russia, Moscow, Rome, Brazil, Texas, Canada, California, Egypt")
FOOD = words("bread, cheese, rice, apple pie, potatoes, chicken, chocolate, tomato soup, eggs, honey, fish",
             "milk, coffee, meat, sugar, wine, beef, fruit, wheat, tea")
DAYS = words("Monday, Tuesday, Wednesday, Friday", "Thursday, Saturday, Sunday")
MONTHS = words("January, March, July, October", "September, February, November, December")
WHEN = words("yesterday, last week, next month, two years ago, this morning, last night, tomorrow, next summer",
             "last year, three days ago, this evening")
OTHER = words("music, the weather, football, the war, school, the law, politics, the river, science, the window, "
              "money, the king",
              "history, the army, art, the sun, religion, the team, energy, the road, language, the church")
# Names of two kinds, names that are words too, and those words.
PERSON_OR_PLACE = words("Washington, Victoria, Florence, Lincoln, Georgia, Jordan", "Sydney, Jackson, Charlotte")
PERSON_OR_TIME = words("April, June, May", "August")
PERSON_OR_WORD = words("Rose, Mark, Bill, Frank", "Daisy, Will")
PLACE_OR_FOOD = words("Turkey")
FLOWERS = words("rose, flower, tree, plant", "daisy")
DID = words("may, might, must, can", "will, could")
JUDGE = words("mark, read, finish", "check, write")
BILLS = words("bill, price, ticket", "rent")
HONEST = words("frank, honest", "fair")

# What fills a slot of a template: its label, and the lists of words, all equally likely. The last five are for
# sentences that tell nothing of the kind.
SLOTS: dict[str, tuple[str, tuple[Words, ...]]] = {
    "person": ("PERSON", (FIRST, FULL, PERSON_OR_PLACE, PERSON_OR_TIME, PERSON_OR_WORD)),
    "place": ("PLACE", (*[PLACES] * 4, *[PERSON_OR_PLACE] * 2, PLACE_OR_FOOD)),
    "month": ("TIME", (MONTHS, PERSON_OR_TIME)), "when": ("TIME", (WHEN,)),
    "food": ("FOOD", (*[FOOD] * 5, PLACE_OR_FOOD)),
    "flower": ("O", (FLOWERS,)), "did": ("O", (DID,)), "judge": ("O", (JUDGE,)), "bill": ("O", (BILLS,)),
    "honest": ("O", (HONEST,)),
    "someone": ("PERSON", (FIRST, FULL)), "somewhere": ("PLACE", (PLACES,)), "dish": ("FOOD", (FOOD,)),
    "day": ("TIME", (DAYS, MONTHS)), "other": ("O", (OTHER,)),
}
ANY = ("someone", "somewhere", "dish", "day", "other")

TEMPLATES = (
    "{person} flew to {place} {when}",
    "{when} {person} cooked {food} and {food} for {person}",
    "since {month} {person} has lived in {place}",
    "the train from {place} to {place} was late {when}",
    "my sister {person} never eats {food} in {month}",
    "{person} and {person} {did} get married in {place}",
    "the shop in {place} sells {food} until {month}",
    "{when} {person} gave {person} a {flower}",
    "{person} {did} pay the {bill} in {month}",
    "{person} {did} {judge} the exam in {place} {when}",
    "to be {honest} , {person} hates {food}",
    "the {flower} in the garden belongs to {person}",
    "we {did} have {food} for dinner {when}",
    "nobody mentioned {any} , {any} or {any}",
    "{when} we talked about {any} and {any}",
    "tell me more about {any} , {any} and {any} , please",
    "the first words of the poem are {any} and {any}",
    "I dreamt of {any} , of {any} and of {any}",
    "{any} , {any} , {any} and {any} , as always",
)


def sentence(writer: Writer) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The words of a sentence, and their tags in IOB2."""
    found: list[str] = []
    tags: list[str] = []
    for part in (*writer.pick(TEMPLATES).split(), "."):
        kind, filling = "O", [part]
        if slot := re.fullmatch(r"{(\w+)}", part):
            kind, lists = SLOTS[writer.pick(ANY) if slot[1] == "any" else slot[1]]
            filling = writer.word(writer.pick(lists)).split()
        found += filling
        tags += ["O" if kind == "O" else f"{'I' if i else 'B'}-{kind}" for i in range(len(filling))]
    found[0] = found[0][0].upper() + found[0][1:]
    return tuple(found), tuple(tags)


@cache
def generate(split: str) -> TokenExamples:
    """One split: train, dev or test. No sentence of one is in another."""
    rows, taken = {}, set()
    for name, size in SIZES.items():
        writer, rows = Writer(_SEEDS[name], new=name != "train"), {}
        while len(rows) < size:
            found, tags = sentence(writer)
            if found not in taken:
                rows[found] = tags
        taken |= rows.keys()
        if name == split:
            break
    labels = [[LABELS.index(tag) for tag in tags] for tags in rows.values()]
    return TokenExamples(list(map(list, rows)), labels, list(range(size)), list(map(str, range(size))))


LABELS = ("O", *(f"{letter}-{kind}" for kind in ("PERSON", "PLACE", "TIME", "FOOD") for letter in "BI"))
TASKS = (Task("toy_token", "token", "the persons, places, times and food of a sentence", SPANS, LABELS,
              layouts=(WORD_AND_TAG,), generate=generate),)
