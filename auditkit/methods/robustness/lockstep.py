"""Many one-row searches as one: each runs in a thread of its own, and their questions are answered in batches.

A library that attacks row after row asks the model thousands of times about a point or two. Here exactly one search
runs at a time, in a fixed order, until it asks; when all have asked, one batch answers them all. The order of
draws from any global generator is therefore the same at every run.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

import numpy as np

from auditkit.methods.robustness.feasible import FloatArray
from auditkit.methods.robustness.rescore import Decide, IntArray

Search = Callable[[Decide], None]


class _Stopped(BaseException):
    """Unwinds a search when the run stops; not an Exception, so that a search cannot swallow it."""


class _Searcher(threading.Thread):
    """One search; ``proceed`` hands it the turn and returns when it asks or ends."""

    def __init__(self, search: Search) -> None:
        super().__init__(daemon=True)
        self.search = search
        self.mine, self.theirs = threading.Semaphore(0), threading.Semaphore(0)
        self.question: FloatArray | None = None
        self.reply: IntArray = np.zeros(0, dtype=np.int64)
        self.fault: Exception | None = None
        self.stopped = False

    def run(self) -> None:
        """Wait for the first turn, then search to the end."""
        self.mine.acquire()
        try:
            if not self.stopped:
                self.search(self._ask)
        except _Stopped:
            pass
        except Exception as error:
            self.fault = error
        finally:
            self.question = None
            self.theirs.release()

    def proceed(self) -> None:
        self.mine.release()
        self.theirs.acquire()

    def _ask(self, points: FloatArray) -> IntArray:
        self.question = points
        self.theirs.release()
        self.mine.acquire()
        if self.stopped:
            raise _Stopped
        return self.reply


def in_lockstep(searches: Sequence[Search], decide: Decide, tick: Callable[[], None] | None = None) -> None:
    """Run ``searches`` to their ends, answering all that ask in one call of ``decide``.

    Args:
        searches: Each is called with an ``ask``: ``(m, f)`` points -> ``(m,)`` decisions.
        decide: The model, on all points asked about at once.
        tick: Called after each batch; may raise to stop.

    Raises:
        Exception: The first fault of a search, of ``decide`` or of ``tick``; every search has ended by then.

    >>> seen = []
    >>> double = lambda ask: seen.append(ask(np.ones((2, 1))).tolist())
    >>> in_lockstep([double, double], lambda points: np.arange(len(points)))
    >>> seen
    [[0, 1], [2, 3]]
    """
    searchers = [_Searcher(search) for search in searches]
    for searcher in searchers:
        searcher.start()
    try:
        for searcher in searchers:
            searcher.proceed()
        while True:
            asking = [searcher for searcher in searchers if searcher.question is not None]
            if not asking:
                break
            questions = [searcher.question for searcher in asking if searcher.question is not None]
            answers = decide(np.concatenate(questions))
            ends = np.cumsum([len(question) for question in questions])[:-1]
            for searcher, reply in zip(asking, np.split(answers, ends), strict=True):
                searcher.reply = reply
                searcher.proceed()
            if tick is not None:
                tick()
    finally:
        for searcher in searchers:
            if searcher.is_alive() and (searcher.question is not None or not searcher.ident):
                searcher.stopped = True
                searcher.proceed()
        for searcher in searchers:
            searcher.stopped = True
            searcher.mine.release()
            searcher.join()
    for searcher in searchers:
        if searcher.fault is not None:
            raise searcher.fault
