"""Probes: what they find in states whose content is known, the control task, and a whole measurement."""

import dataclasses

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from small import refused

from flaxbert import analysis, pretrained, tasks
from flaxbert.analysis import classifiers, models, probes
from flaxbert.analysis.base import Settings
from flaxbert.analysis.classifiers import Words, answers, control_labels
from flaxbert.analysis.subject import Subject
from flaxbert.config import Config
from flaxbert.tasks.base import TokenExamples

C, D, W = 3, 8, 400


def blobs(count, seed, spread=0.1):
    """States of three classes far apart, in units of very different sizes; labels."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, C, count).astype(np.int32)
    centres = np.random.default_rng(9).normal(size=(C, D))
    return ((centres[labels] + spread * rng.normal(size=(count, D))) * 10.0 ** np.arange(-3, D - 3), labels)


@pytest.mark.parametrize("hidden", classifiers.PROBES.values(), ids=classifiers.PROBES)
def test_a_probe_reads_what_is_linearly_there(hidden):
    train, (states, labels) = Words(*blobs(W, 0)), blobs(W, 1)
    told = answers(train, states, C, hidden)
    assert (told == labels).mean() > 0.99
    np.testing.assert_array_equal(told, answers(train, states, C, hidden))  # by the seed alone


def test_only_the_mlp_reads_what_is_not_linear():
    rng = np.random.default_rng(0)
    states = rng.uniform(-1, 1, (2, 1500, D))
    (x, y), (a, b) = ((each, (each[:, 0] * each[:, 1] > 0).astype(np.int32)) for each in states)
    linear, mlp = (float((answers(Words(x, y), a, 2, hidden) == b).mean()) for hidden in (0, 64))
    assert linear < 0.6
    assert mlp > 0.9


def test_the_linear_probe_is_logistic_regression():
    train, (states, labels) = Words(*blobs(W, 0, spread=1.0)), blobs(2 * W, 1, spread=1.0)
    x, y = classifiers.standardised(train.states, states)
    want = LogisticRegression(C=1e4).fit(x, train.labels).predict(y)
    told = answers(train, states, C, epochs=100)
    assert (told == want).mean() > 0.95
    assert abs((told == labels).mean() - (want == labels).mean()) < 0.02


def test_units_that_never_change_do_not_count():
    x, y = classifiers.standardised(np.array([[5.0, 0, 1], [5, 0, 3]]), np.array([[7.0, 1, 5]]))
    np.testing.assert_array_equal(x, [[0, 0, -1], [0, 0, 1]])
    np.testing.assert_array_equal(y, [[0, 0, 3]])
    assert "two or more" in refused(answers, Words(np.zeros((1, 2)), np.zeros(1, np.int32)), np.zeros((1, 2)), 2)


def test_control_labels_are_of_word_types_and_distributed_like_labels():
    rng = np.random.default_rng(0)
    words = [f"w{i}" for i in rng.integers(0, 3000, 6000)]
    labels = rng.choice(3, 6000, p=[0.7, 0.2, 0.1]).astype(np.int32)
    train, dev = control_labels(words, labels, ["w1", "new", "w1"])
    kind = {}
    assert all(kind.setdefault(word, label) == label for word, label in zip(words, train, strict=True))
    assert dev[0] == dev[2] == kind["w1"]
    np.testing.assert_allclose(np.bincount([*kind.values()], minlength=3) / len(kind), [0.7, 0.2, 0.1], atol=0.03)
    np.testing.assert_array_equal(train, control_labels(words, labels, ["w1", "new"])[0])
    assert (control_labels(words, labels, ["new"], seed=1)[0] != train).any()


def sentences(count, seed, types=12):
    """Sentences of five words of `types`, tags by the word: even ones are verbs."""
    rng = np.random.default_rng(seed)
    numbers = rng.integers(0, types, (count, 5))
    return TokenExamples([[f"w{n}" for n in row] for row in numbers], (numbers % 2).tolist(), [0] * count,
                         [""] * count), numbers.ravel()


def asked(states_of, count, seed):
    examples, numbers = sentences(count, seed)
    states = np.stack([layer(numbers) for layer in states_of]).astype(np.float32)
    return probes.Asked(examples, [word for words in examples.words for word in words], numbers % 2,
                        {"before": states, "after": states})


def test_states_of_word_identity_alone_have_no_selectivity(monkeypatch):
    """Layer 0 knows which word it is, layer 1 the label alone, layer 2 nothing."""
    layers = (lambda n: np.eye(12)[n], lambda n: np.eye(12)[n % 2],
              lambda n: np.random.default_rng(len(n)).normal(size=(len(n), 12)))
    monkeypatch.setattr(probes, "PROBES", {"linear": 0})
    task = tasks.TASKS["conll2003_pos"]
    task = task.__class__(**{**task.__dict__, "labels": ("N", "V")})
    rows = probes.probed(task, asked(layers, 100, 1), asked(layers, 60, 2))
    value = {(row["layer"], row["measure"]): row["value"] for row in rows if row["side"] == "after"}
    assert value[0, "accuracy"] == value[0, "control"] == value[1, "accuracy"] == 1
    assert value[0, "selectivity"] == 0
    assert value[1, "selectivity"] == 1 - value[1, "control"] > 0.1
    assert value[2, "accuracy"] < 0.7
    assert rows[0]["seen"] == 1
    odd = float(np.mean(sentences(60, 2)[1] % 2))
    assert rows[0]["majority"] == (odd if np.mean(sentences(100, 1)[1] % 2) > 0.5 else 1 - odd)


@pytest.fixture(scope="module")
def subject(deep):
    """The same model twice."""
    model = pretrained.load(deep)
    settings = Settings.make(after=deep, before=deep, what=["probes"], sentences=40)
    return Subject(models.Pair(model, model), settings)


def test_measured_on_the_built_in_words(subject, tmp_path, monkeypatch):
    monkeypatch.setattr(probes, "PROBES", {"linear": 0})
    monkeypatch.setattr(probes, "EPOCHS", 3)
    rows = analysis.ANALYSES["probes"].measure(subject)
    assert len(rows) == 2 * 3 * 4  # sides, layers, measures
    by_side = [[row["value"] for row in rows if row["side"] == side] for side in ("before", "after")]
    assert by_side[0] == by_side[1]
    assert {row["task"] for row in rows} == {"toy_token"}
    assert all(0 <= row["value"] <= 1 for row in rows if row["measure"] != "selectivity")
    assert len(probes.table(rows)) == 1 + 3
    probes.figure(rows, tmp_path / "x.png")
    assert (tmp_path / "x.png").stat().st_size > 10_000


def test_states_are_those_of_first_sub_tokens(subject):
    """Each word's state is found again in a sentence of its own, by its first piece."""
    task, splits = probes.read("toy_token", "", 40)
    found = probes.asked(subject.pair, subject.both, task, splits["train"], "x")
    alone = TokenExamples(splits["train"].words[1:2], splits["train"].labels[1:2], [0], ["0"])
    again = probes.asked(subject.pair, subject.both, task, alone, "x")
    begin = len(splits["train"].words[0])
    assert found.words[begin:begin + len(again.words)] == again.words
    np.testing.assert_allclose(found.states["after"][:, begin:begin + len(again.words)], again.states["after"],
                               atol=2e-5)
    assert found.states["before"].shape == (3, len(found.words), 16)
    # Other labels of the same sentences are asked of the same states.
    same = probes.asked(subject.pair, None, task, dataclasses.replace(
        found.examples, labels=[[0] * len(each) for each in found.examples.labels]), "x", found)
    assert same.states is found.states
    assert not same.labels.any()
    assert probes.asked(subject.pair, subject.both, task, alone, "x", found).states is not found.states


def test_words_that_are_one_input_have_one_control_label(subject):
    """The tokenizer of these models knows no case."""
    task = tasks.get("toy_token")
    given = TokenExamples([["The", "cow"], ["the", "Cow", "ring"]], [[0, 1], [2, 3, 4]], [0, 0], ["0", "1"])
    the, cow, again, other, ring = probes.asked(subject.pair, subject.both, task, given, "x").words
    assert (the, cow) == (again, other)
    assert len({the, cow, ring}) == 3
    labels = np.arange(40, dtype=np.int32)
    for seed in range(4):
        [a, b], [c, d, _] = control_labels([the, cow], labels, [again, other, ring], seed)
        assert (a, b) == (c, d)


def test_a_folder_that_no_probe_reads_is_refused(subject):
    def checked(what=("probes",), task="toy_token", **given):
        config = None if task is None else Config.make(task=task)
        probes.check(Subject(models.Pair(subject.pair.before, subject.pair.after, config),
                             Settings(what=what, **given)))
    for given in (dict(), dict(task=None), dict(task="conll2003", conll_dir="other")):
        assert "--data_dir=x: probes read it of a run on conll2003_pos or " in refused(
            checked, data_dir="x", **given)
    checked(("probes", "surgery"), data_dir="x")  # which scores on it
    assert "x: no such folder" in refused(checked, task="conll2003", data_dir="x")
    assert "x: no such folder" in refused(checked, conll_dir="x")


def test_files_in_columns_are_read_three_ways_and_no_sentence_twice(subject, tmp_path):
    rows = [("EU NNP B-NP B-ORG", "rejects VBZ B-VP O"), ("Peter NNP B-NP B-PER", "left VBD B-VP O")]
    for name, kept in (("train.txt", rows[:1]), ("valid.txt", rows), ("test.txt", rows)):
        (tmp_path / name).write_text("\n\n".join("\n".join(lines) for lines in kept) + "\n")
    for name, labels in zip(probes.COLUMNS, (("NNP", "VBZ"), ("O", "B-NP"), ("O", "B-PER")), strict=True):
        if name == "conll2003_pos":  # VBD is in dev alone
            assert "VBD" in refused(probes.read, name, str(tmp_path), 0)
            continue
        task, splits = probes.read(name, str(tmp_path), 0)
        assert {*labels} <= {*task.labels}
        assert splits["dev"].words == [["Peter", "left"]]
    (tmp_path / "valid.txt").write_text("\n".join(rows[0]) + "\n")
    assert "every sentence" in refused(probes.read, "conll2003", str(tmp_path), 0)
