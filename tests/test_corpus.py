"""Text to pre-train on: files, and the vocabulary learnt from them."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from small import refused

from flaxbert import families, tasks, vocabulary
from flaxbert.config import Config
from flaxbert.tasks import corpus
from flaxbert.tasks.base import Documents

# --- text files

def read(path, **other):
    given = Config.make(task="pretrain", train_file=str(path), **other)
    _, splits, report = tasks.load(given)
    return splits, report


def test_paragraphs_and_documents(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbf\r\n\r\n One.\r\nTwo. \r\n\r\n \t\r\nThree.\r\n\r\n")
    (tmp_path / "b.txt").write_text("Four.\n\nFive.")
    (tmp_path / "c.md").write_text("not this one")
    splits, report = read(tmp_path)
    assert splits["train"].paragraphs == [["One.", "Two."], ["Three."], ["Four."]]
    assert splits["dev"].paragraphs == [["Five."]]
    assert report.lines == ()
    splits, _ = read(tmp_path / "a.txt", dev_file=str(tmp_path / "b.txt"), max_train_examples=1)
    assert splits["train"].paragraphs == [["One.", "Two."]]
    assert splits["dev"].paragraphs == [["Four."], ["Five."]]


def test_one_percent_is_held_out(tmp_path):
    (tmp_path / "a.txt").write_text("\n\n".join(map(str, range(300))))
    splits, _ = read(tmp_path / "a.txt")
    assert splits["dev"].paragraphs == [["297"], ["298"], ["299"]]
    assert len(splits["train"]) == 297


def test_a_text_without_blank_lines_is_one_document_and_that_is_told(tmp_path):
    (tmp_path / "a.txt").write_text("\n".join(map(str, range(10))))
    splits, report = read(tmp_path / "a.txt")
    assert splits["train"].paragraphs == [[str(n) for n in range(9)]]
    assert splits["dev"].paragraphs == [["9"]]
    assert len(report.lines) == 1
    assert "one document" in report.lines[0]


@pytest.mark.parametrize(("content", "words"), [
    (b"", "a.txt: no text, nothing to hold out; give --dev_file"), (b"\n \n", "no text"),
    (b"One line.", "1 paragraph, nothing to hold out"),
    (b"Good.\n\nCaf\xe9.\n\nGood.", "a.txt, line 3: not UTF-8 text (byte 0xe9); convert the file to UTF-8")])
def test_bad_text_is_one_line(tmp_path, content, words):
    (tmp_path / "a.txt").write_bytes(content)
    assert words in refused(read, tmp_path / "a.txt")


def test_bad_lines_are_skipped_where_asked(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"Good.\n\nCaf\xe9.\n\nGood.\n\nBetter.")
    splits, report = read(tmp_path / "a.txt", skip_bad_rows=True)
    assert splits["train"].paragraphs == [["Good."], ["Good."]]
    assert "skipped 1 bad row" in report.lines[0]


UNSEEN = "\u200b\u2060\ufeff \x07 \ufffd \u0301 \ue000"  # zero-width, control, unknown, accent, private use


@pytest.mark.parametrize(("content", "place", "words"), [
    (f"One.\n\n{UNSEEN}\n\u200b\n\nTwo.\n\nThree.", "line 3", "nothing but characters that are not to be seen"),
    (f"One.\n\nTwo.\n\nThree.\n\n{UNSEEN}", "line 7", "nothing but"), ("", "line 1", "the file has no text"),
    ("\n \n", "line 1", "the file has no text")])
def test_an_empty_document_is_told_or_counted(tmp_path, content, place, words):
    file = tmp_path / "a.txt"
    file.write_text(content)
    (tmp_path / "b.txt").write_text("Four.\n\n\n\nFive.\n\u200b\n\n\n")  # paragraphs may be empty
    told = f"{place}: an empty document: {words}"
    assert f"{file}, {told}" in refused(read, tmp_path)
    splits, report = read(tmp_path, skip_bad_rows=True)
    found = [paragraphs[0] for split in splits.values() for paragraphs in split.paragraphs]
    assert found == (["One.", "Two.", "Three."] if "One" in content else []) + ["Four.", "Five."]
    assert report.skipped == {str(file): 1}
    assert told in report.lines[0]


def test_no_token_comes_of_what_counts_as_empty_and_one_of_all_else(tokenizer, capsys):
    assert tokenizer(UNSEEN, add_special_tokens=False)["input_ids"] == []
    assert corpus.is_empty(UNSEEN)
    for seen in ("a", ".", "\u4e2d", "\U0001f642", "\u0903", "\u20dd"):
        assert not corpus.is_empty(UNSEEN + seen)
        assert tokenizer(seen, add_special_tokens=False)["input_ids"]
    split = Documents([["a b"], [UNSEEN], ["c"]], ["0", "1", "2"])
    given = Config.make(task="pretrain", max_length=8)
    encoded = families.make(tasks.resolve(given), given).encode(tokenizer, split, "train")
    assert len(encoded) == 2
    assert "train: documents left out, of which no token comes: 1" in capsys.readouterr().err


def test_files_that_are_not_there(tmp_path):
    assert "no file" in refused(read, tmp_path / "none.txt")
    assert "no .txt file" in refused(read, tmp_path)
    (tmp_path / "a.txt").write_text("One.\n\nTwo.")
    (tmp_path / "empty.txt").write_text("\n")
    assert "empty.txt: no text" in refused(read, tmp_path / "a.txt", dev_file=str(tmp_path / "empty.txt"))
    assert "--train_file" in refused(tasks.load, Config.make(task="pretrain"))


def test_text_of_a_hub_dataset(tmp_path):
    pytest.importorskip("datasets")
    for split, lines in (("train", ["One.", "Two.", "", "Three."]), ("validation", ["", "Four."])):
        (tmp_path / f"{split}.jsonl").write_text("".join(json.dumps({"text": line}) + "\n" for line in lines))
    _, splits, _ = tasks.load(Config.make(task="pretrain", hub_dataset=str(tmp_path)))
    assert splits["train"].paragraphs == [["One.", "Two."], ["Three."]]
    assert splits["dev"].paragraphs == [["Four."]]
    (tmp_path / "validation.jsonl").write_text("".join(json.dumps({"text": line}) + "\n" for line in (
        "Four.", "", "\u200b", "\u200b", "", "Five.")))
    given = dict(task="pretrain", hub_dataset=str(tmp_path))
    assert "split validation, row 2: an empty document" in refused(tasks.load, Config.make(**given))
    _, splits, report = tasks.load(Config.make(**given, skip_bad_rows=True))
    assert splits["dev"].paragraphs == [["Four."], ["Five."]]
    assert list(report.skipped.values()) == [1]


# --- a vocabulary

def test_a_vocabulary_is_learnt_from_text():
    pieces = vocabulary.learn(["The lowest tower is lower than the low town."] * 3, 200)
    assert pieces[:5] == ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    assert len(pieces) == len(set(pieces)) <= 200
    assert {"the", "low", *"xyz!~"} <= set(pieces)
    made = vocabulary.tokenizer(pieces, cased=False)
    assert len(made) == len(pieces)
    assert "[UNK]" not in made.tokenize("Any quiz, jack: even 100% NEW words (é) work!")
    assert made.tokenize("Low") == ["low"]
    cased = vocabulary.tokenizer(vocabulary.learn(["Low and low"] * 3, 200, cased=True), cased=True)
    assert cased.tokenize("Low") == ["Low"]


def test_a_vocabulary_holds_the_most_frequent_letters_of_another_script():
    text = ["мама мыла раму", "мама", "щ"]
    pieces = vocabulary.learn(text, 300)
    assert "[UNK]" not in vocabulary.tokenizer(pieces, False).tokenize("мыла")
    assert "--vocabulary_size=100: too small" in refused(vocabulary.learn, text, 100)


def test_the_same_text_gives_the_same_vocabulary_in_another_process(text):
    """The trainer's hash tables are seeded anew in each."""
    code = ("import sys; from flaxbert import vocabulary; "
            "print(*vocabulary.learn([open(sys.argv[1]).read(), 'αβγ δε ζ ηθ'], 280), sep=chr(10))")
    other = subprocess.run([sys.executable, "-c", code, text], capture_output=True, text=True, check=True,
                           env={"RAYON_NUM_THREADS": "1", "PATH": ""}).stdout
    mine = vocabulary.learn([Path(text).read_text(), "αβγ δε ζ ηθ"], 280)
    assert mine == other.splitlines()
    assert 200 < len(mine) <= 280
