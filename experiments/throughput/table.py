"""The throughput record as Markdown."""

from collections.abc import Iterable, Sequence
from typing import Any

STEP_COLUMNS = ("model", "data", "batch x length", "trains", "dtype", "packed", "steps/s", "examples/s",
                "real tokens/s", "spread", "padding", "GFLOP/step", "GFLOP/s", "share of matmul", "memory MB",
                "compile s")
PEER_COLUMNS = ("model", "data", "batch x length", "side", "runs", "examples/s", "real tokens/s",
                "lowest to highest", "padding", "flaxbert is", "dev")
# A strategy of the grid, for people.
TRAINS = {"full": "all", "half": "top half", "two_thirds": "top third", "head": "head"}


def markdown(about: dict[str, Any], steps: list[dict[str, Any]], peers: list[dict[str, Any]]) -> str:
    """Where it was measured, a row a point, and the comparison with the peer where there is one.

    Args:
      about: of the record.
      steps: rows of kind step.
      peers: from `peer.compare`.
    """
    versions = ", ".join(f"{name} {about['versions'][name]}" for name in ("jax", "jaxlib", "torch")
                         if about["versions"].get(name))
    lines = [f"Measured {about['date']} with `--preset={about['preset']}` on {about['devices']} x "
             f"{about['device']} ({about['cores']} processor cores), {versions}, commit "
             f"`{(about['commit'] or 'unknown')[:10]}`.", "",
             *_lines(STEP_COLUMNS, map(_step, steps))]
    if peers:
        lines += ["", "The same files, weights and batch with the Hugging Face Trainer on PyTorch, whole programs "
                  "in turn:", "", *_lines(PEER_COLUMNS, map(_peer, peers))]
    return "\n".join(lines) + "\n"


def _lines(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Lines of a Markdown table."""
    return [f"| {' | '.join(row)} |" for row in (header, ["---"] * len(header), *rows)]


def number(value: float) -> str:
    """Three digits that count, thousands separated."""
    digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2 if abs(value) >= 1 else 3
    return f"{value:,.{digits}f}"


def percent(value: float) -> str:
    """A share."""
    return f"{100 * value:.1f} %"


def _step(row: dict[str, Any]) -> list[str]:
    point = row["point"]
    memory = row["peak_bytes"] or row["program_bytes"]
    return [point["model"], point["data"], f"{point['batch']} x {point['length']}", TRAINS[point["strategy"]],
            point["dtype"], "yes" if point["packing"] else "no", number(row["steps_per_second"]),
            number(row["examples_per_second"]), number(row["tokens_per_second"]), percent(row["spread"]),
            percent(row["padding_share"]), number(row["flops_per_step"] / 1e9),
            number(row["flops_per_second"] / 1e9), percent(row["matmul_share"]),
            number(memory / 1e6) if memory else "", number(row["compile_seconds"])]


def _peer(entry: dict[str, Any]) -> list[str]:
    ratio = "" if entry["side"] == "flaxbert" or not entry["ratio"] else f"{entry['ratio']:.2f} x"
    return [entry["model"], entry["data"], f"{entry['batch']} x {entry['length']}",
            "flaxbert" if entry["side"] == "flaxbert" else f"PyTorch {entry['side']}", str(entry["runs"]),
            number(entry["train_examples_per_second"]), number(entry["train_tokens_per_second"]),
            f"{number(entry['lowest'])} to {number(entry['highest'])}", percent(entry["padding_share"]), ratio,
            ", ".join(f"{name} {value:.3f}" for name, value in entry["dev"].items() if value is not None)]
