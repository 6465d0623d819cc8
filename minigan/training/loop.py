"""The loop: plays the steps of a member; between steps it saves, draws pictures and looks for trouble.

It knows members, data and files only by their interfaces, not by name.
"""

from __future__ import annotations

import math
import os
import time
import warnings
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..console import INTERRUPTED, lost_output
from ..data import Dataset
from ..errors import UserError
from ..gans.base import GAN
from . import checkpoint, collapse, state
from .collapse import COLLAPSED, Diversity
from .draw import Draw
from .looks import Looks
from .metrics import SPEED
from .parallel import Group
from .plan import Plan
from .record import MetricsFile
from .recovery import decide
from .run import Run
from .scoring import Scoring, best, deciding
from .terminal import Progress, interrupt_flag
from .watch import LOWER_RATE, SPOILED, Trouble, Watch

GPU_LOG_EVERY = 10  # steps; fewer would be slow, because each report waits for the GPU


class Diverged(UserError):
    """The run was stopped because of trouble; the message names it and says what to try."""


class Loop:
    """A run in memory: a member, its Draw, the run folder, and what remains to be done.

    Each process of a group has its own loop, in the same state. Only the leader's loop draws pictures
    and writes files.
    """

    def __init__(
        self,
        plan: Plan,
        member: GAN,
        data: Dataset,
        draw: Draw,
        run: Run,
        say: Callable[[str], None],
        group: Group,
    ):
        self.game, self.options = plan.game, plan.run
        self.member, self.draw, self.run, self.say, self.group = member, draw, run, say, group
        self.looks = Looks(member, data, run, draw.device, say)
        self.diversity = Diversity(member, data, draw.device)
        self.scoring = Scoring(plan.game, member, data, draw.device, run)
        self.evaluated: list[dict[str, float]] = []  # the lines among which the best one is
        self.per_epoch = max(1, draw.per_epoch // member.batches)  # steps
        self.total = min(self.options.epochs * self.per_epoch, self.options.steps or math.inf)
        self.sample_every = self.options.sample_every or self.per_epoch
        self.log_every = self.options.log_every or (1 if draw.device == "cpu" else GPU_LOG_EVERY)
        self.tree = state.tree_of(member, draw.counts)
        self.unreported, self.seconds = 0, 0.0  # steps since the last report, and their time
        self.metrics: MetricsFile | None = None

    def limits(self) -> dict[str, int]:
        """The flags that end the run at `total`, with their values."""
        o = self.options
        ends = {"--epochs": (o.epochs, o.epochs * self.per_epoch)}
        if o.steps:
            ends["--steps"] = (o.steps, o.steps)
        return {flag: value for flag, (value, end) in ends.items() if end == self.total}

    # -- one step --

    def play(self) -> dict[str, float]:
        """Play one step. Returns its line of metrics, or {} if the step is not reported."""
        started, step = time.perf_counter(), self.draw.step + 1
        self.member.schedule(self.draw.step)
        played = self.member.step(self.draw)
        self.draw.next_step()
        self.unreported += 1
        evaluates = step % (self.options.evaluate_every or math.inf) == 0
        reported = step % self.log_every == 0 or step == self.total or evaluates
        values = {name: value.item() for name, value in played.items()} if reported else {}
        self.seconds += time.perf_counter() - started
        if not reported:
            return {}
        # The clock may stand still or be set back, so the time is not always positive.
        samples = self.draw.batch_size * self.member.batches * self.unreported
        rate = samples / self.seconds if self.seconds > 0 else math.nan
        self.unreported, self.seconds = 0, 0.0
        line = {"step": step, "epoch": self.draw.epoch, **self.group.mean(values)}
        if step % collapse.EVERY < self.log_every:  # the first reported step of every EVERY
            line |= self.group.from_leader(self.diversity.measure)
        if evaluates:
            line |= self.group.from_leader(self.scoring.measure)
            self.evaluated.append(line)
        return {**line, SPEED: round(rate, 1)}

    # -- checkpoints --

    def save(self) -> bool:
        """Write a checkpoint, and delete old ones beyond `keep`. False if the run rolled back instead.

        Values that are not finite are never saved; `_meet` decides what to do about them.
        """
        if name := self.group.first(state.spoiled(self.tree)):
            text = f"{name} holds values that are not finite"
            return not self._meet(Trouble(SPOILED, self.draw.step, text, LOWER_RATE))
        if self.group.leader:
            self.metrics.sync()  # first, so that no checkpoint is ahead of its metrics
            path = checkpoint.path_of(self.run.checkpoints, self.draw.step)
            state.write(path, self.tree, self.game)
            self._drop_old()
        return True

    def load_newest(self, reason: str = "resume") -> None:
        """Restore the newest readable checkpoint, and record it in events.jsonl under `reason`.

        `say` is told of newer checkpoints that cannot be read.
        """
        found, told = self.group.from_leader(self._read_newest)
        again = self.draw.counts["again"]
        state.restore(found, self.tree)
        self.draw.counts["again"] = max(again, self.draw.counts["again"])
        if self.group.leader:
            self.run.event(reason, step=self.draw.step, **told)

    def _read_newest(self) -> tuple[dict[str, Any], dict[str, Any]]:
        use = lambda path: state.read(path, self.tree, self.game)
        path, found, troubles = checkpoint.newest(self.run.checkpoints, "resume", use, self.say)
        return found, {"checkpoint": path.name, "skipped": troubles}

    def _drop_old(self) -> None:
        """Delete old checkpoints until `keep` are left, including this step's.

        Checkpoints between multiples of `checkpoint_every`, which only an interrupted run leaves, are
        deleted first; after the last step, all of these are deleted. The best one of those that were
        evaluated stays. Checkpoints of later steps are left alone: they cannot be read, because
        otherwise the run would have resumed from them.
        """
        older, planned = self._before(self.draw.step)
        stay = planned
        if self.draw.step != self.total:
            stay = planned + [path for path in older if path not in planned]
        for path in set(older).difference(stay[: self.options.keep - 1]):
            if checkpoint.step_of(path) != self.best:
                path.unlink()

    @property
    def best(self) -> int | None:
        """The step of the best evaluation so far; None if there was none."""
        return best(self.evaluated, deciding(self.game))

    def _before(self, step: int) -> tuple[list[Path], list[Path]]:
        """(all checkpoints, planned checkpoints) from before a step, newest first.

        A planned checkpoint is at a multiple of `checkpoint_every`.
        """
        every, found = self.options.checkpoint_every, checkpoint.newest_first(self.run.checkpoints)
        older = [path for path in found if checkpoint.step_of(path) < step]
        return older, [path for path in older if checkpoint.step_of(path) % every == 0]

    # -- trouble --

    def _meet(self, trouble: Trouble) -> bool:
        """Decide what to do about trouble, and do it. True if the run rolled back to a checkpoint."""
        good, planned = self.group.from_leader(lambda: self._before(trouble.since))
        wish, again = self.options.on_divergence, self.draw.counts["again"]
        does, text, trouble = decide(trouble, self.draw.step, wish, again, good, planned)
        if self.group.leader:
            self.run.event("diverged", step=self.draw.step, does=does, **asdict(trouble))
        if does == "stop":
            raise Diverged(text)
        if does != "ignore":
            self.say(text)
        if does == "rollback":
            self._roll_back(planned)
        return does == "rollback"

    def _roll_back(self, planned: list[Path]) -> None:
        """Resume from the newest planned checkpoint, and delete all checkpoints that are not planned.

        `planned` are the planned checkpoints from before the trouble. The number of rollbacks is part
        of the key of all noise, and is saved in the next checkpoint. A run that is killed before the
        next checkpoint meets the same trouble again and rolls back in the same way.
        """
        if self.group.leader:
            for path in checkpoint.newest_first(self.run.checkpoints):
                if path not in planned:
                    path.unlink()
        again = self.draw.counts["again"] + 1
        self.load_newest("rollback")
        self.draw.counts["again"] = again
        self._open_metrics()

    def _open_metrics(self) -> None:
        """Cut metrics.jsonl back to this step and open it; restore the watch from its lines."""
        if self.metrics:
            self.metrics.close()
        lines = self.group.from_leader(
            lambda: self.run.cut_metrics(self.draw.step, self.say, self.log_every)
        )
        self.watch = Watch((*self.member.signs, COLLAPSED), lines)
        self.evaluated = [line for line in lines if deciding(self.game) in line]
        self.metrics = self.run.open_metrics() if self.group.leader else MetricsFile(os.devnull)

    # -- the run --

    def train(self) -> int:
        """Play until the last step or a signal, save, and draw the figures. Returns the exit code.

        The code is 0 after the last step, even if a signal comes while the figures are drawn. The
        signals are SIGINT (Ctrl-C), SIGTERM and SIGHUP; only the main thread can receive them.
        """
        if self.group.leader:
            self.looks.reals()
            if self.draw.step == 0:
                self.looks.samples(0)
        self._open_metrics()
        try:
            with interrupt_flag() as interrupted:
                if self._play_until(interrupted) != self.draw.step:
                    self.save()
                self._draw_figures()
        except Diverged:
            self._draw_figures()
            raise
        finally:
            self.metrics.close()
        done = self.draw.step == self.total  # even if a signal came after the last step
        stopped = self.group.any(interrupted) and not done
        if self.group.leader:
            known = {} if self.best is None else {"best": self.best}
            self.run.event("interrupt" if stopped else "done", step=self.draw.step, **known)
        if not stopped:
            return 0
        return 128 + interrupted[0] if interrupted else INTERRUPTED

    def finish(self) -> None:
        """Complete a run that is at its last step, in case it was killed before it was done.

        Old checkpoints are deleted only if the options that decide about them have not changed.
        """
        saved, counts = self.run.config["run"], ("checkpoint_every", "keep", "epochs", "steps")
        if self.group.leader and all(saved.get(n) == getattr(self.options, n) for n in counts):
            self.evaluated = self.run.metrics(self.say)
            self._drop_old()
        self._draw_figures()

    def _play_until(self, interrupted: list[int]) -> int | None:
        """Play until the last step or until `interrupted` has an entry. Returns the last saved step."""
        saved = self.draw.step or None
        epochs = math.ceil(self.total * self.member.batches / self.draw.per_epoch)
        progress = Progress(self.total, self.draw.step, epochs, self.say)
        with progress, warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # the watch and `save` report overflow
            # All processes must stop at the same step, but one may see the signal before another.
            while self.draw.step < self.total and not self.group.any(interrupted):
                if line := self.play():
                    self.metrics.write(line)
                    progress.show(line)
                    self.note_lost_output()
                    if (trouble := self.watch.look(line)) and self._meet(trouble):
                        continue
                step, last = self.draw.step, self.draw.step == self.total
                if self.group.leader and (step % self.sample_every == 0 or last):
                    self.looks.samples(step)
                if (step % self.options.checkpoint_every == 0 or last) and self.save():
                    saved = step
        return saved

    def _draw_figures(self) -> None:
        if self.group.leader:
            self.looks.figures()
        self.group.wait()

    def note_lost_output(self) -> None:
        """Record in events.jsonl which output to stdout or stderr was lost."""
        lost = lost_output()
        if lost and self.group.leader:
            self.run.event("output lost", reason="; ".join(lost))
