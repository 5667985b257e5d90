"""The gallery says what the committed records say."""

import json

import pytest

from experiments import gallery, records, run
from experiments.run import STUDIES, find, studies
from flaxbert.errors import InputError

CLAIMS = [(name, claim) for name in studies() for claim in getattr(find(name), "CLAIMS", ())]


def between_marks(file):
    return file.read_text().split("<!-- record -->\n\n")[1].split("\n<!-- end of record -->")[0]


@pytest.mark.parametrize(("file", "made"), [(gallery.ROOT / "README.md", gallery.pictures),
                                            (STUDIES / "README.md", gallery.claim_table)])
def test_committed_texts_are_those_of_the_records(file, made):
    text = made(gallery.in_order())
    assert between_marks(file).strip() == text.strip(), "write them with `python -m experiments.gallery`"


def test_every_letter_has_a_study_and_every_claim_a_letter():
    assert {claim.name[0] for _, claim in CLAIMS} == set(gallery.ARTICLE)
    text = gallery.claim_table(gallery.in_order())
    assert all(text.count(f"| **{claim.name}.** {claim.says} | [{name}]") == 1 for name, claim in CLAIMS)


def test_every_figure_that_is_shown_is_there():
    text = gallery.pictures(gallery.in_order())
    shown = [line for line in text.splitlines() if line.startswith("!")]
    assert shown
    assert all((gallery.ROOT / line.split("](")[1].rstrip(")")).is_file() for line in shown)


def kept(name, claims):
    command = " && ".join(f"python -m experiments.run {name} --preset=small{more} --output=a/b --update_readme"
                          for more in ("", "", " --tasks=d"))
    return gallery.Kept(name, STUDIES / name,
                        {"command": command, "question": "?", "findings": {"claims": claims}})


def test_a_claim_without_a_record_is_not_measured():
    rows = list(gallery.claims(gallery.Kept("stability", None, {})))
    assert len(rows) == len(find("stability").CLAIMS)
    assert {row[-1] for row in rows} == {"not measured"}


def test_tasks_that_differ_are_told_apart():
    name = find("stability").CLAIMS[0].name
    told = [{"claim": name, "task": task, "found": found, "published": "5 of 25 [R]", "verdict": verdict}
            for task, found, verdict in (
                ("a", "1 of 25", "confirmed"), ("b", "2 of 25", "not confirmed at this size"),
                ("c", "3 of 25", "confirmed"), ("d", "", "not measured"), ("e", "+0.1, one seed", "not measured"))]
    row = next(gallery.claims(kept("stability", told)))
    assert row[2] == ("`python -m experiments.run stability --preset=small`, "
                      "`python -m experiments.run stability --preset=small --tasks=d`")
    assert row[3] == "a: 1 of 25<br>b: 2 of 25<br>c: 3 of 25<br>e: +0.1, one seed"
    assert row[4] == "5 of 25 [R]"
    assert row[5] == "confirmed: a, c; not confirmed at this size: b; not measured: d, e"


def test_the_record_counts_whose_pictures_the_study_shows(tmp_path, monkeypatch):
    monkeypatch.setattr(gallery, "STUDIES", tmp_path)
    readme = tmp_path / "study" / "README.md"
    for name, status in (("a", "finished"), ("newer", "finished"), ("torn", "unfinished")):
        folder = tmp_path / "study" / "records" / name
        folder.mkdir(parents=True)
        (folder / "summary.json").write_text(json.dumps({"preset": "small", "status": status}))
    readme.write_text("No picture yet; records/a/ is a folder.")
    assert gallery.shown("study").folder is None
    readme.write_text("![One](records/a/figure.png)\n![Two](records/a/losses.png)\n")
    assert gallery.shown("study").folder.name == "a"
    for text, line in (("![One](records/a/1.png) ![Two](records/newer/2.png)", "several records, a, newer"),
                       ("![One](records/torn/figure.png)", "no summary of a whole record"),
                       ("![One](records/gone/figure.png)", "no summary of a whole record")):
        readme.write_text(text)
        with pytest.raises(InputError, match=line):
            gallery.shown("study")


def test_a_readme_shows_the_record_whose_table_it_has(tmp_path):
    readme = tmp_path / "study" / "README.md"
    readme.parent.mkdir()
    text = "![One](records/2026-01-01/figure.png), [older](records/2026-01-01/table.md)\n"
    readme.write_text(text)
    run.show(readme, readme.parent / "records" / "new")
    assert readme.read_text() == text.replace("(records/2026-01-01/fig", "(records/new/fig")


def test_a_study_with_a_record_has_to_say_what_came_of_it(tmp_path, monkeypatch):
    monkeypatch.setattr(gallery, "STUDIES", tmp_path)
    (tmp_path / "study").mkdir()
    readme = tmp_path / "study" / "README.md"
    readme.write_text("# Study\n\n**In short.** It\nis so.\n\nMore.\n")
    assert gallery.in_short("study") == "It is so."
    readme.write_text("# Study\n\nIt is so.\n")
    with pytest.raises(InputError, match="has no paragraph that begins with"):
        gallery.in_short("study")


def test_a_file_without_marks_is_left_alone(tmp_path):
    file = tmp_path / "README.md"
    file.write_text("text")
    with pytest.raises(InputError, match="has no lines"):
        records.write_between_marks(file, "x")
    assert file.read_text() == "text"
