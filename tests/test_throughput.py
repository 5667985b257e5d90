"""The throughput study: peers, savings and seeds together, at their smallest and of known answer."""

import importlib

import pytest

from experiments.records import read_rows


def test_peers_are_compared_by_medians_in_the_same_task():
    from experiments.throughput import peer
    speeds = {"flaxbert": (10.0, 30.0, 20.0), "fp32": (5.0, 4.0, 6.0)}
    found = peer.compare([
        {"point": {"kind": "peer", "side": side, "model": "m", "repeat": i}, "train_tokens_per_second": speed,
         "train_examples_per_second": 1.0, "padding_share": 0.0, "dev": {}}
        for side in speeds for i, speed in enumerate(speeds[side])])
    assert [(entry["side"], entry["ratio"]) for entry in found] == [("flaxbert", 1.0), ("fp32", 4.0)]


def test_savings_are_seen_in_programs_and_epochs(told, tmp_path):
    folder = tmp_path / "record"
    status, _, err = told("throughput", "--preset=tiny", "--parts=savings", "--frozen=1", f"--output={folder}")
    assert status == 0, err
    found = {tuple(row["point"].get(name) for name in ("kind", "strategy", "frozen", "cached")): row
             for row in read_rows(folder / "results.jsonl")}
    assert list(found) == [
        ("program", "features", 2, True), ("program", "freeze", 1, True), ("program", "freeze", 1, False),
        ("program", "freeze", 0, False), ("epoch", "freeze", 1, None), ("epoch", "features", 2, None)]
    programs = features, cached, uncached, full = list(found.values())[:4]
    # Of 2 layers; in theory 4 / 6 and 3 / 4.
    assert uncached["flops_per_step"] <= 0.7 * full["flops_per_step"]
    assert cached["flops_per_step"] <= 0.8 * uncached["flops_per_step"]
    assert features["flops_per_step"] <= 0.01 * full["flops_per_step"]
    features_bytes, *between, full_bytes = (row["program_bytes"] for row in programs)
    assert features_bytes < min(between)
    assert max(between) < full_bytes
    assert all(row["optimizer_bytes"] == 8 * row["parameters_trained"] for row in programs)
    assert [row["cached_layers"] for row in programs] == [[2], [1], [], []]
    epoch = found["epoch", "freeze", 1, None]
    assert (len(epoch["rounds"]), epoch["steps_per_epoch"], epoch["examples"]) == (2, 4, 16)
    assert all(seconds > 0 for each in epoch["rounds"] for seconds in each.values())
    assert set(found["epoch", "features", 2, None]["rounds"][0]) == {"full", "cached", "computing"}
    table = (folder / "table.md").read_text()
    assert "tiny, full-length, 4 x 32, float32; an epoch is 16 examples:" in table
    assert "8.000 to 8.000 bytes a trained parameter" in table
    assert (folder / "savings.png").stat().st_size > 5000
    assert not (folder / "figure.png").exists()


def test_seeds_together_are_timed_beside_one_after_the_other(told, tmp_path):
    folder = tmp_path / "record"
    status, _, err = told("throughput", "--preset=tiny", "--parts=seeds", f"--output={folder}")
    assert status == 0, err
    one, two = read_rows(folder / "results.jsonl")
    assert [row["point"]["seeds"] for row in (one, two)] == [1, 2]
    for row in (one, two):
        assert len(row["rounds"]) == 2
        assert all(seconds > 0 for each in row["rounds"] for seconds in each.values())
        assert row["together"]["padding_share"] == row["in_turn"]["padding_share"] == 0
    assert two["together"]["program_bytes"] > 1.2 * one["together"]["program_bytes"]
    assert two["in_turn"]["program_bytes"] == one["in_turn"]["program_bytes"]
    assert (folder / "table.md").read_text().count("| tiny | full-length | 4 x 32 | float32 |") == 2
    assert (folder / "seeds.png").stat().st_size > 5000


def test_what_was_wanted_of_seeds_together_is_wanted_of_accelerators():
    from experiments.throughput import together
    entries = together.compare([{
        "point": {"model": model, "seeds": 25},
        "rounds": [dict(together=1.0, in_turn=times) for times in (faster, 3 * faster, 0.5 * faster)]}
        for model, faster in (("bert_base", 1.6), ("bundled", 9.0))])
    assert entries[0]["faster"] == {"median": 1.6, "lowest": 0.8, "highest": pytest.approx(4.8)}
    assert [(each["found"], each["met"]) for each in together.targets(entries, "gpu")] == [(1.6, True), (9, False)]
    assert [(each["found"], each["met"]) for each in together.targets(entries, "cpu")] == [(None, None)] * 2


@pytest.mark.parametrize(("rate", "platform", "found", "met"), [
    (100.0, "gpu", 2.5, True), (75.0, "gpu", 10 / 3, False), (100.0, "cpu", None, None)])
def test_seeds_together_are_held_against_the_fastest_runs_of_the_peer(rate, platform, found, met):
    from experiments.throughput import together
    same = {"model": "bert_base", "data": "mrpc", "batch": 16, "length": 128}
    peers = [{**same, "side": side, "train_examples_per_second": each}
             for side, each in (("flaxbert", 99.0), ("bf16", 8.0), ("bf16_grouped", 10.0))]
    peers.append({**peers[-1], "batch": 32, "train_examples_per_second": 50.0})
    entry = {"point": {**same, "seeds": 25}, "together": {"examples_per_second": rate}}
    target = together.peer_target([entry], peers, platform)
    assert (target["found"], target["met"]) == (found and pytest.approx(found), met)


def test_gains_are_medians_over_the_rounds_beside_theory():
    from experiments.throughput import gains
    point = {"kind": "epoch", "model": "bert_base", "data": "full_length", "batch": 32, "length": 128,
             "examples": 64, "dtype": "float32", "strategy": "freeze", "frozen": 8}
    fast = [(2.0, 1.0, 0.5), (4.0, 2.0, 1.0), (9.0, 3.0, 9.0)]  # seconds of full, uncached and cached, by round
    (entry,) = entries = gains.compare([{
        "point": point, "layers": 12, "examples": 64, "steps_per_epoch": 2,
        "rounds": [dict(full=f, uncached=u, cached=c, computing=10.0) for f, u, c in fast]}])
    assert entry["faster"] == {"uncached": {"median": 2.0, "lowest": 2.0, "highest": 3.0},
                               "cached": {"median": 4.0, "lowest": 1.0, "highest": 4.0}}
    assert entry["theory"] == {"uncached": pytest.approx(1.8), "cached": 3.0}
    assert entry["epoch"] == {"full": 8.0, "uncached": 4.0, "cached": 2.0, "first": 12.0}
    assert [(each["wanted"], each["found"], each["met"]) for each in gains.targets(entries)] == [
        (1.6, 2.0, True), (2.7, 4.0, True), (50.0, None, None)]
    entry["faster"]["cached"]["median"] = 2.6
    assert gains.targets(entries)[1]["met"] is False
    assert gains.theory(12, 0) == {"uncached": 1.0, "cached": 1.0}
    assert gains.theory(12, 12) == {"uncached": 3.0, "cached": None}


def test_only_the_columns_that_say_so_are_cached(monkeypatch):
    study, configs = importlib.import_module("experiments.throughput.study"), []
    monkeypatch.setattr(importlib.import_module("experiments.throughput.measure"), "measure",
                        lambda config, *windows: configs.append(config))
    for strategy in ("full", "two_thirds", "two_thirds+cached", "head+cached"):
        study.measure_step({"model": "bundled", "data": "toy_pair", "batch": 4, "length": 32, "strategy": strategy,
                            "dtype": "float32", "packing": True}, study.PRESETS["tiny"])
    assert [(config.strategy, config.cache_frozen) for config in configs] == [
        ("full", "false"), ("freeze", "false"), ("freeze", "true"), ("head", "true")]
