"""`flaxbert report`: a page about runs, the record of a study, or an analysis."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from flaxbert.errors import InputError
from flaxbert.pages import document, records, runs
from flaxbert.pages.arms import distinct, grouped, name_of
from flaxbert.pages.sources import Analysis, Record, Runs, Source, read

FILE = "report.html"
_PAGES = {Record: records.record, Analysis: records.analysis}


def report(folders: Sequence[str | Path], output: str | Path = "", readme: Path | None = None) -> Path:
    """Writes one HTML file that loads nothing about what these folders hold.

    Args:
      folders: runs, folders of many seeds, sweeps or folders of runs, all on one page; or one record or analysis.
      output: the file; default: report.html in the folder, or here where there are several.
      readme: of the study, for a record that does not lie in its folder.

    Returns:
      the file.

    Raises:
      InputError: a folder that holds none of it, something torn, or a file that is none of our pages.
    """
    if not folders:
        raise InputError("flaxbert report: say which runs, or which record")
    folders = list(dict.fromkeys(Path(folder).expanduser() for folder in folders))
    file = Path(output).expanduser() if output else (folders[0] if len(folders) == 1 else Path()) / FILE
    sources = [read(folder, readme) for folder in folders]
    for source in sources:
        if len(sources) > 1 and not isinstance(source, Runs):
            what = "the record of a study" if isinstance(source, Record) else "an analysis"
            raise InputError(f"{source.folder}: is {what}, which has a page of its own; report it alone")
    document.check(file)
    document.write(file, page(sources))
    return file


def page(sources: Sequence[Source]) -> str:
    """The page of these, as HTML."""
    if type(sources[0]) in _PAGES:
        return _PAGES[type(sources[0])](sources[0])
    names = [name_of(source.folder) for source in sources]
    found = [arm for source in sources for arm in grouped(source.arms, name_of(source.folder))]
    arms = grouped(found, "all runs")
    if len(arms) == 1 and len(arms[0].runs) == 1 and not arms[0].lacking and not sources[0].lacking:
        return runs.one(arms[0].first)
    if len({arm.name for arm in arms}) < len(arms):
        names_of_all = distinct([arm.folder for arm in arms])
        arms = [replace(arm, name=name) for arm, name in zip(arms, names_of_all, strict=True)]
    kind = {"seeds": "Seeds of", "sweep": "Sweep", "folder": "Runs in", "run": "Run"}[sources[0].kind]
    title = f"{kind} {names[0]}" if len(sources) == 1 else f"{' · '.join(names[:4])}{' …' * (len(names) > 4)}"
    return runs.many(title, arms, sources)
