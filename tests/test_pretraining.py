"""Pre-training: text to sequences, masks, the loop, and what comes of a run."""

import dataclasses
import itertools
import json
import subprocess
import sys

import cases
import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small import config, equal, flags, losses_of, refused, result_of, rows_of, settings

import flaxbert
from flaxbert import cli, families, heads, masking, predict, pretrained, segments, tasks, train, vocabulary
from flaxbert.bert import BertConfig
from flaxbert.checkpoint import load_params
from flaxbert.config import DEFAULTS, Config
from flaxbert.data import collate
from flaxbert.export import export
from flaxbert.huggingface import from_tensors, to_tensors
from flaxbert.masking import Vocabulary
from flaxbert.packing import pack
from flaxbert.prepare import prepare
from flaxbert.tasks import corpus, toy
from flaxbert.tasks.base import Documents

PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", ".", *"abcdefgh", *(f"##{c}" for c in "abcdefgh")]


@pytest.fixture(scope="module")
def tokenizer():
    return vocabulary.tokenizer(PIECES, cased=False)


@pytest.fixture(scope="module")
def words(tokenizer):
    return Vocabulary.of(tokenizer, "here")


def opinions(count):
    """Sentences of the toy grammar."""
    return [first for first, _, _ in itertools.islice(toy.opinions(toy.Writer(5, new=False)), count)]


def sentences(count):
    """The same, four a paragraph, two paragraphs a document."""
    texts = opinions(count)
    blocks = [" ".join(texts[i:i + 4]) for i in range(0, count, 4)]
    return "\n\n".join("\n".join(blocks[i:i + 2]) for i in range(0, len(blocks), 2)) + "\n"


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    file = tmp_path_factory.mktemp("text") / "corpus.txt"
    file.write_text(sentences(400))
    return str(file)


# --- masks

def random_rows(words, rows=64, length=200, seed=0):
    """Rows of [CLS], ordinary tokens, [SEP] and padding."""
    rng = np.random.default_rng(seed)
    tokens = rng.choice(words.ordinary, (rows, length)).astype(np.int32)
    sizes = rng.integers(2, length, rows)
    columns = np.arange(length)
    tokens[:, 0] = 2
    tokens[columns >= sizes[:, None]] = 0
    tokens[np.arange(rows), sizes - 1] = 3
    return tokens


@pytest.mark.parametrize("rate", [0.15, 0.4])
def test_exactly_the_share_of_ordinary_tokens_is_masked_and_no_other(words, rate):
    tokens = random_rows(words)
    seen, chosen = masking.mask(tokens, words, rate, False, masking.uniform(0, 3, range(64), 200))
    maskable = (tokens > 4)
    assert (chosen.sum(1) == np.rint(rate * maskable.sum(1))).all()
    assert not (chosen & ~maskable).any()
    assert (seen == tokens)[~chosen].all()
    assert seen.dtype == np.int32


def test_of_the_masked_80_percent_are_masks_10_any_word_10_unchanged(words):
    tokens = random_rows(words, rows=512)
    seen, chosen = masking.mask(tokens, words, 0.15, False, masking.uniform(1, 0, range(512), 200))
    new, old = seen[chosen], tokens[chosen]
    count = len(new)
    assert count > 5000
    same = 1 / len(words.ordinary)  # a random word may be the old one
    for share, want in ((np.mean(new == 4), 0.8), (np.mean(new == old), 0.1 + 0.1 * same)):
        assert abs(share - want) < 4 * np.sqrt(want * (1 - want) / count)
    instead = new[(new != 4) & (new != old)]
    assert set(instead) <= set(words.ordinary.tolist())
    assert len(set(instead)) == len(words.ordinary), "every word comes up"


def test_every_column_is_as_likely(words):
    tokens = np.full((4000, 12), 6, np.int32)
    _, chosen = masking.mask(tokens, words, 0.25, False, masking.uniform(0, 0, range(4000), 12))
    assert np.abs(chosen.mean(0) - 0.25).max() < 4 * np.sqrt(0.25 * 0.75 / 4000)


def test_a_mask_is_a_function_of_seed_step_and_row(words):
    draw = masking.uniform
    rows = draw(3, 7, [0, 1, 2, 5], 40)
    np.testing.assert_array_equal(draw(3, 7, [5, 1], 40), rows[[3, 1]])
    for other in (draw(4, 7, [5], 40), draw(3, 8, [5], 40), draw(3, 7, [6], 40)):
        assert not np.isin(other, rows).any()


@given(st.lists(st.lists(st.integers(1, 5), min_size=1, max_size=12), min_size=1, max_size=6),
       st.integers(0, 10), st.integers(0, 1000))
def test_whole_words_are_chosen_as_far_as_they_fit(lengths, wanted, seed):
    """`lengths` are those of the words of each row, which stand behind a special token."""
    width = 1 + max(map(sum, lengths))
    maskable, begins = np.zeros((2, len(lengths), width), bool)
    word = np.zeros((len(lengths), width), int)
    for row, sizes in enumerate(lengths):
        starts = 1 + np.cumsum([0, *sizes])
        for number, (start, size) in enumerate(zip(starts, sizes, strict=False)):
            maskable[row, start:start + size], begins[row, start] = True, True
            word[row, start:start + size] = number
    priority = np.random.default_rng(seed).random(maskable.shape)
    chosen = masking.choose(maskable, begins, priority, np.full(len(lengths), wanted))
    assert not (chosen & ~maskable).any()
    for row, sizes in enumerate(lengths):  # one word after the other, each if it still fits
        left, want = wanted, np.zeros(width, bool)
        for first in sorted(np.flatnonzero(begins[row]), key=lambda column: priority[row, column]):
            number = word[row, first]
            if sizes[number] <= left:
                left -= sizes[number]
                want |= maskable[row] & (word[row] == number)
        np.testing.assert_array_equal(chosen[row], want)


def test_whole_words_by_the_pieces(words, tokenizer):
    pieces = ["[CLS]", "a", "##b", "##c", "d", "##e", "[SEP]", "[CLS]", "##f", "a", "##b", "[SEP]", "[PAD]"]
    tokens = np.array([tokenizer.convert_tokens_to_ids(pieces)] * 500, np.int32)
    _, chosen = masking.mask(tokens, words, 0.25, True, masking.uniform(0, 0, range(500), len(pieces)))
    found = {tuple(np.flatnonzero(row).tolist()) for row in chosen}
    assert found == {(4, 5), (9, 10), (8,)}  # 2 of 8; abc is too long; f begins a sequence


def test_columns_of_the_chosen():
    chosen = np.array([[0, 1, 0, 1, 1], [0, 0, 0, 0, 1], [0, 0, 0, 0, 0]], bool)
    columns, there = masking.columns(chosen, 3)
    assert columns[0].tolist() == [1, 3, 4]
    assert columns[1, 0] == 4
    assert there.sum(1).tolist() == [3, 1, 0]


def test_a_tokenizer_without_a_mask_is_refused():
    class NoMask:
        mask_token_id = None
    assert refused(Vocabulary.of, NoMask, "--model=x").startswith("--model=x: its tokenizer has no [MASK]")


# --- sequences

def family(length=8, **other):
    given = Config.make(task="pretrain", max_length=length, **other)
    return families.make(tasks.resolve(given), given)


def letters(number, count, words=True):
    """A paragraph of words of one or two letters, all starting with another letter each document."""
    rng = np.random.default_rng(number)
    return " ".join("".join(rng.choice(list("abcdefgh"), rng.integers(1, 4))) for _ in range(count)) + "."


def documents(sizes):
    paragraphs = [[letters(100 * i + j, n) for j, n in enumerate(each)] for i, each in enumerate(sizes)]
    return Documents(paragraphs, [str(i) for i in range(len(sizes))])


def originals(encoded):
    """The sequences as they were before masking, without [CLS] and [SEP]."""
    rows = [encoded.labels[a:b] for a, b in zip(encoded.offsets[:-1], encoded.offsets[1:], strict=True)]
    assert all(row[-1] == 3 for row in rows)
    return [row[1:-1] for row in rows]


@pytest.mark.parametrize("length", [4, 8, 32])
def test_no_token_is_lost_and_sequences_are_full(tokenizer, length):
    split = documents([[3, 20, 1], [1], [40], [2, 2, 2, 2]])
    encoded = family(length).encode(tokenizer, split)
    want = [tokenizer(" ".join(paragraphs), add_special_tokens=False)["input_ids"]
            for paragraphs in split.paragraphs]
    rows = originals(encoded)
    assert np.concatenate(rows).tolist() == [token for ids in want for token in ids]
    assert encoded.lengths.max() <= length
    ends = {sum(map(len, want[:i + 1])) for i in range(len(want))}
    continues = np.array([piece.startswith("##") for piece in PIECES])
    done = 0
    for row, following in zip(rows, [*rows[1:], np.array([0])], strict=True):
        done += len(row)
        if done in ends:
            continue
        assert len(row) + len(following) > length - 2 or not continues[following].all()
        if not continues[following[:length - 2]].all() and length > 6:
            assert not continues[following[0]], "a sequence begins at a word's beginning"


def test_dev_is_masked_the_same_way_each_time(tokenizer):
    split = documents([[30, 20], [60]])
    one, again = (family(32).encode(tokenizer, split) for _ in range(2))
    assert np.array_equal(one.tokens, again.tokens)
    assert not np.array_equal(one.tokens, family(32, seed=1).encode(tokenizer, split).tokens)
    changed = one.tokens != one.labels
    changed[one.offsets[:-1]] = False  # there stands the next sentence's label
    assert changed.any()
    assert (one.weights[changed] == 1).all()
    for begin, end in zip(one.offsets[:-1], one.offsets[1:], strict=True):
        assert one.weights[begin:end].sum() == np.rint(0.15 * (end - begin - 2))


def test_the_labels_of_next_sentences_have_the_names_of_their_numbers():
    assert family().next_sentence is False
    asked = family(next_sentence=True)
    assert asked.next_sentence is True
    assert (asked.task.labels[segments.NEXT], asked.task.labels[segments.RANDOM]) == ("next", "random")


@pytest.fixture(scope="module")
def pairs(tokenizer):
    split = documents([[int(n) for n in np.random.default_rng(i).integers(3, 9, 12)] for i in range(40)])
    return split, family(24, next_sentence=True).encode(tokenizer, split)


def halves(encoded):
    """(A, B, label) of each sequence, as token lists."""
    for n, (begin, end) in enumerate(zip(encoded.offsets[:-1], encoded.offsets[1:], strict=True)):
        row, second = encoded.labels[begin:end], encoded.second[n]
        assert row[second - 1] == 3
        assert row[-1] == 3
        yield row[1:second - 1].tolist(), row[second:-1].tolist(), int(row[0])


def test_half_of_the_second_sentences_follow_and_the_others_are_of_another_document(pairs, tokenizer):
    split, encoded = pairs
    texts = [tokenizer(" ".join(paragraphs), add_special_tokens=False)["input_ids"]
             for paragraphs in split.paragraphs]
    spelled = [f" {' '.join(map(str, ids))} " for ids in texts]
    labels, document, at = [], 0, 0
    for first, second, label in halves(encoded):
        assert first
        assert second
        assert len(first) + len(second) <= 21
        if at == len(texts[document]):
            document, at = document + 1, 0
        assert texts[document][at:at + len(first)] == first, "documents go on where they were left"
        at += len(first)
        if label == 0:
            assert texts[document][at:at + len(second)] == second
            at += len(second)
        elif len(second) > 6:
            found = [n for n, other in enumerate(spelled) if f" {' '.join(map(str, second))} " in other]
            assert found
            assert document not in found
        labels.append(label)
    assert (document, at) == (len(texts) - 1, len(texts[-1])), "nothing is left over"
    assert abs(np.mean(labels) - 0.5) < 4 * 0.5 / np.sqrt(len(labels))
    cut_well = [first[-1] == tokenizer.convert_tokens_to_ids(".") for first, _, _ in halves(encoded)]
    assert np.mean(cut_well) > 0.8, "A ends with a sentence, wherever one ends at all"


def test_the_label_does_not_show_in_the_lengths(pairs):
    lengths = [(label, len(second)) for _, second, label in halves(pairs[1])]
    follows, other = ([n for label, n in lengths if label == which] for which in (0, 1))
    assert abs(np.mean(follows) - np.mean(other)) < 4 * np.std(follows) / np.sqrt(min(len(follows), len(other)))


def test_one_document_has_no_other_to_take_a_sentence_from(tokenizer):
    line = refused(family(8, next_sentence=True).encode, tokenizer, documents([[4, 4]]))
    assert "--next_sentence needs two" in line


# --- the batch

def batch_of(tokenizer, rows=None, step=0, **other):
    """The training batch of a few packed rows; `rows`: only these of them."""
    split = documents([[30, 20], [60], [3]])
    own = family(32, **other)
    encoded = own.encode(tokenizer, split)
    plan = pack(np.arange(len(encoded)), encoded.lengths, 64)
    arrays = collate(encoded, plan, plan.rows + 1, 64, plan.slots, rows)
    return arrays, own.train_batch(arrays, step), own.eval_batch(arrays)


@pytest.mark.parametrize("next_sentence", [False, True])
def test_a_training_batch(tokenizer, words, next_sentence):
    arrays, batch, _ = batch_of(tokenizer, next_sentence=next_sentence)
    original = np.where(arrays["positions"] > 0, arrays["labels"], arrays["tokens"])
    chosen = np.zeros(original.shape, bool)
    for row, columns, weights in zip(chosen, batch["masked"], batch["weights"]["mlm"], strict=True):
        row[columns[weights > 0]] = True
    maskable = words.maskable[original]
    assert batch["masked"].shape[1] == round(0.15 * 64)
    assert (chosen.sum(1) == np.rint(0.15 * maskable.sum(1))).all()
    assert chosen[:-1].any(1).all()
    assert not chosen[-1].any(), "the empty row"
    assert not (chosen & ~maskable).any()
    assert (batch["tokens"] == original)[~chosen].all(), "nothing of the held-out masks is left"
    there = batch["weights"]["mlm"] > 0
    assert (batch["labels"]["mlm"] == np.take_along_axis(original, batch["masked"], 1))[there].all()
    assert set(batch["labels"]) == set(batch["weights"]) == ({"mlm", "nsp"} if next_sentence else {"mlm"})
    if next_sentence:
        assert batch["weights"]["nsp"].sum() == arrays["sequence"].max(1).sum()
        first = np.take_along_axis(arrays["labels"], arrays["first"], 1)
        assert (batch["labels"]["nsp"] == first)[batch["weights"]["nsp"] > 0].all()


def test_a_row_is_masked_the_same_whatever_stands_beside_it_and_anew_each_step(tokenizer):
    _, whole, _ = batch_of(tokenizer)
    _, part, _ = batch_of(tokenizer, rows=np.array([1, 2]))
    for name in ("tokens", "masked"):
        np.testing.assert_array_equal(part[name], whole[name][[1, 2]])
    _, later, _ = batch_of(tokenizer, step=1)
    assert (later["tokens"] != whole["tokens"]).any()


def test_an_evaluation_sees_the_masks_of_the_split(tokenizer):
    arrays, _, batch = batch_of(tokenizer)
    np.testing.assert_array_equal(batch["tokens"], arrays["tokens"])
    assert batch["weights"]["mlm"].sum() == arrays["weights"].sum() > 0


# --- text files

def read(path, **other):
    given = Config.make(task="pretrain", train_file=str(path), **other)
    _, splits, report = tasks.load(given)
    return splits, report


def test_paragraphs_and_documents(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbf\r\n\r\n One.\r\nTwo. \r\n\r\n \t\r\nThree.\r\n\r\n")
    (tmp_path / "b.txt").write_text("Four.\n\nFive.")
    (tmp_path / "c.md").write_text("not this one")
    splits, report = read(tmp_path)
    assert splits["train"].paragraphs == [["One.", "Two."], ["Three."], ["Four."]]
    assert splits["dev"].paragraphs == [["Five."]]
    assert report.lines == ()
    splits, _ = read(tmp_path / "a.txt", dev_file=str(tmp_path / "b.txt"), max_train_examples=1)
    assert splits["train"].paragraphs == [["One.", "Two."]]
    assert splits["dev"].paragraphs == [["Four."], ["Five."]]


def test_one_percent_is_held_out(tmp_path):
    (tmp_path / "a.txt").write_text("\n\n".join(map(str, range(300))))
    splits, _ = read(tmp_path / "a.txt")
    assert splits["dev"].paragraphs == [["297"], ["298"], ["299"]]
    assert len(splits["train"]) == 297


def test_a_text_without_blank_lines_is_one_document_and_that_is_told(tmp_path):
    (tmp_path / "a.txt").write_text("\n".join(map(str, range(10))))
    splits, report = read(tmp_path / "a.txt")
    assert splits["train"].paragraphs == [[str(n) for n in range(9)]]
    assert splits["dev"].paragraphs == [["9"]]
    assert len(report.lines) == 1
    assert "one document" in report.lines[0]


@pytest.mark.parametrize(("content", "words"), [
    (b"", "a.txt: no text, nothing to hold out; give --dev_file"), (b"\n \n", "no text"),
    (b"One line.", "1 paragraph, nothing to hold out"),
    (b"Good.\n\nCaf\xe9.\n\nGood.", "a.txt, line 3: not UTF-8 text (byte 0xe9); convert the file to UTF-8")])
def test_bad_text_is_one_line(tmp_path, content, words):
    (tmp_path / "a.txt").write_bytes(content)
    assert words in refused(read, tmp_path / "a.txt")


def test_bad_lines_are_skipped_where_asked(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"Good.\n\nCaf\xe9.\n\nGood.\n\nBetter.")
    splits, report = read(tmp_path / "a.txt", skip_bad_rows=True)
    assert splits["train"].paragraphs == [["Good."], ["Good."]]
    assert "skipped 1 bad row" in report.lines[0]


UNSEEN = "\u200b\u2060\ufeff \x07 \ufffd \u0301 \ue000"  # zero-width, control, unknown, accent, private use


@pytest.mark.parametrize(("content", "place", "words"), [
    (f"One.\n\n{UNSEEN}\n\u200b\n\nTwo.\n\nThree.", "line 3", "nothing but characters that are not to be seen"),
    (f"One.\n\nTwo.\n\nThree.\n\n{UNSEEN}", "line 7", "nothing but"), ("", "line 1", "the file has no text"),
    ("\n \n", "line 1", "the file has no text")])
def test_an_empty_document_is_told_or_counted(tmp_path, content, place, words):
    file = tmp_path / "a.txt"
    file.write_text(content)
    (tmp_path / "b.txt").write_text("Four.\n\n\n\nFive.\n\u200b\n\n\n")  # paragraphs may be empty
    told = f"{place}: an empty document: {words}"
    assert f"{file}, {told}" in refused(read, tmp_path)
    splits, report = read(tmp_path, skip_bad_rows=True)
    found = [paragraphs[0] for split in splits.values() for paragraphs in split.paragraphs]
    assert found == (["One.", "Two.", "Three."] if "One" in content else []) + ["Four.", "Five."]
    assert report.skipped == {str(file): 1}
    assert told in report.lines[0]


def test_no_token_comes_of_what_counts_as_empty_and_one_of_all_else(tokenizer, capsys):
    assert tokenizer(UNSEEN, add_special_tokens=False)["input_ids"] == []
    assert corpus.is_empty(UNSEEN)
    for seen in ("a", ".", "\u4e2d", "\U0001f642", "\u0903", "\u20dd"):
        assert not corpus.is_empty(UNSEEN + seen)
        assert tokenizer(seen, add_special_tokens=False)["input_ids"]
    split = Documents([["a b"], [UNSEEN], ["c"]], ["0", "1", "2"])
    encoded = family().encode(tokenizer, split, "train")
    assert len(encoded) == 2
    assert "train: documents left out, of which no token comes: 1" in capsys.readouterr().err


def test_files_that_are_not_there(tmp_path):
    assert "no file" in refused(read, tmp_path / "none.txt")
    assert "no .txt file" in refused(read, tmp_path)
    (tmp_path / "a.txt").write_text("One.\n\nTwo.")
    (tmp_path / "empty.txt").write_text("\n")
    assert "empty.txt: no text" in refused(read, tmp_path / "a.txt", dev_file=str(tmp_path / "empty.txt"))
    assert "--train_file" in refused(tasks.load, Config.make(task="pretrain"))


def test_text_of_a_hub_dataset(tmp_path):
    pytest.importorskip("datasets")
    for split, lines in (("train", ["One.", "Two.", "", "Three."]), ("validation", ["", "Four."])):
        (tmp_path / f"{split}.jsonl").write_text("".join(json.dumps({"text": line}) + "\n" for line in lines))
    _, splits, _ = tasks.load(Config.make(task="pretrain", hub_dataset=str(tmp_path)))
    assert splits["train"].paragraphs == [["One.", "Two."], ["Three."]]
    assert splits["dev"].paragraphs == [["Four."]]
    (tmp_path / "validation.jsonl").write_text("".join(json.dumps({"text": line}) + "\n" for line in (
        "Four.", "", "\u200b", "\u200b", "", "Five.")))
    given = dict(task="pretrain", hub_dataset=str(tmp_path))
    assert "split validation, row 2: an empty document" in refused(tasks.load, Config.make(**given))
    _, splits, report = tasks.load(Config.make(**given, skip_bad_rows=True))
    assert splits["dev"].paragraphs == [["Four."], ["Five."]]
    assert list(report.skipped.values()) == [1]


# --- a vocabulary

def test_a_vocabulary_is_learnt_from_text():
    pieces = vocabulary.learn(["The lowest tower is lower than the low town."] * 3, 200)
    assert pieces[:5] == ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    assert len(pieces) == len(set(pieces)) <= 200
    assert {"the", "low", *"xyz!~"} <= set(pieces)
    made = vocabulary.tokenizer(pieces, cased=False)
    assert len(made) == len(pieces)
    assert "[UNK]" not in made.tokenize("Any quiz, jack: even 100% NEW words (é) work!")
    assert made.tokenize("Low") == ["low"]
    cased = vocabulary.tokenizer(vocabulary.learn(["Low and low"] * 3, 200, cased=True), cased=True)
    assert cased.tokenize("Low") == ["Low"]


def test_a_vocabulary_holds_the_most_frequent_letters_of_another_script():
    text = ["мама мыла раму", "мама", "щ"]
    pieces = vocabulary.learn(text, 300)
    assert "[UNK]" not in vocabulary.tokenizer(pieces, False).tokenize("мыла")
    assert "--vocabulary_size=100: too small" in refused(vocabulary.learn, text, 100)


def test_the_same_text_gives_the_same_vocabulary_in_another_process(text):
    """The trainer's hash tables are seeded anew in each."""
    code = ("import sys; from flaxbert import vocabulary; "
            "print(*vocabulary.learn([open(sys.argv[1]).read(), 'αβγ δε ζ ηθ'], 280), sep=chr(10))")
    one, two = (subprocess.run([sys.executable, "-c", code, text], capture_output=True, text=True, check=True,
                               env={"RAYON_NUM_THREADS": n, "PATH": ""}).stdout for n in ("1", "5"))
    assert one == two
    assert 200 < len(one.split("\n")) <= 281


# --- parity

SHAPES = [dict(hidden_size=12, num_attention_heads=3, intermediate_size=20, num_hidden_layers=2),
          dict(hidden_size=8, num_attention_heads=2, intermediate_size=24, hidden_act="gelu_new"),
          dict(hidden_size=21, num_attention_heads=1, intermediate_size=30, layer_norm_eps=1e-5)]


@pytest.mark.parametrize("seed", range(3))
def test_equals_pytorch(seed, record_property):
    torch = pytest.importorskip("torch", reason="PARITY IS NOT CHECKED: pip install 'flaxbert[torch]'")
    import transformers
    shape = BertConfig(**{"vocab_size": 40 + seed, "max_position_embeddings": 24, "num_hidden_layers": 1,
                          **SHAPES[seed]})
    theirs = transformers.BertConfig(**dataclasses.asdict(shape), attn_implementation="eager")
    bert = transformers.BertForPreTraining(theirs).eval()
    rng = np.random.default_rng(seed)
    with torch.no_grad():
        for name, value in bert.named_parameters():
            scale = 0.8 * shape.hidden_size ** -0.5 if value.ndim == 2 and "embeddings" not in name else 0.3
            value.copy_(torch.from_numpy(name.endswith("LayerNorm.weight") + scale * rng.normal(size=value.shape)))
    case = cases.Case(seed, shape, "classification", 2, 4, 17)
    batch = cases.batch(case, 0)
    chosen = (batch["sequence"] > 0) & (rng.random(batch["tokens"].shape) < 0.4)
    columns, there = masking.columns(chosen, 12)
    labels = rng.integers(0, shape.vocab_size, chosen.shape).astype(np.int32)
    batch |= {"masked": columns, "labels": {"mlm": np.take_along_axis(labels, columns, 1), "nsp": batch["labels"]},
              "weights": {"mlm": there.astype(np.float32), "nsp": batch["weights"]}}

    out = bert(input_ids=torch.from_numpy(batch["tokens"]).long(),
               attention_mask=torch.from_numpy(batch["sequence"]),
               token_type_ids=torch.from_numpy(batch["types"]).long(),
               labels=torch.from_numpy(np.where(chosen, labels, -100)).long(),
               next_sentence_label=torch.from_numpy(batch["labels"]["nsp"][:, 0]).long())
    out.loss.backward()
    tensors = {name: value.detach().numpy().copy() for name, value in bert.named_parameters()}
    params = from_tensors(tensors, shape, "here", "pretraining")
    model = heads.PretrainingModel(shape, 2)

    def loss_of(params):
        logits = model.apply({"params": params}, batch)
        losses = heads.pretraining_losses(logits, batch)
        return sum((losses[name] * w).sum() / w.sum() for name, w in batch["weights"].items()), logits
    (loss, logits), gradients = jax.jit(jax.value_and_grad(loss_of, has_aux=True))(params)
    want = np.take_along_axis(out.prediction_logits.detach().numpy(), columns[..., None], 1)
    following = out.seq_relationship_logits.detach().numpy()
    errors = {"mlm": float(np.abs(np.asarray(logits["mlm"]) - want)[there].max()),
              "nsp": float(np.abs(np.asarray(logits["nsp"])[:, 0] - following).max()),
              "loss": abs(float(loss) - float(out.loss.detach()))}
    record_property("errors", str(errors))
    assert max(errors.values()) < 2e-5, errors
    ours = to_tensors(gradients, "pretraining")
    expected = {name: value.grad.numpy() for name, value in bert.named_parameters()}
    assert ours.keys() == expected.keys()
    assert cases.worst_gradient(ours, expected)[0] < 1


# --- runs

RUN = dict(task="pretrain", vocabulary_size=260, num_hidden_layers=1, max_train_examples=0, max_eval_examples=0,
           max_steps=6, max_length=32, batch_size=8, learning_rate=2e-3, eval_every=3, packing=False)
PAIRS = dict(next_sentence=True, whole_word_masking=True, optimizer="lamb", packing=True)


def pretrain_config(tiny, run, text, **other):
    return config(tiny, run, **{**RUN, "train_file": text, **other})


@pytest.fixture(scope="module")
def finished(tiny, text, tmp_path_factory):
    """A run of masked words alone."""
    run = tmp_path_factory.mktemp("runs") / "mlm"
    train.finetune(pretrain_config(tiny, run, text))
    return run


@pytest.fixture(scope="module")
def finished_pairs(tiny, text, tmp_path_factory):
    """A run with next sentences and whole words, by LAMB."""
    run = tmp_path_factory.mktemp("runs") / "nsp"
    train.finetune(pretrain_config(tiny, run, text, **PAIRS))
    return run


def test_a_run_has_the_scores_and_the_lowest_perplexity_is_the_best(finished, finished_pairs):
    for run, more in ((finished, set()), (finished_pairs, {"nsp_accuracy"})):
        result, rows = result_of(run), rows_of(run, "dev")
        names = {"loss", "perplexity", "mlm_accuracy", "unigram_perplexity"} | more
        assert set(result["best"]["dev"]) == names
        assert [row["step"] for row in rows] == [3, 6]
        best = min(rows, key=lambda row: row["perplexity"])
        assert result["best_step"] == best["step"] == load_params(run)[1]["step"]
        assert result["best"]["dev"]["perplexity"] == pytest.approx(best["perplexity"], rel=1e-6)
        assert result["padding_share"] < 0.2
    assert set(load_params(finished)[0]) == {"bert", "mlm"}, "without a next sentence nothing stands idle"
    assert set(load_params(finished_pairs)[0]) == {"bert", "mlm", "nsp", "pooler"}


def test_the_scores_are_those_of_the_definition(finished, tiny, text):
    """One sequence a row, the loss of each masked word by hand."""
    ready = prepare(pretrain_config(tiny, finished, text, resume=True), 1)
    encoded, params = ready.encoded["dev"], load_params(finished, "last")[0]
    entropies, right = [], []
    for begin, end in zip(encoded.offsets[:-1], encoded.offsets[1:], strict=True):
        tokens = encoded.tokens[None, begin:end]
        columns = np.flatnonzero(encoded.weights[begin:end])[None]
        batch = {"tokens": tokens, "types": 0 * tokens, "positions": np.arange(end - begin)[None],
                 "sequence": 0 * tokens + 1, "first": np.zeros((1, 1), int), "masked": columns}
        logits = np.asarray(ready.model.apply({"params": params}, batch)["mlm"][0], np.float64)
        labels = encoded.labels[begin:end][columns[0]]
        entropies += (np.log(np.exp(logits).sum(1)) - logits[np.arange(len(labels)), labels]).tolist()
        right += (logits.argmax(1) == labels).tolist()
    train_words = np.concatenate(originals(ready.encoded["train"]))
    counts = np.bincount(train_words, minlength=len(ready.pretrained.tokenizer))
    asked = encoded.labels[encoded.weights > 0]
    unigram = np.exp(-np.log((counts[asked] + 1) / (counts.sum() + len(counts) - 5)).mean())
    got = result_of(finished)["metrics"]["dev"]
    assert got["perplexity"] == pytest.approx(np.exp(np.mean(entropies)), rel=1e-4)
    assert got["loss"] == pytest.approx(np.mean(entropies), rel=1e-5)
    assert got["mlm_accuracy"] == pytest.approx(np.mean(right))
    assert got["unigram_perplexity"] == pytest.approx(unigram, rel=1e-6)


def test_evaluate_says_the_same_again(finished_pairs):
    got = predict.evaluate(str(finished_pairs))
    want = result_of(finished_pairs)["best"]["dev"]
    for name in ("loss", "perplexity", "mlm_accuracy", "nsp_accuracy"):
        assert got[name] == pytest.approx(want[name], rel=1e-5), name


@pytest.mark.parametrize("how", ["jit", "pmap"])
def test_four_devices_equal_one(finished_pairs, tiny, text, tmp_path, how):
    train.finetune(pretrain_config(tiny, tmp_path / "run", text, **PAIRS, parallel=how, devices=4))
    mine, want = losses_of(tmp_path / "run"), losses_of(finished_pairs)
    assert list(mine) == list(want)
    assert max(abs(mine[step] - want[step]) for step in want) < 1e-5
    got, want = (result_of(run)["metrics"]["dev"] for run in (tmp_path / "run", finished_pairs))
    assert got == pytest.approx(want, abs=1e-3)


def test_resumed_equals_uninterrupted_with_the_vocabulary_it_has(finished, tiny, text, tmp_path, monkeypatch):
    run = tmp_path / "run"
    given = pretrain_config(tiny, run, text, save_every=1)
    loop, real = train.Loop, train.Loop._settle
    monkeypatch.setattr(loop, "_settle", lambda self, pending, *rest: (
        setattr(self, "interrupted", bool(pending and pending[0] == 3)) if not self.interrupted else None,
        real(self, pending, *rest))[1])
    assert train.finetune(given)["status"] == "interrupted"
    monkeypatch.setattr(loop, "_settle", real)
    monkeypatch.setattr(vocabulary, "learn", lambda *a: pytest.fail("the vocabulary is there already"))
    train.finetune(pretrain_config(tiny, run, text, save_every=1, resume=True))
    assert losses_of(run) == losses_of(finished)
    assert equal(load_params(run, "last")[0], load_params(finished, "last")[0])


def test_micro_batches_change_nothing(finished, tiny, text, tmp_path):
    train.finetune(pretrain_config(tiny, tmp_path / "run", text, micro_batches=2, max_steps=2))
    mine, want = losses_of(tmp_path / "run"), losses_of(finished)
    assert mine[1] == pytest.approx(want[1], abs=1e-5)


@pytest.mark.parametrize(("optimizer", "rate", "steps", "share"),
                         [("adamw", 5e-3, 160, 0.5), ("lamb", 3e-2, 80, 0.9)])
def test_it_learns_a_grammar(tiny, tmp_path, optimizer, rate, steps, share):
    """Far below the perplexity of the words alone, within seconds; each sentence is a document of its own."""
    (tmp_path / "text.txt").write_text("\n\n".join(opinions(1500)))
    result = train.finetune(pretrain_config(
        tiny, tmp_path / "run", str(tmp_path / "text.txt"), optimizer=optimizer, learning_rate=rate, batch_size=64,
        max_steps=steps, evals_per_epoch=0, eval_every=0, vocabulary_size=600, hidden_size=64,
        dropout=0.0))
    dev = result["best"]["dev"]
    print(optimizer, dev, result["seconds"])
    assert dev["perplexity"] < share * dev["unigram_perplexity"]


# --- where to go from a run

def test_pre_training_goes_on_from_a_run_with_its_head(finished, finished_pairs, tiny, text, tmp_path):
    def ready(model, **given):
        return prepare(pretrain_config(str(model), tmp_path / "more", text, vocabulary_size=0, num_hidden_layers=0,
                                       **given), 1)
    assert equal(ready(finished).params, load_params(finished)[0])
    export(finished_pairs, tmp_path / "to")
    assert equal(ready(tmp_path / "to", next_sentence=True).params, load_params(finished_pairs)[0])
    assert set(ready(tmp_path / "to").params) == {"bert", "mlm"}
    anew = ready(finished, random_init=True)
    assert not equal(anew.params, load_params(finished)[0])
    assert anew.pretrained.config.vocab_size == len(anew.pretrained.tokenizer) <= 260
    assert equal(ready(tiny).params["bert"], pretrained.load(tiny).params["bert"])


def test_fine_tuning_takes_its_encoder(finished_pairs, tmp_path):
    given = config(str(finished_pairs), tmp_path / "fine", max_steps=1)
    params, want = prepare(given, 1).params, load_params(finished_pairs)[0]
    assert equal(params["bert"], want["bert"])
    assert equal(params["pooler"], want["pooler"])


def test_from_scratch_has_the_shape_of_the_flags(tiny, text, tmp_path):
    ready = prepare(pretrain_config(tiny, tmp_path / "run", text, hidden_size=128, num_hidden_layers=1,
                                    max_position_embeddings=40), 1)
    shape = ready.pretrained.config
    assert (shape.hidden_size, shape.num_attention_heads, shape.intermediate_size) == (128, 2, 512)
    assert (shape.num_hidden_layers, shape.max_position_embeddings) == (1, 40)
    assert shape.vocab_size == len(ready.pretrained.tokenizer) <= 260
    assert ready.params["bert"]["embeddings"]["word"]["embedding"].shape == (shape.vocab_size, 128)
    assert ready.pretrained.tokenizer.model_max_length == 40


def test_mimetic_weights_are_what_a_new_model_trains_from(tiny, text, tmp_path):
    given = pretrain_config(tiny, tmp_path / "run", text, num_hidden_layers=1, mimetic_init=True, max_steps=2)
    attention = prepare(given, 1).params["bert"]["layer_0"]["attention"]
    assert np.array_equal(attention["query"]["kernel"], attention["key"]["kernel"])
    train.finetune(given)
    trained = load_params(tmp_path / "run")[0]["bert"]["layer_0"]["attention"]
    assert not np.array_equal(trained["query"]["kernel"], trained["key"]["kernel"])


@pytest.mark.parametrize(("given", "words"), [
    (dict(hidden_size=100, num_attention_heads=3), "--hidden_size, --num_attention_heads"),
    (dict(max_position_embeddings=16), "--max_length=32"),
    (dict(vocabulary_size=50), "--vocabulary_size=50: too small"),
    (dict(task="toy_sentence", train_file=""), "only for `flaxbert pretrain`")])
def test_settings_that_do_not_fit(tiny, text, tmp_path, given, words):
    assert words in refused(prepare, pretrain_config(tiny, tmp_path / "run", text, **given), 1)


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_pytorch_gives_equal_logits(finished, finished_pairs, tmp_path, dtype):
    torch = pytest.importorskip("torch", reason="EXPORT TO PYTORCH IS NOT CHECKED: pip install 'flaxbert[torch]'")
    import transformers
    for run, name in ((finished, "BertForMaskedLM"), (finished_pairs, "BertForPreTraining")):
        to = tmp_path / name
        export(run, to, dtype=dtype)
        about = json.loads((to / "config.json").read_text())
        assert (about["architectures"], about["dtype"]) == ([name], dtype)
        theirs, loading = getattr(transformers, name).from_pretrained(to, dtype="float32",
                                                                      output_loading_info=True)
        assert not any(loading[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
        source = pretrained.load(str(to))
        texts = ["the hotel was [MASK] in the old town.", "nobody liked the [MASK]"]
        rows = [source.tokenizer(text)["input_ids"] for text in texts]
        width = max(map(len, rows))
        tokens = np.array([row + [0] * (width - len(row)) for row in rows], np.int32)
        real = (tokens != 0).astype(np.int32)
        columns = np.broadcast_to(np.arange(width), tokens.shape)
        batch = {"tokens": tokens, "types": 0 * tokens, "positions": columns, "sequence": real,
                 "first": np.zeros((2, 1), int), "masked": columns}
        model = heads.PretrainingModel(source.config, 2 * (name == "BertForPreTraining"))
        got = jax.jit(model.apply)({"params": source.params}, batch)
        with torch.no_grad():
            want = theirs.eval()(torch.from_numpy(tokens).long(), torch.from_numpy(real).long())
        mlm = want.logits if name == "BertForMaskedLM" else want.prediction_logits
        assert np.abs(np.asarray(got["mlm"]) - mlm.numpy())[real > 0].max() < 2e-5
        if "nsp" in got:
            np.testing.assert_allclose(got["nsp"][:, 0], want.seq_relationship_logits.numpy(), atol=2e-5)
        exact = load_params(run)[0]["bert"]["embeddings"]["word"]["embedding"]
        kept = source.params["bert"]["embeddings"]["word"]["embedding"]
        assert np.array_equal(exact, kept) == (dtype == "float32")
        np.testing.assert_allclose(kept, exact, rtol=1e-2, atol=1e-6)


def test_an_unknown_dtype_is_refused(finished, tmp_path):
    assert "--dtype=int8: unknown; valid: float32, float16, bfloat16" in refused(export, finished, tmp_path / "to",
                                                                                 dtype="int8")


def test_masks_are_filled(finished, finished_pairs, tmp_path):
    export(finished_pairs, tmp_path / "to")
    for path in (finished, finished_pairs, tmp_path / "to"):
        fill = flaxbert.load(str(path))
        texts = ["the [MASK] was [MASK].", "nobody [MASK] it"]
        answers = fill(texts)
        assert [len(answer["masked"]) for answer in answers] == [2, 1]
        assert fill(texts[1])[0]["masked"][0]["probability"] == pytest.approx(
            answers[1]["masked"][0]["probability"], abs=1e-6)
        for each in itertools.chain(*(answer["masked"] for answer in answers)):
            assert each["token"] in fill.tokenizer.get_vocab()
            assert 0 < each["probability"] < 1
        assert len(fill("[MASK] " * 25)[0]["masked"]) == 25
        assert "text 1: no [MASK]" in refused(fill, ["[MASK]", "nothing"])
        assert "input 0: 3 is no text" in refused(fill, [3])


# --- the command line

def test_help_of_pretrain_shows_its_own_defaults(capsys):
    cli.main(["pretrain", "--help"])
    out = capsys.readouterr().out
    assert "Pre-training:" in out
    assert "--task:" not in out
    for name, value in DEFAULTS["pretrain"].items():
        assert any(f"--{name}:" in line for line in out.splitlines())
        assert f"[{value}]" in out
    assert Config.make(task="pretrain", learning_rate=1e-4).learning_rate == 1e-4
    assert Config.make(task="pretrain").batch_size == DEFAULTS["pretrain"]["batch_size"]


def test_the_command_line_and_python_run_the_same(finished, tiny, text, tmp_path, capsys):
    given = settings(tiny, tmp_path / "run", **{**RUN, "train_file": text})
    del given["task"]
    cli.main(["pretrain", *flags(given)])
    assert "perplexity" in capsys.readouterr().out
    assert losses_of(tmp_path / "run") == losses_of(finished)
    (tmp_path / "in.txt").write_text("the [MASK] was good\n")
    cli.main(["predict", f"--run={tmp_path}/run", f"--input={tmp_path}/in.txt"])
    assert len(json.loads(capsys.readouterr().out)["masked"]) == 1
    cli.main(["predict", f"--run={tmp_path}/run", f"--input={tmp_path}/in.txt", f"--output={tmp_path}/out.tsv"])
    header, row = (tmp_path / "out.tsv").read_text().splitlines()
    assert header == "masked"
    assert float(row.split()[1]) > 0
    del given["output_dir"]
    assert flaxbert.pretrain(**given, output_dir=str(tmp_path / "run"), resume=True)["status"] == "finished"
