"""From the rows of `savings.py` to what freezing gains, beside what theory says and what was wanted.

Letters: L layers, k of them frozen.
"""

import statistics
from typing import Any

from experiments.throughput.measure import summary
from experiments.throughput.savings import setup_of

HOW = ("uncached", "cached")
# What was wanted of BERT-base: strategy, frozen layers, how, so many times faster than training everything.
TARGETS = (("freeze", 8, "uncached", 1.6), ("freeze", 8, "cached", 2.7), ("features", 12, "cached", 50.0))


def theory(layers: int, frozen: int) -> dict[str, float | None]:
    """How many times faster a step is if only layers cost: forward 1, backward 2, each.

        uncached 3 L / (3 L - 2 k)      cached 3 L / (3 (L - k)), None where nothing is left
    """
    return {"uncached": 3 * layers / (3 * layers - 2 * frozen),
            "cached": layers / (layers - frozen) if frozen < layers else None}


def of_kind(rows: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    """The rows whose points are of that kind."""
    return [row for row in rows if row["point"]["kind"] == kind]


def by_setup(entries: list[dict[str, Any]]) -> list[tuple[str, list[dict[str, Any]]]]:
    """(what was trained, in words; its entries) for each setup."""
    found: dict[str, list[dict[str, Any]]] = {}
    for entry in entries:
        setup = entry["setup"]
        found.setdefault(f"{setup['model']}, {setup['data'].replace('_', '-')}, {setup['batch']} x "
                         f"{setup['length']}, {setup['dtype']}; an epoch is {entry['examples']:,} examples",
                         []).append(entry)
    return list(found.items())


def compare(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One entry for each setup, strategy and k whose epochs were measured; by k, features last.

    Args:
      rows: of kinds program and epoch.

    Returns:
      setup: as of `setup_of`; strategy, frozen, layers, examples; step: how -> median seconds, with `full` beside
      it; faster: how -> median over the rounds of full / how, lowest, highest; theory; epoch: how -> seconds, with
      `full`, and `first`: the first one with the cache; program: how -> the row of kind program.
    """
    programs = {_key(row["point"], row["point"]["cached"]): row for row in of_kind(rows, "program")}
    found = []
    for row in of_kind(rows, "epoch"):
        point, rounds, steps = row["point"], row["rounds"], row["steps_per_epoch"]
        names = [how for how in HOW if how in rounds[0]]
        step = {name: statistics.median(each[name] for each in rounds) for name in ("full", *names)}
        epoch = {name: seconds * steps for name, seconds in step.items()}
        if "cached" in names:
            epoch["first"] = statistics.median(each["computing"] + each["cached"] * steps for each in rounds)
        program = {how: programs.get(_key(point, how == "cached")) for how in names}
        found.append({
            "setup": setup_of(point), "strategy": point["strategy"], "frozen": point["frozen"],
            "layers": row["layers"], "examples": row["examples"], "step": step, "epoch": epoch,
            "faster": {how: summary([each["full"] / each[how] for each in rounds]) for how in names},
            "theory": theory(row["layers"], point["frozen"]) if point["strategy"] == "freeze" else {},
            "program": {how: each for how, each in program.items() if each}})
    return sorted(found, key=lambda entry: (entry["strategy"] == "features", entry["frozen"]))


def _key(point: dict[str, Any], cached: bool) -> tuple:
    return (*setup_of(point).values(), point["strategy"], point["frozen"], cached)


def memory(program: dict[str, Any]) -> int | None:
    """Bytes of a step: the device's own peak where it tells, else XLA's plan."""
    return program["peak_bytes"] or program["program_bytes"]


def targets(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What was wanted of BERT-base and what was found.

    Returns:
      for each target and each setup of that model: strategy, frozen, how, wanted, found, met, batch, length; the
      last four are None where it was not measured.
    """
    checked = []
    for strategy, frozen, how, wanted in TARGETS:
        here = [entry for entry in entries if entry["setup"]["model"] == "bert_base"
                and (entry["strategy"], entry["frozen"]) == (strategy, frozen)]
        for entry in here or [None]:
            found = entry and entry["faster"][how]["median"]
            checked.append({"strategy": strategy, "frozen": frozen, "how": how, "wanted": wanted, "found": found,
                            "met": entry and found >= wanted, "batch": entry and entry["setup"]["batch"],
                            "length": entry and entry["setup"]["length"]})
    return checked


def optimizer(rows: list[dict[str, Any]]) -> dict[str, Any] | None:
    """Bytes of optimizer state a trained parameter: lowest and highest of all programs, met where that is one.

    Args:
      rows: of kind program.
    """
    each = [row["optimizer_bytes"] / row["parameters_trained"] for row in of_kind(rows, "program")]
    return {"lowest": min(each), "highest": max(each), "met": max(each) <= 1.001 * min(each)} if each else None
