"""The studies' runner, its records, and the throughput study at its smallest."""

import importlib
import json
from pathlib import Path

import pytest

from flaxbert.bert import BertConfig
from flaxbert.config import Config
from flaxbert.errors import InputError

ROOT = Path(__file__).parents[1]
# The encoder's matrices dominate, as in BERT-base: few words, short rows.
THREE_LAYERS = BertConfig(vocab_size=8192, hidden_size=64, num_hidden_layers=3, num_attention_heads=2,
                          intermediate_size=256, max_position_embeddings=64, hidden_dropout_prob=0.0,
                          attention_probs_dropout_prob=0.0)


@pytest.fixture
def run():
    """The module experiments.run."""
    return importlib.import_module("experiments.run")


@pytest.fixture
def told(run, capsys):
    """Runs the command line; (exit status, standard output, standard error)."""
    def call(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as caught:
            run.main(list(arguments))
        return caught.value.code, *capsys.readouterr()
    return call


def rows(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "results.jsonl").read_text().splitlines()]


def test_split_squad_splits_by_article(tmp_path, capsys):
    def article(n):
        asked = [{"id": f"{n}.{i}", "question": "?", "answers": [{"text": "a", "answer_start": 0}] * (i % 2)}
                 for i in range(n)]
        return {"title": str(n), "paragraphs": [{"context": "a", "qas": asked}]}
    (tmp_path / "all.json").write_text(json.dumps({"version": "v2.0", "data": [article(n) for n in range(1, 12)]}))
    importlib.import_module("experiments.split_squad").main(str(tmp_path / "all.json"), str(tmp_path / "new"))
    titles = {}
    for split in ("train", "dev"):
        content = json.loads((tmp_path / "new" / f"{split}-v2.0.json").read_text())
        assert content["version"] == "v2.0"
        titles[split] = [int(article["title"]) for article in content["data"]]
    assert titles == {"train": [1, 2, 3, 4, 6, 7, 8, 9, 11], "dev": [5, 10]}
    assert capsys.readouterr().out.splitlines()[1] == "dev: 2 articles, 15 questions, 8 without an answer"


def test_transfer_makes_a_record_of_both_starts(told, tmp_path, monkeypatch):
    seen = []

    def finetune(config):
        seen.append(config)
        score = 0.9 - 0.3 * config.random_init + 0.01 * config.seed
        return {"main_metric": "accuracy", "metrics": {"dev": {"accuracy": score, "loss": 1 - score}},
                "examples_per_second": 100.0}
    monkeypatch.setattr(importlib.import_module("experiments.transfer.study"), "finetune", finetune)
    folder = tmp_path / "record"
    status, out, err = told("transfer", "--preset=tiny", "--tasks=toy_pair", "--seeds=2", f"--output={folder}")
    assert (status, out.splitlines()) == (0, ["4 measured, 0 failed", f"record: {folder}"]), err
    assert [(config.random_init, config.seed) for config in seen] == [(False, 0), (True, 0), (False, 1), (True, 1)]
    assert {(each.task, each.model, each.learning_rate) for each in seen} == {("toy_pair", "bundled", 1e-3)}
    assert "| +0.300 | yes (0.007) | yes |" in (folder / "table.md").read_text()
    assert (folder / "figure.png").stat().st_size > 5000


@pytest.mark.parametrize(("random", "won", "apart"), [
    ((0.70, 0.72, 0.74), "yes (0.020)", "yes"), ((0.55, 0.80, 0.81), "no (0.147)", "no"),
    ((0.77, 0.78, 0.801), "yes (0.016)", "no")])
def test_a_transfer_task_is_won_by_more_than_the_spread(random, won, apart):
    table = importlib.import_module("experiments.transfer.table")
    rows = table.compare([{"point": {"task": "mrpc", "start": start, "seed": seed}, "metric": "f1",
                           "scores": {"f1": score, "loss": 0.0}}
                          for start, scores in (("pre-trained", (0.80, 0.80, 0.81)), ("random", random))
                          for seed, score in enumerate(scores)])
    about = {"date": "2026-11-21", "devices": 1, "device": "cpu", "commit": "0123456789",
             "settings": {"epochs": 3.0, "toy_rate": 1e-3, "real_rate": 3e-4}}
    cells = table.markdown(about, rows).splitlines()[-1].split(" | ")
    assert cells[:3] == ["| mrpc", "f1", "0.803 ± 0.006 (3)"]
    assert cells[5:] == [won, f"{apart} |"]


def test_throughput_writes_a_record_and_a_second_run_repeats_nothing(told, tmp_path, monkeypatch):
    monkeypatch.setitem(importlib.import_module("experiments.throughput.measure").MATMUL, "cpu", (256, 1))
    folder = tmp_path / "record"
    command = ("throughput", "--preset=tiny", f"--output={folder}")
    status, out, err = told(*command)
    assert (status, out.splitlines()) == (0, ["2 measured, 0 failed", f"record: {folder}"]), err
    assert (folder / "figure.png").stat().st_size > 5000
    first = rows(folder)
    assert [row["point"]["data"] for row in first] == ["full_length", "toy_pair"]
    for row in first:
        assert row["padding_share"] == 0 or row["point"]["data"] == "toy_pair"
        assert row["flops_per_step"] > 0
        assert row["tokens_per_second"] > 0
        assert len(row["windows"]) == 2
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["status"] == "finished"
    assert {"date", "commit", "device", "versions"} <= set(summary)
    assert (folder / "table.md").read_text().count("| bundled |") == 2

    # Torn by a kill in the middle of its last row: that one alone is measured again.
    text = (folder / "results.jsonl").read_text()
    (folder / "results.jsonl").write_text(text[:-20])
    assert told(*command)[:2] == (0, f"1 measured, 0 failed\nrecord: {folder}\n")
    assert rows(folder)[:1] == first[:1]
    assert told(*command)[:2] == (0, f"0 measured, 0 failed\nrecord: {folder}\n")
    assert len(rows(folder)) == 2
    status, _, err = told("throughput", "--preset=small", f"--output={folder}")
    assert status == 2
    assert "preset tiny, not small" in err


@pytest.mark.parametrize(("arguments", "line"), [
    (["nonsense"], "study=nonsense: unknown; valid: throughput"),
    (["throughput", "--preset=huge"], "--preset=huge: unknown; valid: tiny, small, paper"),
    (["throughput", "--models=gpt"], "--models=gpt: unknown; valid: bundled, minilm, bert_base, bert_large"),
    (["throughput", "--nonsense=1"], "Unknown command line flag 'nonsense'"),
    (["throughput", "small"], "small: not a flag"),
    (["throughput", "--steps=0"], "at least 1"),
])
def test_bad_input_is_one_line(told, tmp_path, arguments, line):
    status, _, err = told(*arguments, *([f"--output={tmp_path}/new"] * (len(arguments) > 1)))
    assert status == 2
    assert line in err
    assert err.count("\n") == 1
    assert not (tmp_path / "new").exists()


def test_without_a_name_the_studies_are_listed(told):
    status, out, _ = told()
    assert status == 0
    assert "throughput" in out


def test_every_study_has_all_that_the_runner_asks_for(run):
    for name in run.studies():
        study = run.find(name)
        assert {"small", "paper"} <= set(study.PRESETS)
        assert len({tuple(preset) for preset in study.PRESETS.values()}) == 1
        assert set(study.FLAGS) <= set(study.PRESETS["small"])
        assert "<!-- record -->" in (ROOT / "experiments" / name / "README.md").read_text()
        assert all(callable(getattr(study, part)) for part in ("points", "measure_point", "report"))


def test_a_failed_point_is_told_and_tried_again(monkeypatch, run, tmp_path):
    study = run.find("throughput")
    from experiments.records import PointFailed

    def fails(point, settings):
        raise PointFailed("out of device memory")
    monkeypatch.setitem(study.KINDS, "step", fails)
    for _ in range(2):
        result = run.run("throughput", "tiny", str(tmp_path / "record"))
        assert (result["measured"], result["failed"]) == (2, 2)
    summary = json.loads((tmp_path / "record" / "summary.json").read_text())
    assert [point["error"] for point in summary["failed"]] == ["out of device memory"] * 2


def test_the_table_goes_between_its_marks(tmp_path):
    from experiments.records import write_between_marks
    page = tmp_path / "README.md"
    page.write_text("before\n<!-- record -->\nold\n<!-- end of record -->\nafter\n")
    write_between_marks(page, "new\n")
    assert page.read_text() == "before\n<!-- record -->\n\nnew\n\n<!-- end of record -->\nafter\n"
    page.write_text("nothing\n")
    with pytest.raises(InputError, match="no lines"):
        write_between_marks(page, "new")


def test_peers_are_compared_by_medians_in_the_same_task():
    from experiments.throughput import peer
    speeds = {"flaxbert": (10.0, 30.0, 20.0), "fp32": (5.0, 4.0, 6.0)}
    found = peer.compare([
        {"point": {"kind": "peer", "side": side, "model": "m", "repeat": i}, "train_tokens_per_second": speed,
         "train_examples_per_second": 1.0, "padding_share": 0.0, "dev": {}}
        for side in speeds for i, speed in enumerate(speeds[side])])
    assert [(entry["side"], entry["ratio"]) for entry in found] == [("flaxbert", 1.0), ("fp32", 4.0)]


def test_freezing_2_of_3_layers_is_seen_in_the_flops(tmp_path):
    from experiments.throughput import measure, sources
    folder = sources.write_model(tmp_path / "model", THREE_LAYERS)
    data = sources.data_settings("full_length", length=32, examples=8)

    def flops(**strategy):
        config = Config.make(model=folder, batch_size=4, max_steps=1, **data, **strategy)
        (found,) = measure.compile_programs(config).flops.values()
        return found
    assert flops(frozen_layers=2) <= 0.62 * flops()
