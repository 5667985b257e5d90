"""Checkpoints out: the exported folder is what PyTorch and we ourselves load again."""

import json
import os

import cases
import jax
import numpy as np
import pytest
from safetensors.numpy import load_file

from flaxbert import heads, pretrained, trees
from flaxbert.bert import BertConfig
from flaxbert.checkpoint import Checkpoints
from flaxbert.errors import InputError
from flaxbert.export import export, head_settings, model_card, save_model_folder
from flaxbert.model_files import load_tokenizer

KINDS = {"classification": ("cat", "dog", "cow"), "multi_label": ("red", "round"), "regression": ()}
VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "cat", "sat"]
SOURCE = dict(model_type="bert", vocab_size=20, hidden_size=8, num_hidden_layers=2, num_attention_heads=2,
              intermediate_size=12, max_position_embeddings=16, hidden_act="gelu_new", torch_dtype="float16",
              dtype="float16", _name_or_path="somewhere/else", transformers_version="4.8.2")
CONFIG = BertConfig.from_dict(SOURCE)
RESULT = {"status": "finished", "best": {"dev": {"accuracy": 0.8125, "f1": 0.75}}, "best_step": 40,
          "metrics": {"dev": {"accuracy": 0.5}}}


def make_run(folder, kind="classification", result=RESULT):
    """A run directory as the training loop leaves it; returns it and its parameters."""
    labels = KINDS[kind]
    (folder / "source").mkdir(parents=True)
    (folder / "source" / "vocab.txt").write_text("\n".join(VOCABULARY))
    tokenizer = load_tokenizer(folder / "source", CONFIG)
    tokenizer("the cat", truncation=True, padding="max_length", max_length=5)
    run = folder / "run"
    save_model_folder(run / "model", {**SOURCE, **head_settings(kind, labels)}, tokenizer)
    params = cases.params(cases.Case(0, CONFIG, kind, len(labels) or 1, 1, 1))
    checkpoints = Checkpoints(run)
    checkpoints.save_best(40, params, {})
    checkpoints.close()
    record = {"settings": {"task": "custom", "train_file": "a|b.tsv", "learning_rate": 3e-5},
              "task": {"name": "custom", "kind": kind, "labels": list(labels), "metrics": ["accuracy"]},
              "versions": {"jax": "0.10.1"}}
    (run / "config.json").write_text(json.dumps(record))
    if result is not None:
        (run / "result.json").write_text(json.dumps(result))
    return run, params


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("classification"))


@pytest.fixture(scope="module")
def exported(run, tmp_path_factory):
    to = tmp_path_factory.mktemp("export") / "deep" / "model"
    export(run[0], to)
    return to


def same(got, want):
    got, want = trees.flatten(got), trees.flatten(want)
    assert got.keys() == want.keys()
    for name, leaf in want.items():
        np.testing.assert_array_equal(got[name], leaf, err_msg=name)


def test_round_trip_is_bitwise(run, exported):
    for name in (run[0], exported):
        got = pretrained.load(str(name))
        same(got.params, run[1])
        assert got.config == CONFIG
        assert got.settings["id2label"] == {"0": "cat", "1": "dog", "2": "cow"}


def test_names_and_types_are_those_of_bert_for_sequence_classification(exported):
    tensors = load_file(exported / "model.safetensors")
    for name in ("bert.embeddings.word_embeddings.weight", "bert.pooler.dense.bias", "classifier.weight"):
        assert name in tensors
    assert all(value.dtype == np.float32 for value in tensors.values())
    assert sorted(os.listdir(exported)) == ["README.md", "config.json", "model.safetensors", "tokenizer.json",
                                            "tokenizer_config.json"]
    assert len({(exported / name).stat().st_mode for name in os.listdir(exported)}) == 1  # who reads one reads all


def test_settings(exported):
    settings = json.loads((exported / "config.json").read_text())
    assert settings["architectures"] == ["BertForSequenceClassification"]
    assert settings["label2id"] == {"cat": 0, "dog": 1, "cow": 2}
    assert settings["problem_type"] == "single_label_classification"
    assert (settings["num_labels"], settings["hidden_act"], settings["dtype"]) == (3, "gelu_new", "float32")
    assert not {"torch_dtype", "_name_or_path", "transformers_version"} & set(settings)


def test_the_tokenizer_has_no_left_over_truncation_or_padding(exported):
    saved = json.loads((exported / "tokenizer.json").read_text())
    assert saved["truncation"] is None
    assert saved["padding"] is None
    about = json.loads((exported / "tokenizer_config.json").read_text())
    assert not {"max_length", "stride", "truncation_strategy", "pad_to_multiple_of"} & set(about)
    assert about["model_max_length"] == 16


@pytest.mark.parametrize("kind", KINDS)
def test_pytorch_gives_equal_logits(tmp_path, kind):
    torch = pytest.importorskip("torch", reason="EXPORT TO PYTORCH IS NOT CHECKED: pip install 'flaxbert[torch]'")
    from transformers import AutoModelForSequenceClassification, AutoTokenizer
    run, params = make_run(tmp_path, kind)
    to = tmp_path / "to"
    export(run, to)
    theirs, loading = AutoModelForSequenceClassification.from_pretrained(to, output_loading_info=True)
    assert not any(loading[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert {p.dtype for p in theirs.parameters()} == {torch.float32}
    outputs = len(KINDS[kind]) or 1
    assert theirs.config.num_labels == outputs
    assert theirs.config.id2label == dict(enumerate(KINDS[kind] or ("score",)))
    assert theirs.config.label2id == {label: i for i, label in theirs.config.id2label.items()}
    batch = cases.batch(cases.Case(0, CONFIG, kind, outputs, 4, 11), 0)
    with torch.no_grad():
        want = theirs.eval()(torch.from_numpy(batch["tokens"]), torch.from_numpy(batch["sequence"]),
                             torch.from_numpy(batch["types"])).logits.numpy()
    got = jax.jit(heads.SequenceModel(CONFIG, outputs).apply)({"params": params}, batch)[:, 0]
    np.testing.assert_allclose(got, want, atol=1e-5, rtol=0)
    tokenizer = AutoTokenizer.from_pretrained(to)
    assert tokenizer("the cat sat", "sat")["input_ids"] == [2, 5, 6, 7, 3, 7, 3]


class TestCard:
    def test_has_task_data_settings_and_scores(self, exported):
        card = (exported / "README.md").read_text()
        assert card.startswith("---\nlibrary_name: transformers\n")
        for part in ("best checkpoint, step 40", "| dev | accuracy | 0.8125 |", "| dev | f1 | 0.7500 |",
                     "cat, dog, cow", "training file: a\\|b.tsv", "| learning_rate | 3e-05 |", "jax 0.10.1",
                     "finished"):
            assert part in card, part
        assert "0.5000" not in card, "scores of another checkpoint"

    def test_says_what_is_not_recorded(self):
        card = model_card("r", {"settings": {}}, {}, "best")
        assert "The run has recorded no scores" in card
        assert card.count("not recorded in the run") >= 4

    def test_last_scores(self):
        card = model_card("r", {"settings": {"task": "rte"}}, RESULT, "last")
        assert "| dev | accuracy | 0.5000 |" in card
        assert "step 40" not in card


class TestTarget:
    def test_an_earlier_export_is_replaced(self, run, exported, tmp_path):
        export(run[0], tmp_path)
        (tmp_path / "model.safetensors").write_bytes(b"old")
        export(run[0], tmp_path)
        same(pretrained.load(str(tmp_path)).params, run[1])

    def test_anything_else_is_not(self, run, tmp_path):
        (tmp_path / "thesis.txt").write_text("years of work")
        for to in (tmp_path, tmp_path / "thesis.txt", run[0], run[0] / "model"):
            with pytest.raises(InputError, match="--to="):
                export(run[0], to)
        assert (tmp_path / "thesis.txt").read_text() == "years of work"

    def test_no_run(self, exported, tmp_path):
        for source in (exported, tmp_path / "absent"):
            with pytest.raises(InputError, match="not one of our runs"):
                export(source, tmp_path / "to")

    def test_no_checkpoint(self, run, tmp_path):
        with pytest.raises(InputError, match="no readable checkpoint"):
            export(run[0], tmp_path / "to", "last")
        with pytest.raises(InputError, match="valid: best, last"):
            export(run[0], tmp_path / "to", "worst")
        assert not (tmp_path / "to").exists()


def test_labels_that_do_not_fit_the_head(tmp_path):
    run, _ = make_run(tmp_path)
    record = json.loads((run / "config.json").read_text())
    record["task"]["labels"].append("hen")
    (run / "config.json").write_text(json.dumps(record))
    with pytest.raises(InputError, match=r"3 outputs, but the run names\s4 labels"):
        export(run, tmp_path / "to")


def test_a_backbone_that_was_an_export_gives_a_model_folder_that_is_none(exported, tmp_path):
    source = pretrained.load(str(exported))
    save_model_folder(tmp_path, source.settings, source.tokenizer)
    assert "flaxbert" not in json.loads((tmp_path / "config.json").read_text())
