"""The loop: step, evaluate, log, save, for one run or several at a time; it ends early when asked to."""

import math
import os
import signal
import statistics
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from flaxbert import diagnostics, parallel, records, tasks
from flaxbert.data import prefetch
from flaxbert.errors import note
from flaxbert.progress import bar
from flaxbert.run import Run
from flaxbert.seeds import Group


class Loop:
    """The runs of a group in progress.

    Args:
      group: of runs.
      places: of each of them its folder, and the one where its log is.
      backbone: what stands for their encoder, see `pretrained.backbone`.
      baseline: what the best constant answer scores on dev, for the result.
    """

    def __init__(self, group: Group, places: Sequence[tuple[Path, Path]], backbone: dict[str, str] | None,
                 baseline: float | None):
        self.group, self.baseline = group, baseline
        self.ready, self.config = group.runs[0], group.runs[0].config
        self.placement = group.placement
        self.runs = [Run(ready, *place, backbone) for ready, place in zip(group.runs, places, strict=True)]
        self.interrupted = False

    def go(self) -> list[dict[str, Any]]:
        """Runs to the end, an interruption or losses that are not finite; writes and returns each result.json."""
        with ExitStack() as opened:
            results = self._go(opened)
        for run, result in zip(self.runs, results, strict=True):
            if parallel.is_main():
                run.write_result(result)
        parallel.barrier("end of run")
        return results

    def _go(self, opened: ExitStack) -> list[dict[str, Any]]:
        """Likewise, but for writing results; `opened` closes the logs, whatever happens."""
        states = (self.config.resume and self._restored()) or [run.ready.start() for run in self.runs]
        logs = {top: records.Metrics(top, {run.config.seed: run.step for run in self.runs if run.top == top},
                                     parallel.is_main()) for top in dict.fromkeys(run.top for run in self.runs)}
        for log in logs.values():
            opened.callback(log.close)
        for run, state in zip(self.runs, states, strict=True):
            run.begin(state, logs[run.top])
            opened.callback(run.events.close)
            if run.going and run.patience_over():  # killed between its last evaluation and its result
                run.status = "stopped"
        state, self.common = self.group.put(states, [run.going for run in self.runs])
        step = int(states[0].step)
        del states  # as large as the state on the devices
        try:
            with _signals(self):
                state = self._train(state, step)
        finally:
            for run in self.runs:
                run.checkpoints.close()
        for run in self.runs:
            run.status = {"running": "finished", "stopped": "finished"}.get(run.status, run.status)
        self._score(state, self._scored_splits(), self._with("finished"))
        best = self._best_scores(state)
        common = {"devices": self.placement.size, "together": len(self.runs), "majority_baseline": self.baseline}
        return [{**run.result(best[run]), **common} for run in self.runs]

    def _with(self, status: str) -> list[Run]:
        return [run for run in self.runs if run.status == status]

    def _restored(self) -> list[Any] | None:
        """The newest states that all runs have of one step; None where there are none."""
        found, at = [run.restore() for run in self.runs], None
        while None not in found and len(steps := {int(state.step) for state in found}) > 1:
            at = min(steps)
            found = [run.restore(at) for run in self.runs]
        if None in found:
            for run in self.runs:
                run.begin_anew()
            return None
        where = ", ".join(str(run.folder) for run in self.runs[:3]) + (", ..." if len(self.runs) > 3 else "")
        note(f"{where}: going on from step {int(found[0].step)} of {self.ready.total_steps}")
        return found

    # --- training

    def _train(self, state: Any, step: int) -> Any:
        """All steps from `step` on; ends early when asked to stop."""
        config, total = self.config, self.ready.total_steps
        pending: tuple[int, Any] | None = None
        batches = prefetch(self.group.batches(step, total))
        watch = _Stopwatch()
        names = ", ".join(run.name for run in self.runs if run.name)
        with bar(total, f"training {names}".rstrip(), initial=step, hidden=not parallel.is_main()) as progress:
            def settle() -> None:
                nonlocal pending
                self._settle(pending, progress, watch)
                pending = None

            def pause() -> None:
                seconds = watch.stop()
                for run in self._with("running"):
                    run.sums["training_seconds"] += seconds
            if step == 0:
                self._save(state)  # something to go back to, should the first steps fail
            for plans, rows, batch in batches if self._with("running") else ():
                if not self.group.program(rows):  # compilation is no training time
                    settle()
                    pause()
                    self.group.compile(rows, state, batch, self.common)
                watch.go()
                state, out = self.group.program(rows)(state, batch, self.common)
                settle()  # the one before is waited for only now, so that the device never idles
                step, pending = step + 1, (step + 1, out)
                for run, plan in zip(self.runs, plans, strict=True):
                    if run.going:
                        run.count(plan, rows)
                evaluate, last = self.runs[0].evaluates(step), step == total
                stop = parallel.stop_requested(self.interrupted, step)
                save = bool(config.save_every) and step % config.save_every == 0
                if self._with("running") and not (evaluate or last or stop or save):
                    continue
                settle()
                pause()
                if not self._with("running"):
                    break
                going = len(self._with("running"))
                better = self._evaluate(state) if evaluate else []
                if not self._with("running"):
                    break
                tired = [run for run in self._with("running") if evaluate and run.patience_over()]
                for run in tired if not last else ():
                    run.tell(f"step {step}: no better {self.ready.task.main_metric} in {config.early_stopping} "
                             "evaluations; stopping early")
                    run.status = "stopped"
                # After a better one too: going on from before it would delete it, and the one before may be gone.
                if save or stop or last or better or tired or (evaluate and not config.save_every):
                    self._save(state, better)
                if not self._with("running"):
                    break
                if stop and not last:
                    self.interrupted = True
                    for run in self._with("running"):
                        run.status = "interrupted"
                    break
                if len(self._with("running")) < going:
                    state = self.group.stop(state, [run.going for run in self.runs])
        return state

    def _settle(self, pending: tuple[int, Any] | None, progress: Any, watch: "_Stopwatch") -> None:
        """Waits for one step's metrics, checks and logs them."""
        if pending is None:
            return
        step, out = pending
        going = self._with("running")
        losses = []
        every = self.config.diagnose_every
        if every and step % every:  # they mean nothing, and need not come from the device
            out = {name: value for name, value in out.items() if name != "diagnostics"}
        for run, values in zip(self.runs, self.group.each(out), strict=False):
            if run in going:
                told = values.pop("diagnostics", None)
                values = {name: float(value) for name, value in values.items()}
                run.log_step(step, values)
                if told and run.going:
                    run.log(step, "diagnostics", diagnostics.row(told, run.ready.trains))
                losses.append(values["loss"])
        rate = sum(run.rate("examples", watch.seconds) for run in going)
        progress.set_postfix({"loss": f"{statistics.fmean(losses):.4f}", "lr": f"{values['learning_rate']:.2e}",
                              "examples/s": f"{rate:.1f}"} if losses else {}, refresh=False)
        progress.update()

    def _save(self, state: Any, better: Sequence[Run] = ()) -> None:
        """Saves the state of each run, and of those that were never better the parameters too."""
        if not self.config.checkpoints and not better:
            return
        hosts = self.group.states(state)
        for run in self.runs:  # a step that all have must never be one that some have lost
            run.checkpoints.settle()
        for run, host in zip(self.runs, hosts, strict=False):
            if run in better:
                run.save_best(host.params)
            run.save(host)

    # --- evaluation

    def _evaluate(self, state: Any) -> list[Run]:
        """Scores dev (and its like); returns the runs of which dev is better than ever before."""
        going = self._with("running")
        best = {run: run.best_row() for run in going}
        scores = self._score(state, [split for split in self.ready.encoded if split.startswith("dev")], going)
        better = []
        for run in going:
            dev = scores[run]["dev"]
            if not math.isfinite(dev["loss"]):
                run.fail(f"the dev loss is {dev['loss']} after step {run.step}")
            elif best[run] is None or run.merit(dev) > run.merit(best[run]):
                better.append(run)
        return better

    def _score(self, state: Any, splits: Sequence[str], runs: Sequence[Run]) -> dict[Run, dict[str, dict]]:
        """Scores of these splits, as far as they have labels; read from the log where they are there."""
        found: dict[Run, dict[str, dict[str, float]]] = {run: run.logged(run.step) for run in runs}
        params = self.group.params(state, self.common)
        for split in splits:  # dev comes first
            new = [run for run in runs if split not in found[run]]
            for run, scores in self._scored(params, split, new, found).items():
                run.log_scores(split, scores)
                found[run][split] = scores
        return found

    def _scored(self, params: Any, split: str, runs: Sequence[Run],
                dev: Mapping[Run, Mapping[str, Any]]) -> dict[Run, dict[str, float]]:
        """Scores of one split with these parameters; `dev`: those of dev, for other splits, by run."""
        if not runs or self.ready.encoded[split].labels is None:
            return {}
        outputs = self.group.inference.outputs(params, self.ready.encoded[split], f"scoring {split}")
        return {run: run.scores_of(split, found, dev[run].get("dev"))
                for run, found in zip(self.runs, outputs, strict=False) if run in runs}

    def _scored_splits(self) -> list[str]:
        return [split for split in self.ready.encoded if split != "train"]

    def _best_scores(self, state: Any) -> dict[Run, dict[str, Any]]:
        """Scores of each run's best checkpoint on every split; official predictions too where asked for."""
        scores = {run: run.logged(best["step"]) if (best := run.best_row()) else {} for run in self.runs}
        finished = self._with("finished")
        earlier = [run for run in finished if run.best_row()["step"] != run.step]
        params = self.group.params(state, self.common)
        if earlier:
            trained = [host.params for host in self.group.states(state)]
            for n, run in enumerate(self.runs):
                if run in earlier:
                    trained[n], scores[run] = run.best_params(), {}
            params = self.group.other_params(trained, self.common)
            for split in self._scored_splits():
                for run, found in self._scored(params, split, earlier, scores).items():
                    scores[run][split] = found
        predicted = tasks.to_predict(self.ready.task, self.ready.encoded) if self.config.predict_test else {}
        for split, name in predicted.items() if finished else ():
            outputs = self.group.inference.outputs(params, self.ready.encoded[split], f"predicting {split}")
            for run, found in zip(self.runs, outputs, strict=False):
                if run in finished and parallel.is_main():
                    run.predict(split, name, found, scores[run].get("dev"))
        return scores


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
