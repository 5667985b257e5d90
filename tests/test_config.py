"""The settings: defaults, recipes, overrides, checks, JSON."""

import dataclasses
import json
import math
from pathlib import Path

import numpy as np
import pytest
import small

from flaxbert import tasks
from flaxbert.config import DEFAULTS, RECIPES, Config
from flaxbert.errors import InputError

FIELDS = {f.name: f for f in dataclasses.fields(Config)}


def refused(**given) -> str:
    return small.refused(Config.make, **given)


def test_defaults_are_those_of_the_contract():
    c = tasks.settled(Config.make(model="bert-base-uncased"))
    assert (c.optimizer, c.bias_correction, c.weight_decay, c.warmup, c.schedule, c.clip_norm, c.batch_size,
            c.epochs, c.learning_rate, c.max_length, c.devices, c.strategy, c.parallel) == (
        "adamw", True, 0.01, 0.1, "linear", 1.0, 32, 3.0, 2e-5, 128, 0, "full", "jit")


def test_the_bundled_model_has_a_rate_of_its_own():
    """It is a twentieth of BERT-base: at 2e-5 it hardly learns."""
    assert Config.make().learning_rate == Config.make(model="bundled").learning_rate == 3e-4
    assert Config.make(learning_rate=2e-5).learning_rate == Config.make(recipe="mosbach").learning_rate == 2e-5
    assert Config.make(task="pretrain").learning_rate == 5e-4
    assert Config.make({"model": "tiny"}).learning_rate == 2e-5


# What each paper did (facts: BERT's code; 2006.04884 and its code; 2006.05987; Hugging Face's Trainer).
@pytest.mark.parametrize(("recipe", "expected"), [
    ("devlin", dict(bias_correction=False, epsilon=1e-6, weight_decay=0.01, schedule="google", warmup=0.1)),
    ("mosbach", dict(bias_correction=True, epochs=20.0, batch_size=16, learning_rate=2e-5, warmup=0.1,
                     decay_updated_weights=True, epsilon_before_correction=True, weight_decay=0.01)),
    ("zhang", dict(bias_correction=True, epochs=3.0, batch_size=32, weight_decay=0.0, warmup=0.1)),
    ("hf", dict(bias_correction=True, weight_decay=0.0, warmup=0.0, epsilon=1e-8,
                epsilon_before_correction=False))])
def test_a_recipe_sets_its_group(recipe, expected):
    c = Config.make(recipe=recipe)
    assert {name: getattr(c, name) for name in expected} == expected
    assert c.recipe == recipe


def test_single_settings_override_a_recipe_even_with_the_default():
    c = Config.make(recipe="mosbach", epochs=3.0, bias_correction=False)
    assert (c.epochs, c.bias_correction, c.batch_size) == (3.0, False, 16)
    assert Config.make(recipe="devlin", bias_correction=True).bias_correction is True


@pytest.mark.parametrize("task", DEFAULTS)
@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_overrides_a_tasks_own_defaults_and_a_single_setting_both(recipe, task):
    """All but the peak of the learning rate and the size of the run, where the paper does not fix them."""
    free = {"learning_rate", "batch_size", "epochs"} - set(RECIPES[recipe])
    made = Config.make(task=task, recipe=recipe)
    for name in DEFAULTS[task]:
        assert getattr(made, name) == (DEFAULTS[task] if name in free else RECIPES[recipe])[name], name
    assert made.beta2 == 0.999
    assert Config.make(task=task).beta2 == 0.98
    assert Config.make(task=task, recipe=recipe, beta2=0.98).beta2 == 0.98


def test_recipes_hold_nothing_but_settings_of_the_right_type():
    for recipe in RECIPES.values():
        for name, value in recipe.items():
            assert type(value) is type(FIELDS[name].default), name


def test_frozen_layers_imply_the_strategy():
    assert Config.make(frozen_layers=2).strategy == "freeze"
    assert Config.make(frozen_layers=2, strategy="full").strategy == "full"  # refused later, in strategies.py
    assert Config.make(frozen_layers=0).strategy == "full"


@pytest.mark.parametrize("given", [
    {}, dict(recipe="mosbach", epochs=1.5), dict(frozen_layers=2), dict(class_weights=(1.0, 2.5)),
    dict(dropout=0.0), dict(task="custom", text_columns=("a", "b"), label_column="y", label_type="multi_label"),
    dict(dropout=None)])
def test_json_and_back(given):
    c = Config.make(**given)
    stored = json.loads(json.dumps(c.to_json()))
    assert Config.from_json(stored) == c
    assert list(stored) == list(FIELDS)


def test_differences_name_what_decides_a_result_and_nothing_else():
    a = Config.make(learning_rate=1e-5, log_every=1, parallel="jit", output_dir="a")
    b = Config.make(learning_rate=2e-5, log_every=7, parallel="pmap", output_dir="b", seed=3, resume=True,
                    devices=4)
    assert a.differences(b) == ["--learning_rate: 1e-05 -> 2e-05", "--seed: 0 -> 3"]
    assert a.differences(a) == []
    free = {name for name, f in FIELDS.items() if f.metadata["resumable"]}
    assert free == {"parallel", "devices", "distributed", "coordinator_address", "num_processes", "process_id",
                    "compilation_cache", "seeds_per_program", "output_dir", "resume", "overwrite", "log_every",
                    "save_every", "diagnose_every", "tensorboard", "predict_test", "cache_frozen", "cache_dir",
                    "cache_limit"}


def test_an_unknown_setting_lists_the_valid_ones():
    line = refused(learning_rat=1e-5)
    assert "--learning_rat" in line
    assert "learning_rate" in line


@pytest.mark.parametrize(("name", "choices"), [
    ("parallel", "jit, pmap"), ("schedule", "linear, constant, cosine, google"),
    ("dtype", "auto, float32, bfloat16"),
    ("label_type", "classification, multi_label, regression"), ("recipe", "devlin, mosbach, zhang, hf")])
def test_an_unknown_value_lists_the_valid_ones(name, choices):
    assert f"--{name}=nonsense: unknown; valid: {choices}" in refused(**{name: "nonsense"})


@pytest.mark.parametrize(("name", "value"), [
    ("batch_size", 0), ("learning_rate", -1.0), ("learning_rate", math.nan), ("learning_rate", math.inf),
    ("dropout", 1.0), ("epochs", -0.5), ("max_length", 2), ("micro_batches", 0), ("log_every", 0), ("seed", -1),
    ("frozen_layers", -1), ("beta1", 1.5), ("warmup", -0.1)])
def test_a_value_out_of_range_says_the_range(name, value):
    line = refused(**{name: value})
    assert line.startswith(f"--{name}={value}: out of range; valid: ")


@pytest.mark.parametrize(("given", "text"), [
    (dict(learning_rate="1e-3"), "--learning_rate='1e-3': should be a number"),
    (dict(max_steps=2.5), "--max_steps=2.5: should be a whole number"),
    (dict(seed=None), "--seed=None: should be a whole number"),
    (dict(bias_correction=1), "--bias_correction=1: should be true or false"),
    (dict(epochs=0), "--epochs=0"),
    (dict(task="pretrain", next_sentence=True, max_length=4), "--max_length=4: --next_sentence needs 5"),
    (dict(micro_batches=64), "--micro_batches=64: more than --batch_size=32")])
def test_a_value_of_another_type_or_that_cannot_work_is_refused(given, text):
    assert refused(**given).startswith(text)


@pytest.mark.parametrize(("given", "said"), [
    (dict(task="squad", null_threshold=1.0), "--null_threshold: only for spans that may lack an answer (squad2)"),
    (dict(task="toy_span", null_threshold=0.0), "--null_threshold: only for spans that may lack an answer"),
    (dict(task="pretrain", cased=True), "--cased: only for a new vocabulary (--vocabulary_size)"),
    (dict(task="toy_pair", cased=True), "--cased: only for `flaxbert pretrain`")])
def test_a_setting_that_would_be_ignored_is_refused(given, said):
    with pytest.raises(InputError) as caught:
        tasks.resolve(Config.make(**given))
    assert str(caught.value).startswith(said)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("given", [dict(task="squad2", null_threshold=1.0),
                                   dict(task="pretrain", cased=True, vocabulary_size=300)])
def test_a_setting_that_is_looked_at_is_not(given):
    assert tasks.resolve(Config.make(**given)).name == given["task"]


@pytest.mark.parametrize("next_sentence", [False, True])
def test_pre_training_has_no_classes_to_weigh(tmp_path, next_sentence):
    (tmp_path / "a.txt").write_text("One.\n\nTwo.\n\nThree.\n\nFour.\n")
    given = Config.make(task="pretrain", train_file=str(tmp_path / "a.txt"), next_sentence=next_sentence)
    assert len(tasks.load(given)[1]["train"])
    with pytest.raises(InputError, match="--class_weights=1,2: pretrain is a pretraining task, it has no classes"):
        tasks.load(dataclasses.replace(given, class_weights=(1.0, 2.0)))


def test_python_may_give_what_means_the_same():
    made = Config.make(text_columns="text", class_weights=[1, 2], output_dir=Path("runs/a"), dropout=0,
                       seed=np.int64(3))
    assert (made.text_columns, made.class_weights, made.output_dir) == (("text",), (1.0, 2.0), "runs/a")
    assert (made.dropout, type(made.seed)) == (0.0, int)
    assert Config.make(text_columns=["a", "b"]) == Config.make(text_columns=("a", "b"))


def test_paths_that_exist_are_made_absolute(tmp_path, monkeypatch):
    (tmp_path / "model").mkdir()
    monkeypatch.chdir(tmp_path)
    made = Config.make(model="model", data_dir="data").absolute()
    assert (made.model, made.data_dir) == (str(tmp_path / "model"), "data")
    assert Config.make().absolute() == Config.make()


def test_every_setting_says_what_it_does():
    groups = {"task", "model", "pretrain", "head", "strategy", "optimizer", "batch", "devices", "run"}
    for name, f in FIELDS.items():
        assert f.metadata["help"].endswith("."), name
        assert f.metadata["group"] in groups, name
