"""Folders of runs, sweeps, records and analyses as they are left, without training; and a reader of pages."""

import itertools
import json
from html.parser import HTMLParser
from pathlib import Path

from flaxbert.config import Config

PNG = b"\x89PNG\r\n\x1a\n" + bytes(8) + (640).to_bytes(4, "big") + (480).to_bytes(4, "big") + b"rest"
EMPTY = {"meta", "img", "br"}


def write_json(file: Path, content) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content))
    return file


def about(**settings) -> dict:
    """The content of config.json."""
    config = Config.make(**{"task": "mrpc", "model": "bundled", "max_length": 128, **settings})
    return {"settings": config.to_json(), "steps": 6, "examples": {"train": 90, "dev": 40},
            "task": {"name": config.task, "kind": "classification", "labels": ["no", "yes"],
                     "metrics": ["accuracy", "f1"], "pair": True},
            "weights": "0123456789abcdef" * 4, "backbone": None, "devices": "1 x cpu (2 cores)",
            "versions": {"flaxbert": "0.1.0", "jax": "0.10.1"}}


def rows(seed: int, scores, losses=(0.7, 0.6, 0.5, 0.45, 0.4, 0.35)) -> list[dict]:
    """Of metrics.jsonl: a training row a step, an evaluation each second one."""
    found = [{"step": step, "epoch": step / 2, "split": "train", "seed": seed, "loss": loss, "grad_norm": 1.0,
              "learning_rate": 1e-3} for step, loss in enumerate(losses, start=1)]
    return found + [{"step": 2 * n, "epoch": float(n), "split": "dev", "seed": seed, "loss": 1 - score,
                     "learning_rate": 0.0, "accuracy": score, "f1": score}
                    for n, score in enumerate(scores, start=1)]


def result(seed: int, scores, status: str = "finished", **other) -> dict:
    """The content of result.json."""
    last, best = ({"dev": {"loss": 1 - score, "accuracy": score, "f1": score}} if scores else {}
                  for score in ((scores or [0])[-1], max(scores, default=0)))
    return {"status": status, "metrics": last, "best": best, "best_step": 4, "seconds": 12.5, "seed": seed,
            "examples_per_second": 21.5, "tokens_per_second": 900.0, "padding_share": 0.0625,
            "parameters_trained": 1234567, "parameters_total": 7654321, "task": "mrpc", "main_metric": "accuracy",
            "majority_baseline": 0.68, "together": 1, **other}


def write_log(folder: Path, found: list[dict]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in found))


def write_run(folder: Path, scores=(0.7, 0.8, 0.75), seed: int = 0, status: str | None = "finished",
              log: dict | None = None, ended: dict | None = None, **settings) -> Path:
    """A run by itself; `log` goes to `rows`, `ended` to `result`, None as status: without a result."""
    write_json(folder / "config.json", about(seed=seed, **settings))
    write_log(folder, rows(seed, scores, **(log or {})))
    if status:
        scores = [] if status == "failed" else scores
        write_json(folder / "result.json", result(seed, scores, status, **(ended or {})))
    return folder


def write_seeds(folder: Path, scores: dict[int, float | None], lacking=(), **settings) -> Path:
    """A folder of many seeds; a score that is None is of a run whose loss was not finite."""
    write_json(folder / "config.json", about(seeds=(*scores, *lacking), **settings))
    write_log(folder, [row for seed, score in scores.items() for row in (
        rows(seed, [0.5, score]) if score is not None else rows(seed, [], (0.7, 3.0, 1e9)))])
    for seed, score in scores.items():
        own = folder / f"seed_{seed}"
        write_json(own / "config.json", about(seed=seed, **settings))
        write_json(own / "result.json", result(seed, [0.5, score]) if score is not None else result(
            seed, [], "failed", failure="the loss is nan at step 4"))
    return folder


class Page(HTMLParser):
    """A page as a browser takes it in.

    Attributes:
      text: what is shown.
      tags: (name, attributes) of every element.
      cells: the rows of its tables, as texts.
    """

    def __init__(self, file: Path):
        super().__init__(convert_charrefs=True)
        self.open, self.tags, self.pieces, self.cells = [], [], [], []
        self.source = file.read_text("utf-8")
        self.feed(self.source)
        self.close()
        assert not self.open, f"not closed: {self.open}"
        self.text = " ".join("".join(self.pieces).split())
        self.cells = [[" ".join(cell.split()) for cell in row] for row in self.cells]

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in EMPTY:
            self.open.append(tag)
        if tag == "tr":
            self.cells.append([])
        if tag in ("td", "th"):
            self.cells[-1].append("")

    def handle_startendtag(self, tag, attributes):
        assert "svg" in self.open, f"<{tag}/> outside of a picture"
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open[-1:] == [tag], f"</{tag}> closes nothing"
        self.open.pop()

    def handle_data(self, data):
        if "style" not in self.open:
            self.pieces.append(data)
            if {"td", "th"} & {*self.open}:
                self.cells[-1][-1] += data

    def all(self, name: str) -> list[dict]:
        """The attributes of all elements of a name."""
        return [attributes for tag, attributes in self.tags if tag == name]

    def row(self, *first: str) -> list[str]:
        """The only row of a table that begins with these cells."""
        [found] = [row for row in self.cells if row[:len(first)] == list(first)]
        return found


def check(file: Path) -> Page:
    """A page that is whole, loads nothing, runs nothing, and has what each page should have."""
    page = Page(file)
    names = [tag for tag, _ in page.tags]
    assert page.source.startswith("<!DOCTYPE html>\n")
    assert page.all("html") == [{"lang": "en"}]
    assert names.count("h1") == names.count("main") == page.source.partition("</head>")[0].count("<title>") == 1
    assert {"name": "viewport", "content": "width=device-width, initial-scale=1"} in page.all("meta")
    assert not {*names} & {"script", "link", "iframe", "object", "embed", "base", "form"}
    for _, attributes in page.tags:
        assert not [key for key in attributes if key.startswith("on") or key in ("style", "srcset", "srcdoc")]
        assert attributes.get("src", "data:image/png;base64,").startswith("data:image/png;base64,")
        assert attributes.get("href", "#").startswith(("#", "http://", "https://"))
    assert all(image.get("alt") for image in page.all("img"))
    assert all(svg["aria-label"] for svg in page.all("svg"))
    levels = [int(name[1]) for name in names if name in ("h1", "h2", "h3", "h4", "h5", "h6")]
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels)), levels
    return page
