"""Token tasks: what spans score, how sentences become sequences, the model against PyTorch, runs end to end."""

import json
import random
from dataclasses import asdict, replace

import cases
import jax
import numpy as np
import pytest
import small
from hypothesis import given, settings
from hypothesis import strategies as st

import flaxbert
from flaxbert import evaluation, families, heads, packing, parallel, predict, tasks, token_metrics, train
from flaxbert.bert import BertConfig
from flaxbert.config import Config
from flaxbert.errors import InputError
from flaxbert.export import export
from flaxbert.families.token import TokenEncoded, around, cut
from flaxbert.huggingface import from_tensors, to_tensors
from flaxbert.inference import Inference
from flaxbert.model_files import load_tokenizer
from flaxbert.tasks.base import TokenExamples

NER = tasks.resolve(Config.make(task="ner"), ("O", "B-X", "I-X", "B-Y", "I-Y"))


# --- spans

def conlleval(gold, predicted):
    """The counts of the official script, by its own way: one pass, with the chunk that is open on both sides."""
    def end(before, tag):
        return before != "O" and (tag[0] in "BO" or before[2:] != tag[2:])

    def start(before, tag):
        return tag != "O" and (tag[0] == "B" or before == "O" or before[2:] != tag[2:])
    right = found = wanted = 0
    for pair in zip(gold, predicted, strict=True):
        together, a, b = False, "O", "O"
        for tag, guess in (*zip(*pair, strict=True), ("O", "O")):
            if together and end(a, tag) and end(b, guess):
                right, together = right + 1, False
            elif together and end(a, tag) != end(b, guess):
                together = False
            if start(a, tag) and start(b, guess) and tag[2:] == guess[2:]:
                together = True
            wanted, found = wanted + start(a, tag), found + start(b, guess)
            a, b = tag, guess
    return right, found, wanted


def random_tags(rng, count):
    """Legal tags and illegal ones: an I after O, after another type, at the beginning; and guesses at them."""
    tags = ["O"] * rng.randint(1, 3) + ["B-X", "I-X", "B-Y", "I-Y"]
    gold = [[rng.choice(tags) for _ in range(rng.randint(1, 8))] for _ in range(count)]
    return gold, [[tag if rng.random() < 0.6 else rng.choice(tags) for tag in row] for row in gold]


def test_scores_are_conllevals():
    rng = random.Random(0)
    for _ in range(5000):
        gold, predicted = random_tags(rng, rng.randint(1, 3))
        scores = token_metrics.span_scores(gold, predicted, ())
        right, found, wanted = conlleval(gold, predicted)
        assert scores == pytest.approx({"f1": 2 * right / max(found + wanted, 1),
                                        "precision": right / max(found, 1), "recall": right / max(wanted, 1)})


def test_spans_are_seqevals():
    metrics = pytest.importorskip("seqeval.metrics", reason="AGREEMENT WITH SEQEVAL IS NOT CHECKED")
    rng = random.Random(1)
    for _ in range(60):
        gold, predicted = random_tags(rng, 60)
        for row in (*gold, *predicted):
            assert [(kind, first, end - 1) for kind, first, end in token_metrics.spans(row)] == [
                *metrics.sequence_labeling.get_entities(row)]
        assert token_metrics.accuracy(gold, predicted) == pytest.approx(metrics.accuracy_score(gold, predicted))


def test_spans_of_a_sentence():
    assert token_metrics.spans(["I-X", "I-X", "B-X", "O", "B-Y", "I-X", "I-X"]) == [
        ("X", 0, 2), ("X", 2, 3), ("Y", 4, 5), ("X", 5, 7)]
    assert token_metrics.spans([]) == []
    assert token_metrics.span_scores([["O"]], [["O"]], ("X",)) == {"f1": 0, "precision": 0, "recall": 0, "f1_X": 0}


# --- from sentences to sequences

def family(task=NER, **given):
    return families.make(task, Config.make(**{"max_length": 32, **given}))


def examples(words, labels=None, documents=None):
    return TokenExamples(words, labels, documents or [0] * len(words), [str(i) for i in range(len(words))])


def sequences(encoded):
    return [encoded.tokens[a:b].tolist() for a, b in zip(encoded.offsets[:-1], encoded.offsets[1:], strict=True)]


def test_only_the_first_piece_of_a_word_has_a_label(tokenizer):
    words = [["Zyxquux", "left", "Ulan-Bator"], ["Yes"]]
    encoded = family().encode(tokenizer, examples(words, [[1, 0, 3], [2]]))
    assert sequences(encoded) == [tokenizer(row, is_split_into_words=True)["input_ids"] for row in words]
    pieces = [len(tokenizer.tokenize(word)) for word in words[0]]
    assert pieces[0] > 1
    firsts = [1, 1 + pieces[0], 1 + pieces[0] + pieces[1], sum(pieces) + 3]
    assert np.flatnonzero(encoded.weights).tolist() == firsts == encoded.firsts.tolist()
    assert encoded.labels[encoded.firsts].tolist() == [1, 0, 3, 2]
    assert encoded.labels.sum() == 6  # nothing elsewhere
    assert (encoded.labelled, len(encoded), len(encoded.labels)) == ("token", 2, len(encoded.tokens))
    weighed = family(class_weights=(0.5, 1, 2, 3, 4)).encode(tokenizer, examples(words, [[1, 0, 3], [2]]))
    assert weighed.weights[firsts].tolist() == [1, 0.5, 3, 2]
    assert weighed.weights.sum() == 6.5


def test_a_word_without_pieces_is_unknown_and_one_without_end_is_cut(tokenizer):
    rows = [["\x07", "a-" * 50, "\u200b", "b"]]
    encoded = family(max_length=8).encode(tokenizer, examples(rows, [[1, 2, 3, 4]]))
    unknown = tokenizer.unk_token_id
    assert max(map(len, sequences(encoded))) == 8
    assert encoded.tokens[encoded.firsts[[0, 2]]].tolist() == [unknown, unknown]
    assert len(encoded.firsts) == 4
    assert encoded.labels[encoded.firsts].tolist() == [1, 2, 3, 4]


sizes_of_sentences = st.lists(st.lists(st.integers(1, 9), min_size=1, max_size=30), min_size=1, max_size=8)


@settings(max_examples=60)
@given(sizes_of_sentences, st.integers(9, 24), st.lists(st.booleans(), min_size=8, max_size=8))
@pytest.mark.parametrize("context", ["sentence", "document"])
def test_every_word_is_labelled_once_and_context_stays_in_its_document(context, sizes, room, breaks):
    """A tokenizer of known sizes: word "7:3" has three pieces, 7 and twice 0."""
    numbers = iter(range(100, 10**6))
    words = [[f"{next(numbers)}:{size}" for size in row] for row in sizes]
    documents = np.cumsum(breaks[:len(words)]).tolist()
    encoded = family(max_length=room + 2, context=context).encode(
        Sized(), examples(words, [[1] * len(row) for row in words], documents))
    flat = [int(word.split(":")[0]) for row in words for word in row]
    document = dict(zip(flat, np.repeat(documents, [len(row) for row in words]).tolist(), strict=True))
    sentence = dict(zip(flat, np.repeat(range(len(words)), [len(row) for row in words]).tolist(), strict=True))
    assert encoded.tokens[encoded.firsts].tolist() == flat
    assert np.flatnonzero(encoded.weights).tolist() == sorted(encoded.firsts.tolist())
    size_of = dict(zip(flat, [size for row in sizes for size in row], strict=True))
    for begin, end in zip(encoded.offsets[:-1], encoded.offsets[1:], strict=True):
        row, weights = encoded.tokens[begin:end].tolist(), encoded.weights[begin:end]
        assert 2 < len(row) <= room + 2
        assert (row[0], row[-1]) == (Sized.cls_token_id, Sized.sep_token_id)
        held = [token for token in row[1:-1] if token]
        own = [token for token, weight in zip(row, weights, strict=True) if weight]
        assert held == list(range(held[0], held[-1] + 1))  # neighbours, in order, none cut
        assert sum(size_of[word] for word in held) == len(row) - 2
        assert own == list(range(own[0], own[-1] + 1))
        assert len({sentence[word] for word in own}) == 1
        assert len({document[word] for word in held}) == 1
        if context == "sentence":
            assert held == own
            continue
        left, right = (sum(size_of[word] for word in part) for part in (
            range(held[0], own[0]), range(own[-1] + 1, held[-1] + 1)))
        more = [document.get(held[0] - 1) == document[own[0]], document.get(held[-1] + 1) == document[own[0]]]
        if more[1]:  # full: the next word would not have fitted
            assert len(row) - 2 + size_of[held[-1] + 1] > room
        if all(more):  # balanced but for a word
            assert abs(left - right) <= 18


class Sized:
    """Stands in for a tokenizer."""

    cls_token_id, sep_token_id, unk_token_id = 1, 2, 3

    def __call__(self, words, **_):
        return {"input_ids": [[int(word.split(":")[0]), *[0] * (int(word.split(":")[1]) - 1)] for word in words]}


@settings(max_examples=100)
@given(st.lists(st.integers(1, 9), min_size=1, max_size=40), st.integers(9, 30))
def test_a_long_sentence_is_cut_into_few_pieces_of_like_size(sizes, room):
    begins = np.cumsum([0, *sizes])
    found = cut(begins, 0, len(sizes), room)
    assert [0, *(end for _, end in found)] == [*(first for first, _ in found), len(sizes)]
    lengths = [begins[end] - begins[first] for first, end in found]
    assert max(lengths) <= room

    def fewest(limit):
        count, left = 1, limit
        for size in sizes:
            count, left = (count, left - size) if size <= left else (count + 1, limit - size)
        return count
    assert len(found) == fewest(room)
    assert max(lengths) == max(sizes) or fewest(max(lengths) - 1) > len(found)
    assert cut(begins, 3, 3, room) == [(3, 3)]  # a text without words


def test_room_that_one_side_does_not_need_goes_to_the_other():
    begins = np.arange(101)
    assert around(begins, 50, 54, 0, 100, 20) == (42, 62)
    assert around(begins, 50, 54, 48, 100, 20) == (48, 68)
    assert around(begins, 50, 54, 0, 55, 20) == (35, 55)
    assert around(begins, 50, 54, 49, 56, 20) == (49, 56)
    assert around(begins, 50, 70, 0, 100, 20) == (50, 70)


def test_one_document_of_many_sentences_is_mentioned(tokenizer, capsys):
    family(context="document").encode(tokenizer, examples([["a"], ["b"]]))
    assert "2 sentences are one document; -DOCSTART-" in capsys.readouterr().err
    family(context="document").encode(tokenizer, examples([["a"], ["b"]], None, [1, 2]))
    assert not capsys.readouterr().err


LIMITS = {("sentence", 128): 0.09, ("document", 128): 0.09, ("document", 512): 0.11}


@pytest.mark.parametrize(("context", "max_length"), LIMITS)
def test_padding_share_on_real_data(outside, context, max_length, record_property):
    given = dict(task="conll2003", data_dir=str(outside / "data" / "conll2003"), context=context,
                 max_length=max_length)
    task, splits, _ = tasks.load(Config.make(**given))
    given.pop("task")
    vocabulary = load_tokenizer(outside / "models" / "minilm-l6-h384-uncased", BertConfig())
    encoded = family(task, **given).encode(vocabulary, splits["train"])
    assert encoded.weights.sum() == 203621
    lengths = encoded.lengths
    row_length = packing.choose_row_length(lengths, 32, max_length)
    epochs = packing.Epochs(lengths, 32, row_length, seed=0)
    needed, _ = packing.rows_needed(epochs, epochs.steps_per_epoch)
    counts = packing.row_counts(needed, 1)
    share = 1 - lengths.sum() / (row_length * sum(packing.smallest(counts, need) for need in needed))
    record_property("padding_share", float(share))
    print(f"{context} {max_length}: {share:.4f}, T={row_length}, rows {counts}, {lengths.mean():.1f} tokens")
    assert share <= LIMITS[context, max_length]


# --- the model

def random_encoded(count, longest, seed, vocabulary=50, classes=5):
    """Sequences with labels and uneven weights at about half of their tokens."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(3, longest + 1, count)
    offsets = np.cumsum([0, *lengths])
    weights = (rng.random(offsets[-1]) < 0.5) * rng.uniform(0.5, 2, offsets[-1])
    weights[offsets[:-1]] = 1
    return TokenEncoded(rng.integers(1, vocabulary, offsets[-1]).astype(np.int32), offsets, lengths,
                        rng.integers(0, classes, offsets[-1]).astype(np.int32), weights.astype(np.float32),
                        labelled="token", firsts=np.flatnonzero(weights))


def loss_of(model):
    """Compiled (params, batch) -> ((loss, logits), gradients), the loss being that of the training step."""
    def loss(params, batch):
        logits = model.apply({"params": params}, batch)
        losses = heads.loss("token")(logits, batch)
        return (losses * batch["weights"]).sum() / batch["weights"].sum(), logits
    return jax.jit(jax.value_and_grad(loss, has_aux=True))


def test_packed_equals_unpacked():
    model = heads.TokenModel(small.shape(), 5)
    params = small.lively(heads.shapes(model))
    encoded = random_encoded(12, 20, 0)
    placement = parallel.JitPlacement(jax.local_devices()[:1])
    outputs = [Inference(small.apply_of(model), placement, packed, per_token=True).outputs(
        placement.put(params), encoded) for packed in (True, False)]
    assert outputs[0].shape == (len(encoded.tokens), 5)
    np.testing.assert_allclose(*outputs, atol=1e-5)
    (plan, batch), (_, padded) = (small.batch_of(encoded, range(12), packed=packed, multiple=12, slots=8)
                                  for packed in (True, False))
    assert plan.rows < 12
    compute = loss_of(model)
    ((a, _), grads), ((b, _), other) = compute(params, batch), compute(params, padded)
    scores = family().scores(outputs[0], encoded, examples([["w"] * len(encoded.firsts)],
                                                           [encoded.labels[encoded.firsts].tolist()]))
    assert float(a) == pytest.approx(float(b), abs=1e-5) == pytest.approx(scores["loss"], abs=1e-5)
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=2e-5), grads, other)


@pytest.mark.parametrize("seed", range(3))
def test_equals_pytorch(seed):
    torch = pytest.importorskip("torch", reason="PARITY IS NOT CHECKED: pip install 'flaxbert[torch]'")
    from transformers import BertConfig as TheirConfig
    from transformers import BertForTokenClassification
    shape = small.shape(hidden_act=("gelu", "gelu_new")[seed % 2], hidden_size=(16, 24)[seed % 2])
    theirs = BertForTokenClassification(TheirConfig(**asdict(shape), num_labels=5)).eval()
    rng = np.random.default_rng(seed)
    with torch.no_grad():
        for name, value in theirs.named_parameters():
            value.copy_(torch.from_numpy(name.endswith("LayerNorm.weight") + 0.3 * rng.normal(size=value.shape)))
    tensors = {name: value.detach().numpy() for name, value in theirs.named_parameters()}
    params = from_tensors(tensors, shape, "here", "token")
    encoded = random_encoded(6, 24, seed)
    encoded = TokenEncoded(**{**vars(encoded), "weights": (encoded.weights > 0).astype(np.float32)})
    padded, packed = (small.batch_of(encoded, range(6), packed=each, multiple=6, slots=6)[1]
                      for each in (False, True))
    labels = torch.from_numpy(np.where(padded["weights"] > 0, padded["labels"], -100)).long()
    out = theirs(input_ids=torch.from_numpy(padded["tokens"]).long(), labels=labels,
                 attention_mask=torch.from_numpy(padded["sequence"]).long())
    out.loss.backward()
    compute = loss_of(heads.TokenModel(shape, 5))
    real = padded["sequence"] > 0
    logits = np.asarray(compute(params, padded)[0][1])
    np.testing.assert_allclose(logits[real], out.logits.detach().numpy()[real], atol=2e-5)
    for batch in (padded, packed):
        (loss, _), grads = compute(params, batch)
        assert float(loss) == pytest.approx(float(out.loss.detach()), abs=1e-5)
        want = {name: value.grad.numpy() for name, value in theirs.named_parameters()}
        assert to_tensors(grads, "token").keys() == want.keys()
        error, name = cases.worst_gradient(to_tensors(grads, "token"), want)
        assert error < 1, name


# --- runs

def of_columns(folder, **given):
    """Files in columns, of toy sentences, three a document; the test split holds a very long sentence."""
    splits = tasks.load(Config.make(task="toy_token"))[1]
    names = tasks.get("toy_token").labels
    for name, count in (("train", 60), ("dev", 21), ("test", 9)):
        lines = []
        for n in range(count):
            lines += ["-DOCSTART- -X- O", ""] if n % 3 == 0 else []
            words, labels = splits[name].words[n], splits[name].labels[n]
            words, labels = (words * 9, labels * 9) if name == "test" and n == 4 else (words, labels)
            lines += [f"{word} X {names[label]}" for word, label in zip(words, labels, strict=True)] + [""]
        (folder / f"{name}.txt").write_text("".join(line + "\n" for line in lines))
    return dict(task="ner", data_dir=str(folder), **given)


@pytest.fixture(scope="module")
def run(tiny, tmp_path_factory):
    """A run on files in columns, with document context, that writes predictions for the test split."""
    folder = tmp_path_factory.mktemp("ner")
    train.finetune(small.config(tiny, folder / "run", **of_columns(
        folder, context="document", predict_test=True, learning_rate=1e-2, epochs=2.0,
        class_weights=(0.5, *[1.0] * 8)[::-1])))
    return folder / "run"


def test_a_run_reports_spans_by_type_and_evaluate_agrees(run):
    best = small.result_of(run)["best"]
    assert list(best["dev"]) == ["loss", "f1", "precision", "recall", *(f"f1_{kind}" for kind in (
        "FOOD", "PERSON", "PLACE", "TIME")), "accuracy"]
    assert best["dev"]["loss"] < small.rows_of(run)[0]["loss"]
    assert best["dev"]["accuracy"] > 0.3
    for split in ("dev", "test"):
        scores = evaluation.evaluate(str(run), split=split)
        assert {name: scores[name] for name in best[split]} == pytest.approx(best[split], abs=1e-5)


def test_official_files_score_as_the_run_does(run):
    task, splits, _ = tasks.load(small.settings_of(run))
    path = run / "predictions" / "ner.txt"
    assert [line.rpartition(" ")[0] for line in path.read_text().splitlines()] == (
        run.parent / "test.txt").read_text().splitlines()
    best = small.result_of(run)["best"]["test"]
    cells = [line.split() for line in path.read_text().splitlines()]
    right, found, wanted = conlleval(*([[row[column] if row else "O" for row in cells]] for column in (-2, -1)))
    assert best["f1"] == pytest.approx(2 * right / (found + wanted))
    scores = family(task).score_file(path, splits["test"])
    assert scores == pytest.approx({name: value for name, value in best.items() if name != "loss"}, abs=1e-6)


def test_a_predictor_takes_texts_and_words(run):
    predictor = flaxbert.load(str(run))
    assert predictor([]) == []
    text = "Anna Miller may fly  to New York."
    words = ["Anna", "Miller", "may", "fly", "to", "New", "York", "."]
    by_text, by_words = predictor([text, words])
    assert [word["word"] for word in by_text["words"]] == words
    for a, b in zip(by_text["words"], by_words["words"], strict=True):
        assert a["label"] == b["label"]
        assert a["probability"] == pytest.approx(b["probability"], abs=1e-6)
        assert set(a) == {"word", "label", "probability"}
        assert 1 / 9 < a["probability"] <= 1
    tags = [word["label"] for word in by_text["words"]]
    found = token_metrics.spans(tags)
    assert [(e["type"], e["start"], e["end"]) for e in by_words["entities"]] == found
    assert [e["text"] for e in by_words["entities"]] == [" ".join(words[a:b]) for _, a, b in found]
    for entity, (_, first, end) in zip(by_text["entities"], found, strict=True):
        assert entity["text"] == text[entity["start"]:entity["end"]]
        assert entity["text"].split() == words[first:end] or first == end - 1
        assert entity["probability"] == pytest.approx(np.prod([
            word["probability"] for word in by_text["words"][first:end]]))
    assert predictor(text)[0]["words"] == predictor([{"text": text}])[0]["words"]
    assert predictor([""]) == [{"words": [], "entities": []}]
    with pytest.raises(InputError, match="input 1: 3 is neither a text nor a list of words"):
        predictor(["fine", 3])


def test_entities_are_where_the_labels_mark_them():
    """With chosen outputs: what a text and a list of words give."""
    logits = np.log([[.1, .6, .1, .1, .1], [.1, .1, .5, .2, .1], [.1, .1, .1, .1, .6], [.7, .1, .1, .05, .05]])
    encoded = TokenEncoded(np.zeros(4, np.int32), np.array([0, 4]), np.array([4]), None, np.ones(4, np.float32),
                           labelled="token", firsts=np.arange(4))
    rows = family().inputs(["a  b c."])
    found, = family().answers(logits.astype(np.float32), encoded, rows)
    assert found["entities"] == [
        {"text": "a  b", "start": 0, "end": 4, "type": "X", "probability": pytest.approx(0.3, abs=1e-6)},
        {"text": "c", "start": 5, "end": 6, "type": "Y", "probability": pytest.approx(0.6, abs=1e-6)}]
    found, = family().answers(logits.astype(np.float32), encoded, family().inputs([["a", "b", "c", "."]]))
    assert [(e["text"], e["start"], e["end"]) for e in found["entities"]] == [("a b", 0, 2), ("c", 2, 3)]
    plain = tasks.of_kind("token", ("NOUN", "VERB", "DET", "ADJ", "."))
    found, = family(plain).answers(logits.astype(np.float32), encoded, rows)
    assert list(found) == ["words"]


def test_files_in_files_out(run, tmp_path):
    count = predict.predict(str(run), str(run.parent / "dev.txt"), str(tmp_path / "out.jsonl"))
    answers = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert count == len(answers) == 21
    assert all(set(answer) == {"words", "entities"} for answer in answers)
    predict.predict(str(run), str(run.parent / "dev.txt"), str(tmp_path / "out.tsv"))
    rows = [line.split("\t") for line in (tmp_path / "out.tsv").read_text().splitlines()]
    assert [row[:2] for row in rows if row != [""]] == [
        [word["word"], word["label"]] for answer in answers for word in answer["words"]]
    assert rows.count([""]) == 21
    gold = tasks.read_file(flaxbert.load(str(run)).task, run.parent / "dev.txt", labels_required=True)[0]
    labels = flaxbert.load(str(run)).labels
    right = [word["label"] == labels[label] for answer, row in zip(answers, gold.labels, strict=True)
             for word, label in zip(answer["words"], row, strict=True)]
    assert evaluation.evaluate(str(run))["accuracy"] == pytest.approx(np.mean(right))


def test_an_export_answers_as_the_run_here_and_in_pytorch(run, tmp_path):
    export(run, tmp_path / "out")
    ours, exported = flaxbert.load(str(run)), flaxbert.load(str(tmp_path / "out"))
    assert (exported.kind, exported.labels, exported.config.context) == ("token", ours.labels, "document")
    text = "Anna Miller may fly to New York ."
    for a, b in zip(ours(text)[0]["words"], exported(text)[0]["words"], strict=True):
        assert (a["label"], a["probability"]) == (b["label"], pytest.approx(b["probability"], abs=1e-6))
    torch = pytest.importorskip("torch", reason="EXPORT TO PYTORCH IS NOT CHECKED: pip install 'flaxbert[torch]'")
    from transformers import AutoModelForTokenClassification, AutoTokenizer
    theirs = AutoModelForTokenClassification.from_pretrained(tmp_path / "out").eval()
    assert tuple(theirs.config.id2label[i] for i in range(9)) == ours.labels
    inputs = AutoTokenizer.from_pretrained(tmp_path / "out")(text.split(), is_split_into_words=True,
                                                             return_tensors="pt")
    encoded = ours.encode(ours.family.inputs([text.split()]))
    assert inputs["input_ids"][0].tolist() == encoded.tokens.tolist()
    with torch.no_grad():
        logits = theirs(**inputs).logits[0].numpy()
    np.testing.assert_allclose(ours.outputs(encoded), logits, atol=2e-5)
    theirs.save_pretrained(tmp_path / "foreign")  # a model of theirs, of which nothing but its head is known
    AutoTokenizer.from_pretrained(tmp_path / "out").save_pretrained(tmp_path / "foreign")
    settings = json.loads((tmp_path / "foreign" / "config.json").read_text())
    settings.pop("flaxbert", None)
    (tmp_path / "foreign" / "config.json").write_text(json.dumps(settings))
    foreign = flaxbert.load(str(tmp_path / "foreign"))
    assert foreign.kind == "token"
    assert [w["label"] for w in foreign(text)[0]["words"]] == [w["label"] for w in ours(text)[0]["words"]]
    assert "entities" in foreign(text)[0]
    dev = str(run.parent / "dev.txt")
    assert predict.predict(str(tmp_path / "foreign"), dev, str(tmp_path / "out.jsonl")) == 21


def test_an_interrupted_run_goes_on_bitwise(run, tmp_path):
    again = replace(small.settings_of(run), output_dir=str(tmp_path / "parts"))
    small.stop_after(4, again)
    train.finetune(replace(again, resume=True))
    assert small.losses_of(tmp_path / "parts") == small.losses_of(run)
    assert small.result_of(tmp_path / "parts")["best"] == small.result_of(run)["best"]


def test_parts_of_speech_are_judged_by_accuracy(tiny, tmp_path):
    of_columns(tmp_path)
    for name in ("train", "dev", "test"):  # words and their length as a tag
        lines = [line.split()[0] for line in (tmp_path / f"{name}.txt").read_text().splitlines() if line]
        (tmp_path / f"{name}.txt").write_text("".join(f"{word} L{min(len(word), 4)}\n" for word in lines))
    result = train.finetune(small.config(
        tiny, tmp_path / "run", task="conll2003_pos", data_dir=str(tmp_path), train_file="train.txt",
        dev_file="dev.txt", max_steps=2))
    assert set(result["best"]["dev"]) == {"loss", "accuracy"}
    assert result["main_metric"] == "accuracy"
    assert list(flaxbert.load(str(tmp_path / "run"))("He left.")[0]) == ["words"]
