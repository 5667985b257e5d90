"""The small models, batches and runs that the tests share."""

import dataclasses
import functools
import itertools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import save_file

from flaxbert import cli, families, heads, packing, parallel, tasks, train, trees, vocabulary
from flaxbert.bert import BertConfig
from flaxbert.config import Config
from flaxbert.data import Encoded, collate
from flaxbert.errors import InputError
from flaxbert.families.windows import Windows
from flaxbert.huggingface import to_tensors
from flaxbert.run import Run
from flaxbert.steps import TrainState, part
from flaxbert.tasks import toy
from flaxbert.tasks.base import SpanExamples

ROOT = Path(__file__).parent.parent
TINY = BertConfig(vocab_size=1200, hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
                  intermediate_size=32, max_position_embeddings=64)


def at_rest(step: Callable, trains: Any, anchor: Any = None) -> Callable:
    """(state at rest, batch) -> (state at rest, metrics): a training step, given what it only reads."""
    def whole(state: TrainState, batch: Any) -> tuple[TrainState, Any]:
        state, fixed = part(state, trains, anchor)
        state, metrics = step(state, batch, fixed)
        return state.replace(params=trees.merge(fixed.frozen, state.params)), metrics
    return whole


@functools.cache
def tokenizer() -> Any:
    """The words of the bundled tasks of texts and pairs, and single characters: 1182 pieces."""
    splits = (task.generate(split) for task in toy.TASKS for split in ("train", "dev", "test"))
    texts = [text for examples in splits for text in (*examples.first, *(examples.second or []))]
    return vocabulary.tokenizer(vocabulary.learn(texts, TINY.vocab_size), cased=False)


def write_model(folder: Path, shape: BertConfig = TINY) -> str:
    """A Hugging Face folder of this shape: random weights, `tokenizer()`."""
    tokenizer().save_pretrained(folder)
    settings = {"architectures": ["BertModel"], "model_type": "bert", **dataclasses.asdict(shape)}
    (folder / "config.json").write_text(json.dumps(settings))
    params = lively(heads.shapes(heads.SequenceModel(shape, 2)))
    del params["head"]
    save_file(to_tensors(params), folder / "model.safetensors")
    return str(folder)


def shape(layers: int = 2, **other: Any) -> BertConfig:
    """An encoder with a vocabulary of 50 and room for 32 tokens."""
    return BertConfig(**{**dict(vocab_size=50, hidden_size=16, num_hidden_layers=layers, num_attention_heads=2,
                                intermediate_size=32, max_position_embeddings=32), **other})


def lively(params: dict, seed: int = 0) -> dict:
    """Parameters all drawn anew with a spread of 0.3, so that every term of the model counts."""
    rng = np.random.default_rng(seed)
    return trees.map_named(lambda name, x: (name.endswith("scale") + 0.3 * rng.normal(size=x.shape)).astype(
        np.float32), params)


def encoded(count: int, longest: int = 20, seed: int = 0, kind: str = "classification", outputs: int = 3,
            vocabulary: int = 50) -> Encoded:
    """`count` random sequences of 3 to `longest` tokens, with labels of the kind and uneven weights."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(3, longest + 1, count)
    lengths[0] = longest
    labels = {"classification": rng.integers(0, outputs, count).astype(np.int32),
              "regression": rng.normal(2, 1, count).astype(np.float32),
              "multi_label": rng.integers(0, 2, (count, outputs)).astype(np.float32)}[kind]
    return Encoded(rng.integers(1, vocabulary, lengths.sum()).astype(np.int32), np.cumsum([0, *lengths]),
                   rng.integers(2, lengths + 1), labels, rng.uniform(0.5, 2, count).astype(np.float32))


def units(count: int, seed: int = 0, most: int = 4, longest: int = 9, alike: bool = False) -> Encoded:
    """`count` random questions of 2 to `most` choices (`alike`: all of `most`), each of up to `longest` tokens."""
    rng = np.random.default_rng(seed)
    counts = np.full(count, most) if alike else rng.integers(2, most + 1, count)
    counts[0] = most
    there = np.arange(most) < counts[:, None]
    lengths = np.where(there, rng.integers(3, longest + 1, there.shape), 0).ravel()
    return Encoded(rng.integers(1, 50, lengths.sum()).astype(np.int32), np.cumsum([0, *lengths]),
                   np.minimum(lengths, rng.integers(2, longest, len(lengths))),
                   rng.integers(0, counts).astype(np.int32), np.ones(count, np.float32), sequences=most)


def batch_of(split: Encoded, examples: Any, row_length: int = 32, packed: bool = True, multiple: int = 1,
             slots: int = 0) -> tuple[packing.Plan, dict[str, np.ndarray]]:
    """The plan and the arrays of one batch; R is the least multiple of `multiple`."""
    examples = np.asarray(examples)
    plan = packing.pack(examples, split.lengths[examples], row_length, packed)
    rows = -(-plan.rows // multiple) * multiple
    return plan, collate(split, plan, rows, row_length, slots or plan.slots)


def apply_of(model: heads.SequenceModel):
    """(params, batch, dropout) -> logits."""
    return lambda params, batch, dropout: model.apply({"params": params}, batch, dropout)


def as_jax(batch: dict[str, np.ndarray]) -> dict[str, jax.Array]:
    return {name: jnp.asarray(x) for name, x in batch.items()}


def equal(a: Any, b: Any) -> bool:
    """Whether two trees are the same to the last bit."""
    a, b = trees.flatten(a), trees.flatten(b)
    return a.keys() == b.keys() and all(np.array_equal(a[name], b[name], equal_nan=True) for name in a)


def write(path: Path, *lines: str, end: str = "\n") -> Path:
    """A text file of these lines, in a folder that is made if need be."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes("".join(line + end for line in lines).encode())
    return path


def load(task: str = Config.task, **given: Any) -> tuple:
    """Task, splits and report of these settings."""
    return tasks.load(Config.make(task=task, **given))


def refused(function: Callable, *args: Any, **given: Any) -> str:
    """The one line that a call with bad input raises."""
    with pytest.raises(InputError) as caught:
        function(*args, **given)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# --- text

def toy_sentences(count: int) -> list[str]:
    """Sentences of the toy grammar."""
    return [first for first, _, _ in itertools.islice(toy.topics(toy.Writer(5, new=False)), count)]


def paragraphs(count: int) -> str:
    """So many of them, four a paragraph, two paragraphs a document."""
    texts = toy_sentences(count)
    blocks = [" ".join(texts[i:i + 4]) for i in range(0, count, 4)]
    return "\n\n".join("\n".join(blocks[i:i + 2]) for i in range(0, len(blocks), 2)) + "\n"


# --- spans

CONTEXT = "Two days ago the old farmer bought a red basket. In spring, Zoë's café – “Chez 🙂” – closed."
LONG = " ".join(f"{word}{number}" for number, word in enumerate(["red", "cow", "the", "tall", "ring"] * 9))


def question(name: str = "q1", asked: str = "Who bought it?", text: str = "farmer", start: int | None = None,
             **more: Any) -> dict[str, Any]:
    """A question about `CONTEXT` as SQuAD writes it; without `text` it has no answer."""
    answers = [{"text": text, "answer_start": CONTEXT.index(text) if start is None else start}] if text else []
    return {"id": name, "question": asked, "answers": answers, **more}


def squad(path: Path, *questions: Any, context: str = CONTEXT) -> Path:
    """A SQuAD file of these questions about one context."""
    path.write_text(json.dumps({"version": "x", "data": [{"title": "t", "paragraphs": [
        {"context": context, "qas": list(questions)}]}]}, ensure_ascii=False), "utf-8")
    return path


def span_examples(*rows: tuple[str, str, str | None]) -> SpanExamples:
    """(question, context, answer text or None) each; the answer at its first occurrence."""
    answers = [[(text, context.index(text))] if text else [] for _, context, text in rows]
    return SpanExamples([asked for asked, _, _ in rows], [context for _, context, _ in rows], answers,
                        list(map(str, range(len(rows)))))


def span_config(**given: Any) -> Config:
    return Config.make(**{**dict(task="squad2", max_length=24, doc_stride=5, max_query_length=6), **given})


def span_windows(tokenizer: Any, examples: SpanExamples, **given: Any) -> Windows:
    """The windows of `span_config`."""
    return families.make(tasks.get("squad2"), span_config(**given)).encode(tokenizer, examples)


# --- runs

def settings(model: str, run: Any, **other: Any) -> dict[str, Any]:
    """A run of 8 steps an epoch on one device, a row of the log each step."""
    return {**dict(task="toy_sentence", model=model, output_dir=str(run), max_train_examples=64,
                   max_eval_examples=24, batch_size=8, max_length=32, epochs=1.0, learning_rate=1e-3, devices=1,
                   log_every=1, tensorboard=False, compilation_cache="", cache_dir=f"{run}.activations"), **other}


def config(model: str, run: Any, **other: Any) -> Config:
    return Config.make(**settings(model, run, **other))


def tune(model: str, run: Path, **other: Any) -> Path:
    """A run, without its picture; its folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("flaxbert.curves.learning_curve", lambda *_: None)
        train.finetune(config(model, run, **other))
    return run


def flags(given: dict[str, Any]) -> list[str]:
    """Settings as command-line flags."""
    return [f"--{name}={','.join(map(str, value)) if isinstance(value, tuple) else value}"
            for name, value in given.items()]


def python(*arguments: str, devices: int = 4) -> subprocess.Popen:
    """`python ...` with so many simulated devices, started; with four it shares the tests' compiled programs."""
    flags = os.environ["XLA_FLAGS"].replace("device_count=4", f"device_count={devices}")
    environment = {**os.environ, "XLA_FLAGS": flags}
    return subprocess.Popen([sys.executable, *arguments], cwd=ROOT, env=environment, text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def command(*arguments: str) -> subprocess.Popen:
    """`python -m flaxbert ...`, started."""
    return python("-m", "flaxbert", *arguments)


def finish(process: subprocess.Popen, timeout: float = 240) -> tuple[int, str, str]:
    """Exit code, standard output and standard error."""
    try:
        out, err = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        process.kill()
        out, err = process.communicate()
        raise AssertionError(f"still running after {timeout} s: {err[-2000:]}") from None
    return process.returncode, out, err


def stop_after(step: int, settings: Config) -> None:
    """A run in this process that is asked to stop after so many steps."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parallel, "stop_requested", lambda flag, now: now == step)
        assert train.finetune(settings)["status"] == "interrupted"


def wait_for(run: Path, step: int, process) -> None:
    """Until metrics.jsonl has come to `step`, or the process has ended."""
    deadline = time.monotonic() + 240
    while process.poll() is None and time.monotonic() < deadline:
        file = run / "metrics.jsonl"
        rows = file.read_text().splitlines() if file.exists() else []
        if rows and rows[-1].endswith("}") and json.loads(rows[-1])["step"] >= step:
            return
        time.sleep(0.002)
    process.kill()  # if it has not ended
    raise AssertionError(f"step {step} never came: {process.communicate()[1][-2000:]}")


def rows_of(run: Any, split: str = "train") -> list[dict[str, Any]]:
    """Rows of metrics.jsonl."""
    rows = [json.loads(line) for line in (Path(run) / "metrics.jsonl").read_text().splitlines()]
    return [row for row in rows if row["split"] == split]


def interrupt(monkeypatch: Any, at: int, how: Any = signal.SIGTERM) -> None:
    """Raises a signal, or an exception, in the middle of step `at` (counted from 1)."""
    count, seen = Run.count, []

    def counting(self, *args):
        count(self, *args)
        seen.append(1)
        if len(seen) == at:
            if isinstance(how, signal.Signals):
                signal.raise_signal(how)
            else:
                raise how
    monkeypatch.setattr(Run, "count", counting)


def settings_of(run: Any) -> Config:
    """What the run was started with."""
    return Config.from_json(json.loads((Path(run) / "config.json").read_text())["settings"])


def losses_of(run: Any) -> dict[int, float]:
    """Step -> training loss; every step must have exactly one row."""
    rows = rows_of(run)
    steps = [row["step"] for row in rows]
    assert steps == list(range(1, len(steps) + 1))
    return {row["step"]: row["loss"] for row in rows}


def result_of(run: Any) -> dict[str, Any]:
    return json.loads((Path(run) / "result.json").read_text())


def call(capsys, *arguments):
    """Exit code, standard output and standard error of one command, in this process."""
    code = 0
    try:
        cli.main(list(arguments))
    except SystemExit as error:
        code = error.code
    out, err = capsys.readouterr()
    assert "Traceback" not in err
    return code, out, err
