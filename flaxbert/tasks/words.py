"""The word lists of the toy tasks' grammar.

Every list is common words, and after `new` words that only dev and test sentences use: a model that met
them in pre-training has an advantage over one that knows the training sentences alone.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Words:
    """Words or phrases that fill the same slot.

    Attributes:
      common: in all splits.
      new: in dev and test only.
    """

    common: tuple[str, ...]
    new: tuple[str, ...] = ()


def words(common: str, new: str = "") -> Words:
    """Words from comma-separated text."""
    return Words(tuple(common.split(", ")), tuple(new.split(", ")) if new else ())


# --- shared by the tasks
PEOPLE = words("my parents, our neighbours, the children, his uncle, her friends, the guests, my sister, "
               "the whole class, our teacher, the students, my aunt, two old friends",
               "my colleagues, the tourists, her grandmother, his cousins")
TIMES = words("yesterday, last summer, on Sunday, this morning, last week, in the evening, on Monday, "
              "last night, in spring, two days ago", "in autumn, at the weekend, a month ago")
PLACES = words("in the old town, near the station, by the lake, in the next village, behind the church, "
               "across the river, at the harbour, in the city centre, near the school, on the hill",
               "in the valley, at the seaside, outside the castle")

# --- toy_sentence: what people talked about
SOCIETY = words("army, king, court, government, police, election, law, prison, parliament, war, tax, "
                "president, judge, treaty",
                "military, queen, minister, battle, trial, jury, emperor, campaign, soldiers, vote")
NATURE = words("river, sea, mountain, forest, storm, lake, birds, rain, island, desert, snow, plants, "
               "animals, sky",
               "ocean, valley, insects, trees, wind, coast, flood, leaves, fish, bacteria")
SHOWN = words("film, book, lesson, play, song, letter, picture, story, poem, report", "lecture, novel, article")

# --- toy_pair: who did what with what
PERSONS = words("farmer, teacher, baker, doctor, sailor, nurse, driver, painter, student, neighbour, cook, "
                "gardener, waiter, girl, boy, postman", "tailor, librarian, fisherman, plumber")
LOOKS = words("young, old, tall, friendly, tired, clever, quiet, busy", "cheerful, elderly")
KINDS_OF_THING = words("small, large, old, new, heavy, red, blue, wooden", "tiny, huge, grey")


@dataclass(frozen=True)
class Verb:
    """One verb: past, base form, participle, and others (past = participle) that say the same."""

    did: str
    base: str
    done: str
    same: Words


@dataclass(frozen=True)
class Deed:
    """Two verbs of which one rules out the other, what they are done to, and a wider word for those things."""

    verb: Verb
    opposite: Verb
    things: Words
    kind: str


DEEDS = (
    Deed(Verb("bought", "buy", "bought", words("purchased", "acquired")),
         Verb("sold", "sell", "sold", words("sold off", "auctioned")),
         words("horse, cow, goat, sheep, dog", "donkey, hen"), "an animal"),
    Deed(Verb("opened", "open", "opened", words("unlocked", "unbolted")),
         Verb("closed", "close", "closed", words("locked, shut", "bolted")),
         words("door, gate, garage, window", "cellar, shed"), "an entrance"),
    Deed(Verb("repaired", "repair", "repaired", words("fixed", "mended")),
         Verb("broke", "break", "broken", words("damaged, ruined", "wrecked")),
         words("radio, clock, printer, telephone", "kettle, toaster"), "a machine"),
    Deed(Verb("found", "find", "found", words("discovered", "located")),
         Verb("lost", "lose", "lost", words("mislaid", "misplaced")),
         words("ring, wallet, necklace, watch", "bracelet, purse"), "something valuable"),
    Deed(Verb("finished", "finish", "finished", words("completed", "concluded")),
         Verb("abandoned", "abandon", "abandoned", words("cancelled", "discontinued")),
         words("letter, report, story, poem", "essay, diary"), "a piece of writing"),
    Deed(Verb("filled", "fill", "filled", words("filled up", "topped up")),
         Verb("emptied", "empty", "emptied", words("drained", "poured out")),
         words("bucket, bottle, basket, jug", "barrel, flask"), "a container"),
    Deed(Verb("accepted", "accept", "accepted", words("welcomed", "gladly accepted")),
         Verb("refused", "refuse", "refused", words("rejected, turned down", "declined")),
         words("cake, sandwich, apple, soup", "pudding, pear"), "some food"),
    Deed(Verb("praised", "praise", "praised", words("applauded", "commended")),
         Verb("criticised", "criticise", "criticised", words("attacked", "condemned")),
         words("song, dance, painting, film", "statue, melody"), "a work of art"),
)
PURPOSES = words("to please a friend, because the neighbours had asked, for the second time, to save money, "
                 "as a birthday surprise, after a long argument, to impress the mayor, for a small reward, "
                 "because of a bet, before going on holiday", "out of kindness, for the sake of peace")

# --- toy_regression: who will do what; apart, so that no train passes an exam
WHO = words("my brother, Anna, the doctor, Peter, my cousin, the baker, Maria, our neighbour, her son, "
                   "the new teacher", "Oliver, my niece")
PLANS = words("pass the exam, come to the party, win the prize, call us, buy the house, move to the city, "
              "find the keys, change the plan, sing at the wedding, lend us the car",
              "finish the marathon, join the choir")
VEHICLES = words("the train, the bus, the night train, the school bus, the next boat, the first plane",
                 "the ferry, the tram")
RIDES = words("be on time, leave early, be full, stop at our village, be late again, arrive before noon",
              "be cancelled, be crowded")
FUTURES = words("tomorrow, next week, on Friday, this time, after all, next month", "the day after tomorrow")
