"""Runs a study: `python -m experiments.run NAME --preset=small|paper`; without a name it lists them.

A study is a folder experiments/NAME with a README.md and a study.py, which holds

    QUESTION                        one line
    PRESETS                         preset -> setting -> value; all presets have the same settings
    FLAGS                           setting -> help text, for the settings that a flag may override
    TOYS                            not needed: settings of `small` where FLAXBERT_DATA has no MiniLM
    CHOICES                         not needed: the settings that may differ between calls with one --output, as
                                    those that only say which points there are; default: tasks and seeds
    points(settings)                what to measure: a list of dicts of JSON values, each the key of its row
    measure_point(point, settings)  what was found at one point, a dict; raises PointFailed
    report(record)                  writes figure.png and table.md, returns the findings for summary.json
    READMES                         not needed: other files than its README.md that show table.md
    CLAIMS                          not needed: what the papers claim, see claims.py; the findings hold verdicts

The page of a record, report.html, is made of what is there then.
"""

import importlib
import os
import re
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from absl import flags

from flaxbert.errors import InputError, note, one_of
from flaxbert.progress import bar

STUDIES = Path(__file__).parent
CHOICES = ("tasks", "seeds")
PICTURE = re.compile(r"(!\[[^]]*]\(records/)([^/)]+)/")  # of a record, in a study's README
OWN_FLAGS = {"preset": "Which of the study's grids.",
             "output": "Folder of the record; default: experiments/NAME/records/DATE.",
             "update_readme": "Make the study's README show this record: its table and pictures."}


def studies() -> list[str]:
    """The names of all studies: the folders that hold a study.py."""
    return sorted(file.parent.name for file in STUDIES.glob("*/study.py"))


def find(name: str) -> ModuleType:
    """The study of that name; raises `InputError` listing the valid ones."""
    return importlib.import_module(f"experiments.{one_of(name, studies(), 'study')}.study")


def settings_of(study: ModuleType, preset: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a preset, and `given` in their place; what comes with the package where MiniLM is not here.

    Raises:
      InputError: no such preset.
    """
    settings = study.PRESETS[one_of(preset, tuple(study.PRESETS), "--preset")]
    return {**settings, **_toys(study, preset, given), **given}


def _toys(study: ModuleType, preset: str, given: Mapping[str, Any]) -> Mapping[str, Any]:
    """A study's TOYS where they take the place of what is not here; else nothing."""
    from experiments.training import at_hand
    toys = getattr(study, "TOYS", {}) if preset == "small" else {}
    other = toys and given.get("model", toys["model"]) != toys["model"]
    return {} if other or at_hand(study.PRESETS[preset].get("model", "")) else toys


def run(name: str, preset: str = "small", output: str = "", update_readme: bool = False,
        **given: Any) -> dict[str, Any]:
    """Measures what a record lacks yet, then reports on all of it.

    Args:
      name: of the study.
      preset: one of its PRESETS.
      output: folder of the record.
      update_readme: make the study's README show the record, its table and its pictures.
      **given: settings in place of the preset's.

    Returns:
      {"folder", "measured": points measured by this call, "failed": points that could not be}.

    Raises:
      InputError: an unknown study or preset, nothing to measure, a folder that holds something else, or a record
        that no README is to show.
    """
    study = find(name)
    settings = settings_of(study, preset, given)
    # A study may start other programs on the same device: leave them its memory.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    from experiments.records import PointFailed, Records, write_between_marks
    from flaxbert.report import report as write_page
    points = study.points(settings)
    if not points:
        raise InputError(f"{name}: nothing to measure; the data of the named tasks are to be in the folder that "
                         "FLAXBERT_DATA names, and toy tasks need none")
    now = time.strftime("%Y-%m-%d %H:%M:%S %z")
    folder = Path(output).expanduser() if output else STUDIES / name / "records" / now[:10]
    if update_readme and (preset == "tiny" or folder.resolve().parent != (STUDIES / name / "records").resolve()):
        raise InputError("--update_readme: shows a record of --preset=small or paper in "
                         f"experiments/{name}/records; leave it out, or measure there")
    record = Records(folder, {"study": name, "question": study.QUESTION, "preset": preset, "settings": settings,
                              "date": now[:10], "started": now}, getattr(study, "CHOICES", CHOICES))
    if toys := _toys(study, preset, given):
        note(f"FLAXBERT_DATA has no MiniLM: settings of the {toys['model']} model take its place, which says "
             "less; experiments/README.md tells what that folder holds")
    todo = [point for point in points if not record.has(point)]
    with bar(len(points), name, "points", initial=len(points) - len(todo)) as progress:
        for point in todo:
            progress.set_postfix_str(" ".join(str(value) for value in point.values()))
            begun = time.perf_counter()
            try:
                found = study.measure_point(point, settings)
            except PointFailed as error:
                note(f"{name}: {' '.join(map(str, point.values()))}: {error}")
                found = {"error": str(error)}
            record.append(point, {**found, "seconds": round(time.perf_counter() - begun, 2),
                                  "time": time.strftime("%Y-%m-%d %H:%M:%S %z")})
            progress.update()
    record.finish(study.report(record))
    write_page([folder], readme=STUDIES / name / "README.md")
    if update_readme:
        for readme in (STUDIES / name / "README.md", *getattr(study, "READMES", ())):
            write_between_marks(readme, (folder / "table.md").read_text())
        show(STUDIES / name / "README.md", folder)
    return {"folder": str(folder), "measured": len(todo), "failed": len(record.failed())}


def show(readme: Path, folder: Path) -> None:
    """Makes a study's README show the pictures of this record, one of the study's own."""
    readme.write_text(PICTURE.sub(rf"\g<1>{folder.name}/", readme.read_text()))


def _define(values: flags.FlagValues, name: str, default: Any, text: str) -> None:
    """One flag of the type of a setting's value."""
    kinds = ((bool, flags.DEFINE_bool), (int, flags.DEFINE_integer), (float, flags.DEFINE_float),
             (str, flags.DEFINE_string), (tuple, flags.DEFINE_list))
    define = next(define for kind, define in kinds if isinstance(default, kind))
    define(name, list(default) if isinstance(default, tuple) else default, text, flag_values=values)


def _parse(name: str, arguments: list[str]) -> dict[str, Any]:
    """The settings that were given as flags; raises `InputError` on what is none."""
    study, values = find(name), flags.FlagValues()
    defaults = {"preset": "small", "output": "", "update_readme": False, **next(iter(study.PRESETS.values()))}
    texts = {**OWN_FLAGS, **study.FLAGS}
    for flag, text in texts.items():
        _define(values, flag, defaults[flag], text)
    if {"--help", "-h"} & set(arguments):
        print(f"{name}: {study.QUESTION}\npresets: {', '.join(study.PRESETS)}")
        print("\n".join(f"  --{flag}: {text}" for flag, text in texts.items()))
        sys.exit(0)
    try:
        rest = values([name, *arguments])[1:]
    except flags.Error as error:
        raise InputError(f"{error} (python -m experiments.run {name} --help)".replace("\n", " ")) from None
    if rest:
        raise InputError(f"{rest[0]}: not a flag; write --flag=value (python -m experiments.run {name} --help)")
    given = {flag: values[flag].value for flag in texts if values[flag].present}
    return {flag: tuple(value) if isinstance(value, list) else value for flag, value in given.items()}


def main(arguments: list[str] | None = None) -> None:
    """Runs one study and exits: 0, 2 after bad input, 1 where a point failed."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    # XLA's CPU loader warns at length about every program that the compilation cache gives back.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if not arguments or arguments[0].startswith("-"):
        print("python -m experiments.run NAME [--preset=small|paper] [--output=FOLDER] [--help]\n")
        print("\n".join(f"  {name:16} {find(name).QUESTION}" for name in studies()))
        sys.exit(0 if not arguments or arguments[0] in ("-h", "--help") else 2)
    try:
        result = run(arguments[0], **_parse(arguments[0], arguments[1:]))
    except InputError as error:
        note(" ".join(str(error).split()))
        sys.exit(2)
    except KeyboardInterrupt:
        note("interrupted; the same command with --output=FOLDER of the record goes on")
        sys.exit(130)
    print(f"{result['measured']} measured, {result['failed']} failed\nrecord: {result['folder']}")
    sys.exit(1 if result["failed"] else 0)


if __name__ == "__main__":
    main()
