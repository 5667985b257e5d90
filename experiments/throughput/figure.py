"""The picture of a throughput record: speed and share of the matmul rate, and the peer beside it."""

from pathlib import Path
from typing import Any

from experiments.throughput.table import number, trains
from flaxbert.drawing import INK, pyplot, save, tidy

# Strategy -> colour, from everything trains (dark) to the head alone (light).
COLOURS = {"full": "#12355b", "half": "#2f7ebc", "two_thirds": "#e08e2b", "head": "#b9bec5"}
OURS, PEER, RANGE = "#12355b", "#b9bec5", "#e08e2b"


def draw(about: dict[str, Any], steps: list[dict[str, Any]], peers: list[dict[str, Any]], path: Path) -> None:
    """A row of dots for each configuration, one dot a strategy; bars for the peer where it was timed.

    Args:
      about: of the record.
      steps: rows of kind step.
      peers: from `peer.compare`.
      path: of the PNG.
    """
    labels = list(dict.fromkeys(map(_label, steps)))
    heights = [0.34 * len(labels) + 0.9] * bool(labels) + [0.34 * len(peers) + 0.9] * bool(peers)
    if not heights:
        return
    figure = pyplot().figure(figsize=(11, sum(heights) + 0.9), constrained_layout=True)
    parts = iter(figure.subfigures(len(heights), 1, height_ratios=heights, squeeze=False)[:, 0])
    if labels:
        _draw_steps(next(parts), labels, steps)
    if peers:
        _draw_peers(next(parts), peers)
    save(figure, path, f"Training speed on {about['devices']} x {about['device']}, {about['date']}")


def _label(row: dict[str, Any]) -> str:
    point = row["point"]
    packed = "" if point["data"] == "full_length" else ", packed" if point["packing"] else ", padded"
    data = point["data"].replace("_", "-")
    short = {"float32": "fp32", "bfloat16": "bf16"}[point["dtype"]]
    return f"{point['model']}  {point['batch']} x {point['length']}  {data}{packed}  {short}"


def _peer_label(entry: dict[str, Any]) -> str:
    name = "flaxbert" if entry["side"] == "flaxbert" else f"PyTorch {entry['side'].replace('_', ', ')}"
    data = entry["data"].replace("_", "-")
    return f"{name}  ({entry['model']}, {data}, {entry['batch']} x {entry['length']})"


def _dot(strategy: str) -> dict[str, Any]:
    """How a strategy is marked; hollow with states that are kept."""
    name, _, cached = strategy.partition("+")
    return {"color": "white" if cached else COLOURS[name], "markersize": 6 if cached else 7,
            "markeredgecolor": COLOURS[name] if cached else "white", "markeredgewidth": 1.6 if cached else 0.6}


def _draw_steps(part: Any, labels: list[str], steps: list[dict[str, Any]]) -> None:
    from matplotlib.ticker import LogLocator, NullFormatter
    left, right = part.subplots(1, 2, sharey=True)
    for row in steps:
        strategy = row["point"]["strategy"]
        y = labels.index(_label(row))
        for axes, value in ((left, row["tokens_per_second"]), (right, 100 * row["matmul_share"])):
            axes.plot(value, y, "o", zorder=3 + (strategy == "full"), **_dot(strategy))
    left.set_xscale("log")
    left.set_yticks(range(len(labels)), labels)
    left.set_ylim(len(labels) - 0.5, -0.5)
    right.set_xlim(0, 108 * max(row["matmul_share"] for row in steps))
    for axes, title in ((left, "real tokens a second"), (right, "share of the device's matmul rate, %")):
        tidy(axes, title)
    left.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    left.xaxis.set_major_formatter(lambda value, _: f"{value / 1000:g}k")
    left.xaxis.set_minor_formatter(NullFormatter())
    used = dict.fromkeys(row["point"]["strategy"] for row in steps)
    dots = [left.plot([], [], "o", label=trains(name), **_dot(name))[0] for name in used]
    part.legend(handles=dots, loc="outside upper right", ncols=len(dots), frameon=False, title="what trains",
                title_fontsize=9, fontsize=9)


def _draw_peers(part: Any, peers: list[dict[str, Any]]) -> None:
    axes = part.subplots()
    for y, entry in enumerate(peers):
        ours, value = entry["side"] == "flaxbert", entry["train_tokens_per_second"]
        axes.barh(y, value, height=0.62, color=OURS if ours else PEER)
        axes.plot([entry["lowest"], entry["highest"]], [y, y], color=RANGE, linewidth=2)
        ratio = "" if ours or not entry["ratio"] else f"   flaxbert is {entry['ratio']:.2f} x as fast"
        axes.annotate(f"{number(value)}{ratio}", (max(value, entry["highest"]), y), xytext=(6, 0),
                      textcoords="offset points", va="center", fontsize=9, color=INK)
    axes.set_yticks(range(len(peers)), map(_peer_label, peers))
    axes.set_ylim(len(peers) - 0.5, -0.5)
    axes.set_xlim(0, 1.4 * max(entry["highest"] for entry in peers))
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    tidy(axes, "real tokens a second, whole programs in turn (line: lowest to highest)", grid="x")
