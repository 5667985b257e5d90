"""Makes flaxbert/assets/bundled: pre-trains the BERT in the box and writes it there, with its model card.

    FLAXBERT_DATA=DIR python -m experiments.bundled.make WORK

It takes hours. What WORK holds already is not made again, and an interrupted run goes on where it was.
"""

import json
import shutil
import subprocess
import sys
from pathlib import Path

from experiments.outside import outside
from experiments.records import device
from flaxbert import records
from flaxbert.errors import InputError, note
from flaxbert.export import export
from flaxbert.model_files import BUNDLED

TEXTS = ("enwiki.txt", "wikinews.txt")  # under data/corpus: a paragraph a line, a blank line between documents
HELD_OUT = "wikinews.heldout.txt"
SQUAD = "data/squad/train-v1.1.json"
TRAIN = "train.txt"
TEMPLATE = Path(__file__).parent / "card.md"

# One run at a constant rate, and one that goes on from it while the rate falls to 0.
COMMON = ("--train_file=train.txt", f"--dev_file={HELD_OUT}", "--next_sentence", "--dropout=0", "--batch_size=32")
RUNS: dict[str, tuple[str, ...]] = {
    "stable": (*COMMON, "--vocabulary_size=8192", "--num_hidden_layers=4", "--hidden_size=256", "--mimetic_init",
               "--learning_rate=1e-3", "--schedule=constant", "--warmup=500", "--max_steps=9000",
               "--eval_every=1000", "--save_every=500"),
    "cooled": (*COMMON, "--model=stable", "--learning_rate=1e-3", "--schedule=linear", "--warmup=100",
               "--max_steps=2000", "--eval_every=1000", "--save_every=500"),
}


def corpus(work: Path) -> None:
    """train.txt and the held-out text: articles as documents, their paragraphs as lines."""
    folder, squad = outside("data/corpus"), outside(SQUAD)
    if not folder or not squad:
        raise InputError(f"FLAXBERT_DATA: must name the folder that holds data/corpus and {SQUAD}")
    documents = [text.strip() for name in TEXTS for text in (folder / name).read_text("utf-8").split("\n\n")]
    for article in json.loads(squad.read_text("utf-8"))["data"]:
        documents.append("\n".join(" ".join(part["context"].split()) for part in article["paragraphs"]))
    (work / HELD_OUT).write_bytes((folder / HELD_OUT).read_bytes())
    part = work / "train.part"
    part.write_text("\n\n".join(filter(None, documents)) + "\n", "utf-8")
    part.replace(work / TRAIN)


def pretrain(work: Path, name: str) -> None:
    """`flaxbert pretrain` with the flags of RUNS, in WORK; nothing where that run is finished."""
    folder = work / name
    resume = ["--resume"] if records.is_run(folder) else []  # refuses a run of other flags
    command = [sys.executable, "-m", "flaxbert", "pretrain", *RUNS[name], f"--output_dir={name}", *resume]
    code = subprocess.run(command, cwd=work).returncode
    result = records.read_result(folder)
    if code or not result or result["status"] != "finished":
        raise InputError(f"{folder}: pre-training was stopped (exit code {code}); the same command goes on")


def card(work: Path) -> str:
    """README.md of the model: data, steps, device, held-out perplexity, commands."""
    text = (work / TRAIN).read_text("utf-8")
    results = {name: json.loads((work / name / "result.json").read_text()) for name in RUNS}
    abouts = {name: json.loads((work / name / "config.json").read_text()) for name in RUNS}
    dev = results["cooled"]["metrics"]["dev"]
    # What the second run went on from is the best of the first.
    steps = {"stable": results["stable"]["best_step"], "cooled": abouts["cooled"]["steps"]}
    hours = sum(result["seconds"] for result in results.values()) / 3600
    commands = "\n".join(f"flaxbert pretrain {' '.join(flags)} --output_dir={name}"
                         for name, flags in RUNS.items())
    return TEMPLATE.read_text("utf-8").format(
        documents=f"{abouts['stable']['examples']['train']:,}", characters=f"{len(text) / 1e6:.1f}",
        held_out=abouts["stable"]["examples"]["dev"], steps=f"{sum(steps.values()):,}",
        each=" + ".join(f"{n:,}" for n in steps.values()), hours=f"{hours:.1f}",
        device=f"{device()['device']}, {abouts['cooled']['devices']}", commands=commands,
        parameters=f"{results['cooled']['parameters_total'] / 1e6:.1f}",
        **{name: f"{dev[name]:.{digits}f}" for name, digits in
           (("perplexity", 1), ("unigram_perplexity", 0), ("mlm_accuracy", 3), ("nsp_accuracy", 3))},
        ratio=f"{dev['unigram_perplexity'] / dev['perplexity']:.1f}",
        versions=", ".join(f"{name} {version}" for name, version in abouts["cooled"]["versions"].items()))


def main(work: Path) -> None:
    """Makes what is missing, and the folder of the package from it."""
    work.mkdir(parents=True, exist_ok=True)
    if not (work / TRAIN).is_file():
        corpus(work)
    for name in RUNS:
        pretrain(work, name)
    export(work / "cooled", work / "export", "last", "float16")
    (work / "export" / "README.md").write_text(card(work), "utf-8")
    shutil.rmtree(BUNDLED)
    shutil.copytree(work / "export", BUNDLED)
    size = sum(path.stat().st_size for path in BUNDLED.iterdir())
    print(f"{BUNDLED}: {size / 1e6:.1f} MB")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    try:
        main(Path(sys.argv[1]))
    except InputError as error:
        note(str(error))
        sys.exit(2)
