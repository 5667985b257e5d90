"""The BERT in the box: what it is, and how it was made."""

import json
import subprocess

import jax
import numpy as np
import pytest
from small import refused, write

from experiments.bundled import make
from flaxbert import cli, predict, pretrained, tasks, train
from flaxbert.config import Config
from flaxbert.model_files import BUNDLED
from flaxbert.tasks.base import Documents


def test_text_and_card_of_the_bundled_model(tmp_path, monkeypatch):
    data, work = tmp_path / "data", tmp_path / "work"
    write(data / "corpus" / "enwiki.txt", "One.", "Two.", "", "", "Three.")
    write(data / "corpus" / "wikinews.txt", "Four.", "", "Five.")
    write(data / "corpus" / make.HELD_OUT, "Six.")
    articles = [{"paragraphs": [{"context": "Seven\n and"}, {"context": "eight."}]}]
    write(data / "squad" / "train-v1.1.json", json.dumps({"data": articles}))
    monkeypatch.setenv("FLAXBERT_DATA", str(tmp_path))
    work.mkdir()
    make.corpus(work)
    assert (work / make.TRAIN).read_text() == "One.\nTwo.\n\nThree.\n\nFour.\n\nFive.\n\nSeven and\neight.\n"
    assert (work / make.HELD_OUT).read_text() == "Six.\n"
    dev = {"perplexity": 50.04, "unigram_perplexity": 1000.8, "mlm_accuracy": 0.25, "nsp_accuracy": 0.75}
    for name, steps in (("stable", 9000), ("cooled", 1500)):
        write(work / name / "result.json", json.dumps(
            {"status": "finished", "metrics": {"dev": dev}, "seconds": 3600, "parameters_total": 5_500_000,
             "best_step": steps}))
        write(work / name / "config.json", json.dumps(
            {"settings": {}, "examples": {"train": 5, "dev": 1}, "steps": steps, "devices": "1 x cpu",
             "versions": {"jax": "1.2"}}))
    card = make.card(work)
    for part in ("5.5 million", "| 5 English", "10,500 steps (9,000 + 1,500)", "2.0 hours", "50.0; a unigram",
                 "has 1001, 20.0 times", "| 0.750 |", "--next_sentence", "jax 1.2", "<!-- record -->"):
        assert part in card
    assert "{" not in card


@pytest.mark.parametrize(("status", "code", "fine"), [
    ("finished", 0, True), ("interrupted", 0, False), ("finished", 2, False), (None, 0, False)])
def test_a_run_that_was_stopped_does_not_count(tmp_path, monkeypatch, status, code, fine):
    write(tmp_path / "stable" / "config.json", json.dumps({"settings": {}}))
    if status:
        write(tmp_path / "stable" / "result.json", json.dumps({"status": status}))
    calls = []
    monkeypatch.setattr(make.subprocess, "run", lambda command, cwd: calls.append((command, cwd)) or
                        subprocess.CompletedProcess(command, code))
    if fine:
        make.pretrain(tmp_path, "stable")
    else:
        assert "was stopped" in refused(make.pretrain, tmp_path, "stable")
    (command, folder), = calls
    assert folder == tmp_path
    assert {"--resume", "--output_dir=stable", *make.RUNS["stable"]} < set(command)


@pytest.mark.parametrize("name", make.RUNS)
def test_the_commands_of_the_card_are_flags_of_today(name, monkeypatch):
    asked = []
    monkeypatch.setattr(train, "finetune", lambda config: asked.append(config) or {
        "run": "r", "main_metric": "perplexity", "best": {}, "status": "finished"})
    cli.main(["pretrain", *make.RUNS[name], f"--output_dir={name}"])
    assert asked[0].task == "pretrain"
    tasks.resolve(asked[0])


def test_the_bundled_model_is_pre_trained_and_small():
    model = pretrained.load("bundled")
    assert (model.config.num_hidden_layers, model.config.hidden_size) == (4, 256)
    assert len(model.tokenizer) == model.config.vocab_size == 8192
    assert model.settings["dtype"] == "float16"
    assert all(x.dtype == np.float32 and np.isfinite(x).all() for x in jax.tree.leaves(model.params))
    assert {"mlm", "nsp"} < set(model.params)
    assert sum(path.stat().st_size for path in BUNDLED.iterdir()) < 12e6
    card = (BUNDLED / "README.md").read_text()
    assert all(f"--output_dir={name}" in card for name in make.RUNS)


def test_the_bundled_model_knows_words_in_their_place():
    guess = predict.load("bundled")
    told = guess(["The United [MASK] of America.", "It is one [MASK] the largest cities in the world."])
    assert [each["masked"][0]["token"] for each in told] == ["states", "of"]


def test_it_tells_held_out_words_ten_times_as_well_as_their_frequencies(outside):
    """On a part of the text that the card speaks of, and of what it was trained on."""
    def documents(name, count):
        found = (outside / "data/corpus" / name).read_text("utf-8").split("\n\n")[:count]
        return Documents([each.splitlines() for each in found], list(map(str, range(len(found)))))
    guess = predict.Predictor(pretrained.load("bundled"), tasks.of_kind("pretraining", ()),
                              Config.make(task="pretrain", max_length=128))
    guess.family.fit(guess.encode(documents("wikinews.txt", 200)))
    held_out = guess.encode(documents(make.HELD_OUT, 25))
    scores = guess.family.scores(guess.outputs(held_out), held_out, None)
    print(scores)
    assert scores["perplexity"] <= scores["unigram_perplexity"] / 10


def test_its_vocabulary_writes_any_english_text():
    tokenizer = pretrained.load("bundled").tokenizer
    assert tokenizer.convert_ids_to_tokens(list(range(5))) == ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    assert tokenizer.tokenize("The City opened a school") == ["the", "city", "opened", "a", "school"]
    assert tokenizer.tokenize("Café") == tokenizer.tokenize("cafe")
    odd = "Zyx-quuxes don't 100% “agree”, (e.g.) #7@home: $5; a/b\\c=[d]{e}~^|`<f>+g*h&i_j…"
    assert tokenizer.unk_token_id not in tokenizer(odd)["input_ids"]
    assert len(tokenizer("horse " * 700, verbose=False)["input_ids"]) >= 702  # nothing truncates
