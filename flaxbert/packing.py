"""Which example stands in which row: order, packing, and the few row counts that a run compiles.

All of it is a pure function of (seed, epoch, lengths); nothing here knows how many devices there are,
except the row counts, which are rounded up with empty rows.

Letters: N examples, B examples a batch, R rows, T tokens a row, E slots a row.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from random import Random

import numpy as np

MOST_PADDING = 0.1  # share of the tokens of a batch


@dataclass(frozen=True)
class Plan:
    """Where each example of one batch stands.

    Attributes:
      examples: [B] example numbers.
      row, slot, start: [B] its row, its slot within the row, its first column.
      rows: R, how many rows are in use.
      slots: how many slots the fullest row has.
    """

    examples: np.ndarray
    row: np.ndarray
    slot: np.ndarray
    start: np.ndarray
    rows: int
    slots: int


@lru_cache(maxsize=2)
def order(seed: int, epoch: int, count: int) -> np.ndarray:
    """[count] the examples of an epoch in training order: a permutation keyed by (seed, epoch)."""
    return np.random.Generator(np.random.Philox(key=[seed, epoch])).permutation(count)


def pack(examples: np.ndarray, lengths: np.ndarray, row_length: int, packing: bool = True,
         rounds: int = 40) -> Plan:
    """Few rows for one batch: best-fit decreasing, then `rounds` of tearing down and refilling some rows.

    Args:
      examples: [B] example numbers.
      lengths: [B] their lengths in tokens, each at most `row_length`.
      row_length: T.
      packing: False puts one example into each row, in the given order.
      rounds: of improvement; on MRPC in batches of 256, 40 of them save 1.3 % of the rows.
    """
    count = len(examples)
    sizes = lengths.tolist()
    rows = [[i] for i in range(count)]
    if packing:
        rows = _tighten(_best_fit_decreasing(sizes, row_length), sizes, row_length, rounds)
    row, slot, start = np.zeros((3, count), np.int32)
    for r, members in enumerate(rows):
        column = 0
        for n, i in enumerate(members):
            row[i], slot[i], start[i] = r, n, column
            column += sizes[i]
    return Plan(examples, row, slot, start, len(rows), max(map(len, rows), default=0))


def _best_fit_decreasing(sizes: list[int], row_length: int) -> list[list[int]]:
    """Longest first, each into the fullest row that still holds it.

    Rows are kept by their free tokens; bit f of `free_sizes` says that some row has exactly f free, so
    the best fit for a length is the lowest set bit from there up.
    """
    rows: list[list[int]] = []
    by_free: list[list[list[int]]] = [[] for _ in range(row_length + 1)]
    free_sizes = 0
    for i in sorted(range(len(sizes)), key=lambda i: -sizes[i]):
        fitting = free_sizes >> sizes[i]
        if fitting:
            free = sizes[i] + (fitting & -fitting).bit_length() - 1
            members = by_free[free].pop()
            if not by_free[free]:
                free_sizes &= ~(1 << free)
        else:
            free, members = row_length, []
            rows.append(members)
        members.append(i)
        by_free[free - sizes[i]].append(members)
        free_sizes |= 1 << (free - sizes[i])
    return rows


def _tighten(rows: list[list[int]], sizes: list[int], row_length: int, rounds: int) -> list[list[int]]:
    """Refills the two emptiest rows together with eight at random; keeps what needs no more rows.

    Of two fillings with as many rows the more uneven one (larger sum of squared fills) is nearer to
    freeing a row (Fleszar and Hindi 2002). Stops at the bound sum of lengths / T.
    """
    bound = -(-sum(sizes) // row_length)
    random = Random(0)

    def fill(members: list[int]) -> int:
        return sum(sizes[i] for i in members)
    for _ in range(rounds):
        if len(rows) <= bound:
            break
        emptiest = sorted(range(len(rows)), key=lambda r: fill(rows[r]))[:2]
        torn = {*emptiest, *random.sample(range(len(rows)), min(8, len(rows)))}
        old = [rows[r] for r in sorted(torn)]
        new = _fill_exactly([i for members in old for i in members], sizes, row_length)
        if (len(new), -sum(fill(m)**2 for m in new)) <= (len(old), -sum(fill(m)**2 for m in old)):
            rows = [members for r, members in enumerate(rows) if r not in torn] + new
    return rows


def _fill_exactly(items: list[int], sizes: list[int], row_length: int) -> list[list[int]]:
    """One row after the other: the longest item left, then the set of others that fills it best.

    The set is found exactly, by subset sums (minimum bin slack: Gupta and Ho 1999). `reach` holds the
    sums as the bits of one integer, one entry a length so that the choice can be read back. Long items
    come first and the search ends at an exact fill, so that a row holds few pieces.
    """
    left: dict[int, list[int]] = {}
    for i in sorted(items, key=lambda i: -sizes[i]):
        left.setdefault(sizes[i], []).append(i)
    rows = []
    while left:
        longest = next(iter(left))
        members = [left[longest].pop()]
        space = row_length - longest
        reach, seen = 1, []
        for size, same in left.items():
            most = min(len(same), space // size)
            if not most:
                continue
            seen.append((size, reach))
            more = reach
            for _ in range(most):
                more = (more << size) & ((2 << space) - 1)
                reach |= more
            if reach >> space:
                break
        total = reach.bit_length() - 1
        for size, before in reversed(seen):
            while not before >> total & 1:
                members.append(left[size].pop())
                total -= size
        left = {size: same for size, same in left.items() if same}
        rows.append(members)
    return rows


@dataclass(frozen=True)
class Epochs:
    """The training order of a run, cut into batches of B examples; the last of an epoch may hold fewer.

    Attributes:
      lengths: [N] tokens.
      batch_size: B.
      row_length: T.
      seed: keys the order.
      packing: as in `pack`.
    """

    lengths: np.ndarray
    batch_size: int
    row_length: int
    seed: int
    packing: bool = True

    @property
    def steps_per_epoch(self) -> int:
        return -(-len(self.lengths) // self.batch_size)

    def plans(self, first: int, last: int, rounds: int = 40) -> Iterator[Plan]:
        """The plans of steps first, ..., last - 1, counted from 0; `rounds` as in `pack`."""
        for epoch in range(first // self.steps_per_epoch, -(-last // self.steps_per_epoch)):
            start = epoch * self.steps_per_epoch
            shuffled = order(self.seed, epoch, len(self.lengths))
            for step in range(max(first, start), min(last, start + self.steps_per_epoch)):
                chosen = shuffled[(step - start) * self.batch_size:(step - start + 1) * self.batch_size]
                yield pack(chosen, self.lengths[chosen], self.row_length, self.packing, rounds)


def rows_of_split(lengths: np.ndarray, row_length: int, packing: bool = True) -> Plan:
    """One plan for a whole split, packed in stretches of 1024 examples, for evaluation."""
    parts, rows, slots = [], 0, 1
    for begin in range(0, len(lengths), 1024):
        chosen = np.arange(begin, min(begin + 1024, len(lengths)))
        part = pack(chosen, lengths[chosen], row_length, packing)
        parts.append((part.examples, part.row + rows, part.slot, part.start))
        rows, slots = rows + part.rows, max(slots, part.slots)
    return Plan(*(np.concatenate(column) for column in zip(*parts, strict=True)), rows, slots)


def rows_needed(epochs: Epochs, steps: int, sample: int = 4096) -> tuple[list[int], int]:
    """Rows in use by each step of a run, and E, the slots that its fullest row has, from its own plans.

    A long run is sampled: past `sample` steps every n-th is planned in full. The largest number of rows
    that best-fit decreasing needs at any step, which a plan never exceeds, is then appended, and E is the
    most sequences that fit a row at all: so no step ever finds its row count or slots missing.
    """
    stride = -(-steps // sample)
    if stride == 1:
        plans = [(plan.rows, plan.slots) for plan in epochs.plans(0, steps)]
        return [rows for rows, _ in plans], max(slots for _, slots in plans)
    bound = max(plan.rows for plan in epochs.plans(0, steps, rounds=0))
    most = int((np.cumsum(np.sort(epochs.lengths)) <= epochs.row_length).sum()) if epochs.packing else 1
    most = min(most, epochs.batch_size)
    return [next(epochs.plans(step, step + 1)).rows for step in range(0, steps, stride)] + [bound], most


def row_counts(needed: Iterable[int], multiple: int, most: int = 4) -> tuple[int, ...]:
    """At most `most` row counts, multiples of `multiple`, that waste the fewest rows over a run.

    Each batch takes the smallest count that holds it, so the largest need is always one of them. Solved
    exactly: best[j] = the least waste for the needs up to the j-th with that one chosen.

    Args:
      needed: rows in use, one entry a step.
      multiple: devices x micro-batches.
    """
    histogram = sorted(Counter(-(-n // multiple) * multiple for n in needed).items())
    sizes = [size for size, _ in histogram]
    # waste(i, j): needs i..j all run with size j.
    weight = np.cumsum([0] + [n for _, n in histogram])
    mass = np.cumsum([0] + [size * n for size, n in histogram])

    def waste(i: int, j: int) -> int:
        return int(sizes[j] * (weight[j + 1] - weight[i]) - (mass[j + 1] - mass[i]))
    best: list[tuple[int, tuple[int, ...]]] = [(waste(0, j), (sizes[j],)) for j in range(len(sizes))]
    for _ in range(most - 1):
        best = [min([best[j]] + [(best[i][0] + waste(i + 1, j), best[i][1] + (sizes[j],)) for i in range(j)])
                for j in range(len(sizes))]
    return best[-1][1]


def choose_row_length(lengths: np.ndarray, batch_size: int, max_length: int) -> int:
    """T: the multiple of 32 from the longest example up to `max_length` that wastes the fewest tokens.

    A batch leaves half of a row empty on average, so short texts want short rows, long ones room for a
    second example. Where more than MOST_PADDING is wasted even so, rows up to a third longer are tried too: in
    them attention costs more a token. Judged on up to 32 batches of some order.

    Args:
      lengths: [N] training lengths in tokens.
      batch_size: B.
      max_length: no row is longer, but for the longest example, and as above.
    """
    longest = int(lengths.max())
    ceiling = max(max_length, longest)
    shuffled = order(0, 0, len(lengths))  # neighbours in a file may be much alike
    batches = np.array_split(shuffled, range(batch_size, len(lengths), batch_size))[:32]
    real = sum(int(lengths[batch].sum()) for batch in batches)

    def processed(row_length: int) -> int:
        needed = [pack(b, lengths[b], row_length).rows for b in batches]
        counts = row_counts(needed, 1)
        return row_length * sum(smallest(counts, rows) for rows in needed)

    def best(candidates: Iterable[int]) -> int:
        return min(candidates, key=lambda t: (processed(t), -t))
    chosen = best({*range(-(-longest // 32) * 32, ceiling, 32), ceiling})
    if real < (1 - MOST_PADDING) * processed(chosen):
        chosen = best([chosen, *range(ceiling // 32 * 32 + 32, ceiling * 4 // 3 + 1, 32)])
    return chosen


def smallest(counts: Sequence[int], needed: int) -> int:
    """The smallest of the sorted row counts that holds `needed` rows."""
    return next(count for count in counts if count >= needed)
