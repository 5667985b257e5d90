"""The picture of seeds that train together: how much faster than one after the other, by their number."""

from pathlib import Path
from typing import Any

from experiments.throughput.together import TARGETS
from flaxbert.drawing import INK, pyplot, save, tidy

COLOURS = ("#12355b", "#2f7ebc", "#e08e2b", "#9aa1a9")
WANTED = "#b0302e"


def draw(about: dict[str, Any], entries: list[dict[str, Any]], path: Path) -> None:
    """A line for each setup; 1 is no gain.

    Args:
      about: of the record.
      entries: from `together.compare`.
      path: of the PNG.
    """
    if not entries:
        return
    figure, axes = pyplot().subplots(figsize=(7, 4), constrained_layout=True)
    lines: dict[str, list[dict[str, Any]]] = {}
    for entry in entries:
        point = entry["point"]
        lines.setdefault(f"{point['model']}, {point['data'].replace('_', '-')}, {point['batch']} x "
                         f"{point['length']}, {point['dtype']}", []).append(entry)
    for colour, (label, found) in zip(COLOURS * len(lines), lines.items(), strict=False):
        found.sort(key=lambda entry: entry["point"]["seeds"])
        values = [entry["faster"] for entry in found]
        ends = [[value["median"] - value["lowest"] for value in values],
                [value["highest"] - value["median"] for value in values]]
        axes.errorbar([entry["point"]["seeds"] for entry in found], [value["median"] for value in values], ends,
                      fmt="o-", color=colour, linewidth=1, markersize=6, label=label)
    axes.axhline(1, color=INK, linewidth=0.8, linestyle="--")
    if about["platform"] != "cpu":
        for _, count, wanted in TARGETS:
            axes.plot([count * 0.8, count * 1.25], [wanted] * 2, color=WANTED, linewidth=1.6)
        axes.plot([], [], color=WANTED, linewidth=1.6, label="wanted at least")
    counts = sorted({entry["point"]["seeds"] for entry in entries})
    axes.set_xscale("log")
    axes.set_xticks(counts, counts)
    axes.minorticks_off()
    axes.set_ylim(0)
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g} x")
    tidy(axes, f"times faster than one after the other, {about['devices']} x {about['device']}, {about['date']}",
         "seeds that train as one program")
    axes.legend(frameon=False, fontsize=8)
    save(figure, path)
