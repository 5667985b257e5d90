"""The page of runs: of one, of many seeds, of a sweep, or of any that are to be compared."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from flaxbert.pages import settings
from flaxbert.pages.arms import Arm, Run, name_of
from flaxbert.pages.curves import curves
from flaxbert.pages.document import badge, folded, page, picture, section, warning
from flaxbert.pages.html import Html, Part
from flaxbert.pages.scores import evaluations, every_run, every_score, overview
from flaxbert.pages.sources import Runs
from flaxbert.pages.tables import duration, facts, number

FEW, MANY = 8, 30  # warnings that stand above the page one by one; runs whose table is folded
PICTURES = {"figure.png": "Scores of each cell of the sweep", "seeds.png": "Scores of the seeds, a dot each",
            "failures.png": "What failed runs did differently: diagnostics by step",
            "learning_curves.png": "Both learning curves"}


def one(run: Run) -> str:
    """The page of a single run."""
    arm = Arm(run.name, run.folder, (run,))
    return page(f"Run {run.name}", _line([arm]), _troubles([run]),
                section("Scores", _facts(run), every_score([arm])),
                section("Learning curves", curves([arm])), folded("Every evaluation", evaluations(run)),
                section("Settings", Html("p", "Task, model, and what is not the default:"),
                        settings.table(run.settings), folded("All other settings", settings.rest(run.settings)),
                        Html("p", "The same again:"), settings.command(run.settings)),
                section("Where it comes from", origins([run])))


def many(title: str, arms: Sequence[Arm], sources: Sequence[Runs] = ()) -> str:
    """The page of several runs.

    Args:
      title: of the page.
      arms: as of `arms.grouped`, each with a name of its own.
      sources: the folders that they come from, with pictures and what they lack.
    """
    runs = [run for arm in arms for run in arm.runs]
    shared = {key: value for key, value in arms[0].settings.items()
              if all(arm.settings.get(key, ...) == value for arm in arms)}
    names = [arm.name for arm in arms]
    parts: list[Part] = [_troubles(runs, arms), _lacking(arms, sources), section("Scores", overview(arms))]
    if len(arms) > 1:
        parts.append(section("What differs", settings.side_by_side(arms, names) if settings.differing(arms) else
                             Html("p", "No setting but the seed and where it was written.")))
    parts += [section("Learning curves", curves(arms)), section("All scores", every_score(arms)),
              section("Every run", folded(f"{len(runs)} runs", every_run(arms)) if len(runs) > MANY
                      else every_run(arms))]
    drawn = [picture(source.folder / file, f"{about}, {name_of(source.folder)}", about) for source in sources
             for file, about in PICTURES.items() if (source.folder / file).exists()]
    parts.append(section("Pictures", drawn) if drawn else None)
    parts.append(section("Settings", Html("p", "What they share beyond the defaults:"), settings.table(
        _again(arms[0]) if len(arms) == 1 else shared),
        folded("All other settings that they share", settings.rest(shared)),
        Html("p", "The first of them again:"), settings.command(_again(arms[0]))))
    return page(title, _line(arms), parts, section("Where they come from", origins(runs)))


def _again(arm: Arm) -> dict[str, Any]:
    """The settings of all runs of an arm."""
    found = dict(arm.first.settings)
    return found if len(arm.runs) == 1 else {**found, "seed": 0, "seeds": [run.seed for run in arm.runs]}


def _line(arms: Sequence[Arm]) -> Html:
    """Task, model and state in a line."""
    runs = [run for arm in arms for run in arm.runs]
    tasks = ", ".join(dict.fromkeys(run.task for run in runs))
    models = ", ".join(dict.fromkeys(_model(run) for run in runs))
    counted = Counter(run.status for run in runs)
    states = [[" ", badge(status, count if len(runs) > 1 else 0)] for status, count in counted.items()]
    many = f" · {len(runs)} runs" if len(runs) > 1 else ""
    return Html("p", f"{tasks} · {models}{many}", states, class_="about")


def _model(run: Run) -> str:
    name = str(run.settings.get("model", ""))
    return name.rstrip("/").rpartition("/")[2] if name.startswith("/") else name


def _troubles(runs: Sequence[Run], arms: Sequence[Arm] = ()) -> list[Html]:
    """What went wrong, a line each."""
    alone, said = len(runs) == 1, []
    names = {id(run): run.name if len(arm.runs) == 1 else f"{arm.name}, seed {run.seed}" for arm in arms
             for run in arm.runs}
    for run in runs:
        who = "This run" if alone else names[id(run)]
        of = f"at step {run.last_step:,} of {run.about.get('steps', 0):,}" if run.about.get("steps") else \
            f"at step {run.last_step:,}"
        if run.status == "failed":
            said.append([Html("strong", f"{who} failed"),
                         f": {run.result.get('failure') or 'its loss was not finite'}."])
        elif run.status == "interrupted":
            said.append([Html("strong", f"{who} was interrupted"), f" {of}; --resume goes on with it."])
        elif run.status == "unfinished":
            said.append([Html("strong", f"{who} has no result yet"), f": it is at work {of}, or was killed there; "
                         "--resume goes on with it."])
    if len(said) > FEW:
        return [warning(Html("strong", f"{len(said)} of {len(runs)} runs"), " did not come to their end."),
                folded("Which ones", Html("ul", [Html("li", each) for each in said]))]
    return [warning(each) for each in said]


def _lacking(arms: Sequence[Arm], sources: Sequence[Runs]) -> list[Html]:
    """What was to be trained and has not begun."""
    said = [f"{arm.name}: not begun yet: seed {', '.join(map(str, arm.lacking))}." for arm in arms if arm.lacking]
    said += [f"{cell}: not trained{': ' + why if why else ' yet'}." for source in sources
             for cell, why in source.lacking.items()]
    return [warning(each) for each in said]


def _facts(run: Run) -> Html:
    """What came of it, in a few numbers."""
    result, best = run.result or {}, run.score("best")
    dev = [row[run.metric] for row in run.of("dev") if row.get(run.metric) is not None]
    if best is None and dev:
        best = (min if run.lowest else max)(dev)
    step = result.get("best_step")
    trained, total = (result.get(f"parameters_{what}") for what in ("trained", "total"))
    return facts([
        (f"best dev {run.metric}", "" if best is None else [number(best), f" at step {step:,}" if step else ""]),
        ("the best constant answer", "" if result.get("majority_baseline") is None
         else number(result["majority_baseline"])),
        ("steps", f"{run.last_step:,}" + (f" of {run.about['steps']:,}" if "steps" in run.about else "")),
        ("time", duration(result["seconds"]) if "seconds" in result else ""),
        ("examples a second", number(result["examples_per_second"], 2) if "examples_per_second" in result else ""),
        ("padding", f"{100 * result['padding_share']:.1f} %" if "padding_share" in result else ""),
        ("parameters trained", f"{trained:,} of {total:,}" if trained is not None and total is not None else ""),
        ("seed", str(run.seed))])


def origins(runs: Sequence[Run]) -> Html:
    """Weights, data, versions and devices; where runs differ, all of theirs."""
    def told(of: Any) -> list[Part]:
        found = list(dict.fromkeys(text for run in runs if (text := of(run))))
        return [[Html("br") if n else None, text] for n, text in enumerate(found)]

    def weights(run: Run) -> str:
        start = "random weights in the shape of " if run.settings.get("random_init") else ""
        digest = run.about.get("weights")
        return f"{start}{run.settings.get('model', '')}" + (f", SHA-256 {digest[:16]}…" if digest else "")

    def backbone(run: Run) -> str:
        found = run.about.get("backbone") or {}
        return ", ".join(f"{key} {value}" for key, value in found.items())

    def data(run: Run) -> str:
        examples = ", ".join(f"{split} {count:,}" for split, count in (run.about.get("examples") or {}).items())
        place = run.settings.get("data_dir") or run.settings.get("hub_dataset") or run.settings.get("train_file")
        return f"{run.task}" + (f" from {place}" if place else "") + (f": {examples} examples" if examples else "")

    def versions(run: Run) -> str:
        return ", ".join(f"{name} {version}" for name, version in (run.about.get("versions") or {}).items())
    return facts([("weights", told(weights)), ("frozen encoder", told(backbone)), ("data", told(data)),
                  ("devices", told(lambda run: str(run.about.get("devices") or ""))), ("versions", told(versions)),
                  ("folder", told(lambda run: str(run.folder)) if len(runs) <= 12 else f"{len(runs)} folders")],
                 long=True)
