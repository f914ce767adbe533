"""Training: what a model must offer, and the one loop that serves all."""
import csv
import math
import shutil
import sys
import time
from pathlib import Path
from typing import Callable

import numpy as np

from autograd import no_grad
from autograd.nn import Module
from autograd.optim import Optimizer

from .files import atomic


class Model(Module):
    """A Module that can be trained: `loss(batch, rng)` returns a scalar Tensor and a dict of floats to report."""

    def loss(self, batch, rng: np.random.Generator):
        raise NotImplementedError(f"{type(self).__name__} must define loss(batch, rng)")

    def on_step(self, t: int):
        """Called before step t = 1, 2, ...: the place for what changes with time."""


def fit(model: Model, batches: Callable, *, epochs: int, optimizer: Optimizer, rng: np.random.Generator,
        on_epoch: Callable[[int], dict] | None = None, history: str | Path | None = None) -> list[dict]:
    """Train `model` on `batches(rng)` for `epochs` epochs; returns a row for each: epoch, seconds, mean terms.

    on_epoch  called after each epoch with its number; the dict that it returns joins the row
    history   a CSV file to hold the rows, rewritten whole after each epoch

    Shows a live line of progress on a terminal, and prints one line an epoch. Raises FloatingPointError, naming
    the step, when the loss is no longer finite.
    """
    if epochs < 1:
        raise ValueError(f"epochs must be at least 1, not {epochs}")
    rows, t, progress = [], 0, Progress(epochs * len(batches))
    try:
        for epoch in range(1, epochs + 1):
            start, sums, n = time.perf_counter(), {}, 0
            for batch in batches(rng):
                t += 1
                model.on_step(t)
                loss, terms = model.loss(batch, rng)
                if not math.isfinite(loss.item()):
                    raise FloatingPointError(f"the loss is {loss.item()} at step {t}: autograd.detect_nan() finds the op")
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                n += 1
                for name, value in terms.items():
                    sums[name] = sums.get(name, 0.0) + value
                progress.show(t, f"epoch {epoch}/{epochs}", {name: total / n for name, total in sums.items()})
            row = {"epoch": epoch, "seconds": time.perf_counter() - start} | {k: v / n for k, v in sums.items()}
            if on_epoch:
                row |= on_epoch(epoch) or {}
            rows.append(row)
            progress.line(f"epoch {epoch}/{epochs}", row)
            if history:
                write_csv(history, rows)
    finally:
        progress.close()
    return rows


@no_grad()
def evaluate(model: Model, data: np.ndarray, rng: np.random.Generator, rows: int = 1000) -> dict[str, float]:
    """The mean over `data` (N, D) of what `model.loss` reports, `rows` examples at a time."""
    parts = [data[i:i + rows] for i in range(0, len(data), rows)]
    terms = [model.loss(part, rng)[1] for part in parts]
    return {k: float(np.average([t[k] for t in terms], weights=list(map(len, parts)))) for k in terms[0]}


def write_csv(path: str | Path, rows: list[dict]):
    """Write rows, with the columns of the first."""
    with atomic(path, "w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows({k: f"{v:.6g}" if isinstance(v, float) else v for k, v in row.items()} for row in rows)


class Progress:
    """How far a long run is: a live line on stderr if that is a terminal, and lines on stdout that stay."""

    def __init__(self, total: int, every: float = 0.1):
        self.total, self.every, self.live = total, every, sys.stderr.isatty()
        self.start = self.last = time.perf_counter()

    def show(self, done: int, head: str, terms: dict):
        """Redraw the live line, if there is one and it is time to."""
        now = time.perf_counter()
        if self.live and now - self.last >= self.every:
            self.last, left = now, (now - self.start) / done * (self.total - done)
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
