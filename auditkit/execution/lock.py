"""One writer per output folder. The operating system frees the lock when the process ends, however it ends."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from auditkit.core.errors import UsageError
from auditkit.execution.checkpoint import FOLDER


@contextlib.contextmanager
def output_lock(out: Path) -> Iterator[None]:
    """Hold ``out/.auditkit/lock`` for the length of the block.

    Raises:
        UsageError: AK302 the folder cannot be written, AK303 another process writes there.
    """
    folder = out / FOLDER
    try:
        folder.mkdir(parents=True, exist_ok=True)
        stream = (folder / "lock").open("a+b")
    except OSError as error:
        raise UsageError(
            "AK302",
            f"cannot write to the output folder {out.name!r}",
            why=error.strerror or type(error).__name__,
            fix="choose another folder with --out, or mend its permissions",
        ) from error
    with stream:
        if not _try_lock(stream):
            raise UsageError(
                "AK303",
                f"another auditkit process is writing to {out.name!r}",
                fix="wait until it has finished, or choose another folder with --out",
            )
        try:
            yield
        finally:
            _unlock(stream)


if sys.platform == "win32":
    import msvcrt

    def _try_lock(stream: IO[bytes]) -> bool:
        try:
            stream.seek(0)
            msvcrt.locking(stream.fileno(), msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True

    def _unlock(stream: IO[bytes]) -> None:
        stream.seek(0)
        msvcrt.locking(stream.fileno(), msvcrt.LK_UNLCK, 1)

else:
    import fcntl

    def _try_lock(stream: IO[bytes]) -> bool:
        try:
            fcntl.flock(stream.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        return True

    def _unlock(stream: IO[bytes]) -> None:
        fcntl.flock(stream.fileno(), fcntl.LOCK_UN)
