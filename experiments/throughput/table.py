"""The throughput record as Markdown."""

from typing import Any

from experiments.tables import commits, device, lines
from experiments.throughput.gains import HOW, by_setup, memory

STEP_COLUMNS = ("model", "data", "batch x length", "trains", "dtype", "packed", "steps/s", "examples/s",
                "real tokens/s", "spread", "padding", "GFLOP/step", "GFLOP/s", "share of matmul", "memory MB",
                "compile s")
PEER_COLUMNS = ("model", "data", "batch x length", "side", "runs", "examples/s", "real tokens/s",
                "lowest to highest", "padding", "flaxbert is", "dev")
SAVINGS_COLUMNS = ("frozen", "step ms", "times faster", "theory", "cached step ms", "times faster", "theory",
                   "GFLOP/step", "cached", "memory MB", "cached", "optimizer MB", "epoch s", "first cached",
                   "later ones")
SEEDS_COLUMNS = ("model", "data", "batch x length", "dtype", "seeds", "examples/s together", "one after the other",
                 "times faster", "padding together", "one by one", "memory MB together", "one by one",
                 "compile s together", "one by one")
# A strategy of the grid, for people.
TRAINS = {"full": "all", "half": "top half", "two_thirds": "top third", "head": "head"}
VERDICTS = {True: "met", False: "NOT met", None: "not measured"}

Entries = list[dict[str, Any]]


def head(about: dict[str, Any]) -> list[str]:
    """Where it was measured; `about` is the record's."""
    versions = ", ".join(f"{name} {about['versions'][name]}" for name in ("jax", "jaxlib", "torch")
                         if about["versions"].get(name))
    return [f"Measured {about['date']} with `--preset={about['preset']}` on {device(about)}, {versions}, "
            f"{commits(about)}."]


def steps(rows: Entries) -> list[str]:
    """A line for each row of kind step."""
    return ["", *lines(STEP_COLUMNS, map(_step, rows))] if rows else []


def peers(entries: Entries) -> list[str]:
    """The comparison that `peer.compare` made."""
    return ["", "The same files, weights and batch with the Hugging Face Trainer on PyTorch, whole programs in "
            "turn:", "", *lines(PEER_COLUMNS, map(_peer, entries))] if entries else []


def savings(entries: Entries, targets: Entries, optimizer: dict[str, Any] | None) -> list[str]:
    """Whether the targets are met, and a table for each setup; arguments: from the functions of `gains.py`."""
    if not entries:
        return []
    found = ["", "What freezing saves, each number of layers in turn with training everything:", "",
             *map(_target, targets)]
    if optimizer:
        found.append(f"- The optimizer's memory follows what trains: **{VERDICTS[optimizer['met']]}**, "
                     f"{optimizer['lowest']:.3f} to {optimizer['highest']:.3f} bytes a trained parameter.")
    for title, setup in by_setup(entries):
        found += ["", f"{title}:", "", *lines(SAVINGS_COLUMNS, map(_saving, setup))]
    return found


def seeds(entries: Entries, targets: Entries, of_peer: dict[str, Any]) -> list[str]:
    """Likewise of seeds together; arguments: from the functions of `together.py`, `of_peer` from `peer_target`."""
    if not entries:
        return []
    wanted = [f"- {each['model']}, {each['seeds']} seeds, on an accelerator: at least {each['wanted']:g} x "
              f"faster: **{VERDICTS[each['met']]}**{', ' + number(each['found']) + ' x' if each['found'] else ''}."
              for each in targets]
    wanted.append(f"- {of_peer['model']}, {of_peer['seeds']} seeds, on an accelerator: in no more time than "
                  f"{of_peer['wanted']:g} runs of the fastest PyTorch peer (--peer --peer_batch=16): "
                  f"**{VERDICTS[of_peer['met']]}**{', ' + number(of_peer['found']) if of_peer['found'] else ''}.")
    return ["", "Seeds as one program (--seeds_per_program), in turn with the same seeds one after the other:", "",
            *wanted, "", *lines(SEEDS_COLUMNS, map(_seeds, entries))]


def number(value: float) -> str:
    """Three digits that count, thousands separated."""
    digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2 if abs(value) >= 1 else 3
    return f"{value:,.{digits}f}"


def percent(value: float) -> str:
    """A share."""
    return f"{100 * value:.1f} %"


def trains(strategy: str) -> str:
    """What a strategy of the grid trains, and whether from states that are kept."""
    name, _, cached = strategy.partition("+")
    return f"{TRAINS[name]}, {cached}" if cached else TRAINS[name]


def _step(row: dict[str, Any]) -> list[str]:
    point = row["point"]
    size = memory(row)
    return [point["model"], point["data"], f"{point['batch']} x {point['length']}", trains(point["strategy"]),
            point["dtype"], "yes" if point["packing"] else "no", number(row["steps_per_second"]),
            number(row["examples_per_second"]), number(row["tokens_per_second"]), percent(row["spread"]),
            percent(row["padding_share"]), number(row["flops_per_step"] / 1e9),
            number(row["flops_per_second"] / 1e9), percent(row["matmul_share"]),
            number(size / 1e6) if size else "", number(row["compile_seconds"])]


def _peer(entry: dict[str, Any]) -> list[str]:
    ratio = "" if entry["side"] == "flaxbert" or not entry["ratio"] else f"{entry['ratio']:.2f} x"
    return [entry["model"], entry["data"], f"{entry['batch']} x {entry['length']}",
            "flaxbert" if entry["side"] == "flaxbert" else f"PyTorch {entry['side']}", str(entry["runs"]),
            number(entry["train_examples_per_second"]), number(entry["train_tokens_per_second"]),
            f"{number(entry['lowest'])} to {number(entry['highest'])}", percent(entry["padding_share"]), ratio,
            ", ".join(f"{name} {value:.3f}" for name, value in entry["dev"].items() if value is not None)]


def _target(target: dict[str, Any]) -> str:
    what = "`--strategy=features --head=linear`" if target["strategy"] == "features" \
        else f"{target['frozen']} layers frozen"
    where = f" ({target['batch']} x {target['length']})" if target["found"] else ""
    how = {"uncached": "without the cache", "cached": "with the cache, after the first epoch"}[target["how"]]
    found = f", {number(target['found'])} x" if target["found"] else ""
    return (f"- bert_base{where}, {what}, {how}: at least {target['wanted']:g} x faster: "
            f"**{VERDICTS[target['met']]}**{found}.")


def _saving(entry: dict[str, Any]) -> list[str]:
    def scaled(value: float | None, unit: float = 1.0) -> str:
        return "" if value is None else number(value / unit)

    def faster(how: str) -> list[str]:
        found = entry["faster"].get(how)
        if not found:
            return ["", "", ""]
        expected = entry["theory"].get(how)
        return [number(1000 * entry["step"][how]), f"{number(found['median'])} ({number(found['lowest'])} to "
                f"{number(found['highest'])})", "" if expected is None else f"{expected:.2f}"]
    programs = [entry["program"].get(how, {}) for how in HOW]
    either = programs[0] or programs[1]
    return [str(entry["frozen"]) if entry["strategy"] == "freeze" else entry["strategy"],
            *(cell for how in HOW for cell in faster(how)),
            *(scaled(each.get("flops_per_step"), 1e9) for each in programs),
            *(scaled(memory(each) if each else None, 1e6) for each in programs),
            scaled(either.get("optimizer_bytes"), 1e6),
            *(scaled(entry["epoch"].get(name)) for name in ("uncached", "first", "cached"))]


def _seeds(entry: dict[str, Any]) -> list[str]:
    point, faster = entry["point"], entry["faster"]
    sides = entry["together"], entry["in_turn"]
    return [point["model"], point["data"].replace("_", "-"), f"{point['batch']} x {point['length']}",
            point["dtype"], str(point["seeds"]), *(number(side["examples_per_second"]) for side in sides),
            f"{number(faster['median'])} ({number(faster['lowest'])} to {number(faster['highest'])})",
            *(percent(side["padding_share"]) for side in sides),
            *(number(side["program_bytes"] / 1e6) if side["program_bytes"] else "" for side in sides),
            *(number(side["compile_seconds"]) for side in sides)]
