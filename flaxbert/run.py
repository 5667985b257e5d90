"""One run in progress: what it logs, what it saves, and what it has come to."""

import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from flaxbert import curves, parallel, records, trees
from flaxbert.checkpoint import Checkpoints, Memory, kept, load_params
from flaxbert.errors import note
from flaxbert.metrics import LOWER_IS_BETTER
from flaxbert.prepare import Ready, parameters_trained
from flaxbert.steps import TrainState


class Run:
    """One run, from its beginning or from where it goes on.

    Attributes:
      status: running, stopped (early), failed (the loss was not finite), interrupted or finished.
      step: updates made.
      failure: what was not finite, and where.
      sums: what result.json sums up; saved with each checkpoint, so that a resumed run goes on counting.

    Args:
      ready: made by `prepare`.
      folder: the run's directory.
      top: that of all seeds, where the log is; the same for a run by itself.
      backbone: what stands for its encoder, see `pretrained.backbone`.
    """

    def __init__(self, ready: Ready, folder: Path, top: Path, backbone: dict[str, str] | None):
        self.ready, self.folder, self.top, self.backbone = ready, folder, top, backbone
        self.config = ready.config
        self.checkpoints = Checkpoints(folder) if self.config.checkpoints else Memory()
        self.status, self.failure, self.step = "running", "", 0
        self.sums = {"seconds": 0.0, "training_seconds": 0.0, "examples": 0, "tokens": 0, "processed": 0}

    @property
    def name(self) -> str:
        """What to call it among others: its folder in that of all seeds; "" for a run by itself."""
        return "" if self.folder == self.top else str(self.folder.relative_to(self.top))

    def tell(self, line: str) -> None:
        """A note about it."""
        note(f"{self.name}: {line}" if self.name else line)

    @property
    def going(self) -> bool:
        """Whether it takes more steps."""
        return self.status == "running"

    # --- where it begins

    def restore(self, at: int | None = None) -> TrainState | None:
        """The newest state that was saved, at rest, or the newest up to step `at`; None where there is none."""
        found = self.checkpoints.restore(self.ready.start(), at)
        if not found:
            return None
        state, about = found
        self.step, self.sums = about["step"], about["sums"]
        self.status, self.failure = about["status"], about["failure"]
        return state

    def begin_anew(self) -> None:
        """From the first step, whatever was saved."""
        self.checkpoints.forget_after(-1)
        self.status, self.step, self.sums = "running", 0, dict.fromkeys(self.sums, 0)

    def begin(self, state: TrainState, metrics: records.Metrics) -> None:
        """Opens its log, which it may share with runs of other seeds, at this state at rest."""
        self.frozen, self.metrics = trees.split(state.params, self.ready.trains)[1], metrics
        self.events = records.Events(self.folder, self.step, self.config.tensorboard and parallel.is_main())
        self._begun = time.perf_counter() - self.sums["seconds"]

    # --- counting and logging

    def count(self, plan: Any, rows: int) -> None:
        """A step with this plan was taken."""
        self.step += 1
        self.sums["examples"] += len(plan.examples)
        self.sums["tokens"] += int(self.ready.epochs.lengths[plan.examples].sum())
        self.sums["processed"] += rows * self.ready.row_length

    def rate(self, what: str, more_seconds: float = 0.0) -> float:
        """Examples or tokens a second of training."""
        return self.sums[what] / max(self.sums["training_seconds"] + more_seconds, 1e-9)

    def log_step(self, step: int, values: Mapping[str, float]) -> None:
        """The metrics of the step before `step`; one that is not finite fails the run."""
        wrong = next((name for name in ("loss", "grad_norm") if not math.isfinite(values[name])), None)
        if wrong:
            self.fail(f"the {wrong} is {values[wrong]} at step {step}")
        elif step % self.config.log_every == 0 or step == self.ready.total_steps:
            self.log(step, "train", values)

    def fail(self, why: str) -> None:
        """Nothing more can come of it."""
        self.status, self.failure = "failed", why
        if self.name:
            self.tell(f"{why}; it stands still, the others go on")

    def log(self, step: int, split: str, values: Mapping[str, Any]) -> None:
        """Writes a row."""
        epoch = round(step / self.ready.epochs.steps_per_epoch, 4)
        self.events.write(self.metrics.write({"step": step, "epoch": epoch, "split": split,
                                              "seed": self.config.seed, **values}))

    @property
    def rows(self) -> list[dict[str, Any]]:
        """What the log holds of it."""
        return [row for row in self.metrics.rows if row["seed"] == self.config.seed]

    # --- saving

    def save(self, state: TrainState) -> None:
        """Saves a state on the host, without what is frozen."""
        self.checkpoints.save(state.replace(params=self._kept(state.params)), self._about())

    def save_best(self, trained: Any) -> None:
        """Saves the parameters that train, on the host, as those of the best evaluation."""
        self.checkpoints.save_best(self.step, self._kept(trained), self._about())

    def _kept(self, trained: Any) -> dict[str, Any]:
        return kept(trees.merge(self.frozen, trained), self.backbone)

    def _about(self) -> dict[str, Any]:
        self.tick()
        # A copy: it is written while the run counts on.
        return {"step": self.step, "sums": dict(self.sums), "status": self.status,
                "failure": self.failure, "config": self.config.to_json(),
                "labels": list(self.ready.task.labels), "versions": records.versions(), "backbone": self.backbone}

    def tick(self) -> None:
        """Counts the seconds up to now."""
        self.sums["seconds"] = time.perf_counter() - self._begun

    def best_params(self) -> Any:
        """The parameters that train of the best evaluation, on the host."""
        params = self.checkpoints.best() if isinstance(self.checkpoints, Memory) else load_params(self.folder)[0]
        return trees.split(trees.merge(self.frozen, params), self.ready.trains)[0]

    # --- scores

    def evaluates(self, step: int) -> bool:
        """Every so many steps, or so many times an epoch; always at the end."""
        config, epoch = self.config, self.ready.epochs.steps_per_epoch
        if step == self.ready.total_steps:
            return True
        if config.eval_every:
            return step % config.eval_every == 0
        return step * config.evals_per_epoch // epoch > (step - 1) * config.evals_per_epoch // epoch

    def scores_of(self, split: str, outputs: Any, dev: Mapping[str, float] | None) -> dict[str, float]:
        """Loss and metrics of one split; `dev`: those of dev, for other splits."""
        return self.ready.family.scores(outputs, self.ready.encoded[split], self.ready.splits[split], dev)

    def logged(self, step: int | None = None) -> dict[str, dict[str, float]]:
        """The scores of the last evaluation in the log, or of the one at `step`, by split."""
        return {row["split"]: _scores_in(row) for row in self.rows
                if row["split"] in self.ready.encoded and row["split"] != "train" and step in (None, row["step"])}

    def log_scores(self, split: str, scores: Mapping[str, float]) -> None:
        """Writes what an evaluation at this step found."""
        self.log(self.step, split, {"learning_rate": float(self.ready.schedule(self.step)), **scores})

    def _dev_rows(self) -> list[dict[str, Any]]:
        return [row for row in self.rows if row["split"] == "dev"]

    def best_row(self) -> dict[str, Any] | None:
        """The first dev row with the best main metric; None before the first evaluation."""
        return max(self._dev_rows(), key=self.merit, default=None)

    def merit(self, scores: Mapping[str, Any]) -> float:
        """The main metric, made so that more is better; null in the log is one that was not finite: the worst."""
        name = self.ready.task.main_metric
        if scores[name] is None:
            return -math.inf
        return -scores[name] if name in LOWER_IS_BETTER else scores[name]

    def patience_over(self) -> bool:
        """Whether --early_stopping ends it."""
        best = self.best_row()
        since = sum(row["step"] > best["step"] for row in self._dev_rows()) if best else 0
        return bool(self.config.early_stopping) and since >= self.config.early_stopping

    def predict(self, split: str, name: str, outputs: np.ndarray, dev: Mapping[str, float] | None) -> None:
        """Predictions in the official format of the task, `name` in predictions/."""
        ready = self.ready
        ready.family.write(name, outputs, ready.encoded[split], ready.splits[split],
                           self.folder / "predictions", dev)

    # --- what came of it

    def result(self, best_scores: Mapping[str, Any]) -> dict[str, Any]:
        """The content of result.json."""
        best, task = self.best_row(), self.ready.task
        self.tick()
        return {"status": self.status, "metrics": self.logged(), "best": best_scores,
                "best_step": best["step"] if best else None, "seconds": round(self.sums["seconds"], 3),
                "examples_per_second": round(self.rate("examples"), 2),
                "tokens_per_second": round(self.rate("tokens"), 1),
                "padding_share": round(1 - self.sums["tokens"] / max(self.sums["processed"], 1), 5),
                "parameters_trained": parameters_trained(self.ready),
                "parameters_total": trees.count(self.ready.params),
                "seed": self.config.seed, "task": task.name, "main_metric": task.main_metric,
                **({"failure": self.failure} if self.failure else {})}

    def write_result(self, result: Mapping[str, Any]) -> None:
        """result.json and the picture of the run."""
        records.write_json(self.folder / "result.json", result)
        metric = self.ready.task.main_metric
        curves.learning_curve(self.rows, metric, self.folder / "learning_curve.png", metric in LOWER_IS_BETTER)


def _scores_in(row: Mapping[str, Any]) -> dict[str, float]:
    """The scores in a row of an evaluation."""
    return {name: value for name, value in row.items()
            if name not in ("step", "epoch", "split", "seed", "learning_rate")}
