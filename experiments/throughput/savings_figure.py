"""The picture of what freezing saves: how much faster a step is by the number of frozen layers, and its memory."""

from pathlib import Path
from typing import Any

from experiments.throughput.gains import TARGETS, by_setup, memory
from flaxbert.drawing import INK, pyplot, save, tidy

COLOURS = {"uncached": "#12355b", "cached": "#e08e2b"}
NAMES = {"uncached": "without the cache", "cached": "with the cache"}
OPTIMIZER, WANTED = "#9aa1a9", "#b0302e"
BESIDE = 1.5  # how far to the right of the last number of layers features stand


def draw(about: dict[str, Any], entries: list[dict[str, Any]], path: Path) -> None:
    """Two panels for each setup: times faster by k with the theoretical lines, and memory by k.

    Args:
      about: of the record.
      entries: from `gains.compare`.
      path: of the PNG.
    """
    if not entries:
        return
    setups = by_setup(entries)
    figure = pyplot().figure(figsize=(11, 4.3 * len(setups) + 0.5), constrained_layout=True)
    parts = figure.subfigures(len(setups), 1, squeeze=False)[:, 0]
    for part, (title, found) in zip(parts, setups, strict=True):
        part.suptitle(title, fontsize=10, x=0.01, ha="left", color=INK)
        left, right = part.subplots(1, 2)
        _draw_speed(left, found)
        _draw_memory(right, found)
        for axes in (left, right):
            _by_layers(axes, found)
    save(figure, path, f"What freezing saves on {about['devices']} x {about['device']}, {about['date']}")


def _place(entry: dict[str, Any]) -> float:
    """Where an entry stands: at k; features to the right of them all."""
    return entry["frozen"] if entry["strategy"] == "freeze" else entry["layers"] + BESIDE


def _draw_speed(axes: Any, entries: list[dict[str, Any]]) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
    frozen = [entry for entry in entries if entry["strategy"] == "freeze"]
    for how, colour in COLOURS.items():
        line = [(entry["frozen"], entry["theory"][how]) for entry in frozen if entry["theory"].get(how)]
        if line:
            axes.plot(*zip(*line, strict=True), "--", color=colour, linewidth=1, label=f"{NAMES[how]}, in theory")
        here = [entry for entry in entries if how in entry["faster"]]
        values = [entry["faster"][how] for entry in here]
        ends = [[value["median"] - value["lowest"] for value in values],
                [value["highest"] - value["median"] for value in values]]
        axes.errorbar([_place(entry) for entry in here], [value["median"] for value in values], ends, fmt="o",
                      color=colour, markersize=6, elinewidth=1, label=f"{NAMES[how]}, measured")
    if entries[0]["setup"]["model"] == "bert_base":
        for strategy, k, _, wanted in TARGETS:
            x = _place({"strategy": strategy, "frozen": k, "layers": entries[0]["layers"]})
            axes.plot([x - 0.4, x + 0.4], [wanted] * 2, color=WANTED, linewidth=1.6, zorder=4)
        axes.plot([], [], color=WANTED, linewidth=1.6, label="wanted at least")
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g} x"))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.set_title("a step is so many times faster than training everything", loc="left", fontsize=10)
    axes.legend(frameon=False, fontsize=8, loc="upper left")


def _draw_memory(axes: Any, entries: list[dict[str, Any]]) -> None:
    layers = entries[0]["layers"]
    for how, colour in COLOURS.items():
        sizes = {_place(entry): memory(entry["program"][how]) for entry in entries if how in entry["program"]}
        # One is often right on the other: hollow above full.
        _line(axes, {k: size / 1e6 for k, size in sizes.items() if size}, layers, colour,
              f"a step in all, {NAMES[how]}", "white" if how == "cached" else "")
    sizes = {_place(entry): program["optimizer_bytes"] / 1e6 for entry in entries
             for program in entry["program"].values()}
    _line(axes, sizes, layers, OPTIMIZER, "of it the optimizer's state")
    axes.set_ylim(0)
    axes.set_title("memory of a step, MB", loc="left", fontsize=10)
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:,g}")
    axes.legend(frameon=False, fontsize=8)


def _line(axes: Any, values: dict[float, float], layers: int, colour: str, label: str, face: str = "") -> None:
    """A dot for each k, joined; that of features stands alone."""
    frozen = {k: value for k, value in values.items() if k <= layers}
    axes.plot(frozen.keys(), frozen.values(), color=colour, linewidth=1)
    axes.plot(values.keys(), values.values(), "o", color=colour, markerfacecolor=face or colour, markersize=5,
              label=label)


def _by_layers(axes: Any, entries: list[dict[str, Any]]) -> None:
    layers = entries[0]["layers"]
    axes.set_xlim(-0.6, layers + BESIDE + 0.8)
    axes.set_xticks([*range(layers + 1), layers + BESIDE], [*range(layers + 1), "features"])
    tidy(axes, x="frozen layers (with the embeddings)", grid="x")
