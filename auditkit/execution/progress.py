"""Progress for people: a bar with a rate and an end on a terminal, plain lines in a log."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from auditkit.core.evidence import Outcome

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, TaskID

HEARTBEAT_SECONDS = 10.0
MARKS = {"measured": "done", "not_applicable": "not applicable", "skipped": "SKIPPED", "failed": "FAILED"}


class LogProgress:
    """One line when an analyzer starts, at most one each ten seconds while it works, one when it ends."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self._begun = 0.0
        self._spoken = 0.0

    def start(self, name: str, index: int, total: int) -> None:
        """Announce an analyzer."""
        self._begun = self._spoken = time.monotonic()
        self.console.print(f"[{index + 1}/{total}] {name} ...", markup=False, highlight=False)

    def advance(self, name: str, done: int, total: int) -> None:
        """Say where it stands, with a rate and the time left."""
        now = time.monotonic()
        if now - self._spoken < HEARTBEAT_SECONDS or done <= 0:
            return
        self._spoken = now
        rate = done / max(now - self._begun, 1e-9)
        left = (total - done) / rate
        line = f"      {name}: {done:,}/{total:,}, {spoken(rate)} a second, about {left:.0f} s left"
        self.console.print(line, markup=False, highlight=False)

    def finish(self, name: str, outcome: Outcome, seconds: float, resumed: bool) -> None:
        """Say how it ended."""
        self.console.print(f"      {ending(outcome, seconds, resumed)}", markup=False, highlight=False)


class BarProgress:
    """A live bar on a terminal; finished analyzers stay above it."""

    def __init__(self, console: Console) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
        from rich.progress import TimeRemainingColumn as Remaining

        self.console = console
        self._progress: Progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            Remaining(),
            console=console,
            transient=True,
        )
        self._task: TaskID | None = None
        self._begun = 0.0

    def start(self, name: str, index: int, total: int) -> None:
        """Show the bar of one analyzer."""
        if index == 0:
            self._progress.start()
        self._begun = time.monotonic()
        self._task = self._progress.add_task(f"[{index + 1}/{total}] {name}", total=None, rate="")

    def advance(self, name: str, done: int, total: int) -> None:
        """Move the bar."""
        if self._task is not None:
            rate = done / max(time.monotonic() - self._begun, 1e-9)
            self._progress.update(self._task, completed=done, total=total, rate=f"{spoken(rate)}/s")

    def finish(self, name: str, outcome: Outcome, seconds: float, resumed: bool) -> None:
        """Leave one line about it."""
        if self._task is not None:
            self._progress.remove_task(self._task)
            self._task = None
        line = f"{name}: {ending(outcome, seconds, resumed)}"
        self.console.print(line, markup=False, highlight=False)

    def close(self) -> None:
        """Take the bar away."""
        self._progress.stop()


def spoken(rate: float) -> str:
    """A rate to three digits, never with an exponent.

    >>> spoken(31234.5), spoken(0.1234), spoken(12.34)
    ('31,200', '0.123', '12.3')
    """
    return f"{float(f'{rate:.3g}'):,.0f}" if rate >= 100 else f"{rate:.3g}"


def ending(outcome: Outcome, seconds: float, resumed: bool) -> str:
    """How an analyzer ended, in a few words."""
    mark = MARKS[outcome.status]
    if outcome.status == "measured":
        again = ", kept from the earlier run" if resumed else f" in {seconds:.1f} s"
        return f"{mark}{again} ({len(outcome.measurements)} numbers)"
    if outcome.status == "not_applicable":
        return f"{mark}: {_first_need(outcome.reason or '')}"
    return f"{mark}: {outcome.reason}"


def _first_need(reason: str) -> str:
    """What is lacking first; the card tells the rest, which is much the same for many analyzers.

    >>> _first_need("needs inputs: there are none; needs model: there is none; needs text: it is a table")
    'needs inputs: there are none (and 2 more)'
    """
    first, *others = reason.split("; needs ")
    return f"{first} (and {len(others)} more)" if others else first


def console_sink(console: Console) -> LogProgress | BarProgress:
    """The bar on a terminal, the lines elsewhere."""
    return BarProgress(console) if console.is_terminal else LogProgress(console)
