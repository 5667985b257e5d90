"""The command line: `flaxbert COMMAND --flag=value ...`, made of absl flags.

The flags of `finetune`, `demo` and `pretrain` are the fields of `Config`; those of the other commands are the
arguments of the function that does the work.
"""

import dataclasses
import json
import os
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

from absl import flags, logging

from flaxbert.analysis.base import Settings as Analysis
from flaxbert.config import DEFAULTS, DEMO, Config
from flaxbert.errors import InputError, RunFailed, note

# The commands whose flags are settings, settings that one has no flag for, help that is its own, and the groups.
CONFIGURED = ("finetune", "demo", "pretrain", "sweep")
PRESETS = {**DEFAULTS, "demo": DEMO}
LEFT_OUT = {
    "demo": ("random_init", "seeds", "seeds_per_program"),
    "sweep": ("resume", "overwrite"),
    "pretrain": ("task", "data_dir", "text_columns", "label_column", "label_type", "class_weights", "doc_stride",
                 "max_query_length", "max_answer_length", "n_best", "null_threshold", "context", "layers",
                 "mix_layer_norm", "head", "head_width", "head_layers", "crf", "pooling", "pair", "predict_test",
                 "seeds", "seeds_per_program")}
HELP = {"sweep": {
    "seeds": "Train each cell with each of these: 1:25, both included, or 1,2,5; default: --seed.",
    "output_dir": "Where the sweep is written; one that is there goes on. Default: runs/TASK-sweep-TIME."},
    "pretrain": {
    "train_file": "Text, one paragraph a line and a blank line between documents; or a folder of such .txt files.",
    "dev_file": "Held-out text, likewise; default: the last 1 % of the documents.",
    "test_file": "More held-out text, scored at the end."}}
GROUPS = {"task": "Task and data", "model": "Model", "pretrain": "Pre-training", "head": "Head",
          "strategy": "Strategy", "optimizer": "Optimizer", "batch": "Length and batch", "devices": "Devices",
          "run": "The run"}


def _finetune(settings: dict[str, Any]) -> None:
    from flaxbert import train
    result = train.finetune(Config.make(**settings))
    if "seeds" in result:
        _tell_seeds(result)
        return
    run, main = result["run"], result["main_metric"]
    scores = {split: values for split, values in result["best"].items() if split != "train"}
    for split, values in scores.items():
        shown = ", ".join(f"{name} {value:.4f}" for name, value in values.items())
        print(f"{split}: {shown}")
    if result["status"] == "interrupted":
        print(f"interrupted; go on with --resume --output_dir={run}")
    elif scores:
        print(f"best step {result['best_step']} by dev {main}; {result['examples_per_second']} examples/s")
    print(f"run: {run}\npicture: {run}/learning_curve.png")


def _tell_seeds(result: dict[str, Any]) -> None:
    """What the seeds came to, in three lines."""
    run, dev, best = result["run"], result["dev"], result["best_seed"]
    if dev:
        deviation = "" if dev["std"] is None else f" ± {dev['std']:.4f}"
        print(f"dev {result['main_metric']}, {dev['n']} seeds: {dev['mean']:.4f}{deviation}, median "
              f"{dev['median']:.4f}, {dev['min']:.4f} to {dev['max']:.4f}; failed: {dev['failed']}"
              + (f" (seed {', '.join(map(str, result['failed']))})" if result["failed"] else ""))
    if result["status"] == "interrupted":
        print(f"interrupted; go on with --resume --output_dir={run}")
    elif best is not None:
        print(f"best seed by dev: {best}, in {run}/seed_{best}")
    print(f"run: {run}" + (f"\npicture: {run}/seeds.png" if dev else ""))


def _demo(settings: dict[str, Any]) -> None:
    from flaxbert.demo import demo
    result = demo(Config.make(DEMO, **settings))
    for start, score in result["scores"].items():
        print(f"from {start} weights: dev {result['main_metric']} {score:.4f}")
    print(f"runs: {result['run']}" + (f"\npicture: {result['picture']}" if result["scores"] else
                                      "\ninterrupted; go on with --resume and this --output_dir"))


def _pretrain(settings: dict[str, Any]) -> None:
    _finetune({**settings, "task": "pretrain"})


# Flags of `evaluate` that go with a run, or with a file of predictions alone.
ONLY_WITH = {"run": ("checkpoint", "seed", "write"),
             "predictions": ("task", "text_columns", "label_column", "label_type")}


def _evaluate(settings: dict[str, Any]) -> None:
    from flaxbert.evaluation import evaluate, evaluate_file
    given = [flag for flag in ONLY_WITH if settings.get(flag)]
    if len(given) != 1:
        raise InputError("--run is needed, or --predictions: a run, or else a file of predictions to score")
    for other in ONLY_WITH.keys() - given:
        for flag in settings.keys() & {other, *ONLY_WITH[other]}:
            raise InputError(f"--{flag}: not together with --{given[0]}")
    if given == ["predictions"] and not settings.get("task"):
        raise InputError("--task is needed: the task that --predictions are of")
    print(json.dumps((evaluate if given == ["run"] else evaluate_file)(**settings)))


def _predict(settings: dict[str, Any]) -> None:
    from flaxbert.predict import predict
    count = predict(**settings)
    note(f"{count} rows")


def _export(settings: dict[str, Any]) -> None:
    from flaxbert.export import export
    export(**settings)
    print(f"{settings['to']}: written; transformers and flaxbert load it")


def _features(settings: dict[str, Any]) -> None:
    from flaxbert.extraction import extract
    print(f"{extract(**settings)}: written")


def _sweep(settings: dict[str, Any]) -> None:
    from flaxbert.grid import read_grid
    from flaxbert.sweep import sweep
    result = sweep(read_grid(settings.pop("grid")), **settings)
    run = result["run"]
    if result["status"] == "interrupted":
        print(f"interrupted, {result['done']} of {result['runs']} runs are there; the same command goes on with "
              f"--output_dir={run}")
        return
    print(f"{result['table']}\nsweep: {run}\npicture: {run}/figure.png")
    if result["errors"]:
        raise InputError(f"{run}: {result['done']} of {result['runs']} runs are there; the same command tries the "
                         "others again")


def _compare(settings: dict[str, Any]) -> None:
    from flaxbert.compare import compare
    from flaxbert.statistics.comparison import describe
    print("\n".join(describe(compare(**{name.lower(): value for name, value in settings.items()}))))
    if settings.get("output"):
        print(f"picture: {settings['output']}")


def _analyze(settings: dict[str, Any]) -> None:
    from flaxbert.analysis import describe, measured
    for rows in measured(**settings):
        print(describe(rows), end="\n\n", flush=True)
    if folder := settings.get("output"):
        print(f"rows, table and pictures: {folder}")


def _report(settings: dict[str, Any]) -> None:
    from flaxbert.report import report
    print(f"{report(settings['RUN'], settings.get('output', ''))}: written")


def _cache(settings: dict[str, Any]) -> None:
    from flaxbert.disk_cache import clear, describe, entries, readable
    folder = Path(settings.get("cache_dir") or Config.cache_dir).expanduser()
    if settings["word"] == "list":
        for flag in settings.keys() & {"unused_days", "limit"}:
            raise InputError(f"--{flag}: only with `flaxbert cache clear`")
        print(describe(folder))
        return
    count, freed = clear(folder, settings.get("unused_days", 0.0) * 86400, settings.get("limit", 0.0) * 1e9)
    in_use = sum(entry.in_use for entry in entries(folder))
    print(f"{folder}: {count} deleted, {readable(freed)} freed" + (f"; {in_use} in use stay" if in_use else ""))


def _tasks(settings: dict[str, Any]) -> None:
    from flaxbert.tasks import describe
    print(describe())


@dataclasses.dataclass(frozen=True)
class Command:
    """One command: what it does, in a line, its flags as (name, default, help), and those that must be given.

    `words` stand behind the command and come to `work` as settings: name -> what it may be, (): anything. Where
    `many` the last of them is a list, of one word or more.
    """

    work: Callable[[dict[str, Any]], None]
    about: str
    flags: tuple[tuple[str, Any, str], ...] = ()
    needed: tuple[str, ...] = ()
    words: dict[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    many: bool = False


_INPUT = ("A file; - is standard input. Texts, pairs: TSV, CSV or JSONL with the task's columns, or plain lines, "
          "a tab between two. Spans: SQuAD's .json, or TSV, CSV or JSONL of question and context. Choices: JSONL "
          "of context and choices, or the task's columns. Words: the task's columns (CoNLL), a text a line, or "
          "JSONL.")
_RUN = ("run", "", "A run's folder.")
_SKIP = ("skip_bad_rows", False, "Skip and count rows that cannot be read, in place of stopping.")
_SEED = ("seed", "best", "Of a folder of many seeds: best (by dev), ensemble (their mean), or a number.")
_CHECKPOINT = ("checkpoint", "best", "best or last.")
_COLUMNS = tuple((f.name, f.default, f"With --predictions, {f.metadata['help']}")
                 for f in dataclasses.fields(Config) if f.name in ONLY_WITH["predictions"] and f.name != "task")

COMMANDS: dict[str, Command] = {
    "finetune": Command(_finetune, "Fine-tune a pre-trained BERT on a task."),
    "demo": Command(_demo, "Fine-tune twice, from the model's weights and from random ones; one picture."),
    "pretrain": Command(_pretrain, "Pre-train a BERT on plain text, from scratch or from a pre-trained one."),
    "sweep": Command(_sweep, "Fine-tune with each value of some settings and each seed; go on where it was.", (
        ("grid", [], "NAME=VALUE,VALUE,...: train with each of these values of a setting, such as "
         "learning_rate=5e-5,4e-5,3e-5,2e-5. Several times: with each combination. Semicolons in place of commas "
         "where values hold some."),), ("grid",)),
    "compare": Command(_compare, "Compare two recipes over their seeds: A and B are folders of runs.", (
        ("output", "", "Draw it: a file, .png, .pdf or .svg."),
        ("checkpoint", "last", "Whose scores: last or best."),
        ("examples", "", "best, ensemble or a seed: compare what these answer on dev, too.")),
        words={"A": (), "B": ()}),
    "report": Command(_report, "Write a page about runs, side by side, a study's record or an analysis.", (
        ("output", "", "The file, .html; default: report.html in the folder, of several here. It loads nothing "
         "and may be moved anywhere; only pages of ours are written over."),), words={"RUN": ()}, many=True),
    "evaluate": Command(_evaluate, "Score a run, or anybody's predictions; prints one JSON line.", (
        _RUN, ("predictions", "", "In place of a run: a file of predictions in the official format of --task."),
        ("task", "", "With --predictions: the task; `flaxbert tasks` lists them."),
        ("split", "dev", "train, dev, dev_mismatched or test."), _CHECKPOINT,
        ("output", "", "File for the same JSON."), ("data_dir", "", "Where the task's files are, or are now."),
        ("file", "", "Score on this file, laid out as the task's, in place of a split."), *_COLUMNS,
        ("write", "", "Folder for the run's predictions of the split in the official format; it may lack labels."),
        _SEED, _SKIP)),
    "predict": Command(_predict, "Predict for a file of texts, questions or words.", (
        ("run", [], "A run's folder, or an exported one. Several times: heads of one backbone, which runs once "
         "for all of them."),
        ("input", "-", _INPUT),
        ("output", "-", "JSONL, or TSV by its ending; - is standard output."), _CHECKPOINT, _SEED,
        _SKIP), ("run",)),
    "export": Command(_export, "Write a run as a Hugging Face folder, which PyTorch loads.", (
        _RUN, ("to", "", "The folder to write."), _CHECKPOINT,
        ("dtype", "float32", "Of the weights: float32, float16 or bfloat16.")), ("run", "to")),
    "features": Command(_features, "Write what layers of a model say of a file of texts, as arrays.", (
        ("model", Config.model, "Hub name, Hugging Face folder, one of our runs, or `bundled`."),
        ("input", "-", "TSV, CSV or JSONL with texts; - is standard input."),
        ("output", "", "FILE.safetensors or FILE.npz, or a folder; FILE.tokens.json beside tells the tokens."),
        ("layers", ("last",), "Numbers (0: the embeddings) or names (embeddings, last, second_to_last, "
         "concat_last4), with commas between."),
        ("pooling", "none", "One vector a text, by cls, mean or max; none: one a token."),
        ("text_columns", (), "The column with the texts, or the two with pairs. Without: the column `text`, or no "
         "header and one text a line, or two with a tab between."),
        ("max_length", 0, "Longest sequence in tokens; 0: the model's own."),
        ("dtype", "float32", "Of the features: float32, float16 or bfloat16."), _CHECKPOINT, _SKIP), ("output",)),
    "analyze": Command(_analyze, "Compare a fine-tuned model with its pre-trained one, layer by layer.", tuple(
        (f.name, f.default, f.metadata["help"]) for f in dataclasses.fields(Analysis)), ("after",)),
    "cache": Command(_cache, "List or clear what runs have kept of frozen layers; what is in use stays.", (
        ("cache_dir", Config.cache_dir, "Where it is."),
        ("unused_days", 0.0, "clear: only what nobody has used for so many days."),
        ("limit", 0.0, "clear: only what was used longest ago, until so many GB are left.")),
        words={"word": ("list", "clear")}),
    "tasks": Command(_tasks, "List the tasks with their metrics and file layouts."),
}


def _overview() -> str:
    rows = "\n".join(f"  {name:10} {command.about}" for name, command in COMMANDS.items())
    return ("flaxbert: BERT in JAX, fine-tuned well.\n\nUsage: flaxbert COMMAND [--flag=value ...]\n\n"
            f"{rows}\n\nflaxbert COMMAND --help lists the flags of a command.")


def _define(name: str, default: Any, kind: Any, text: str, values: flags.FlagValues) -> None:
    """One absl flag of the type that a field's annotation or default tells."""
    kind = str(getattr(kind, "__name__", kind))
    if kind.startswith("tuple"):
        items = flags.FLAGS if values is None else values
        flags.DEFINE_list(name, ",".join(map(str, default)), text, flag_values=items)
        return
    define = {"bool": flags.DEFINE_bool, "int": flags.DEFINE_integer, "float": flags.DEFINE_float,
              "float | None": flags.DEFINE_float, "str": flags.DEFINE_string,
              "list": flags.DEFINE_multi_string}[kind]
    define(name, default, text, flag_values=values)


def _flags_of(name: str) -> tuple[flags.FlagValues, dict[str, list[tuple[str, Any, str]]]]:
    """The absl flags of a command, and (name, default, help) of each by group."""
    values = flags.FlagValues()
    grouped: dict[str, list[tuple[str, Any, str]]] = {}
    if name in CONFIGURED:
        for f in dataclasses.fields(Config):
            if f.name in LEFT_OUT.get(name, ()):
                continue
            choices, default = f.metadata["choices"], PRESETS.get(name, {}).get(f.name, f.default)
            text = HELP.get(name, {}).get(f.name, f.metadata["help"])
            text += f" One of: {', '.join(choices)}." if choices else ""
            _define(f.name, default, f.type, text, values)
            grouped.setdefault(GROUPS[f.metadata["group"]], []).append((f.name, default, text))
    for flag, default, text in COMMANDS[name].flags:
        _define(flag, default, type(default), text, values)
        grouped.setdefault("Flags", []).append((flag, default, text))
    flags.DEFINE_multi_string("flagfile", [], "Read flags from this file.", flag_values=values)
    return values, grouped


def _help(name: str, grouped: dict[str, list[tuple[str, Any, str]]]) -> str:
    words = " ".join("|".join(valid) or word for word, valid in COMMANDS[name].words.items())
    lines = [f"flaxbert {name} {words}".rstrip() + " ..." * COMMANDS[name].many + f": {COMMANDS[name].about}"]
    for title, rows in grouped.items():
        lines += ["", f"{title}:"]
        for flag, default, text in rows:
            default = ",".join(map(str, default)) if isinstance(default, tuple | list) else default
            shown = "" if default in ("", None) else f" [{default}]"
            lines += textwrap.wrap(f"--{flag}: {text}{shown}", 100, initial_indent="  ",
                                   subsequent_indent="      ")
    if name in CONFIGURED:
        lines += ["", "--flagfile=FILE reads flags from a file, one a line."]
    return "\n".join(lines)


def _parse(name: str, arguments: list[str]) -> dict[str, Any] | None:
    """The settings that were given; None where help was printed.

    Raises:
      InputError: an unknown flag or a value of the wrong type.
    """
    values, grouped = _flags_of(name)
    if any(a in ("--help", "-help", "-h", "--helpfull") for a in arguments):
        print(_help(name, grouped))
        return None
    values.set_gnu_getopt()  # flags may stand behind a word
    try:
        rest = values([name, *arguments], known_only=False)[1:]
    except flags.Error as error:
        raise InputError(f"{error} (flaxbert {name} --help lists the flags)".replace("\n", " ")) from None
    words, many = COMMANDS[name].words, COMMANDS[name].many
    if many and len(rest) >= len(words):
        rest = [*rest[:len(words) - 1], rest[len(words) - 1:]]
    if words and (len(rest) != len(words) or any(valid and word not in valid
                                                 for word, valid in zip(rest, words.values(), strict=True))):
        say = " and ".join(" or ".join(valid) or word for word, valid in words.items())
        raise InputError(f"flaxbert {name} {' '.join(rest)}".rstrip() + f": say {say}" + ", one or more" * many)
    if rest and not words:
        raise InputError(f"{rest[0]}: not a flag; write --flag=value (flaxbert {name} --help lists them)")
    known = {flag for rows in grouped.values() for flag, _, _ in rows}
    given = {flag: values[flag].value for flag in known if values[flag].present}
    for flag, _, text in COMMANDS[name].flags:
        if flag in COMMANDS[name].needed and not given.get(flag):
            raise InputError(f"--{flag} is needed: {text}")
    return {**given, **dict(zip(words, rest, strict=True))}


def main(arguments: list[str] | None = None) -> None:
    """Runs one command and exits: 0, 2 after bad input, 1 after a run that failed."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    # XLA's CPU loader warns at length about every program that the compilation cache gives back.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if not arguments or arguments[0] in ("--help", "-h", "-help", "help"):
        print(_overview())
        sys.exit(0 if arguments else 2)
    name = arguments.pop(0)
    logging.use_absl_handler()
    logging.set_verbosity(logging.WARNING)
    try:
        if name == "--version":
            from flaxbert import __version__
            print(__version__)
            return
        if name not in COMMANDS:
            raise InputError(f"{name}: no such command; valid: {', '.join(COMMANDS)}")
        settings = _parse(name, arguments)
        if settings is not None:
            COMMANDS[name].work(settings)
    except InputError as error:
        note(" ".join(str(error).split()))
        sys.exit(2)
    except BrokenPipeError:  # the reader has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        if not error.filename:
            raise
        note(f"{error.filename}: {error.strerror}")
        sys.exit(2)
    except RunFailed as error:
        note(str(error))
        sys.exit(1)
    except KeyboardInterrupt:
        note("interrupted")
        sys.exit(130)
