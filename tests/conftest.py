"""What several test files share. Everything runs on the CPU, on up to four simulated devices."""

import dataclasses
import gc
import importlib
import os
import tempfile
from pathlib import Path
from types import SimpleNamespace

os.environ["JAX_PLATFORMS"] = "cpu"
# Compiling takes nearly all the time of these tests, so LLVM does not optimise unless a test asks for it, and
# XLA's older emitters write the fusions: a step of training compiles in a third of the time. Nor is code of small
# programs worth splitting among threads, whose parts have to be linked: in one piece it takes two thirds of that.
os.environ["XLA_FLAGS"] = ("--xla_force_host_platform_device_count=4 --xla_backend_optimization_level=0 "
                           "--xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1")
# One compilation cache for the whole session, its workers and subprocesses included: the tests of the loop start
# the same few programs again and again. It is new and empty each time: no test sees an old compiler's code.
if "PYTEST_XDIST_WORKER" not in os.environ:  # a worker has inherited it
    _cache = tempfile.TemporaryDirectory(prefix="flaxbert-tests-", ignore_cleanup_errors=True)
    os.environ["JAX_COMPILATION_CACHE_DIR"] = _cache.name
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"  # XLA warns of pseudo-features of the CPU at each program from the cache
os.environ["JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"] = "-1"

import hypothesis
import jax
import pytest

# Tracing a program makes millions of small objects that all stay alive until it is compiled: to look through them
# for garbage at every 700th finds none. Nor does anybody read where in Python an operation came from.
gc.collect()
gc.freeze()
gc.set_threshold(100_000, 20, 20)
jax.config.update("jax_traceback_in_locations_limit", 0)

# The same examples in every run: a red test is red for everybody.
hypothesis.settings.register_profile("flaxbert", derandomize=True, deadline=None, database=None)
hypothesis.settings.load_profile("flaxbert")


@pytest.fixture(scope="session")
def outside() -> Path:
    """The folder with `data/` and `models/` that is no part of the project; skips the test where it is not."""
    folder = os.environ.get("FLAXBERT_DATA")
    if not folder:
        pytest.skip("FLAXBERT_DATA is not set: no real data or weights to test on")
    return Path(folder)


@pytest.fixture
def collected():
    """What a damaged checkpoint leaves unread complains when it is collected: here, not within another test."""
    yield
    gc.collect()


@pytest.fixture
def told(capsys):
    """Runs the command line of the studies; (exit status, standard output, standard error)."""
    run = importlib.import_module("experiments.run")

    def call(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as caught:
            run.main(list(arguments))
        return caught.value.code, *capsys.readouterr()
    return call


@pytest.fixture
def strict_ranks():
    """Adding a [D] to an [R, D] raises, as a forgotten axis would: nothing in model or step may rely on it."""
    with jax.numpy_rank_promotion("raise"):
        yield


@pytest.fixture(autouse=True)
def undrawn(request, monkeypatch):
    """Runs, seeds and sweeps draw no pictures, which take longer than their steps, but where a test is marked
    `pictures`.

    Fixtures of modules and sessions come before this one; their runs do.
    """
    if request.node.get_closest_marker("pictures"):
        return
    monkeypatch.setattr("flaxbert.curves.learning_curve", lambda *_: None)
    nothing = SimpleNamespace(boxes=lambda *_: None, figure=lambda *_: None)
    for module, name in (("train", "figures"), ("train", "failures"), ("sweep", "figures")):
        monkeypatch.setattr(importlib.import_module(f"flaxbert.{module}"), name, nothing)


@pytest.fixture(scope="session")
def tokenizer():
    """Of a small vocabulary, see `small.py`."""
    from small import tokenizer
    return tokenizer()


@pytest.fixture(scope="session")
def tiny(tmp_path_factory) -> str:
    """A Hugging Face folder: one layer of width 16 with random weights, and the tokenizer of `small.py`."""
    from small import write_model
    return write_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="session")
def deep(tmp_path_factory) -> str:
    """The same with two layers, for what tells one layer from another."""
    from small import TINY, write_model
    return write_model(tmp_path_factory.mktemp("models") / "deep", dataclasses.replace(TINY, num_hidden_layers=2))


@pytest.fixture(scope="session")
def tuned(tiny, tmp_path_factory) -> Path:
    """A run of `tiny`, of 8 steps."""
    from small import tune
    return tune(tiny, tmp_path_factory.mktemp("runs") / "tuned")


@pytest.fixture(scope="session")
def text(tmp_path_factory) -> str:
    """A file of fifty documents to pre-train on."""
    from small import paragraphs, write
    return str(write(tmp_path_factory.mktemp("text") / "corpus.txt", paragraphs(400), end=""))


# Whole files go to the workers: the longest first, so that all workers end together.
LONGEST = ("test_seeds.py", "test_parallel.py", "test_experiments.py", "test_backbone.py", "test_train.py",
           "test_remedies.py", "test_activations.py", "test_pretraining.py", "test_sweep.py", "test_optimizers.py",
           "test_layers.py", "test_steps.py", "test_diagnostics.py", "test_choice.py", "test_span.py",
           "test_token.py", "test_predict.py", "test_lora.py", "test_parity.py", "test_strategies.py")


def pytest_collection_modifyitems(items):
    """Sorts the files; pytest-xdist's own order, by the number of tests, is switched off in pyproject.toml."""
    items.sort(key=lambda item: LONGEST.index(item.path.name) if item.path.name in LONGEST else len(LONGEST))


def pytest_sessionfinish(session, exitstatus):
    """With FLAXBERT_NO_SKIPS, where torch and real data are there, a skipped test is a failed run."""
    terminal = session.config.pluginmanager.get_plugin("terminalreporter")
    skipped = terminal.stats.get("skipped", []) if terminal else []  # the workers of pytest-xdist have none
    if os.environ.get("FLAXBERT_NO_SKIPS") and skipped and exitstatus == 0:
        print(f"\nFLAXBERT_NO_SKIPS: {len(skipped)} tests were skipped")
        session.exitstatus = 1
