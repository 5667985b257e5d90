"""Checkpoints in: every spelling of the same weights, and each thing that can be wrong with a folder."""

import dataclasses
import json
import shutil
import socket
from pathlib import Path

import cases
import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from small import TINY, config, lively

import flaxbert
from flaxbert import heads, model_files, pretrained, trees
from flaxbert.bert import BertConfig
from flaxbert.checkpoint import Checkpoints
from flaxbert.config import Config
from flaxbert.errors import InputError
from flaxbert.export import export, head_settings, save_model_folder
from flaxbert.huggingface import to_tensors
from flaxbert.model_files import load_tokenizer
from flaxbert.prepare import prepare

VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "cat", "sat", "mat", "on", "##s", "."]
SETTINGS = dict(model_type="bert", vocab_size=14, hidden_size=8, num_hidden_layers=2, num_attention_heads=2,
                intermediate_size=12, max_position_embeddings=16, type_vocab_size=2,
                position_embedding_type="absolute", problem_type="single_label_classification",
                id2label={"0": "no", "1": "yes", "2": "perhaps"})
CONFIG = BertConfig.from_dict(SETTINGS)


@pytest.fixture(scope="module")
def params():
    """Random parameters with a head of three outputs, no two leaves alike."""
    return cases.params(cases.Case(0, CONFIG, "classification", 3, 1, 1))


@pytest.fixture
def tensors(params):
    return to_tensors(params)


@pytest.fixture
def folder(tmp_path, tensors):
    return write(tmp_path / "hf", tensors)


def write(folder, tensors, vocabulary=VOCABULARY, **settings):
    """A Hugging Face folder with a bare vocab.txt."""
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps({**SETTINGS, **settings}))
    (folder / "vocab.txt").write_text("\n".join(vocabulary) + "\n")
    if tensors is not None:
        save_file({name: np.ascontiguousarray(value) for name, value in tensors.items()},
                  folder / "model.safetensors")
    return folder


def equal(got, want):
    """Bitwise, float32, the same names."""
    got, want = trees.flatten(got), trees.flatten(want)
    assert got.keys() == want.keys()
    for name, leaf in want.items():
        assert got[name].dtype == np.float32
        np.testing.assert_array_equal(got[name], leaf, err_msg=name)


def refused(name, *said):
    """Loading raises one line that says all of `said`."""
    with pytest.raises(InputError) as error:
        pretrained.load(str(name))
    message = str(error.value)
    assert "\n" not in message
    for part in said:
        assert part in message, message
    return message


def test_a_folder(folder, params):
    got = pretrained.load(str(folder))
    equal(got.params, params)
    assert got.source == str(folder)
    assert got.config == CONFIG
    assert got.settings["id2label"]["2"] == "perhaps"
    assert got.params["bert"]["layer_1"]["mlp"]["intermediate"]["kernel"].shape == (8, 12)


SPELLINGS = {
    "without prefix": lambda name: name.removeprefix("bert."),
    "gamma and beta": lambda name: name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias",
                                                                                             "LayerNorm.beta"),
    "both": lambda name: SPELLINGS["gamma and beta"](name.removeprefix("bert."))}


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_other_spellings(tmp_path, tensors, params, spelling):
    equal(pretrained.load(str(write(tmp_path / "hf", {SPELLINGS[spelling](name): value
                                                      for name, value in tensors.items()}))).params, params)


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float64])
def test_other_precisions_become_float32(tmp_path, tensors, params, dtype):
    cast = {name: value.astype(dtype) for name, value in tensors.items()}
    got = pretrained.load(str(write(tmp_path / "hf", cast))).params
    equal(got, trees.map_named(lambda _, leaf: leaf.astype(dtype).astype(np.float32), params))


def test_without_pooler_and_head(tmp_path, tensors, params, capsys):
    backbone = {name: value for name, value in tensors.items() if name.startswith(("bert.emb", "bert.enc"))}
    got = pretrained.load(str(write(tmp_path / "hf", backbone)))
    equal(got.params, {"bert": params["bert"]})
    started = pretrained.initialise(heads.SequenceModel(CONFIG, 3), got, seed=0)
    equal(started["bert"], params["bert"])
    assert "no pooler" in capsys.readouterr().err


def test_buffers_are_ignored_and_other_heads_are_named(tmp_path, tensors, params, capsys):
    more = {"bert.embeddings.position_ids": np.arange(16)[None]}
    more |= {name: np.zeros(2, np.float32)
             for name in ("cls.predictions.bias", "cls.seq_relationship.weight", "qa_outputs.bias")}
    equal(pretrained.load(str(write(tmp_path / "hf", {**tensors, **more}))).params, params)
    said = capsys.readouterr().err
    assert "cls.predictions.bias, cls.seq_relationship.weight, qa_outputs.bias" in said
    assert "position_ids" not in said


def shard(folder, tensors):
    """The same folder in two files with an index."""
    files = {name: f"model-0000{1 + i % 2}-of-00002.safetensors" for i, name in enumerate(tensors)}
    for file in set(files.values()):
        save_file({name: tensors[name] for name in tensors if files[name] == file}, folder / file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": files}))
    (folder / "model.safetensors").unlink(missing_ok=True)


def test_shards(folder, tensors, params):
    shard(folder, tensors)
    equal(pretrained.load(str(folder)).params, params)
    (folder / "model-00002-of-00002.safetensors").unlink()
    refused(folder, "index.json", "missing model-00002-of-00002.safetensors")


def test_everything_that_is_wrong_is_said_at_once(tmp_path, tensors):
    del tensors["bert.embeddings.LayerNorm.bias"], tensors["bert.pooler.dense.weight"]
    tensors["bert.encoder.layer.0.attention.self.query.weight"] = np.zeros((8, 7), np.float32)
    tensors["bert.encoder.layer.2.output.dense.bias"] = np.zeros(8, np.float32)
    tensors["bert.embeddings.LayerNorm.gamma"] = np.zeros(8, np.float32)
    tensors["bert.encoder.layer.1.output.dense.weight"] = np.zeros((8, 12), np.int8)
    refused(write(tmp_path / "hf", tensors), "missing bert.embeddings.LayerNorm.bias (8,)",
            "missing bert.pooler.dense.weight (8, 8)", "unexpected bert.encoder.layer.2.output.dense.bias (8,)",
            "bert.encoder.layer.0.attention.self.query.weight has shape (8, 7), not (8, 8)",
            "comes under two names", "bert.encoder.layer.1.output.dense.weight is int8")


def test_a_checkpoint_of_quite_another_kind_gives_a_line_of_bearable_length(tmp_path):
    other = {f"model.layers.{i}.weight": np.zeros(1, np.float32) for i in range(100)}
    message = refused(write(tmp_path / "hf", other), "missing", "unexpected", "... 97 more ...")
    assert len(message) < 3000


@pytest.mark.parametrize("settings", [
    {"model_type": "roberta"}, {"position_embedding_type": "relative_key"}, {"is_decoder": True},
    {"hidden_act": "mish"}, {"num_attention_heads": 3}, {"num_attention_heads": 0}, {"hidden_size": "eight"}],
    ids=lambda s: f"{next(iter(s))}={next(iter(s.values()))}")
def test_settings_of_another_model(tmp_path, tensors, settings):
    refused(write(tmp_path / "hf", tensors, **settings), "config.json")


def test_says_which_model_type_is_supported(tmp_path, tensors):
    refused(write(tmp_path / "hf", tensors, model_type="roberta"), "model_type is 'roberta', only 'bert'")


def test_an_old_config_without_a_model_type(folder, params):
    (folder / "config.json").write_text(json.dumps({k: v for k, v in SETTINGS.items() if k != "model_type"}))
    equal(pretrained.load(str(folder)).params, params)


@pytest.mark.parametrize("file", ["pytorch_model.bin", "bert_model.ckpt.index", "flax_model.msgpack"])
def test_weights_in_another_format_are_refused_with_the_way_to_convert(tmp_path, file):
    folder = write(tmp_path / "hf", None)
    (folder / file).write_bytes(b"cos\nsystem\n")
    refused(folder, file, "safetensors", "save_pretrained", "python -c")


def test_what_is_no_model_at_all(tmp_path, folder):
    refused(write(tmp_path / "none", None), "no weights", "model.safetensors")
    (tmp_path / "empty").mkdir()
    refused(tmp_path / "empty", "has no config.json")
    refused(folder / "config.json", "is a file")
    refused(tmp_path / "absent", "no such folder")
    refused("", "no such folder")
    (folder / "config.json").write_text("{")
    refused(folder, "config.json", "no JSON")
    (folder / "config.json").write_text("[]")
    refused(folder, "no JSON object")


@pytest.mark.parametrize("damage", [lambda data: data[:-3], lambda data: b"", lambda data: b"\xff" * 100])
def test_damaged_safetensors(folder, damage):
    file = folder / "model.safetensors"
    file.write_bytes(damage(file.read_bytes()))
    refused(folder, "model.safetensors", "cannot be read as safetensors")


def test_the_hub_without_a_network_says_what_was_asked(monkeypatch):
    import huggingface_hub
    asked = []

    def unreachable(name, allow_patterns):
        asked.append((name, allow_patterns))
        raise huggingface_hub.errors.LocalEntryNotFoundError("Name or service not known\nmore")
    monkeypatch.setattr(huggingface_hub, "snapshot_download", unreachable)
    refused("google-bert/bert-base-uncased", "google-bert/bert-base-uncased", "Hugging Face hub",
            "Name or service not known", "--model=FOLDER")
    assert not any(".bin" in pattern for pattern in asked[0][1]), "nothing but what we read is downloaded"


def test_a_hub_name(monkeypatch, folder, params):
    import huggingface_hub
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda name, allow_patterns: str(folder))
    got = pretrained.load("someone/some-bert")
    equal(got.params, params)
    assert got.source == "someone/some-bert"


def test_the_bundled_model():
    got = pretrained.load("bundled")
    assert set(got.params) == {"bert", "pooler", "mlm", "nsp"}
    assert len(got.tokenizer) <= got.config.vocab_size


class TestBundled:
    """The folder in the box, as an export of one of our pre-training runs in half precision."""

    @pytest.fixture(scope="class")
    def exported(self, tmp_path_factory, tokenizer):
        """(folder, what it holds of the run's parameters)."""
        at = tmp_path_factory.mktemp("bundled")
        given = Config.make(task="pretrain", next_sentence=True, max_length=32)
        labels = ("next", "random")
        params = lively(heads.shapes(heads.PretrainingModel(TINY, 2)))
        settings = {"model_type": "bert", **dataclasses.asdict(TINY), **head_settings("pretraining", labels)}
        save_model_folder(at / "run" / "model", settings, tokenizer)
        checkpoints = Checkpoints(at / "run")
        checkpoints.save_best(1, params, {})
        checkpoints.close()
        (at / "run" / "config.json").write_text(json.dumps({"settings": given.to_json(), "task": {
            "name": "pretrain", "kind": "pretraining", "labels": labels, "metrics": ["perplexity"]}}))
        export(at / "run", at / "to", dtype="float16")
        halves = load_file(at / "to" / "model.safetensors").values()
        assert {each.dtype.name for each in halves} == {"float16"}
        return at / "to", trees.map_named(lambda _, leaf: leaf.astype(np.float16).astype(np.float32), params)

    @pytest.fixture
    def params(self, exported, tmp_path, monkeypatch):
        """The parameters; a copy of the folder stands in the bundled one's place, and there is no network."""
        monkeypatch.setattr(model_files, "BUNDLED", Path(shutil.copytree(exported[0], tmp_path / "bundled")))
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
        asked = []

        def refuse(*args):
            asked.append(args)
            raise OSError("no network")
        monkeypatch.setattr(socket.socket, "connect", refuse)
        monkeypatch.setattr(socket, "getaddrinfo", refuse)
        yield exported[1]
        assert asked == []

    def test_float32_with_both_heads(self, params):
        got = pretrained.load("bundled")
        equal(got.params, params)
        assert set(got.params) == {"bert", "pooler", "mlm", "nsp"}
        assert (got.kind, got.config) == ("pretraining", TINY)

    def test_pre_training_goes_on_with_both_heads(self, params, tmp_path):
        (tmp_path / "text.txt").write_text("The cat sat. It was good.\n\n" * 8)
        given = Config.make(task="pretrain", train_file=str(tmp_path / "text.txt"), max_length=32,
                            next_sentence=True)
        assert given.model == "bundled"
        equal(prepare(given, 1).params, params)
        masked = dataclasses.replace(given, next_sentence=False)
        equal(prepare(masked, 1).params, {name: params[name] for name in ("bert", "mlm")})

    @pytest.mark.parametrize("weights", [True, False])
    def test_fine_tuning_and_random_init_that_needs_no_weights(self, params, tmp_path, monkeypatch, weights):
        given = config("bundled", tmp_path / "run")
        model = heads.SequenceModel(TINY, 2)
        trained = {name: params[name] for name in ("bert", "pooler")}
        equal(prepare(given, 1).params, {**trained, **trees.to_host(heads.init(model, 0, ["head"]))})
        if weights:
            monkeypatch.setattr(pretrained, "read_tensors", lambda *args: pytest.fail("not to be read"))
        else:
            (model_files.BUNDLED / "model.safetensors").unlink()
        equal(prepare(dataclasses.replace(given, random_init=True), 1).params, trees.to_host(heads.init(model, 0)))

    def test_masks_are_filled(self, params):
        answers = flaxbert.load("bundled")(["The [MASK] was [MASK]."])
        assert [len(answer["masked"]) for answer in answers] == [2]


class TestTokenizer:
    def test_a_bare_vocabulary(self, folder):
        tokenizer = pretrained.load(str(folder)).tokenizer
        assert tokenizer.convert_ids_to_tokens(tokenizer("The cats sat.", "the mat")["input_ids"]) == [
            "[CLS]", "the", "cat", "##s", "sat", ".", "[SEP]", "the", "mat", "[SEP]"]
        assert tokenizer.model_max_length == 16

    def test_a_bare_vocabulary_with_capitals_is_a_cased_one(self, tmp_path, tensors):
        folder = write(tmp_path / "hf", tensors, [*VOCABULARY, "The"])
        assert pretrained.load(str(folder)).tokenizer.tokenize("The the THE") == ["The", "the", "[UNK]"]

    def test_truncation_and_padding_of_the_file_are_reset(self, folder):
        tokenizer = pretrained.load(str(folder)).tokenizer
        tokenizer.save_pretrained(folder)
        file = folder / "tokenizer.json"
        saved = json.loads(file.read_text())
        saved["truncation"] = {"max_length": 4, "strategy": "LongestFirst", "stride": 0, "direction": "Right"}
        saved["padding"] = {"strategy": {"Fixed": 12}, "direction": "Right", "pad_to_multiple_of": None,
                            "pad_id": 0, "pad_type_id": 0, "pad_token": "[PAD]"}
        file.write_text(json.dumps(saved))
        again = pretrained.load(str(folder)).tokenizer
        assert again.backend_tokenizer.truncation is None
        assert again.backend_tokenizer.padding is None
        assert len(again("the cat sat on the mat")["input_ids"]) == 8

    def test_more_tokens_than_embeddings(self, tmp_path, tensors):
        refused(write(tmp_path / "hf", tensors, VOCABULARY + list("abc")), "15 tokens", "embeddings for 14")

    def test_none(self, folder):
        (folder / "vocab.txt").unlink()
        refused(folder, "no tokenizer")

    def test_special_tokens_alone(self, tmp_path, tensors):
        refused(write(tmp_path / "hf", tensors, VOCABULARY[:5]), "lacks every ordinary token")

    def test_damaged(self, folder):
        (folder / "tokenizer.json").write_text("{")
        refused(folder, "tokenizer cannot be read")

    def test_without_a_separator(self, folder):
        pretrained.load(str(folder)).tokenizer.save_pretrained(folder)
        (folder / "vocab.txt").unlink()
        (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "PreTrainedTokenizerFast"}))
        refused(folder, "lacks [CLS], [SEP]")


class TestInitialise:
    def test_overlays_encoder_and_pooler_but_not_the_head(self, folder, params):
        model = heads.SequenceModel(CONFIG, 5)
        got = pretrained.initialise(model, pretrained.load(str(folder)), seed=1)
        head = trees.to_host(heads.init(model, 1, ["head"]))
        equal(got, {"bert": params["bert"], "pooler": params["pooler"], **head})

    def test_a_part_is_drawn_alike_with_or_without_the_others(self):
        model = heads.TokenModel(CONFIG, 5, top=heads.HeadConfig(head="bilstm", layers="scalar_mix"))
        whole, *several = (trees.flatten(trees.to_host(heads.init(model, 1, parts)))
                           for parts in (None, ["body"], ["head", "mix"], []))
        assert [len(some) for some in several] == [
            sum(name.startswith(tops) for name in whole) for tops in ("body/", ("head/", "mix/"), ())]
        for some in several:
            for name, leaf in some.items():
                np.testing.assert_allclose(leaf, whole[name], rtol=1e-6, atol=0, err_msg=name)

    def test_reuses_the_head(self, folder, params):
        loaded = pretrained.load(str(folder))
        equal(pretrained.initialise(heads.SequenceModel(CONFIG, 3), loaded, 1, reuse_head=True), params)
        with pytest.raises(InputError, match=r"head/kernel has shape \(8, 3\), not \(8, 5\)"):
            pretrained.initialise(heads.SequenceModel(CONFIG, 5), loaded, 1, reuse_head=True)

    def test_no_head_to_reuse(self, tmp_path, tensors):
        bare = {name: value for name, value in tensors.items() if "classifier" not in name}
        loaded = pretrained.load(str(write(tmp_path / "hf", bare)))
        with pytest.raises(InputError, match="has no head to reuse"):
            pretrained.initialise(heads.SequenceModel(CONFIG, 3), loaded, 1, reuse_head=True)

    def test_random(self, folder):
        model = heads.SequenceModel(CONFIG, 3)
        got = pretrained.initialise(model, pretrained.load(str(folder)), 1, random_init=True)
        equal(got, trees.to_host(heads.init(model, 1)))


def test_a_shape_and_a_tokenizer_need_no_weights(tmp_path, tensors):
    folder = str(write(tmp_path / "hf", None))
    refused(folder, "no weights")
    got = pretrained.load(folder, weights=False)
    assert (got.params, got.config) == ({}, CONFIG)
    assert len(got.tokenizer) == len(VOCABULARY)
    model = heads.SequenceModel(CONFIG, 3)
    equal(pretrained.initialise(model, got, 1, random_init=True), trees.to_host(heads.init(model, 1)))
    (write(tmp_path / "hf", tensors) / "vocab.txt").unlink()
    with pytest.raises(InputError, match="no tokenizer"):
        pretrained.load(folder, weights=False)


def test_a_real_folder_with_float16_and_padding(outside):
    got = pretrained.load(str(outside / "models" / "minilm-l6-h384-uncased"))
    assert set(got.params) == {"bert", "pooler"}
    assert trees.count(got.params) == 22_713_216
    assert got.tokenizer.backend_tokenizer.padding is None
    assert len(got.tokenizer("a cat")["input_ids"]) == 4


def test_googles_vocabularies(outside, tmp_path, tensors):
    folder = write(tmp_path / "hf", tensors, vocab_size=30522)
    for name, pieces in (("uncased", ["hello", "sao", "paulo"]), ("cased", ["Hello", "São", "Paulo"])):
        shutil.copy(outside / "models" / "bert-vocab" / f"{name}-vocab.txt", folder / "vocab.txt")
        tokenizer = load_tokenizer(folder, BertConfig())
        assert tokenizer.tokenize("Hello São Paulo") == pieces
    assert load_file(folder / "model.safetensors")["bert.pooler.dense.bias"].dtype == np.float32
