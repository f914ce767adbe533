"""Training: what a model must offer, and the one loop that serves all."""
import csv
import math
import shutil
import signal
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from typing import Callable, Iterator

import numpy as np

from autograd import Tensor, detect_nan, no_grad
from autograd.nn import Module, check_rng
from autograd.optim import EMA, Optimizer, Players

from .checkpoint import load, restore, save
from .checks import check_count
from .data.batches import Batches
from .files import atomic, reading


class Model(Module):
    """A Module with a method `loss(batch, rng)` that returns a scalar Tensor and a dict of floats to report."""

    def objectives(self, batch, rng: np.random.Generator) -> Iterator[tuple[str | None, Tensor, dict]]:
        """What a step minimises, one after the other: (player, loss, terms). A game has several players.

        Each is named as in `optim.Players`, whose optimizer takes its step before the next loss is asked for.
        """
        yield None, *self.loss(batch, rng)

    def on_step(self, t: int):
        """Called before step t = 1, 2, ...: the place for what changes with time."""


def fit(model: Model, batches: Batches, *, epochs: int, optimizer: Optimizer | Players, rng: np.random.Generator,
        ema: EMA | None = None, on_epoch: Callable[[int], dict] | None = None, history: str | Path | None = None,
        checkpoint: str | Path | None = None, every: float = 60.0, resume: bool = False, config: dict | None = None,
        ) -> list[dict]:
    """Train `model` for `epochs` epochs of `batches`; returns a row for each: epoch, seconds, the mean of each term.

    ema         an average of weights to update after each step
    on_epoch    called after each epoch with its number; the dict that it returns joins the row
    history     a CSV file to hold the rows, rewritten whole after each epoch
    checkpoint  a file to save the run in: after each epoch, every `every` seconds, and on Ctrl-C, with `config` inside
    resume      go on from `checkpoint`, if there is one: the weights become those of a run that never stopped

    Shows a live line of progress on a terminal, and prints one line an epoch. Raises FloatingPointError, naming step,
    op and last checkpoint, when the loss is no longer finite; and, having saved, KeyboardInterrupt on Ctrl-C.
    """
    check_count(epochs, "epochs")
    check_rng(rng)
    if isinstance(optimizer, Players) and type(model).objectives is Model.objectives:
        raise ValueError(f"{type(model).__name__} is no game: give it one optimizer, not Players")
    if not {id(p) for p in model.parameters()} & {id(p) for p in optimizer.params}:
        raise ValueError("the optimizer has none of the model's parameters")
    for path in filter(None, (history, checkpoint)):
        Path(path).parent.mkdir(parents=True, exist_ok=True)       # before the first epoch, not after it
    run = Position([len(batches.data), batches.batch_size])
    if resume and checkpoint and Path(checkpoint).exists():
        found = load(checkpoint)
        with reading(checkpoint):
            run = run.moved(found.header["position"], len(batches), rng)
            restore(found, model, optimizer, rng, ema)
        if history and run.rows:
            write_csv(history, run.rows)                           # a kill may have come between the two
    progress, saved = Progress(epochs * len(batches), run.t), time.perf_counter()
    try:
        with _interrupts(checkpoint) as interrupted:
            while run.epoch <= epochs:
                head, order = f"epoch {run.epoch}/{epochs}", run.order(batches, rng)
                while run.done < len(batches):
                    clock = time.perf_counter()
                    batch = batches.batch(order, run.done, rng)
                    terms = _step(model, batch, optimizer, rng, run.t + 1, checkpoint)
                    if ema:
                        ema.update()
                    now = time.perf_counter()
                    run.count(terms, now - clock)
                    progress.show(run.t, head, run.means())
                    if checkpoint and (interrupted or now - saved >= every):
                        save(checkpoint, model, optimizer, rng, position=vars(run), config=config, ema=ema)
                        saved = now
                    if interrupted:
                        raise KeyboardInterrupt(f"stopped after step {run.t}; {checkpoint} has it: go on with resume")
                row = {"epoch": run.epoch, "seconds": run.seconds, **run.means()}
                run.finish(row | ((on_epoch(run.epoch) if on_epoch else None) or {}))
                if checkpoint:
                    save(checkpoint, model, optimizer, rng, position=vars(run), config=config, ema=ema)
                    saved = time.perf_counter()
                if history:
                    write_csv(history, run.rows)
                progress.line(head, run.rows[-1])
    finally:
        progress.close()
    return run.rows


def _step(model, batch, optimizer, rng, t, checkpoint):
    """Step t; returns the terms of its loss."""
    state, seen = rng.bit_generator.state, {}
    model.on_step(t)
    for player, loss, terms in model.objectives(batch, rng):
        if not math.isfinite(loss.item()):
            raise FloatingPointError(_blame(model, batch, rng, state, t, checkpoint))
        turn = optimizer[player] if player else optimizer
        turn.zero_grad()
        loss.backward()
        turn.step()
        seen |= terms
    return seen


def _blame(model, batch, rng, state, t, checkpoint):
    """What to say of a loss that is not finite: the step is run again, with the same draws, to find the op."""
    rng.bit_generator.state = state
    try:
        with detect_nan():
            for _ in model.objectives(batch, rng):
                pass
        found = "every op was finite when the step was run again"
    except FloatingPointError as error:
        found = str(error)
    last = f"; {checkpoint} is the last good checkpoint" if checkpoint and Path(checkpoint).exists() else ""
    return f"the loss is not finite at step {t}: {found}{last}"


class Position:
    """Where a run is: what a checkpoint holds beside the weights. All of JSON's types."""

    def __init__(self, size, epoch=1, done=0, t=0, seconds=0.0, start=None, sums=None, rows=None):
        self.size = size                                                           # examples, and those in a batch
        self.epoch, self.done, self.t, self.seconds = epoch, done, t, seconds      # epoch, batches of it done, steps
        self.start, self.sums, self.rows = start, sums or {}, rows or []           # its first random state, its sums

    def moved(self, position, batches, rng):
        """A new run at the position of a checkpoint. Raises an error unless one of so many batches can be there."""
        to, kinds = Position(**position), {name: type(v) for name, v in vars(self).items() if v is not None}
        if to.size != self.size:
            raise ValueError("is of {} examples in batches of {}, not of {} in batches of {}".format(*to.size,
                                                                                                     *self.size))
        if not (all(isinstance(vars(to)[name], kind) for name, kind in kinds.items())
                and all(isinstance(row, dict) for row in to.rows)
                and all(isinstance(total, float) for total in to.sums.values())
                and to.epoch == len(to.rows) + 1 and to.t == len(to.rows) * batches + to.done
                and 0 <= to.done <= batches and (to.start is None) == (to.done == 0)):
            raise ValueError("is damaged: no run can be in its position")
        if to.start is not None:
            type(rng.bit_generator)().state = to.start             # which checks it
        return to

    def order(self, batches, rng):
        """The order of this epoch: drawn now, or, after a resume, drawn again as it was."""
        if self.start is None:
            self.start = rng.bit_generator.state
            return batches.order(rng)
        now, rng.bit_generator.state = rng.bit_generator.state, self.start
        order = batches.order(rng)
        rng.bit_generator.state = now
        return order

    def count(self, terms, seconds):
        """One step more."""
        self.t, self.done, self.seconds = self.t + 1, self.done + 1, self.seconds + seconds
        for name, value in terms.items():
            self.sums[name] = self.sums.get(name, 0.0) + float(value)

    def means(self):
        """The mean of each term over the epoch so far."""
        return {name: total / self.done for name, total in self.sums.items()}

    def finish(self, row):
        """The epoch is over, and this is its row."""
        self.rows.append({k: v if isinstance(v, (str, int)) else float(v) for k, v in row.items()})
        self.epoch, self.done, self.seconds, self.start, self.sums = self.epoch + 1, 0, 0.0, None, {}


@contextmanager
def _interrupts(catch):
    """A list that the first Ctrl-C or SIGTERM makes true, so that the step under way can end; the next interrupts."""
    interrupted = []

    def handler(number, frame):
        if interrupted:
            raise KeyboardInterrupt
        interrupted.append(True)

    if not catch or threading.current_thread() is not threading.main_thread():
        yield interrupted
        return
    before = {s: signal.signal(s, handler) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield interrupted
    finally:
        for s, old in before.items():
            signal.signal(s, old)


@no_grad()
def evaluate(model: Model, data: np.ndarray, rng: np.random.Generator, rows: int = 1000) -> dict[str, float]:
    """The mean over `data` (N, D) of what `model.loss` reports, `rows` examples at a time."""
    parts = [data[i:i + rows] for i in range(0, max(1, len(data)), rows)]
    training = model.training
    model.eval()
    try:
        terms = [model.loss(part, rng)[1] for part in parts]
    finally:
        model.train(training)
    return {k: float(np.average([t[k] for t in terms], weights=list(map(len, parts)))) for k in terms[0]}


def write_csv(path: str | Path, rows: list[dict]):
    """Write rows, with all the columns that any has."""
    with atomic(path, "w", newline="") as file:
        writer = csv.DictWriter(file, list(dict.fromkeys(name for row in rows for name in row)))
        writer.writeheader()
        writer.writerows({k: f"{v:.6g}" if isinstance(v, float) else v for k, v in row.items()} for row in rows)


class Progress:
    """How far a long run is: a live line on stderr if that is a terminal, and lines on stdout that stay."""

    def __init__(self, total: int, done: int = 0, every: float = 0.1):
        self.total, self.begun, self.every, self.live = total, done, every, sys.stderr.isatty()
        self.start = self.last = time.perf_counter()

    def show(self, done: int, head: str, terms: dict):
        """Redraw the live line, if there is one and it is time to."""
        now = time.perf_counter()
        if self.live and now - self.last >= self.every:
            self.last, left = now, (now - self.start) / (done - self.begun) * (self.total - done)
            self._live(f"{head}  {done / self.total:4.0%}  {left // 60:.0f}:{left % 60:02.0f} left  {_terms(terms)}")

    def line(self, head: str, terms: dict):
        """Print a line that stays."""
        self.close()
        print(f"{head}  {_terms(terms)}", flush=True)

    def close(self):
        """Clear the live line."""
        if self.live:
            self._live("")

    def _live(self, text):
        width = shutil.get_terminal_size().columns
        print(f"\r\033[K{text[:width - 1]}", end="", file=sys.stderr, flush=True)


def _terms(terms):
    return "  ".join(f"{name} {value:.2f}" for name, value in terms.items() if name != "epoch")
