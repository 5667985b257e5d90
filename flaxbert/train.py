"""The loop: step, evaluate, log, save; interrupted anywhere, it goes on bitwise where it was."""

import itertools
import math
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from flaxbert import parallel, pretrained, records, report, tasks, trees
from flaxbert.checkpoint import Checkpoints, kept, load_params
from flaxbert.config import Config
from flaxbert.data import prefetch
from flaxbert.errors import InputError, RunFailed, note
from flaxbert.export import head_settings, save_model_folder
from flaxbert.inference import Inference
from flaxbert.metrics import LOWER_IS_BETTER
from flaxbert.prepare import Ready, parameters_trained, prepare
from flaxbert.progress import bar
from flaxbert.steps import TrainState


def finetune(config: Config) -> dict[str, Any]:
    """Trains one run from its settings to its result.json; the result is returned with the run's folder.

    Args:
      config: the settings.

    Returns:
      The content of result.json, and `run`, the path of the folder.

    Raises:
      InputError: anything wrong with flags, files, weights or the folder; or no memory for a batch.
      RunFailed: the loss was not finite; the last good checkpoint stays.
    """
    config = tasks.settled(config.absolute())
    parallel.start(config)
    placement = parallel.make(config)
    run = output_dir(config, f"{config.task}-{config.strategy}-{config.seed}")
    found = parallel.agree(lambda: records.claim(run, config))
    if found == "finished":
        note(f"{run}: already finished; nothing to do")
        return {**(records.read_result(run) or {}), "run": str(run)}
    begun = records.read_run(run)[1] if found == "started" else {}
    try:
        ready = prepare(config, placement.shards, begun)
    except InputError:
        if found == "new" and parallel.is_main():
            run.rmdir()
        raise
    # What a run began with it goes on with: one that has saved its encoder goes on saving it.
    backbone = (begun.get("backbone") if begun
                else pretrained.backbone(ready.pretrained, ready.trains, ready.task.kind))
    parallel.agree(lambda: _found(run, found == "replaced", ready, placement, backbone))
    with parallel.memory_told(f"--batch_size={config.batch_size} and --max_length={config.max_length}: try a "
                              "larger --micro_batches, --remat, --dtype=bfloat16, or smaller values"):
        result = Loop(ready, placement, run, backbone).go()
    return {**result, "run": str(run)}


def output_dir(config: Config, name: str) -> Path:
    """--output_dir, or runs/NAME-TIME with a number that makes it new; the same in all processes of a pod."""
    def free() -> str:
        new = f"runs/{name}-{time.strftime('%Y%m%d-%H%M%S')}"
        return next(each for i in itertools.count(1)
                    if not Path(each := new if i == 1 else f"{new}.{i}").exists())
    if config.resume and not config.output_dir:
        raise InputError("--resume: say which run with --output_dir")
    return Path(config.output_dir or parallel.agree(free)).expanduser().resolve()


def _found(run: Path, replace: bool, ready: Ready, placement: parallel.Placement,
           backbone: dict[str, str] | None) -> str:
    """Writes what the run is, before its first step."""
    if replace:
        records.clear(run)
    task = ready.task
    records.write_json(run / "config.json", {
        "settings": ready.config.to_json(),
        "task": {"name": task.name, "kind": task.kind, "labels": list(task.labels),
                 "metrics": list(task.metrics), "pair": task.pair},
        "examples": {split: len(examples) for split, examples in ready.splits.items()},
        "steps": ready.total_steps, "row_length": ready.row_length, "row_counts": list(ready.row_counts),
        "cached_layers": list(ready.model.cached), "backbone": backbone, "weights": ready.pretrained.digest,
        "versions": records.versions(), "devices": parallel.describe_devices(placement)})
    save_model_folder(run / "model", {**ready.pretrained.settings, **head_settings(task.kind, task.labels)},
                      ready.pretrained.tokenizer)
    return ""


class Loop:
    """One run in progress.

    Args:
      ready: what `prepare` made.
      placement: where the step runs.
      run: the run's directory.
      backbone: what stands for its encoder, see `pretrained.backbone`.
    """

    def __init__(self, ready: Ready, placement: parallel.Placement, run: Path, backbone: dict[str, str] | None):
        self.ready, self.placement, self.run, self.backbone = ready, placement, run, backbone
        self.config = ready.config
        self.programs: dict[int, Any] = {}
        self.inference = ready.inference(placement)
        self.checkpoints = Checkpoints(run)
        self.interrupted = False
        self.status = "running"
        # What result.json sums up; saved with each checkpoint, so that a resumed run goes on counting.
        self.sums = {"seconds": 0.0, "training_seconds": 0.0, "examples": 0, "tokens": 0, "processed": 0}

    def go(self) -> dict[str, Any]:
        """Runs to the end, an interruption or a loss that is not finite, and writes result.json."""
        host = self.ready.start()
        restored = self.checkpoints.restore(host) if self.config.resume else None
        if restored:
            host, about = restored
            self.sums = about["sums"]
            note(f"{self.run}: going on from step {int(host.step)} of {self.ready.total_steps}")
        step = int(host.step)
        self.metrics = records.Metrics(self.run, step, self.config.tensorboard, parallel.is_main())
        self.begun = time.perf_counter() - self.sums["seconds"]
        self.params = host.params
        state, self.fixed = map(self.placement.put, self.ready.parted(host))
        try:
            with _signals(self):
                state = self._train(state, step)
            if self.status == "running":
                self.status = "finished"
        except FloatingPointError as error:
            self.status = "failed"
            failure = str(error)
        finally:
            self.checkpoints.close()
        best_scores = {}
        if self.status == "finished":
            step = int(self.placement.get(state.step))
            self._score(state, step, self._scored_splits())
            best_scores = self._best_scores(state, step)
        elif best := self._best_row():
            best_scores = self._logged(best["step"])
        self.metrics.close()
        result = self._result(best_scores)
        if parallel.is_main():
            records.write_json(self.run / "result.json", result)
            metric = self.ready.task.main_metric
            report.learning_curve(self.metrics.rows, metric, self.run / "learning_curve.png",
                                  metric in LOWER_IS_BETTER)
        parallel.barrier("end of run")
        if self.status == "failed":
            raise RunFailed(f"{failure}; the last good checkpoint is in {self.run}/checkpoints; try a smaller "
                            "--learning_rate")
        return result

    # --- training

    def _train(self, state: TrainState, step: int) -> TrainState:
        """All steps from `step` on; ends early when asked to stop."""
        config, total = self.config, self.ready.total_steps
        pending: tuple[int, Any] | None = None
        batches = prefetch(self.ready.batches(self.placement, step, total))
        watch = _Stopwatch()
        with bar(total, "training", initial=step, hidden=not parallel.is_main()) as progress:
            if step == 0:
                self._keep(state, 0)  # something to go back to, should the first steps fail
            if self._patience_over():  # killed between its last evaluation and its result
                return state
            for plan, rows, batch in batches:
                if rows not in self.programs:  # compilation is no training time
                    pending = self._settle(pending, progress, watch)
                    self.sums["training_seconds"] += watch.stop()
                    self._compile(rows, state, batch)
                watch.go()
                state, out = self.programs[rows](state, batch, self.fixed)
                # The one before is waited for only now, so that the device never idles.
                self._settle(pending, progress, watch)
                step, pending = step + 1, (step + 1, out)
                self._count(plan, rows)
                evaluate, last = self._evaluates(step), step == total
                stop = parallel.stop_requested(self.interrupted, step)
                save = bool(config.save_every) and step % config.save_every == 0
                if not (evaluate or last or stop or save):
                    continue
                pending = self._settle(pending, progress, watch)
                self.sums["training_seconds"] += watch.stop()
                better = evaluate and self._evaluate(state, step)
                if better:
                    self.checkpoints.save_best(step, self._kept(self.placement.get(state.params)),
                                               self._about(step))
                # After a better one too: going on from before it would delete it, and the one before may be gone.
                if save or stop or last or better or (evaluate and not config.save_every):
                    self._keep(state, step)
                if stop and not last:
                    self.status = "interrupted"
                    break
                if evaluate and self._patience_over():
                    note(f"step {step}: no better {self.ready.task.main_metric} in {config.early_stopping} "
                         "evaluations; stopping early")
                    self._keep(state, step)
                    break
        return state

    def _compile(self, rows: int, state: TrainState, batch: Any) -> None:
        step = self.ready.train_step(self.placement.axis)
        self.programs[rows] = self.placement.compile_train(step, state, batch, self.fixed)

    def _settle(self, pending: tuple[int, Any] | None, progress: Any, watch: "_Stopwatch") -> None:
        """Waits for one step's metrics, checks and logs them."""
        if pending is None:
            return
        step, out = pending
        values = {name: float(value) for name, value in self.placement.get(out).items()}
        for name in ("loss", "grad_norm"):
            if not math.isfinite(values[name]):
                raise FloatingPointError(f"the {name} is {values[name]} at step {step}")
        if step % self.config.log_every == 0 or step == self.ready.total_steps:
            self.metrics.write(self._row(step, "train", values))
        progress.set_postfix({"loss": f"{values['loss']:.4f}", "lr": f"{values['learning_rate']:.2e}",
                              "examples/s": f"{self._rate('examples', watch.seconds):.1f}"}, refresh=False)
        progress.update()

    def _count(self, plan: Any, rows: int) -> None:
        self.sums["examples"] += len(plan.examples)
        self.sums["tokens"] += int(self.ready.epochs.lengths[plan.examples].sum())
        self.sums["processed"] += rows * self.ready.row_length

    def _rate(self, what: str, more_seconds: float = 0.0) -> float:
        return self.sums[what] / max(self.sums["training_seconds"] + more_seconds, 1e-9)

    def _row(self, step: int, split: str, values: dict[str, float]) -> dict[str, Any]:
        return {"step": step, "epoch": round(step / self.ready.epochs.steps_per_epoch, 4), "split": split,
                "seed": self.config.seed, **values}

    def _about(self, step: int) -> dict[str, Any]:
        # A copy: it is written while the loop counts on.
        self.sums["seconds"] = time.perf_counter() - self.begun
        return {"step": step, "sums": dict(self.sums), "config": self.config.to_json(),
                "labels": list(self.ready.task.labels), "versions": records.versions(), "backbone": self.backbone}

    def _keep(self, state: TrainState, step: int) -> None:
        state = self.placement.get(state)
        self.checkpoints.save(state.replace(params=self._kept(state.params)), self._about(step))

    def _kept(self, trained: Any) -> dict[str, Any]:
        """What checkpoints hold of the parameters, on the host, with `trained` as they are now."""
        return kept(trees.merge(self.params, trained), self.backbone)

    def _all(self, state: TrainState) -> dict[str, Any]:
        """The parameters that a forward pass reads, on the devices."""
        return trees.merge(self.fixed.frozen, state.params)

    # --- evaluation

    def _evaluates(self, step: int) -> bool:
        """Every so many steps, or so many times an epoch; always at the end."""
        config, epoch = self.config, self.ready.epochs.steps_per_epoch
        if step == self.ready.total_steps:
            return True
        if config.eval_every:
            return step % config.eval_every == 0
        return step * config.evals_per_epoch // epoch > (step - 1) * config.evals_per_epoch // epoch

    def _evaluate(self, state: TrainState, step: int) -> bool:
        """Scores dev (and its like) after `step`; True where dev is better than ever before."""
        best = self._best_row()
        scores = self._score(state, step, [split for split in self.ready.encoded if split.startswith("dev")])
        if not math.isfinite(scores["dev"]["loss"]):
            raise FloatingPointError(f"the dev loss is {scores['dev']['loss']} after step {step}")
        return best is None or self._merit(scores["dev"]) > self._merit(best)

    def _score(self, state: TrainState, step: int, splits: list[str]) -> dict[str, dict[str, float]]:
        """Scores of the labelled ones of these splits after `step`; read from the log where they are there."""
        found: dict[str, dict[str, float]] = {}
        for split in splits:  # dev comes first
            row = next((r for r in self.metrics.rows if r["step"] == step and r["split"] == split), None)
            scores = _scores_in(row) if row else score(self.ready, self.inference, self._all(state), split,
                                                       found.get("dev"))
            if scores:
                found[split] = scores
            if scores and row is None:
                rate = float(self.ready.schedule(step))
                self.metrics.write(self._row(step, split, {"learning_rate": rate, **scores}))
        return found

    def _dev_rows(self) -> list[dict[str, Any]]:
        return [row for row in self.metrics.rows if row["split"] == "dev"]

    def _best_row(self) -> dict[str, Any] | None:
        """The first dev row with the best main metric; None before the first evaluation."""
        return max(self._dev_rows(), key=self._merit, default=None)

    def _merit(self, scores: dict[str, Any]) -> float:
        """The main metric, made so that more is better; null in the log is one that was not finite: the worst."""
        name = self.ready.task.main_metric
        if scores[name] is None:
            return -math.inf
        return -scores[name] if name in LOWER_IS_BETTER else scores[name]

    def _patience_over(self) -> bool:
        best = self._best_row()
        since = sum(row["step"] > best["step"] for row in self._dev_rows())
        return bool(self.config.early_stopping) and since >= self.config.early_stopping

    def _scored_splits(self) -> list[str]:
        return [split for split in self.ready.encoded if split != "train"]

    def _best_scores(self, state: TrainState, step: int) -> dict[str, dict[str, float]]:
        """Scores of the best checkpoint on every split; official predictions too where asked for."""
        params, scores = self._all(state), self._logged(step)
        if self._best_row()["step"] != step:
            best = {**self.ready.params, **load_params(self.run)[0]}
            params, scores = self.placement.put(self.ready.read(best)), {}
            for split in self._scored_splits():
                if found := score(self.ready, self.inference, params, split, scores.get("dev")):
                    scores[split] = found
        predicted = tasks.to_predict(self.ready.task, self.ready.encoded) if self.config.predict_test else {}
        for split, name in predicted.items():
            encoded = self.ready.encoded[split]
            outputs = self.inference.outputs(params, encoded, f"predicting {split}")
            if parallel.is_main():
                self.ready.family.write(name, outputs, encoded, self.ready.splits[split],
                                        self.run / "predictions", scores.get("dev"))
        return scores

    def _logged(self, step: int | None = None) -> dict[str, dict[str, float]]:
        """The scores of the last evaluation in the log, or of the one at `step`, by split."""
        return {row["split"]: _scores_in(row) for row in self.metrics.rows
                if row["split"] != "train" and step in (None, row["step"])}

    def _result(self, best_scores: dict[str, dict[str, float]]) -> dict[str, Any]:
        best = self._best_row()
        self.sums["seconds"] = time.perf_counter() - self.begun
        return {"status": self.status, "metrics": self._logged(), "best": best_scores,
                "best_step": best["step"] if best else None, "seconds": round(self.sums["seconds"], 3),
                "examples_per_second": round(self._rate("examples"), 2),
                "tokens_per_second": round(self._rate("tokens"), 1),
                "padding_share": round(1 - self.sums["tokens"] / max(self.sums["processed"], 1), 5),
                "parameters_trained": parameters_trained(self.ready),
                "parameters_total": trees.count(self.ready.params), "devices": self.placement.shards,
                "seed": self.config.seed, "task": self.ready.task.name, "main_metric": self.ready.task.main_metric}


def score(ready: Ready, inference: Inference, params: Any, split: str,
          dev: dict[str, float] | None = None) -> dict[str, float]:
    """Loss and metrics of one split; empty where it has no labels. `dev`: those of dev, for other splits."""
    encoded = ready.encoded[split]
    if encoded.labels is None:
        return {}
    outputs = inference.outputs(params, encoded, f"scoring {split}")
    return ready.family.scores(outputs, encoded, ready.splits[split], dev)


def _scores_in(row: dict[str, Any]) -> dict[str, float]:
    """The scores in a row of an evaluation."""
    return {name: value for name, value in row.items()
            if name not in ("step", "epoch", "split", "seed", "learning_rate")}


class _Stopwatch:
    """Seconds since `go`, until `stop`."""

    def __init__(self):
        self._since: float | None = None

    def go(self) -> None:
        if self._since is None:
            self._since = time.perf_counter()

    @property
    def seconds(self) -> float:
        return 0.0 if self._since is None else time.perf_counter() - self._since

    def stop(self) -> float:
        seconds, self._since = self.seconds, None
        return seconds


@contextmanager
def _signals(loop: Loop) -> Iterator[None]:
    """SIGTERM and the first Ctrl-C end the run after the step in progress; a second Ctrl-C at once.

    In a pod JAX's own handler of SIGTERM has to stay: it lets all processes stop after the same step. Ctrl-C is
    handed on to it.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, _: Any) -> None:
        if loop.interrupted and number == signal.SIGINT:
            raise KeyboardInterrupt
        loop.interrupted = True
        if parallel.is_pod():
            os.kill(os.getpid(), signal.SIGTERM)
        note(f"{signal.Signals(number).name}: saving after this step")
    numbers = (signal.SIGINT,) if parallel.is_pod() else (signal.SIGINT, signal.SIGTERM)
    old = {number: signal.signal(number, stop) for number in numbers}
    try:
        yield
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)
