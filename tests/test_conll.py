"""Words in columns: files, both tag schemes, bad input, the hub, inputs of predict, prediction files, the toy."""

import json
import random

import numpy as np
import pytest
from small import load, write
from test_tasks import quiet_datasets, refused  # noqa: F401 (a fixture)

from flaxbert import evaluation, tasks
from flaxbert.errors import InputError
from flaxbert.tasks import iob, sentences, tagged
from flaxbert.token_metrics import spans

TRAIN = ("-DOCSTART- -X- -X- O", "", "EU NNP B-NP B-ORG", "rejects VBZ B-VP O", "German JJ B-NP B-MISC",
         "call NN I-NP O", "", "Peter NNP B-NP B-PER", "Blackburn NNP I-NP I-PER", "", "-DOCSTART- -X- -X- O", "",
         "Paris NNP B-NP B-LOC", "Paris NNP B-NP B-LOC", "")
WORDS = [["EU", "rejects", "German", "call"], ["Peter", "Blackburn"], ["Paris", "Paris"]]


@pytest.fixture
def folder(tmp_path):
    for name in ("train", "valid", "dev"):
        write(tmp_path / f"{name}.txt", *TRAIN)
    return tmp_path


def named(task, split):
    return [[task.labels[label] for label in labels] for labels in split.labels]


# --- reading

def test_columns_documents_and_labels(folder):
    task, splits, report = load(task="conll2003", data_dir=str(folder))
    assert report == tasks.Report()
    assert list(splits) == ["train", "dev"]
    train = splits["train"]
    assert train.words == WORDS
    assert train.documents == [1, 1, 2]
    assert named(task, train) == [["B-ORG", "O", "B-MISC", "O"], ["B-PER", "I-PER"], ["B-LOC", "B-LOC"]]
    assert task.labels[:3] == ("O", "B-PER", "I-PER")
    assert train.rows[1][1] == ("Blackburn", "NNP", "I-NP", "I-PER")
    assert len(train.head(2).rows) == 2


def test_other_columns_are_tasks_too(folder):
    task, splits, _ = load(task="conll2003_pos", data_dir=str(folder))
    assert (task.main_metric, task.labels) == ("accuracy", ("JJ", "NN", "NNP", "VBZ"))
    assert named(task, splits["dev"])[1] == ["NNP", "NNP"]
    task, splits, _ = load(task="conll2003_chunk", data_dir=str(folder))
    assert task.labels == ("B-NP", "B-VP", "I-NP", "I-VP", "O")  # I-VP is not in the file and may be in the next
    assert named(task, splits["dev"])[0] == ["B-NP", "B-VP", "B-NP", "I-NP"]


@pytest.mark.parametrize("between", [" ", "\t", "  \t "])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_ones_own_files_with_two_columns(tmp_path, between, end):
    odd = "a\u00a0b\u2028c\x85\u3000"  # of white space, only spaces, tabs and newlines end a word
    write(tmp_path / "a.txt", "\ufeff" + between.join(("Oslo", "B-city")), between.join((odd, "O")), "", " ",
          between.join(("x-y", "B-my-type")) + " ", end=end)
    task, splits, _ = load(task="ner", train_file=str(tmp_path / "a.txt"), dev_file=str(tmp_path / "a.txt"))
    assert splits["dev"].words == [["Oslo", odd], ["x-y"]]
    assert task.labels == ("B-city", "B-my-type", "I-city", "I-my-type", "O")
    assert named(task, splits["dev"]) == [["B-city", "O"], ["B-my-type"]]
    assert splits["dev"].documents == [0, 0]


def test_iob1_is_found_and_made_iob2(folder):
    write(folder / "train.txt", "EU I-ORG", "and O", "Peter I-PER", "Blackburn I-PER", "Anna B-PER",
          "Paris I-LOC", "", "Rome I-LOC", "Oslo B-LOC", "")
    write(folder / "dev.txt", "EU B-ORG", "")
    task, splits, report = load(task="ner", data_dir=str(folder))
    assert named(task, splits["train"]) == [["B-ORG", "O", "B-PER", "I-PER", "B-PER", "B-LOC"], ["B-LOC", "B-LOC"]]
    assert report.lines == (f"{folder}/train.txt: its tags are IOB1, read as IOB2",)
    assert splits["train"].rows[0][0] == ("EU", "I-ORG")  # as the file has it


def test_any_spans_survive_either_scheme():
    rng = random.Random(0)
    for _ in range(2000):
        tags, kind = [], ""
        for _ in range(rng.randint(1, 9)):  # random spans, in IOB2
            letter = rng.choice("OBI")
            kind = "" if letter == "O" else kind if letter == "I" and kind else rng.choice("XY")
            goes_on = letter == "I" and tags[-1:] not in ([], ["O"])
            tags.append(f"{'I' if goes_on else 'B'}-{kind}" if kind else "O")
        before = ["O", *tags]
        iob1 = [f"I{tag[1:]}" if tag[0] == "B" and before[i][2:] != tag[2:] else tag for i, tag in enumerate(tags)]
        assert iob.fault(tags, "IOB2") is None
        assert iob.fault(iob1, "IOB1") is None
        assert iob.to_iob2(iob1) == iob.to_iob2(tags) == tags
        assert spans(iob1) == spans(tags)
        if any(tag != "O" for tag in tags):
            assert (iob.scheme([tags]), iob.scheme([iob1])) == ("IOB2", "IOB1")


def test_real_files(outside):
    data = str(outside / "data" / "conll2003")
    task, splits, report = load(task="conll2003", data_dir=data)
    assert report == tasks.Report()
    assert {split: (len(s), sum(map(len, s.words)), s.documents[-1]) for split, s in splits.items()} == {
        "train": (14041, 203621, 946), "dev": (3250, 51362, 216), "test": (3453, 46435, 231)}  # as published
    assert all(set(s.documents) == set(range(1, s.documents[-1] + 1)) for s in splits.values())
    found = [kind for tags in named(task, splits["train"]) for kind, _, _ in spans(tags)]
    assert {kind: found.count(kind) for kind in sorted(set(found))} == {
        "LOC": 7140, "MISC": 3438, "ORG": 6321, "PER": 6600}  # Tjong Kim Sang and De Meulder 2003, table 2
    sizes = {name: len(load(task=name, data_dir=data)[0].labels) for name in ("conll2003_pos", "conll2003_chunk")}
    assert sizes == {"conll2003_pos": 45, "conll2003_chunk": 21}


# --- bad input: line 3 of a file of good lines
DOCUMENT = "-DOCSTART- O"
GOOD = ("EU B-ORG", "rejects O", "", "Peter B-PER", "Blackburn I-PER", "")
BAD = {
    "call B": ("'B' is neither IOB1 nor IOB2", "B-TYPE or I-TYPE would be right"),
    "call I-": ("neither IOB1 nor IOB2",),
    "call L-PER": ("'L-PER' is neither",),
    "call NN O": ("3 columns where the first line has 2", "spaces or tabs"),
    "call": ("1 columns where",),
    "call I-LOC": ("I-LOC cannot begin a span in IOB2", "B-LOC would be right"),
    "call \udce9": ("not UTF-8", "0xe9"),
}


@pytest.mark.parametrize(("line", "said"), BAD.items(), ids=lambda value: repr(value)[:14])
def test_a_bad_line_stops_the_run_or_its_sentence_is_counted(folder, line, said):
    path = folder / "train.txt"
    write(folder / "dev.txt", *GOOD)
    path.write_bytes("\n".join((*GOOD[:2], line, *GOOD[2:], *GOOD)).encode("utf-8", "surrogateescape"))
    message = refused(task="ner", data_dir=str(folder))
    assert f"{path}, line 3: " in message
    assert all(words in message for words in said)
    _, splits, report = load(task="ner", data_dir=str(folder), skip_bad_rows=True)
    assert splits["train"].words == [["Peter", "Blackburn"], ["EU", "rejects"], ["Peter", "Blackburn"]]
    assert report.skipped == {str(path): 1}


def test_most_tags_decide_the_scheme_of_a_file(folder):
    write(folder / "train.txt", "EU I-ORG", "", "Paris B-LOC", "", "Rome I-LOC", "")
    message = refused(task="ner", data_dir=str(folder))
    assert "train.txt, line 3: B-LOC cannot begin a span in IOB1" in message
    assert "I-LOC would be right" in message


@pytest.mark.parametrize(("lines", "place"), [
    ((DOCUMENT, "", DOCUMENT, "", *GOOD), "line 1"), ((DOCUMENT, DOCUMENT, *GOOD), "line 1"),
    ((*GOOD, DOCUMENT, "", "", DOCUMENT, "", *GOOD), "line 7"), ((*GOOD, DOCUMENT, ""), "line 7")])
def test_a_document_without_a_sentence_is_told_or_counted(folder, lines, place):
    write(folder / "dev.txt", DOCUMENT, "", *GOOD)
    path = write(folder / "train.txt", *lines)
    told = f"{place}: an empty document: no sentence after -DOCSTART-"
    assert f"{path}, {told}" in refused(task="ner", data_dir=str(folder))
    _, splits, report = load(task="ner", data_dir=str(folder), skip_bad_rows=True)
    assert len(splits["train"]) == 2 * lines.count(GOOD[0])
    assert report.skipped == {str(path): 1}
    assert told in report.lines[0]


def test_a_document_of_bad_sentences_is_not_told_of_twice(folder):
    write(folder / "dev.txt", *GOOD)
    path = write(folder / "train.txt", *GOOD, DOCUMENT, "", "one too many", "", DOCUMENT, "", *GOOD)
    _, splits, report = load(task="ner", data_dir=str(folder), skip_bad_rows=True)
    assert (len(splits["train"]), report.skipped) == (4, {str(path): 1})


@pytest.mark.parametrize(("task", "content", "said"), [
    ("conll2003", (), "train.txt: empty; conll2003 reads one word a line"),
    ("conll2003", ("", " ", "-DOCSTART- O", ""), "train.txt: empty"),
    ("conll2003", ("word", ""), "train.txt, line 1: 1 columns; conll2003 reads one word a line"),
    ("conll2003_chunk", ("word NN", ""), "line 1: 2 columns; conll2003_chunk reads"),
    ("conll2003", ("word B-FOO", ""), "line 1: unknown label 'B-FOO'; valid: O, B-PER, I-PER"),
    ("conll2003", ("EU B-ORG", "word FOO", ""), "line 2: tag 'FOO' is neither"),
    ("ner", ("word O", ""), "train.txt: at least 2 labels are needed, found: O"),
])
def test_a_bad_file_is_refused(folder, task, content, said):
    write(folder / "train.txt", *content)
    assert said in refused(task=task, data_dir=str(folder))


def test_a_tag_that_train_lacks(folder):
    write(folder / "dev.txt", "EU B-ORG", "now B-TIME", "")
    message = refused(task="ner", data_dir=str(folder))
    assert f"{folder}/dev.txt, line 2: unknown label 'B-TIME'; valid: B-LOC, B-MISC" in message
    write(folder / "valid.txt", "EU FW B-NP O", "")
    assert "unknown label 'FW'; valid: JJ" in refused(task="conll2003_pos", data_dir=str(folder))
    write(folder / "dev.txt", "EU I-ORG", "", "now B-TIME", "", "then B-TIME", "")
    _, splits, report = load(task="ner", data_dir=str(folder), skip_bad_rows=True, train_file="train.txt",
                             dev_file="train.txt", test_file="train.txt")
    assert len(splits["test"]) == 3
    assert not report.lines


def test_a_test_file_of_words_alone_has_no_labels(folder):
    write(folder / "test.txt", "EU", "rejects", "", "Peter", "")
    _, splits, _ = load(task="ner", data_dir=str(folder))
    assert splits["test"].words == [["EU", "rejects"], ["Peter"]]
    assert splits["test"].labels is None


# --- the hub

def hub(datasets, folder, column, feature, rows):
    for split in ("train", "validation"):
        table = {"tokens": [words for words, _ in rows], column: [tags for _, tags in rows]}
        data = datasets.Dataset.from_dict(table)
        if feature:
            data = data.cast_column(column, datasets.Sequence(datasets.ClassLabel(names=feature)))
        data.to_parquet(str(folder / f"{split}-00000-of-00001.parquet"))


def test_the_hubs_numbers_go_by_the_hubs_names(tmp_path, quiet_datasets):  # noqa: F811
    names = ["O", "B-LOC", "I-LOC", "B-PER"]
    hub(quiet_datasets, tmp_path, "ner_tags", names, [(["A", "b"], [3, 0]), (["c"], [1])])
    task, splits, _ = load(task="conll2003", hub_dataset=str(tmp_path))
    assert splits["train"].words == [["A", "b"], ["c"]]
    assert named(task, splits["dev"]) == [["B-PER", "O"], ["B-LOC"]]
    task, splits, _ = load(task="ner", hub_dataset=str(tmp_path))
    assert task.labels == ("B-LOC", "B-PER", "I-LOC", "I-PER", "O")


def test_the_hubs_numbers_without_names_and_its_texts(tmp_path, quiet_datasets):  # noqa: F811
    hub(quiet_datasets, tmp_path, "ner_tags", None, [(["A", "b"], [1, 2]), (["c"], [0])])
    task, splits, _ = load(task="conll2003", hub_dataset=str(tmp_path))
    assert named(task, splits["dev"]) == [["B-PER", "I-PER"], ["O"]]
    hub(quiet_datasets, tmp_path, "ner_tags", None, [(["A", "b"], ["I-X", "I-X"]), (["c"], ["O"])])
    task, splits, report = load(task="ner", hub_dataset=str(tmp_path))
    assert named(task, splits["dev"])[0] == ["B-X", "I-X"]
    assert "IOB1" in report.lines[0]
    hub(quiet_datasets, tmp_path, "ner_tags", None, [(["A", "b"], ["B-X", "O"]), (["c"], ["O", "O"]), ([], [])])
    assert "split train, row 1: 1 words, tags" in refused(task="ner", hub_dataset=str(tmp_path))
    report = load(task="ner", hub_dataset=str(tmp_path), skip_bad_rows=True)[2]
    assert list(report.skipped.values()) == [2, 2]


# --- what a predictor is given

NER = tasks.resolve(tasks.Config.make(task="ner"), ("O", "B-PER", "I-PER"))


def inputs(path, *lines, skip=False):
    return tasks.read_inputs(NER, write(path, *lines), skip)[0]


def test_texts_are_cut_as_berts_basic_tokenizer_does_and_keep_their_offsets():
    text = "  Où\u00a0est l'U.N.? 北京\x00 naïve\u200bly\u0301… 😀."
    words, same, offsets = sentences.words_of(text)
    assert same == text
    assert [text[begin:end] for begin, end in offsets] == words
    assert words[:8] == ["Où", "est", "l", "'", "U", ".", "N", "."]
    assert words[8:11] == ["?", "北", "京\x00"] or words[8:11] == ["?", "北", "京"]
    assert words[-1] == "."
    assert sentences.words_of({"text": "a b"})[0] == sentences.words_of(("a", "b"))[0] == ["a", "b"]
    assert sentences.words_of({"words": ["New York"]}) == (["New York"], None, None)


def test_inputs_in_columns_have_no_labels_and_keep_documents(tmp_path):
    examples = inputs(tmp_path / "in.txt", *TRAIN)
    assert (examples.words, examples.documents, examples.labels) == (WORDS, [1, 1, 2], None)
    assert inputs(tmp_path / "in.txt", "Anna ANY", "left 7", "", "Oslo !").words == [["Anna", "left"], ["Oslo"]]
    assert inputs(tmp_path / "in.txt", "Anna B-PER", "left O").words == [["Anna", "left"]]
    assert inputs(tmp_path / "in.txt", "-DOCSTART-", "", "Anna", "left").words == [["Anna", "left"]]


def test_inputs_as_texts_or_json(tmp_path, monkeypatch):
    examples = inputs(tmp_path / "in.txt", "Anna left.", "Peter stayed.")
    assert examples.words == [["Anna", "left", "."], ["Peter", "stayed", "."]]
    assert examples.texts == ["Anna left.", "Peter stayed."]
    assert examples.documents == [0, 1]
    values = ("Anna left.", ["Anna", "left"], {"text": "Oslo"}, {"words": ["New York", "sleeps"]})
    lines = [json.dumps(value) for value in values]
    examples = inputs(tmp_path / "in.jsonl", *lines)
    assert examples.words == [["Anna", "left", "."], ["Anna", "left"], ["Oslo"], ["New York", "sleeps"]]
    import io
    import sys
    for content, expected in (("\n".join(lines), 4), ("Anna left.\n", 1), ("Anna O\nleft O\n\nYes O\n", 2)):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content.encode())))
        assert len(tasks.read_inputs(NER, "-")[0]) == expected


@pytest.mark.parametrize(("name", "lines", "said"), [
    ("in.txt", (), "in.txt: empty"), ("in.txt", ("Anna left.", "", "Yes."), "in.txt, line 2: no words"),
    ("in.jsonl", ('"fine"', "{text: 1}"), "in.jsonl, line 2: not JSON"),
    ("in.jsonl", ('"fine"', "3"), "in.jsonl, line 2: 3 is neither a text nor a list of words"),
    ("in.jsonl", ('"fine"', '["a", 1]'), "line 2: ['a', 1] is neither"), ("in.jsonl", ('{"x": "a"}',), "line 1: "),
    ("in.txt", ("-DOCSTART- O", "", "a b", "c"), "in.txt, line 4: 1 columns where the first line has 2"),
])
def test_bad_inputs(tmp_path, name, lines, said):
    with pytest.raises(InputError) as caught:
        inputs(tmp_path / name, *lines)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_bad_inputs_can_be_left_out(tmp_path):
    assert inputs(tmp_path / "in.jsonl", '"fine"', "3", '["a"]', skip=True).words == [["fine"], ["a"]]


# --- prediction files

def test_a_prediction_file_repeats_the_columns_up_to_the_tag(folder):
    task, splits, _ = load(task="conll2003", data_dir=str(folder))
    tags = [["B-ORG", "O", "O", "O"], ["B-PER", "B-PER"], ["B-LOC", "I-LOC"]]
    path = tagged.write(task, "dev", tags, splits["dev"], folder / "out")
    assert path == folder / "out" / "conll2003.dev.txt"
    last = iter(("O", "B-ORG", "O", "O", "O", "B-PER", "B-PER", "O", "B-LOC", "I-LOC"))
    assert path.read_text().splitlines() == [line and f"{line} {next(last)}" for line in TRAIN]
    assert tagged.read(task, path, splits["dev"]) == tags
    chunk, splits, _ = load(task="conll2003_chunk", data_dir=str(folder))
    path = tagged.write(chunk, "test", [["B-NP"] * len(words) for words in WORDS], splits["dev"], folder / "out")
    assert path.name == "conll2003_chunk.txt"
    assert path.read_text().splitlines()[2] == "EU NNP B-NP B-NP"  # the right tag last but one, as conlleval wants


def test_both_tags_of_a_prediction_file_are_in_iob2(tmp_path):
    """Of a file in IOB1 too: else the two columns would disagree where the model is right."""
    lines = ("-DOCSTART- O", "", "EU I-ORG", "and O", "Anna I-PER", "Lee I-PER", "Bo B-PER", "", "Rome I-LOC", "")
    task, splits, _ = load(task="ner", train_file=str(write(tmp_path / "a.txt", *lines)),
                           dev_file=str(tmp_path / "a.txt"))
    path = tagged.write(task, "dev", named(task, splits["dev"]), splits["dev"], tmp_path / "out")
    assert path.read_text().splitlines() == [
        "-DOCSTART- O O", "", "EU B-ORG B-ORG", "and O O", "Anna B-PER B-PER", "Lee I-PER I-PER", "Bo B-PER B-PER",
        "", "Rome B-LOC B-LOC", ""]
    assert tagged.read(task, path, splits["dev"]) == named(task, splits["dev"])


def test_labels_are_those_of_the_gold_file_and_the_predictions(tmp_path, monkeypatch):
    """No training file is needed, and the hub is not asked."""
    monkeypatch.setattr(tasks, "read_hub", lambda *_: pytest.fail("the hub was asked"))
    lines = ("EU NNP I-NP I-ORG", "met VBD I-VP O", "Anna NNP I-NP I-PER", "Lee NNP I-NP I-PER", "")
    gold = str(write(tmp_path / "gold.txt", *lines))

    def scored(task, *tags):
        words = (line.split()[0] for line in lines[:-1])
        said = write(tmp_path / "said.txt", *map(" ".join, zip(words, tags, strict=True)))
        return evaluation.evaluate_file(task, str(said), file=gold)
    scores = scored("ner", "I-LOC", "O", "I-PER", "I-PER")
    assert (scores["f1"], scores["f1_PER"], scores["f1_ORG"], scores["f1_LOC"]) == (0.5, 1, 0, 0)
    assert scores["accuracy"] == 0.75  # in IOB1, as the gold file is
    assert scored("ner", "B-LOC", "O", "B-PER", "I-PER") == scores  # and in IOB2
    assert scored("ner", "B-LOC", "O", "I-PER", "I-PER")["accuracy"] == 0.5  # where a wrong tag stays wrong
    assert scored("ner", "B-LOC", "O", "B-PER", "B-PER")["accuracy"] == 0.5
    assert scored("conll2003_pos", "NNP", "VBZ", "NNP", "NNP")["accuracy"] == 0.75
    scores = scored("conll2003_chunk", "B-NP", "B-VP", "B-NP", "B-NP")
    assert (scores["precision"], scores["recall"]) == (0.5, pytest.approx(2 / 3))
    with pytest.raises(InputError, match=r"said\.txt, line 2: unknown label 'VP'; valid: B-NP, B-VP, I-NP, I-VP"):
        scored("conll2003_chunk", "B-NP", "VP", "B-NP", "B-NP")


def test_scores_of_one_label_alone(tmp_path):
    gold, said = (write(tmp_path / name, "EU O", "met O", "") for name in ("gold.txt", "said.txt"))
    assert evaluation.evaluate_file("ner", str(said), file=str(gold))["accuracy"] == 1


def test_predictions_for_sentences_that_are_left_out_are_too(tmp_path, capsys):
    gold = write(tmp_path / "gold.txt", DOCUMENT, "", *GOOD, "call L-PER", "", DOCUMENT, "", "Oslo B-LOC")
    said = tmp_path / "said.txt"
    said.write_text("".join(f"{line} O\n" if line else "\n" for line in gold.read_text().splitlines()))
    with pytest.raises(InputError, match=r"gold\.txt, line 9: tag 'L-PER' is neither"):
        evaluation.evaluate_file("ner", str(said), file=str(gold))
    scores = evaluation.evaluate_file("ner", str(said), file=str(gold), skip_bad_rows=True)
    assert (scores["examples"], scores["accuracy"]) == (3, 1 / 5)
    assert f"{said}: skipped 1 bad row: line 9: 'call' where the split has 'Oslo'" in capsys.readouterr().err
    said.write_text(said.read_text().replace("Blackburn", "Black"))
    with pytest.raises(InputError) as caught:
        evaluation.evaluate_file("ner", str(said), file=str(gold), skip_bad_rows=True)
    assert "1 sentences; the split has 3; left out: line 7: 'Black' where" in str(caught.value)


def test_lines_between_documents_do_not_matter_in_predictions(tmp_path):
    examples = tasks.base.TokenExamples([["EU"], ["Oslo"]], None, [1, 3], ["0", "1"])
    odd = ("-DOCSTART-", "-DOCSTART- X", "EU\tO", "", "", "-DOCSTART- O", "Oslo O", "", "-DOCSTART- O")
    for lines in (("EU O", "", "Oslo O"), odd):
        assert tagged.read(NER, write(tmp_path / "p.txt", *lines), examples) == [["O"], ["O"]]


def test_anybodys_predictions_are_scored(tmp_path):
    task, splits, _ = load(task="toy_token")
    tags = named(task, splits["dev"])
    path = tagged.write(task, "dev", tags, splits["dev"], tmp_path)
    scores = evaluation.evaluate_file("toy_token", str(path))
    assert (scores["f1"], scores["accuracy"], scores["f1_FOOD"], scores["examples"]) == (1, 1, 1, 400)
    tags[0] = ["O"] * len(tags[0])
    tagged.write(task, "dev", tags, splits["dev"], tmp_path)
    assert 0.99 < evaluation.evaluate_file("toy_token", str(path))["f1"] < 1


def test_words_of_other_sources_are_one_cell_each(tmp_path):
    examples = tasks.base.TokenExamples([["New York", ""]], [[0, 1]], [0], ["0"])
    path = tagged.write(NER, "dev", [["O", "O"]], examples, tmp_path)
    assert path.read_text() == "New_York O O\n_ B-PER O\n\n"
    assert tagged.read(NER, path, examples) == [["O", "O"]]


@pytest.mark.parametrize(("lines", "said"), [
    (("EU O", "rejects O", "", "Peter O", "Black O", ""), "line 5: 'Black' where the split has 'Blackburn'"),
    (("EU O", "rejects O", "now O", ""), "line 3: 'now' where the split has the end of a sentence"),
    (("EU O", "", "rejects O"), "line 1: the sentence ends where the split's goes on with 'rejects'"),
    (("EU O", "rejects O", ""), "1 sentences; the split has 2"),
    (("EU O", "rejects O", "", "Peter O", "Blackburn O", "", "More O"), "line 7: 'More' where the split has"),
    (("EU O", "rejects B-TIME", ""), "line 2: unknown label 'B-TIME'; valid: O, B-PER, I-PER"),
    (("EU O", "rejects", ""), "line 2: 1 columns where the first line has 2"), ((), "0 sentences"),
])
def test_predictions_that_do_not_go_with_the_split(tmp_path, lines, said):
    examples = tasks.base.TokenExamples([["EU", "rejects"], ["Peter", "Blackburn"]], None, [0, 0], ["0", "1"])
    with pytest.raises(InputError) as caught:
        tagged.read(NER, write(tmp_path / "p.txt", *lines), examples)
    assert said in str(caught.value)
    assert str(tmp_path / "p.txt") in str(caught.value)


# --- the toy task

def test_toy_splits_are_the_same_everywhere_and_share_no_sentence():
    import hashlib
    task, splits, _ = load(task="toy_token")
    assert {name: len(split) for name, split in splits.items()} == {"train": 2000, "dev": 400, "test": 400}
    lines = [" ".join(map("/".join, zip(words, tags, strict=True)))
             for split in splits.values() for words, tags in zip(split.words, named(task, split), strict=True)]
    assert len(set(lines)) == 2800
    # The data are part of what a score means: a change of words or templates must be a decision, seen here.
    assert hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16] == DIGEST
    for split in splits.values():
        assert all(5 <= len(words) <= 16 and words[0][0].isupper() and words[-1] == "." for words in split.words)
        assert iob.scheme(named(task, split)) == "IOB2"
        assert not any(iob.fault(tags, "IOB2") for tags in named(task, split))


DIGEST = "e9bfb55c835c7921"


def test_toy_dev_has_names_that_train_lacks_and_words_of_several_kinds():
    task, splits, _ = load(task="toy_token")
    kinds: dict[str, set] = {}
    for words, tags in zip(splits["train"].words, named(task, splits["train"]), strict=True):
        for word, tag in zip(words, tags, strict=True):
            kinds.setdefault(word.lower(), set()).add(tag[2:])
    assert kinds["may"] == {"", "TIME", "PERSON"}
    assert kinds["turkey"] == {"FOOD", "PLACE"}
    assert sum(len(each) > 1 for each in kinds.values()) >= 12
    for split in ("dev", "test"):
        new = [word.lower() not in kinds for words in splits[split].words for word in words]
        assert 0.08 < np.mean(new) < 0.2


# Measured with a word and its two neighbours on either side: F1 0.86.
def test_toy_train_teaches_dev_but_not_all_of_it():
    from sklearn.feature_extraction import DictVectorizer
    from sklearn.linear_model import LogisticRegression

    from flaxbert.token_metrics import span_scores
    task, splits, _ = load(task="toy_token")

    def features(split):
        for words in split.words:
            padded = ["^", "^", *map(str.lower, words), "$", "$"]
            yield from ({f"{o} {padded[i + o]}": 1 for o in range(5)} for i in range(len(words)))
    table = DictVectorizer()
    seen, goal = table.fit_transform(features(splits["train"])), [x for row in splits["train"].labels for x in row]
    guesses = iter(LogisticRegression(C=10, max_iter=100).fit(seen, goal).predict(
        table.transform(features(splits["dev"]))))
    predicted = [[task.labels[next(guesses)] for _ in words] for words in splits["dev"].words]
    assert 0.75 < span_scores(named(task, splits["dev"]), predicted, ())["f1"] < 0.92
