"""The training loop, read from top to bottom; it knows methods by their interface alone."""

import dataclasses
import json
import math
import pathlib
import time
from typing import Any

import jax
import ml_collections
import numpy as np

from sicl_jax import evaluation, methods
from sicl_jax.console import progress as show_progress
from sicl_jax.data.dataset import ReidDataset, load_dataset
from sicl_jax.errors import UserError
from sicl_jax.methods.base import Method, State, TrainingData
from sicl_jax.methods.embedder import Embedder
from sicl_jax.training import steps, workdir
from sicl_jax.training.checkpoints import Checkpoints, Progress
from sicl_jax.training.logging import MetricsLog
from sicl_jax.training.provenance import provenance
from sicl_jax.training.testing import Tester

Results = dict[str, evaluation.Result]


def train(
    config: ml_collections.ConfigDict,
    folder: pathlib.Path,
    *,
    quiet: bool = False,
    say=print,
) -> Results:
    """Trains to `config.epochs`, or goes on from the newest checkpoint in the workdir.

    Args:
        config: The experiment.
        folder: The workdir; made if it does not exist.
        quiet: No progress bars.
        say: Prints a line of the run's story.

    Returns:
        Results of the last test by protocol; empty where the data set has no test splits.

    Raises:
        UserError: The data are missing or too few, the workdir belongs to another run, or the
            loss is not finite.
    """
    dataset = open_dataset(config)
    workdir.claim(folder, config, dataset.fingerprint)
    run = _Run(config, folder, dataset, quiet, say)
    try:
        return run.train()
    finally:
        run.close()


def open_dataset(config: ml_collections.ConfigDict) -> ReidDataset:
    """The prepared data set of a config."""
    return load_dataset(
        config.data.name,
        config.data.dir,
        image_size=tuple(config.data.image_size),
        mask_mode=config.data.mask_mode,
    )


def training_data(dataset: ReidDataset, method: Method) -> TrainingData:
    """The training split; with masks when the method uses them.

    Raises:
        UserError: The method needs masks and the split has none.
    """
    split = dataset.split("train")
    if method.uses_masks and split.masks is None:
        raise UserError(
            f"{dataset.directory}: the training split has no masks; prepare it with --masks, "
            "or train with --config.silhouettes=False"
        )
    return TrainingData(split.images, split.masks if method.uses_masks else None, split.cameras)


class _Run:
    """One run: what stays the same from epoch to epoch, and the epochs."""

    def __init__(self, config, folder, dataset: ReidDataset, quiet: bool, say):
        self.config = config
        self.dataset = dataset
        self.quiet = quiet
        self.say = say
        self.method = methods.create(config)
        self.data = training_data(dataset, self.method)
        if len(self.data) < config.batch_size:
            raise UserError(
                f"{dataset.directory}: {len(self.data)} training images are fewer than one batch "
                f"of {config.batch_size}; add images or lower --config.batch_size"
            )
        self.tester = self._tester()
        self.checkpoints = Checkpoints(folder)
        self.state, self.progress, self.step = self._start()
        self.log = MetricsLog(folder, self.progress.metrics_bytes)
        self.resident = steps.put_resident(self.data, self.method.uses_masks)
        self.train_call = steps.compile_train_call(self.method, self.state)
        self.key = jax.random.key(config.seed + 1)

    def close(self) -> None:
        self.checkpoints.close()
        self.log.close()

    def _tester(self) -> Tester | None:
        needed = evaluation.required_splits(self.dataset.name)
        if not any(name in self.dataset.split_names for name in needed):
            self.say(f"{self.dataset.name} has no test splits: training without tests")
            return None
        embedder = Embedder(self.method, batch_size=self.config.embed_batch_size)
        return Tester(self.dataset, embedder, seed=self.config.seed)

    def _start(self) -> tuple[State, Progress, int]:
        """The newest checkpoint, or a new state."""
        if self.checkpoints.latest_step() is None:
            state = self.method.init(self.data, self.config.seed)
            return state, Progress(), 0
        state, progress, step = self.checkpoints.restore(
            "latest", self.method.abstract_state(self.data)
        )
        self.say(f"resumed at epoch {progress.epoch + 1}, step {step}")
        return state, progress, step

    def train(self) -> Results:
        results: Results = {}
        if self.step == 0 and self.progress.epoch == 0:
            facts = provenance(self.config, self.dataset.fingerprint)
            self.log.write("start", 0, {**facts, "images": len(self.data)})
            if self.config.evaluate.before:
                results = self._test(epoch=0)
        while self.progress.epoch < self.config.epochs:
            results = self._epoch(self.progress.epoch) or results
        self.checkpoints.wait()
        return results or (self._test(self.config.epochs, record=False) if self.tester else {})

    # ---- an epoch --------------------------------------------------------------------------

    def _epoch(self, epoch: int) -> Results:
        clustering_seconds, figures = 0.0, {}
        if self.progress.step_in_epoch == 0:
            begin = time.monotonic()
            self.state, figures = self.method.begin_epoch(self.state, self.data, epoch)
            clustering_seconds = time.monotonic() - begin
        batches = self.method.draw_batches(self.state, self.data, epoch)
        begin = time.monotonic()
        done = len(batches) - self.progress.step_in_epoch
        sums = self._steps(epoch, batches)
        seconds = time.monotonic() - begin
        means = {name: value / len(batches) for name, value in sums.items()}
        line = {
            "epoch": epoch + 1,
            **means,
            **figures,
            "images_per_second": done * batches.shape[1] / max(seconds, 1e-9),
            "seconds_clustering": clustering_seconds,
            "seconds_training": seconds,
        }
        self.log.write("epoch", self.step, line)
        self.say(_epoch_line(line, self.config.epochs, len(self.data)))
        self.progress = dataclasses.replace(
            self.progress, epoch=epoch + 1, step_in_epoch=0, sums={}
        )
        results = self._test(epoch + 1) if self._test_is_due(epoch + 1) else {}
        self._save()
        return results

    def _steps(self, epoch: int, batches: np.ndarray) -> dict[str, float]:
        """All steps of an epoch, or those that are left; sums of their metrics."""
        sums = dict(self.progress.sums)
        per_call = steps.steps_per_call(self.config.steps_per_call)
        title = f"epoch {epoch + 1}/{self.config.epochs}"
        begin, start = time.monotonic(), self.progress.step_in_epoch
        with show_progress(len(batches) - start, title, quiet=self.quiet) as bar:
            for first in range(start, len(batches), per_call):
                chunk = batches[first : first + per_call]
                self.state, metrics = self.train_call(
                    self.state, self.resident, steps.put_indexes(chunk), self.key
                )
                metrics = {name: np.asarray(values) for name, values in metrics.items()}
                self.step += len(chunk)
                self._add(sums, metrics)
                rate = (first + len(chunk) - start) * len(chunk[0]) / (time.monotonic() - begin)
                loss = float(metrics["loss"][-1])
                bar.advance(len(chunk), note=f"loss {loss:.3f}, {rate:.0f} images/s")
                self._checkpoint_within_epoch(first + len(chunk), len(batches), sums)
        return sums

    def _add(self, sums: dict[str, float], metrics: dict[str, np.ndarray]) -> None:
        """Adds a call's metrics; a value that is not finite ends the run."""
        for name, values in metrics.items():
            if not np.isfinite(values).all():
                at = self.step - len(values) + int(np.argmin(np.isfinite(values))) + 1
                raise UserError(
                    f"step {at}: {name} is not finite; lower --config.learning_rate or go on "
                    "from an earlier checkpoint"
                )
            sums[name] = sums.get(name, 0.0) + math.fsum(values)

    def _checkpoint_within_epoch(self, done, total, sums) -> None:
        every = self.config.checkpoint_every_steps
        per_call = steps.steps_per_call(self.config.steps_per_call)
        if not every or done == total or done // every == (done - per_call) // every:
            return
        self.progress = dataclasses.replace(self.progress, step_in_epoch=done, sums=dict(sums))
        self._save()

    def _save(self) -> None:
        self.progress = dataclasses.replace(self.progress, metrics_bytes=self.log.length)
        self.checkpoints.save(self.step, self.state, self.progress)

    # ---- tests -----------------------------------------------------------------------------

    def _test_is_due(self, epoch: int) -> bool:
        when = self.config.evaluate
        due = epoch % when.every == 0 or epoch > when.always_after or epoch == self.config.epochs
        return self.tester is not None and due

    def _test(self, epoch: int, *, record: bool = True) -> Results:
        """Tests; logs it and keeps the state when it is the best so far."""
        if self.tester is None:
            return {}
        begin = time.monotonic()
        results = self.tester.test(self.state)
        name = evaluation.selection_protocol(self.dataset.name, results)
        if not record:
            return results
        line: dict[str, Any] = {name: result.as_dict() for name, result in results.items()}
        line |= {"epoch": epoch, "seconds": time.monotonic() - begin}
        self.log.write("test", self.step, line)
        chosen = results[name]
        best = self.progress.best is None or chosen.mAP > self.progress.best
        mark = " (best)" if best and epoch else ""
        self.say(
            f"test after epoch {epoch}: {name}: rank-1 {chosen.rank1:.1%}, mAP {chosen.mAP:.1%}"
            + mark
        )
        if best:
            self.progress = dataclasses.replace(
                self.progress, best=chosen.mAP, metrics_bytes=self.log.length
            )
            self.checkpoints.save_best(self.step, self.state, self.progress)
        return results


def _epoch_line(line: dict[str, Any], epochs: int, num_images: int) -> str:
    parts = [f"epoch {line['epoch']}/{epochs}: loss {line['loss']:.3f}"]
    if "clusters" in line:
        share = line["unclustered"] / num_images
        parts.append(
            f"{line['clusters']} clusters, {line['unclustered']} unclustered ({share:.0%})"
        )
        parts.append(f"clustering {line['seconds_clustering']:.1f} s")
    parts.append(f"{line['images_per_second']:.0f} images/s")
    return ", ".join(parts)


def summary(results: Results) -> dict[str, Any]:
    """Plain numbers of the results, for JSON."""
    return json.loads(json.dumps({name: result.as_dict() for name, result in results.items()}))
