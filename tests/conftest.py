"""What several test files share. Everything runs on the CPU, on up to four simulated devices."""

import dataclasses
import gc
import os
import tempfile
from pathlib import Path

os.environ["JAX_PLATFORMS"] = "cpu"
# Compiling takes nearly all the time of these tests, so LLVM does not optimise unless a test asks for it, and
# XLA's older emitters write the fusions: a step of training compiles in a third of the time.
os.environ["XLA_FLAGS"] = ("--xla_force_host_platform_device_count=4 --xla_backend_optimization_level=0 "
                           "--xla_cpu_use_fusion_emitters=false")
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
def strict_ranks():
    """Adding a [D] to an [R, D] raises, as a forgotten axis would: nothing in model or step may rely on it."""
    with jax.numpy_rank_promotion("raise"):
        yield


@pytest.fixture(autouse=True)
def undrawn(request, monkeypatch):
    """Runs draw no learning curves, which take longer than their steps, but where a test is marked `pictures`.

    Fixtures of modules and sessions come before this one; their runs do.
    """
    if not request.node.get_closest_marker("pictures"):
        monkeypatch.setattr("flaxbert.report.learning_curve", lambda *_: None)


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
def text(tmp_path_factory) -> str:
    """A file of fifty documents to pre-train on."""
    from small import paragraphs, write
    return str(write(tmp_path_factory.mktemp("text") / "corpus.txt", paragraphs(400), end=""))


def pytest_sessionfinish(session, exitstatus):
    """With FLAXBERT_NO_SKIPS, where torch and real data are there, a skipped test is a failed run."""
    terminal = session.config.pluginmanager.get_plugin("terminalreporter")
    skipped = terminal.stats.get("skipped", []) if terminal else []  # the workers of pytest-xdist have none
    if os.environ.get("FLAXBERT_NO_SKIPS") and skipped and exitstatus == 0:
        print(f"\nFLAXBERT_NO_SKIPS: {len(skipped)} tests were skipped")
        session.exitstatus = 1
