"""Multiple choice: questions as units in rows, parity with PyTorch, the toy task, and runs from end to end."""

import dataclasses
import io
import json
import sys
from itertools import pairwise
from pathlib import Path

import jax
import numpy as np
import pytest
from cases import worst_gradient
from hypothesis import given
from hypothesis import settings as examples_of
from hypothesis import strategies as st
from small import apply_of, batch_of, config, lively, losses_of, result_of, shape

import flaxbert
from flaxbert import families, heads, packing, parallel, predict, pretrained, tasks, train, trees
from flaxbert.config import Config
from flaxbert.data import Encoded
from flaxbert.errors import InputError
from flaxbert.export import export
from flaxbert.inference import Inference
from flaxbert.tasks import words as w
from flaxbert.tasks.base import ChoiceExamples
from flaxbert.tasks.toy import SIZES, Writer

SWAG = "video-id,fold-ind,startphrase,sent1,sent2,gold-source,ending0,ending1,ending2,ending3,label"
SWAG_ROW = 'v1,17,x,A man opens a book.,He,gold,"reads, then sleeps.",eats it.,swims.,flies.,2'
ARC_ROW = "Which one is hot?,ice,fire,snow,rain,B"


def write(path, *lines):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(line + "\n" for line in lines))
    return path


def jsonl(path, *rows):
    return write(path, *map(json.dumps, rows))


def load(task, **given):
    return tasks.load(Config.make(task=task, **given))


def refused(function, *args, **given):
    with pytest.raises(InputError) as caught:
        function(*args, **given)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# --- files

def test_swag_reads_the_official_columns(tmp_path):
    for file in ("train.csv", "val.csv"):
        write(tmp_path / file, "," + SWAG, "0," + SWAG_ROW, "1," + SWAG_ROW[:-1] + "0")
    write(tmp_path / "test.csv", "," + SWAG.removesuffix(",label"), "0," + SWAG_ROW[:-2])
    _, splits, report = load("swag", data_dir=str(tmp_path))
    assert {split: len(examples) for split, examples in splits.items()} == {"train": 2, "dev": 2, "test": 1}
    assert splits["dev"].contexts[0] == "A man opens a book."
    assert splits["dev"].choices[0] == ["He reads, then sleeps.", "He eats it.", "He swims.", "He flies."]
    assert splits["dev"].labels.tolist() == [2, 0]
    assert splits["test"].labels is None
    assert report == tasks.Report()


def test_arc_drops_rows_that_lack_the_right_option_without_being_asked(tmp_path):
    rows = (ARC_ROW, "Three of them?,a,b,c,,3", "None at all?,,,,,2", "Gone?,a,b,c,d,E", "Last?,a,b,c,d,4")
    for file in ("arc_easy_dev.csv", "arc_easy_test.csv"):
        write(tmp_path / file, *rows)
    _, splits, report = load("arc", data_dir=str(tmp_path))
    assert [len(choices) for choices in splits["train"].choices] == [4, 3, 4]
    assert splits["train"].labels.tolist() == [1, 2, 3]
    assert splits["train"].ids == ["0", "1", "4"]
    assert report.skipped == {str(tmp_path / f"arc_easy_{part}.csv"): 2 for part in ("dev", "test")}
    assert "line 3: all options are empty; line 4: the answer is E, an option that is not there" in report.lines[0]


@pytest.mark.parametrize(("row", "said"), [
    ("What?,a,,c,d,A", "choice B is ''"), ("What?,a,b,c,d,F", "valid: A to E, 1 to 5"),
    ("What?,a,b,c,d,0", "valid: A to E"), ("What?,a,b,c,d,", "no label"), ("What?,a,b,c,A", "5 columns"),
    (" ,a,b,c,d,A", "the context is ' '"), ("What?,a,,,,A", "the number of choices is 1")])
def test_other_faults_of_arc_stop_the_run(tmp_path, row, said):
    for file in ("arc_easy_dev.csv", "arc_easy_test.csv"):
        write(tmp_path / file, ARC_ROW, row)
    line = refused(load, "arc", data_dir=str(tmp_path))
    assert f"{tmp_path / 'arc_easy_dev.csv'}, line 2: " in line
    assert said in line
    assert len(load("arc", data_dir=str(tmp_path), skip_bad_rows=True)[1]["dev"]) == 1


def test_arc_takes_one_folder_or_both(tmp_path):
    for folder, name in (("ARC-E", "easy"), ("ARC-C", "challenge")):
        for part in ("dev", "test"):
            write(tmp_path / folder / f"arc_{name}_{part}.csv", ARC_ROW.replace("hot", name))
    sizes = {("arc", ""): 2, ("arc", "ARC-E"): 1, ("arc", "ARC-C"): 1, ("arc_easy", ""): 1,
             ("arc_challenge", ""): 1, ("arc_challenge", "ARC-C"): 1}
    for (task, folder), size in sizes.items():
        assert len(load(task, data_dir=str(tmp_path / folder))[1]["train"]) == size
    both = load("arc", data_dir=str(tmp_path))[1]["dev"]
    assert both.contexts == ["Which one is challenge?", "Which one is easy?"]
    assert both.ids == ["arc_challenge_test:0", "arc_easy_test:0"]
    assert "no arc_easy_dev.csv, arc_easy_test.csv there" in refused(
        load, "arc_easy", data_dir=str(tmp_path / "ARC-C"))
    write(tmp_path / "ARC-E/arc_easy_dev.csv", ARC_ROW, "Bad?,a,b,c,d,x")
    assert ", arc_easy_dev.csv, line 2: " in refused(load, "arc", data_dir=str(tmp_path))


def test_arc_reads_the_original_jsonl(tmp_path):
    question = {"stem": "What?", "choices": [{"text": "a", "label": "1"}, {"text": "b", "label": "2"}]}
    file = jsonl(tmp_path / "ARC-Easy-Train.jsonl", {"id": "Q7", "question": question, "answerKey": "2"},
                 {"id": "Q8", "question": {**question, "choices": question["choices"] * 2}, "answerKey": "C"})
    _, splits, _ = load("arc", train_file=str(file), dev_file=str(file))
    dev = splits["dev"]
    assert (dev.contexts[0], dev.choices, dev.ids) == ("What?", [["a", "b"], ["a", "b"] * 2], ["Q7", "Q8"])
    assert dev.labels.tolist() == [1, 2]


def test_real_arc_is_read_with_its_faults_counted(outside):
    folder = outside / "data" / "arc"
    _, splits, report = load("arc", data_dir=str(folder))
    assert {split: len(examples) for split, examples in splits.items()} == {"train": 3243, "dev": 843}
    # 3 answers E; 150 rows answer with a digit, and every one of them lacks all of its options.
    assert sum(report.skipped.values()) == 3 + 150
    _, easy, report = load("arc_easy", data_dir=str(folder / "ARC-E"))
    assert (len(easy["train"]), len(easy["dev"])) == (2251 - 104, 570 - 21)
    assert [sum(len(c) == 3 for c in easy[split].choices) for split in easy] == [5, 1]
    assert easy["dev"].choices[0][easy["dev"].labels[0]] == "cellular telephone"


LABELS = {"number": 1, "number as text": "1", "letter": "B", "text": "green"}


@pytest.mark.parametrize("label", LABELS.values(), ids=LABELS)
def test_jsonl_says_what_is_right_by_number_letter_or_text(tmp_path, label):
    file = jsonl(tmp_path / "a.jsonl", {"context": "Grass is", "choices": ["red", "green"], "label": label,
                                        "id": "g"},
                 {"context": "Snow is", "choices": ["black", "blue", "white"], "label": 2, "id": 5})
    _, splits, _ = load("multiple_choice", train_file=str(file), dev_file=str(file))
    assert splits["train"].labels.tolist() == [1, 2]
    assert splits["train"].ids == ["g", "5"]
    other = jsonl(tmp_path / "b.jsonl", {"question": "Grass is", "choices": ["red", "green"], "label": label})
    _, splits, _ = load("multiple_choice", train_file=str(other), dev_file=str(other))
    assert (splits["dev"].contexts, splits["dev"].labels.tolist(), splits["dev"].ids) == (["Grass is"], [1], ["0"])


def test_a_text_is_the_choice_before_it_is_a_letter_or_a_number(tmp_path):
    rows = ((["B", "A"], "A"), (["1", "0"], "0"), (["1", "0"], 0))
    file = jsonl(tmp_path / "a.jsonl", *({"context": "x", "choices": c, "label": label} for c, label in rows))
    assert load("multiple_choice", train_file=str(file), dev_file=str(file))[1]["dev"].labels.tolist() == [1, 1, 0]


GOOD = {"context": "Grass is", "choices": ["red", "green"], "label": 1}
BAD = {
    "context": ({"context": 5}, "the context is 5"), "no context": ({"context": None}, "the context is None"),
    "one choice": ({"choices": ["red"]}, "the number of choices is 1; it must be 2 to 26"),
    "27 choices": ({"choices": [str(i) for i in range(27)]}, "the number of choices is 27"),
    "no list": ({"choices": "red, green"}, "they must be a list of texts"),
    "no text": ({"choices": ["red", 7]}, "choice B is 7"), "empty": ({"choices": ["", "green"]}, "choice A is ''"),
    "outside": ({"label": 2}, "the label '2' is none of the 2 choices"),
    "below": ({"label": -1}, "the label '-1'"),
    "letter": ({"label": "C"}, "the label 'C'"), "unknown": ({"label": "blue"}, "the label 'blue' is none"),
    "true": ({"label": True}, "the label 'true'"), "half": ({"label": 0.5}, "the label '0.5'"),
    "none": ({"label": None}, "no label"), "same": ({"choices": ["x", "x"], "label": "x"}, "is 2 of the choices"),
    "twice": ({"id": "first"}, "the id 'first' occurs twice")}


@pytest.mark.parametrize(("change", "said"), BAD.values(), ids=BAD)
def test_a_bad_question_stops_the_run_or_is_counted(tmp_path, change, said):
    dev = jsonl(tmp_path / "dev.jsonl", GOOD)
    file = jsonl(tmp_path / "train.jsonl", {**GOOD, "id": "first"}, {**GOOD, "id": "second", **change})
    line = refused(load, "multiple_choice", data_dir=str(tmp_path))
    assert f"{file}, line 2: " in line
    assert said in line
    _, splits, report = load("multiple_choice", data_dir=str(tmp_path), skip_bad_rows=True)
    assert splits["train"].ids == ["first"]
    assert report.skipped == {str(file): 1}
    assert "line 2" in report.lines[0]
    assert len(splits["dev"]) == len(dev.read_text().splitlines())


@pytest.mark.parametrize(("rows", "said"), [
    (({"text": "x", "choices": ["a", "b"], "label": 0},), "missing column context; found: text, choices, label"),
    (({"context": "x", "label": 0},), "missing column choices"),
    (({"context": "x", "choices": ["a", "b"]},), "missing column label"),
    ((GOOD, {"context": "x", "label": 0}), "line 2: missing column choices"),
    (({**GOOD, "label": 9},), "line 1: the label '9'")])
def test_missing_columns_are_named(tmp_path, rows, said):
    file = jsonl(tmp_path / "a.jsonl", *rows)
    line = refused(load, "multiple_choice", train_file=str(file), dev_file=str(file))
    assert str(file) in line
    assert said in line


def test_a_file_of_bad_questions_only_and_missing_files_are_refused(tmp_path):
    file = jsonl(tmp_path / "a.jsonl", {**GOOD, "label": 9})
    assert "no questions that can be read" in refused(
        load, "multiple_choice", train_file=str(file), dev_file=str(file), skip_bad_rows=True)
    assert "needs a train and a dev file" in refused(load, "multiple_choice")
    assert "needs a train and a dev file" in refused(load, "arc")
    assert "choice task, it has no classes" in refused(load, "toy_choice", class_weights=(1.0, 2.0))


def test_the_hub_with_held_back_labels(tmp_path, monkeypatch, tmp_path_factory):
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))
    names = datasets.ClassLabel(names=["0", "1", "2", "3"])
    for split, labels in (("train", [1, 3]), ("validation", [0]), ("test", [-1, -1])):
        count = len(labels)
        swag = datasets.Dataset.from_dict(
            {"sent1": ["A dog runs."] * count, "sent2": ["It"] * count, "label": labels,
             **{f"ending{i}": [f"stops {i} times."] * count for i in range(4)}}).cast_column("label", names)
        arc = datasets.Dataset.from_dict(
            {"id": [f"{split}{i}" for i in range(count)], "question": ["What?"] * count,
             "answerKey": ["B"] * count, "choices": [{"text": ["a", "b", "c"], "label": ["A", "B", "C"]}] * count})
        for name, data in (("swag", swag), ("arc", arc)):
            (tmp_path / name).mkdir(exist_ok=True)
            data.to_parquet(str(tmp_path / name / f"{split}.parquet"))
    _, splits, _ = load("swag", hub_dataset=str(tmp_path / "swag"))
    assert splits["train"].choices[1] == [f"It stops {i} times." for i in range(4)]
    assert splits["train"].labels.tolist() == [1, 3]
    assert splits["test"].labels is None
    _, splits, _ = load("arc_easy", hub_dataset=str(tmp_path / "arc"))
    assert (splits["dev"].choices, splits["dev"].labels.tolist()) == ([["a", "b", "c"]], [1])
    assert splits["train"].ids == ["train0", "train1"]


# --- from questions to rows

@pytest.fixture(scope="module")
def tokenizer():
    return pretrained.load("bundled").tokenizer


QUESTIONS = ChoiceExamples(
    ["The man was hungry.", "Who reads?", "It rained all day and all night, and nobody went out."],
    [["He ate a cake.", "He sold it."], ["Anna.", "The dog.", "Nobody at all, they say.", "He."],
     ["So.", "No.", "Yes."]],
    np.array([0, 3, 1], np.int32), ["a", "b", "c"])


def family(max_length=64, task="multiple_choice"):
    return families.make(tasks.get(task), Config.make(task=task, max_length=max_length))


def test_each_choice_is_a_pair_with_the_context_and_missing_ones_have_no_tokens(tokenizer):
    got = family().encode(tokenizer, QUESTIONS)
    assert (len(got), got.sequences) == (3, 4)
    for n, (context, choices) in enumerate(zip(QUESTIONS.contexts, QUESTIONS.choices, strict=True)):
        for p in range(4):
            number = 4 * n + p
            ids = got.tokens[got.offsets[number]:got.offsets[number + 1]].tolist()
            want = tokenizer(context, choices[p]) if p < len(choices) else {"input_ids": [], "token_type_ids": []}
            assert ids == want["input_ids"]
            assert got.second[number] == (want["token_type_ids"].index(1) if ids else 0)
    np.testing.assert_array_equal(got.labels, QUESTIONS.labels)
    assert got.lengths.sum() == len(got.tokens)


def test_every_choice_is_truncated_for_itself(tokenizer):
    long = " ".join(["the"] * 60)
    got = family(20).encode(tokenizer, ChoiceExamples(["was", long], [["he", long]] * 2, None, ["0", "1"]))
    assert np.diff(got.offsets).tolist() == [5, 20, 20, 20]


def units(count, seed=0, most=4, longest=9, alike=False):
    """`count` random questions of 2 to `most` choices of 3 to `longest` tokens."""
    rng = np.random.default_rng(seed)
    counts = np.full(count, most) if alike else rng.integers(2, most + 1, count)
    counts[0] = most
    there = np.arange(most) < counts[:, None]
    lengths = np.where(there, rng.integers(3, longest + 1, there.shape), 0).ravel()
    return Encoded(rng.integers(1, 50, lengths.sum()).astype(np.int32), np.cumsum([0, *lengths]),
                   np.minimum(lengths, rng.integers(2, longest, len(lengths))),
                   rng.integers(0, counts).astype(np.int32), np.ones(count, np.float32), sequences=most)


@examples_of(max_examples=30)
@given(st.integers(1, 24), st.integers(2, 6), st.integers(0, 2**31))
def test_the_choices_of_a_question_share_a_row_whole_and_in_order(count, most, seed):
    split = units(count, seed, most)
    plan, arrays = batch_of(split, range(count), row_length=int(max(64, split.lengths.max())))
    seen = 0
    for n, row, slot in zip(plan.examples, plan.row, plan.slot, strict=True):
        for p in range(most):
            begin, end = split.offsets[n * most + p:n * most + p + 2]
            column = arrays["first"][row, slot, p]
            assert (column < 0) == (begin == end)
            if column < 0:
                continue
            own = arrays["sequence"][row] == slot * most + p + 1
            assert np.flatnonzero(own).tolist() == list(range(column, column + end - begin))
            assert arrays["tokens"][row][own].tolist() == split.tokens[begin:end].tolist()
            assert arrays["positions"][row][own].tolist() == list(range(end - begin))
            assert arrays["types"][row][own].tolist() == [int(i >= split.second[n * most + p])
                                                          for i in range(end - begin)]
            seen += end - begin
        assert arrays["labels"][row, slot] == split.labels[n]
    assert (arrays["sequence"] > 0).sum() == seen == len(split.tokens)


def choice_model(layers=2):
    model = heads.ChoiceModel(shape(layers), 1)
    return model, lively(jax.eval_shape(lambda: heads.init(model, 0)))


def loss_and_gradients(model, params, arrays):
    def loss(params):
        scores = model.apply({"params": params}, arrays)
        losses = heads.LOSSES["choice"](scores, arrays)
        return (losses * arrays["weights"]).sum() / arrays["weights"].sum(), scores
    (value, scores), gradients = jax.jit(jax.value_and_grad(loss, has_aux=True))(params)
    return float(value), np.asarray(scores), trees.flatten(jax.device_get(gradients))


def test_packed_equals_unpacked_and_missing_choices_have_no_chance():
    model, params = choice_model()
    split = units(9)
    results = []
    for packed in (True, False):
        plan, arrays = batch_of(split, range(9), row_length=40, packed=packed, slots=4)
        value, scores, gradients = loss_and_gradients(model, params, arrays)
        results.append((value, scores[plan.row, plan.slot], gradients))
    assert plan.rows == 9
    (loss, scores, got), (want_loss, want_scores, want) = results
    there = np.diff(split.offsets).reshape(-1, 4) > 0
    assert not there.all()
    assert (want_scores[~there] == heads.NEVER).all()
    assert np.abs(want_scores[there]).max() > 0.3
    np.testing.assert_allclose(scores, want_scores, atol=1e-5)
    assert loss == pytest.approx(want_loss, abs=1e-5)
    assert worst_gradient(got, want)[0] < 1


def permuted(split, order):
    """The same questions with their choices in another order."""
    most = split.sequences
    new = (np.arange(len(split))[:, None] * most + order).ravel()
    parts = [split.tokens[split.offsets[i]:split.offsets[i + 1]] for i in new]
    return dataclasses.replace(split, tokens=np.concatenate(parts), second=split.second[new],
                               offsets=np.cumsum([0, *map(len, parts)]),
                               labels=np.argsort(order)[split.labels].astype(np.int32))


def test_permuting_the_choices_permutes_the_scores():
    model, params = choice_model()
    order = np.array([2, 0, 3, 1])
    found = []
    for split in (units(5, alike=True), permuted(units(5, alike=True), order)):
        plan, arrays = batch_of(split, range(5), row_length=48, slots=4)
        value, scores, _ = loss_and_gradients(model, params, arrays)
        found.append((value, scores[plan.row, plan.slot]))
    np.testing.assert_allclose(found[1][1], found[0][1][:, order], atol=1e-5)
    assert found[1][0] == pytest.approx(found[0][0], abs=1e-6)


def test_splits_of_different_numbers_of_choices_are_scored_alike():
    model, params = choice_model()
    placement = parallel.JitPlacement(jax.local_devices()[:1])
    inference, params = Inference(apply_of(model), placement), placement.put(params)
    split = units(7, most=5)
    whole = inference.outputs(params, split)
    assert whole.shape == (7, 5)
    for n in range(7):
        count = int((np.diff(split.offsets)[5 * n:5 * n + 5] > 0).sum())
        inside = slice(split.starts[n], split.starts[n + 1])
        alone = Encoded(split.tokens[inside], split.offsets[5 * n:5 * n + count + 1] - split.starts[n],
                        split.second[5 * n:5 * n + count], None, np.ones(1, np.float32), sequences=count)
        np.testing.assert_allclose(inference.outputs(params, alone)[0], whole[n, :count], atol=1e-5)


# --- padding

def padding_share(lengths, sequences, batch_size, max_length=128):
    """Of three epochs with the rows that a run chooses."""
    row_length = packing.choose_row_length(lengths, int(lengths.max()), batch_size, max_length * min(sequences, 4))
    epochs = packing.Epochs(lengths, batch_size, row_length, seed=0)
    needed, _ = packing.rows_needed(epochs, 3 * epochs.steps_per_epoch)
    counts = packing.row_counts(needed, 1)
    assert len(counts) <= 4
    return 1 - 3 * lengths.sum() / (row_length * sum(packing.smallest(counts, rows) for rows in needed))


@pytest.mark.parametrize("name", ["arc_easy", "arc_challenge"])
def test_padding_share_on_real_questions(outside, name, record_property):
    words = pretrained.load_tokenizer(outside / "models" / "minilm-l6-h384-uncased", pretrained.BertConfig())
    _, splits, _ = load(name, data_dir=str(outside / "data" / "arc"))
    encoded = family(128).encode(words, splits["train"])
    share = padding_share(encoded.lengths, encoded.sequences, 32)
    record_property("padding_share", float(share))
    print(f"{name}: {share:.4f}")
    assert share <= 0.09


ENDS = ("walks {place} and looks at the {thing} {purpose}", "leaves", "waits {place} {purpose}, {happy}",
        "says that the {thing} was {degree} {nice}, {happy}", "sits down next to the {nice} {thing}")


def swag_file(path, count, labels=True):
    """SWAG-like rows of our own: a sentence, and four ends of the next one."""
    writer = Writer(7, new=True)
    slots = dict(thing=w.THINGS, time=w.TIMES, place=w.PLACES, degree=w.DEGREES, nice=w.NICE, happy=w.HAPPY_END,
                 purpose=w.PURPOSES)
    rows = []
    for n in range(count):
        scene = writer.sentence("{time} somebody comes to the {nice} {thing} {place}", slots)
        ends = [f'"{writer.sentence(writer.pick(ENDS), slots).lower()}"' for _ in range(4)]
        rows.append(",".join(["v", str(n), "", scene, "Somebody", "gold", *ends, *([str(n % 4)] if labels else [])]))
    return write(path, SWAG if labels else SWAG.removesuffix(",label"), *rows)


def test_padding_share_in_the_format_of_swag(tmp_path, tokenizer, record_property):
    for name in ("train.csv", "val.csv"):
        swag_file(tmp_path / name, 1500)
    _, splits, _ = load("swag", data_dir=str(tmp_path))
    encoded = family(128, "swag").encode(tokenizer, splits["train"])
    share = padding_share(encoded.lengths, encoded.sequences, 32)
    record_property("padding_share", float(share))
    print(f"swag-like: {share:.4f}")
    assert share <= 0.09


# --- PyTorch

@pytest.fixture(scope="module")
def torch():
    return pytest.importorskip("torch", reason="parity with PyTorch is not checked: pip install 'flaxbert[torch]'")


def torch_scores(torch, bert, split, n):
    """PyTorch's scores of one question's own choices, padded to the longest."""
    most = split.sequences
    edges = split.offsets[n * most:(n + 1) * most + 1]
    ids = [split.tokens[a:b] for a, b in pairwise(edges) if b > a]
    second = split.second[n * most:n * most + len(ids)]
    length = max(map(len, ids))
    field = {name: np.zeros((1, len(ids), length), np.int64)
             for name in ("input_ids", "attention_mask", "token_type_ids")}
    for p, sequence in enumerate(ids):
        field["input_ids"][0, p, :len(sequence)] = sequence
        field["attention_mask"][0, p, :len(sequence)] = 1
        field["token_type_ids"][0, p, second[p]:len(sequence)] = 1
    return bert(**{name: torch.from_numpy(x) for name, x in field.items()}).logits[0]


@pytest.mark.parametrize("seed", range(4))
def test_scores_loss_and_gradients_equal_pytorch(torch, seed, record_property):
    import transformers
    model, params = choice_model(1 + seed % 2)
    bert = transformers.BertForMultipleChoice(transformers.BertConfig(
        **dataclasses.asdict(model.config), attn_implementation="eager", num_labels=1)).eval()
    wanted = pretrained.to_tensors(params, "choice")
    assert wanted.keys() == {name for name, _ in bert.named_parameters()}
    with torch.no_grad():
        for name, value in bert.named_parameters():
            value.copy_(torch.from_numpy(wanted[name]))
    split = units(6, seed)
    scores = [torch_scores(torch, bert, split, n) for n in range(6)]
    loss = sum(torch.nn.functional.cross_entropy(z[None], torch.tensor([int(y)]))
               for z, y in zip(scores, split.labels, strict=True)) / 6
    loss.backward()
    want = {name: value.grad.numpy() for name, value in bert.named_parameters()}
    for packed in (True, False):
        plan, arrays = batch_of(split, range(6), row_length=40, packed=packed, slots=4)
        value, found, gradients = loss_and_gradients(model, params, arrays)
        found = found[plan.row, plan.slot]
        errors = [np.abs(found[n, :len(z)] - z.detach().numpy()).max() for n, z in enumerate(scores)]
        got = pretrained.to_tensors(trees.unflatten(gradients), "choice")
        record_property("errors", str((packed, max(errors), value - float(loss), worst_gradient(got, want))))
        assert max(errors) < 2e-5
        assert value == pytest.approx(float(loss), abs=1e-5)
        assert worst_gradient(got, want)[0] < 1, worst_gradient(got, want)


# --- the toy task

def test_the_toy_task_is_of_the_stated_size_and_no_position_is_favoured():
    task = tasks.get("toy_choice")
    seen = set()
    for split, size in SIZES.items():
        examples = task.generate(split)
        assert len(examples) == len(examples.labels) == len(examples.ids) == size
        assert {len(choices) for choices in examples.choices} == {4}
        assert all(len(set(choices)) == 4 for choices in examples.choices)
        rows = set(zip(examples.contexts, map(tuple, examples.choices), strict=True))
        assert len(rows) == size
        assert not rows & seen
        seen |= rows
        counts = np.bincount(examples.labels, minlength=4)
        assert counts.max() - counts.min() <= 0.02 * size


def features(examples, cues):
    """[N, 4, F] one-hot: the last word of each choice, or, with `cues`, each word of the context beside it."""
    from sklearn.feature_extraction import FeatureHasher
    rows = []
    for context, choices in zip(examples.contexts, examples.choices, strict=True):
        words = context.lower().rstrip(".").split() if cues else ["any"]
        rows += [[f"{word}|{choice.rstrip('.').split()[-1]}" for word in words] for choice in choices]
    return FeatureHasher(2**18, input_type="string", alternate_sign=False).transform(rows)


@pytest.mark.parametrize(("cues", "low", "high"), [(False, 0.15, 0.35), (True, 0.35, 0.75)])
def test_the_toy_task_needs_both_sentences_and_words_that_train_does_not_show(cues, low, high):
    """A linear model on pairs of words, trained to tell right from wrong choices; measured: 0.26 and 0.53."""
    from sklearn.linear_model import Ridge
    task = tasks.get("toy_choice")
    split = {name: task.generate(name) for name in ("train", "dev")}
    goal = np.eye(4)[split["train"].labels].ravel()
    model = Ridge(alpha=1.0).fit(features(split["train"], cues), goal)
    picked = model.predict(features(split["dev"], cues)).reshape(-1, 4).argmax(1)
    assert low < (picked == split["dev"].labels).mean() < high


# --- runs

@pytest.fixture(scope="module")
def run(tiny, tmp_path_factory):
    """A run on SWAG-like files, with predictions for its test split."""
    folder = tmp_path_factory.mktemp("swag")
    for name, count, labels in (("train.csv", 64, True), ("val.csv", 24, True), ("test.csv", 8, False)):
        swag_file(folder / name, count, labels)
    out = folder / "run"
    train.finetune(config(tiny, out, task="swag", data_dir=str(folder), max_length=48, predict_test=True))
    return str(out)


@pytest.fixture(scope="module")
def predictor(run):
    return flaxbert.load(run)


ASKED = [("Grass is green.", ["It grows.", "It flies away.", "So is the sea."]),
         ("He left.", ["He came.", "He went."])]


def test_a_run_writes_predictions_as_the_official_file_and_evaluates_as_it_logged(run):
    scores = predict.evaluate(run)
    best = result_of(run)["best"]["dev"]
    assert {name: scores[name] for name in best} == pytest.approx(best, abs=1e-6)
    assert set(best) == {"loss", "accuracy"}
    lines = (Path(run) / "predictions" / "swag.csv").read_text().splitlines()
    assert lines[0] == ",pred"
    assert [line.split(",")[0] for line in lines[1:]] == [str(n) for n in range(8)]
    assert {line.split(",")[1] for line in lines[1:]} <= set("0123")


def test_answers_are_a_number_and_a_probability_each(predictor):
    answers = predictor(ASKED)
    assert [len(answer["probabilities"]) for answer in answers] == [3, 2]
    for answer, (context, choices) in zip(answers, ASKED, strict=True):
        assert set(answer) == {"choice", "probabilities"}
        assert sum(answer["probabilities"]) == pytest.approx(1)
        assert answer["choice"] == int(np.argmax(answer["probabilities"]))
        alone = predictor({"context": context, "choices": choices})[0]
        assert alone["probabilities"] == pytest.approx(answer["probabilities"], abs=1e-6)
        turned = predictor([[context, choices[::-1]]])[0]
        assert turned["probabilities"][::-1] == pytest.approx(answer["probabilities"], abs=1e-6)
    assert predictor([]) == []
    assert len(predictor([("x", [str(i) for i in range(26)])])[0]["probabilities"]) == 26


@pytest.mark.parametrize(("value", "said"), [
    ("Grass is green.", "is no question; give (context, [choice, ...])"), (("a", ["b"]), "must be 2 to 26"),
    (("a", "b"), "they must be a list"), (("a", ["b", 3]), "choice B is 3"), ((3, ["b", "c"]), "the context is 3"),
    ({"choices": ["a", "b"]}, "the context is None"), ({"question": "a"}, "the choices are None"),
    (7, "no question")])
def test_what_is_no_question_is_refused_with_its_number(predictor, value, said):
    line = refused(predictor, [ASKED[0], value])
    assert line.startswith("input 1: ")
    assert said in line


def test_files_of_questions_in_answers_out(run, predictor, tmp_path, monkeypatch, capsys):
    want = [answer["choice"] for answer in predictor(ASKED)]
    objects = [json.dumps({"context": context, "choices": choices}) for context, choices in ASKED]
    for name, lines in (("a", objects), ("b", [json.dumps(question) for question in ASKED])):
        write(tmp_path / f"{name}.jsonl", *lines)
        assert predict.predict(run, str(tmp_path / f"{name}.jsonl"), str(tmp_path / "out.jsonl")) == 2
        got = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
        assert [answer["choice"] for answer in got] == want
        assert [len(answer["probabilities"]) for answer in got] == [3, 2]
    predict.predict(run, str(tmp_path / "a.jsonl"), str(tmp_path / "out.tsv"))
    header, *rows = [line.split("\t") for line in (tmp_path / "out.tsv").read_text().split("\n")[:-1]]
    assert header == ["choice", "p(0)", "p(1)", "p(2)"]
    assert [int(row[0]) for row in rows] == want
    assert [len(row) for row in rows] == [4, 4]
    assert rows[1][3] == ""
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO("\n".join(objects).encode())))
    assert predict.predict(run) == 2
    assert [json.loads(line)["choice"] for line in capsys.readouterr().out.splitlines()] == want
    swag_file(tmp_path / "test.csv", 3, labels=False)
    assert predict.predict(run, str(tmp_path / "test.csv")) == 3
    assert len(capsys.readouterr().out.splitlines()) == 3


def test_an_export_answers_as_the_run_and_as_pytorch(torch, run, predictor, tmp_path):
    from transformers import AutoModelForMultipleChoice
    export(run, tmp_path / "out")
    exported = flaxbert.load(str(tmp_path / "out"))
    assert (exported.task.name, exported.kind) == ("swag", "choice")
    assert exported(ASKED) == predictor(ASKED)
    theirs = AutoModelForMultipleChoice.from_pretrained(tmp_path / "out").eval()
    assert type(theirs).__name__ == "BertForMultipleChoice"
    for question in ASKED:
        examples = predictor.family.inputs([question])
        encoded = predictor.encode(examples)
        with torch.no_grad():
            want = torch_scores(torch, theirs, encoded, 0).numpy()
        np.testing.assert_allclose(predictor.outputs(encoded)[0], want, atol=2e-5)


def test_a_run_that_is_resumed_ends_bitwise_the_same(tiny, tmp_path):
    given = dict(task="toy_choice", max_length=64, max_train_examples=32)
    whole = train.finetune(config(tiny, tmp_path / "whole", **given))
    part = config(tiny, tmp_path / "part", save_every=2, **given)
    loop_stops_after(part, 2)
    train.finetune(dataclasses.replace(part, resume=True))
    assert losses_of(tmp_path / "part") == losses_of(tmp_path / "whole")
    assert result_of(tmp_path / "part")["metrics"] == whole["metrics"]


def loop_stops_after(settings, step):
    """A run that is interrupted after so many steps."""
    real = train.Loop._count

    def counted(loop, plan, rows):
        real(loop, plan, rows)
        loop.steps = getattr(loop, "steps", 0) + 1
        loop.interrupted = loop.steps == step
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train.Loop, "_count", counted)
        assert train.finetune(settings)["status"] == "interrupted"


@pytest.mark.parametrize("how", ["jit", "pmap"])
def test_four_devices_equal_one(tiny, tmp_path, how):
    given = dict(task="toy_choice", max_length=64, batch_size=16, epochs=2.0, evals_per_epoch=0)
    results = [train.finetune(config(tiny, tmp_path / str(devices), devices=devices, parallel=how, **given))
               for devices in (1, 4)]
    losses = [losses_of(tmp_path / str(devices)) for devices in (1, 4)]
    assert max(losses[0].values()) - min(losses[0].values()) > 0.01
    assert max(abs(losses[0][step] - losses[1][step]) for step in losses[0]) < 1e-5
    assert results[1]["metrics"]["dev"] == pytest.approx(results[0]["metrics"]["dev"], abs=1e-4)


# --- anybody's predictions

def test_predictions_in_the_official_formats_are_scored(tmp_path):
    arc = ChoiceExamples(["q"] * 4, [["a", "b", "c", "d"]] * 4, np.array([0, 1, 2, 3], np.int32), list("wxyz"))
    file = write(tmp_path / "arc.csv", "z,D", "w,A", "x,C", "y,A;C")
    assert family(task="arc_easy").score_file(file, arc) == {"accuracy": 2.5 / 4}  # a tie earns a half
    swag = dataclasses.replace(arc, ids=list("0123"))
    file = write(tmp_path / "swag.csv", ",pred", "0,0", "1,1", "2,0", "3,0")
    assert family(task="swag").score_file(file, swag) == {"accuracy": 0.5}
    mine = write(tmp_path / "mine.tsv", "index\tprediction", "0\t0", "1\t1", "2\t2", "3\td")
    assert family().score_file(mine, swag) == {"accuracy": 1.0}
    for task in ("arc", "swag", "multiple_choice", "toy_choice"):
        scores = np.eye(4, dtype=np.float32)[[0, 1, 3, 3]]
        family(task=task).write("test", scores, None, swag, tmp_path)
        written = next(tmp_path.glob(f"{task}.[ct]sv"))
        assert family(task=task).score_file(written, swag) == {"accuracy": 0.75}


@pytest.mark.parametrize(("lines", "said"), [
    (("w,A", "x,A"), "no prediction for 'y'"), (("w,A", "x,A", "y,A", "q,A"), "something unknown: 'q'"),
    (("w,A", "x,A", "x,B"), "line 3: a second prediction for 'x'"), (("w,A", "x"), "line 2: 'x' is no id"),
    (("w,A", "x,A", "y,K"), "the prediction for y: the answer is 'K'"), ((), "is no id")])
def test_predictions_that_do_not_fit_are_told(tmp_path, lines, said):
    examples = ChoiceExamples(["q"] * 3, [["a", "b"]] * 3, np.zeros(3, np.int32), list("wxy"))
    file = write(tmp_path / "arc.csv", *lines)
    line = refused(family(task="arc").score_file, file, examples)
    assert str(file) in line
    assert said in line
