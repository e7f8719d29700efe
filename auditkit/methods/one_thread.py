"""Small fits of scikit-learn on one thread."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def one_openmp_thread() -> Iterator[None]:
    """One OpenMP thread inside, and as many as before afterwards.

    A fit to a few thousand rows gains next to nothing from more, and where other programs use the cores the threads
    wait for each other: joint models of 3,000 rows took 20 to 105 seconds in place of one. The trees are the same.
    """
    from threadpoolctl import threadpool_limits

    with threadpool_limits(limits=1, user_api="openmp"):
        yield
