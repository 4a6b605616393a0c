"""The training loop, read from top to bottom; it knows methods by their interface alone."""

import contextlib
import math
import pathlib
import time
from collections.abc import Mapping
from typing import Any

import jax
import ml_collections
import numpy as np

from sicl_jax import config as configs
from sicl_jax import devices, evaluation, methods, processes
from sicl_jax.console import progress as show_progress
from sicl_jax.data import lock
from sicl_jax.data.dataset import ReidDataset, load_dataset
from sicl_jax.errors import UserError
from sicl_jax.methods.base import Method
from sicl_jax.methods.embedder import Embedder, columns_of
from sicl_jax.runs import workdir
from sicl_jax.runs.metrics import read_log
from sicl_jax.runs.provenance import changes, provenance
from sicl_jax.training import feeds, numbers, signals, steps
from sicl_jax.training.position import Position
from sicl_jax.training.profile import Profile
from sicl_jax.training.testing import Tester

Results = dict[str, evaluation.Result]


def train(
    config: ml_collections.ConfigDict,
    folder: pathlib.Path,
    *,
    extend: bool = False,
    quiet: bool = False,
    debug_nans: bool = False,
    profile: pathlib.Path | None = None,
    say=print,
) -> Results:
    """Trains to `config.epochs`, or goes on from the newest checkpoint in the workdir.

    SIGTERM or Ctrl-C stop it after the current call, with a checkpoint; a second one at once.

    Args:
        config: The experiment.
        folder: The workdir; made if it does not exist.
        extend: Train the run there on, with the more epochs that the config has.
        quiet: No progress bars.
        debug_nans: Find the operation that first makes a number that is not one; slow.
        profile: Where to write a trace of some calls.
        say: Prints a line of the run's story.

    Returns:
        Results of the last test by protocol; empty where the data set has no test splits.

    Raises:
        StoppedError: A signal asked it to stop.
        UserError: The data are missing or too few; the workdir is in use, belongs to another run,
            cannot be written or holds no whole checkpoint; or the loss is not finite.
    """
    steps.check_batch_size(config.batch_size)
    method = methods.create(config)
    dataset = open_dataset(config, method)
    processes.require_same(configs.digest(config), "config")
    processes.require_same(dataset.fingerprint, f"data set {config.data.name}")
    processes.on_first(lambda: workdir.refuse_foreign(folder))
    trace = Profile(profile)
    if not processes.is_first():
        quiet, say = True, _say_nothing
    with (
        signals.StopRequest(say) as stop,
        processes.held_by_first(lambda: lock.hold(folder, say)),
        numbers.debugging(debug_nans),
    ):
        changed: list[str] = []  # Filled on the first process.

        def check() -> np.ndarray:
            changed.extend(workdir.check(folder, config, dataset.fingerprint, extend=extend))
            return np.array([bool(changed), workdir.is_owned(folder)])

        extends, goes_on = processes.on_first(check, like=np.zeros(2, bool))
        data = dataset.split("train")
        if len(data) < config.batch_size:
            raise UserError(
                f"{dataset.directory}: {len(data)} training images are fewer than one batch of "
                f"{config.batch_size}; add images or lower --config.batch_size"
            )
        warnings = [*dataset.notes, *method.check(data)]
        if not goes_on:
            warnings += method.check_start(data, dataset.fingerprint)
        for warning in warnings:
            say(f"warning: {warning}")
        with Position(folder, method, data, dataset.fingerprint, stop, say) as position, trace:
            position.stop_if_asked()
            if extends:
                _extend(position, dataset, changed, say)
            run = _Run(config, dataset, data, position, trace, quiet, say)
            results = run.train(folder)
        if processes.is_first() and (worse := read_log(folder).made_worse()):
            say(f"warning: {worse}")
        return results


def _extend(position: Position, dataset: ReidDataset, changed: list[str], say) -> None:
    """Trains a run on: tells, and logs, what of its config is another one from here on."""
    facts = provenance(position.method.config, dataset.fingerprint)
    changes = "; ".join(changed)
    position.extend({**facts, "epoch": position.progress.epoch, "changes": changes})
    say(
        f"extended after epoch {position.progress.epoch}: {changes}; what follows the "
        "number of epochs (learning rates, for one) goes on by the new schedule, so this is not "
        "what one run of all epochs would have given"
    )


def _say_nothing(line: str) -> None:
    """What processes but the first say."""


def open_dataset(config: ml_collections.ConfigDict, method: Method) -> ReidDataset:
    """The prepared data set of a config, with the pictures that a method reads."""
    return load_dataset(config.data.name, config.data.dir, forms=method.forms)


class _Run:
    """One run: what stays the same from epoch to epoch, and the epochs."""

    def __init__(self, config, dataset, data, position: Position, trace, quiet, say):
        self.config = config
        self.dataset = dataset
        self.data = data
        self.position = position
        self.trace = trace
        self.quiet = quiet
        self.say = say
        self.stages = position.method.stages
        self.epochs = sum(stage.epochs for stage in self.stages)
        self.seed = devices.put_replicated(np.uint32(config.seed + 1))
        self._prepare_stage()

    def _prepare_stage(self) -> None:
        """What stays the same from epoch to epoch within a stage."""
        method, stage = self.position.method, self.stages[self.position.progress.stage]
        reads = (*method.forms, *method.labels) if stage.reads is None else stage.reads
        columns = columns_of(self.data, reads or ("identity",))
        self.feed = feeds.choose(columns, self.config.data.device_budget_gb)
        self.train_call = steps.compile_train_call(method, self.position.state, self.feed)
        self.per_call = steps.steps_per_call(self.config.steps_per_call, self.feed)
        self.tester = self._tester()

    def _tester(self) -> Tester | None:
        """What tests the run; None where the data set has nothing to test on."""
        first, *others = self.position.method.tested
        tester = self._tester_of(first)
        self.others = {stream: self._tester_of(stream) for stream in others}
        if not tester.splits:
            self.say(f"{self.dataset.name} has no test splits: training without tests")
            return None
        # A slip in the config is told now, not after the first epochs.
        table = evaluation.protocols(self.dataset.name, self.dataset.split_names)
        names = [protocol.name for protocol in table]
        asked = self.position.method.select_by(self.dataset.name)
        evaluation.selection_protocol(self.dataset.name, names, asked)
        return tester

    def _tester_of(self, stream: str) -> Tester:
        method, batch_size = self.position.method, self.config.embed_batch_size
        embedder = Embedder(method, stream=stream, batch_size=batch_size)
        return Tester(self.dataset, embedder, seed=self.config.seed)

    def train(self, folder: pathlib.Path) -> Results:
        results: Results = {}
        facts = provenance(self.config, self.dataset.fingerprint)
        if self.position.is_new:
            self.position.log.write("start", 0, {**facts, "images": len(self.data)})
            if self.config.evaluate.before:
                results = self._test(0)
            self.position.advance()
        elif processes.is_first() and (different := changes(folder, facts)):
            self.say(f"warning: last bits may differ, because these do: {'; '.join(different)}")
            self.position.log.write("resume", self.position.step, facts)
        while self.position.progress.epoch < self.epochs:
            results = self._epoch(self.position.progress.epoch) or results
        self.position.wait()
        return results or (self._run_test() if self.tester else {})

    # ---- an epoch --------------------------------------------------------------------------

    def _epoch(self, epoch: int) -> Results:
        stage, within = self._stage_of(epoch)
        seconds_before = 0.0
        if stage != self.position.progress.stage:
            self.position.begin_stage(stage)
            self._prepare_stage()
        if self.position.progress.step_in_epoch == 0:
            seconds_before = self._begin_epoch(within)
        batches = self.position.method.draw_batches(self.position.state, self.data, within)
        to_do = len(batches) - self.position.progress.step_in_epoch
        self.position.set_clock(within, len(batches))
        begin = time.monotonic()
        self._steps(epoch, batches)
        seconds = time.monotonic() - begin
        progress = self.position.progress
        means = {name: total / len(batches) for name, total in progress.sums.items()}
        line = {
            "epoch": epoch + 1,
            **({"stage": self.stages[stage].name} if len(self.stages) > 1 else {}),
            "loss": means.pop("loss"),
            "learning_rate": means.pop("learning_rate"),
            "terms": means,
            **progress.figures,
            "images_per_second": to_do * batches.shape[1] / max(seconds, 1e-9),
            "seconds_clustering": seconds_before,
            "seconds_training": seconds,
        }
        self.position.log.write("epoch", self.position.step, line)
        self.say(_epoch_line(line, self.epochs))
        done = {"epoch": epoch + 1, "step_in_epoch": 0, "sums": {}}
        if self._test_is_due(epoch + 1):
            return self._test(epoch + 1, **done)
        self.position.advance(**done)
        self.position.save()
        return {}

    def _stage_of(self, epoch: int) -> tuple[int, int]:
        """The stage that an epoch of the run belongs to, and which of its epochs that is."""
        for number, stage in enumerate(self.stages):
            if epoch < stage.epochs:
                return number, epoch
            epoch -= stage.epochs
        raise AssertionError("an epoch after the last stage")

    def _begin_epoch(self, epoch: int) -> float:
        """The method's own work before the steps; its seconds."""
        begin = time.monotonic()
        method, before = self.position.method, self.position.progress.figures
        started = method.begin_epoch(self.position.state, self.data, epoch, before)
        self.position.stop_if_asked()  # A run that goes on does this again, from the state before.
        for warning in started.warnings:
            self.say(f"warning: epoch {self.position.progress.epoch + 1}: {warning}")
        self.position.state = started.state
        words = {"note": started.note, "warnings": list(started.warnings)}
        figures = started.figures | method.diagnose(started.state.memory, self.data)
        figures |= {n: w for n, w in words.items() if w}
        self.position.advance(figures=figures)
        return time.monotonic() - begin

    def _steps(self, epoch: int, batches: np.ndarray) -> None:
        """All steps of an epoch, or those that are left."""
        begin, start = time.monotonic(), self.position.progress.step_in_epoch
        title = f"epoch {epoch + 1}/{self.epochs}"
        with show_progress(len(batches) - start, title, quiet=self.quiet) as bar:
            for sent in self.feed.calls(batches[start:], self.per_call):
                metrics = self._call(sent)
                taken, done = len(metrics["loss"]), self.position.progress.step_in_epoch
                rate = (done - start) * batches.shape[1] / (time.monotonic() - begin)
                bar.advance(taken, note=f"loss {metrics['loss'][-1]:.3f}, {rate:.0f} images/s")
                if done < len(batches) and self._checkpoint_is_due(done, taken):
                    self.position.save()
                self.position.stop_if_asked()

    def _call(self, sent) -> dict[str, np.ndarray]:
        """Some steps in one compiled call; their metrics."""
        position = self.position
        self.trace.next_call()
        try:
            position.state, metrics = self.train_call(
                position.state, self.feed.resident, sent, self.seed
            )
        except FloatingPointError as error:  # Raised with debug_nans alone.
            raise UserError(f"step {position.step + 1}: {numbers.operation(error)}") from error
        metrics = {name: np.asarray(values) for name, values in metrics.items()}
        before, taken = position.progress, len(metrics["loss"])
        position.step += taken
        if found := numbers.first_not_finite(metrics):
            first, names = found
            position.abandon(position.step - taken + first + 1, names)
        sums = {name: before.sums.get(name, 0.0) + math.fsum(v) for name, v in metrics.items()}
        position.advance(step_in_epoch=before.step_in_epoch + taken, sums=sums)
        return metrics

    def _checkpoint_is_due(self, done: int, taken: int) -> bool:
        every = self.config.checkpoint_every_steps
        return bool(every) and done // every > (done - taken) // every

    # ---- tests -----------------------------------------------------------------------------

    def _test_is_due(self, epoch: int) -> bool:
        when, (number, within) = self.config.evaluate, self._stage_of(epoch - 1)
        stage = self.stages[number]
        is_last = within + 1 == stage.epochs
        due = epoch % when.every == 0 or epoch > when.always_after or is_last
        return self.tester is not None and stage.tested and due

    def _test(self, epoch: int, /, **done: Any) -> Results:
        """Tests and logs it; saves the run, as the best so far if it is.

        Args:
            epoch: Epochs trained.
            **done: Changes of the progress that come with it.
        """
        if self.tester is None:
            return {}
        begin = time.monotonic()
        others = self._test_others()
        results = self._run_test()
        line: dict[str, Any] = {name: result.as_dict() for name, result in results.items()}
        line |= others | {"epoch": epoch, "seconds": time.monotonic() - begin}
        self.position.log.write("test", self.position.step, line)
        name = evaluation.selection_protocol(
            self.dataset.name, results, self.position.method.select_by(self.dataset.name)
        )
        chosen, best = results[name], self.position.progress.best
        # All save it or none: the last bit of a figure may differ from machine to machine. The
        # untrained network is never the best one, however bad the others are.
        is_best = bool(
            processes.on_first(
                lambda: np.array(epoch > 0 and (best is None or chosen.mAP > best)),
                like=np.array(False),
            )
        )
        self.say(
            f"test after epoch {epoch}: {name}: rank-1 {chosen.rank1:.1%}, mAP {chosen.mAP:.1%}"
            + (" (best)" if is_best else "")
        )
        if is_best:
            done |= {"best": chosen.mAP, "best_step": self.position.step}
        self.position.advance(**done)
        self.position.save()
        if is_best:
            self.position.save_best()
        return results

    def _test_others(self) -> dict[str, dict[str, Any]]:
        """Tests all streams but the first, and tells the method; results as `stream: protocol`."""
        position, lines, scores = self.position, {}, {}
        for stream, tester in self.others.items():
            results = tester.test(position.state.weights, progress=self._interruptible)
            chosen = evaluation.selection_protocol(
                self.dataset.name, results, position.method.select_by(self.dataset.name)
            )
            lines |= {f"{stream}: {name}": result.as_dict() for name, result in results.items()}
            scores[stream] = results[chosen].mAP
        # The last bit of a figure may differ from machine to machine.
        found = np.array(list(scores.values()))
        agreed = dict(zip(scores, processes.on_first(lambda: found, like=found), strict=True))
        position.state, combined = position.method.after_test(position.state, agreed)
        if combined:
            position.log.write("combined", position.step, combined)
            self.say(", ".join(f"{stream} of step {step}" for stream, step in combined.items()))
        return lines

    def _run_test(self) -> Results:
        state = self.position.state
        kept = getattr(state.memory, "kept", None)
        weights = self.position.method.served(state.weights, kept)
        return self.tester.test(weights, progress=self._interruptible)

    @contextlib.contextmanager
    def _interruptible(self, total: int, title: str):
        """A progress bar of a test, which stops it when the run is asked to stop."""
        with show_progress(total, title, quiet=self.quiet) as bar:
            yield _Watched(bar, self.position.stop_if_asked)


def _epoch_line(line: Mapping[str, Any], epochs: int) -> str:
    """An epoch's figures for a person."""
    parts = [f"epoch {line['epoch']}/{epochs}: loss {line['loss']:.3f}"]
    if line.get("note"):
        parts.append(f"{line['note']} in {line['seconds_clustering']:.1f} s")
    return ", ".join([*parts, f"{line['images_per_second']:.0f} images/s"])


class _Watched:
    """A progress bar that also looks for a wish to stop."""

    def __init__(self, bar, stop_if_asked):
        self._bar = bar
        self._stop_if_asked = stop_if_asked

    def advance(self, amount: int = 1) -> None:
        self._bar.advance(amount)
        if jax.process_count() == 1:  # Several have to agree, and need not count alike.
            self._stop_if_asked()
