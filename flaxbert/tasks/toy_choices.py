"""toy_choice: what goes with whom. A sentence names a person or a place, and one of four sentences may follow it.

The four are made alike, of things from four different walks of life, so that only knowing what belongs together
tells which one is right. Made as in `toy.py`: dev and test hold people, places and things that train never shows.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from flaxbert.tasks import toy
from flaxbert.tasks import words as w
from flaxbert.tasks.base import ChoiceExamples, Task

CHOICES = 4


@dataclass(frozen=True)
class Life:
    """A walk of life: who leads it, where, and the things that belong to it."""

    who: w.Words
    where: w.Words
    what: w.Words


LIVES = (
    Life(w.words("soldier, general", "officer, commander"), w.words("army, battlefield", "barracks"),
         w.words("guns, tanks, weapons", "bombs, rifles")),
    Life(w.words("lawyer, judge", "attorney"), w.words("court, law school", "prison"),
         w.words("crimes, trials, laws", "lawsuits, appeals")),
    Life(w.words("singer, musician", "composer, pianist"), w.words("concert hall, opera", "orchestra"),
         w.words("songs, guitars, albums", "symphonies, violins")),
    Life(w.words("doctor, nurse", "surgeon, physician"), w.words("hospital, clinic", "pharmacy"),
         w.words("patients, diseases, drugs", "vaccines, injuries")),
    Life(w.words("farmer, shepherd", "rancher"), w.words("farm, barn", "ranch"),
         w.words("cows, sheep, crops", "cattle, wheat")),
    Life(w.words("football player, coach", "goalkeeper, athlete"), w.words("stadium, football club", "gym"),
         w.words("goals, matches, games", "championships, tournaments")),
    Life(w.words("sailor, captain", "fisherman, admiral"), w.words("harbour, port", "lighthouse"),
         w.words("ships, boats, waves", "sails, vessels")),
    Life(w.words("pilot, flight engineer", "aviator"), w.words("airport, air base", "airfield"),
         w.words("planes, flights, wings", "aircraft, helicopters")),
    Life(w.words("priest, bishop", "monk, nun"), w.words("church, cathedral", "monastery, chapel"),
         w.words("prayers, saints, angels", "sermons, hymns")),
    Life(w.words("teacher, student", "professor"), w.words("school, university", "college"),
         w.words("lessons, exams, textbooks", "homework, classes")),
    Life(w.words("writer, poet", "novelist, author"), w.words("library, bookshop", "publishing house"),
         w.words("books, stories, poems", "novels, essays")),
    Life(w.words("politician, minister", "senator, president"), w.words("parliament, government", "senate"),
         w.words("elections, votes, parties", "campaigns, reforms")),
    Life(w.words("actor, film director", "actress"), w.words("cinema, film studio", "theatre"),
         w.words("films, scenes, cameras", "movies, plays")),
    Life(w.words("banker, merchant", "investor, economist"), w.words("bank, stock market", "treasury"),
         w.words("money, prices, taxes", "loans, debts")),
    Life(w.words("chemist, biologist", "physicist, scientist"), w.words("laboratory, institute", "museum"),
         w.words("experiments, cells, atoms", "molecules, theories")),
    Life(w.words("painter, artist", "sculptor"), w.words("gallery, art school", "exhibition"),
         w.words("paintings, colours, portraits", "statues, sculptures")),
)

SITUATIONS = (
    "{people} talked to a {who} {time}",
    "{people} met an old {who} {place}",
    "the best friend of my sister is a {who}",
    "when I was young I wanted to become a {who}",
    "{time} {people} spent a long day at the {where}",
    "there is a famous {where} {place}",
    "somebody had written a long letter to the {where}",
    "{time} a {who} told us about the {where}",
    "the {who} had left the {where} {time}",
)
ENDINGS = (
    "the talk was mostly about {what} and {what2}",
    "that is a life full of {what} and {what2}",
    "nobody there can do without {what} and {what2}",
    "so there was a lot to hear about {what} and {what2}",
    "it all has to do with {what} and {what2}",
)


def questions(writer: toy.Writer) -> Iterator[tuple[str, tuple[str, ...], int]]:
    """(situation, four sentences of which one may follow, its number) for ever."""
    while True:
        for right in range(CHOICES):
            lives: list[Life] = []
            while len(lives) < CHOICES:
                life = writer.pick(LIVES)
                lives += [] if life in lives else [life]
            life, ending = lives[right], writer.pick(ENDINGS)
            slots = dict(who=life.who, where=life.where, people=w.PEOPLE, time=w.TIMES, place=w.PLACES)
            yield (writer.sentence(writer.pick(SITUATIONS), slots),
                   tuple(writer.sentence(ending, {"what": each.what}) for each in lives), right)


def generate(split: str) -> ChoiceExamples:
    """One split: train, dev or test."""
    rows = toy.generate(questions, np.int32, split)
    return ChoiceExamples(rows.first, [list(choices) for choices in rows.second], rows.labels, rows.ids)


TASKS = (Task("toy_choice", "choice", "which of four sentences may follow a sentence", ("accuracy",),
              generate=generate),)
