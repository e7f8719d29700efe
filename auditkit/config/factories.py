"""``module:function`` references of a configuration. The code that they name is trusted: it is run."""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from auditkit.core.errors import AuditkitError, UsageError
from auditkit.core.registry import nearest

# A module of one letter is not taken for one: C:file is a path.
_REFERENCE = re.compile(r"^([A-Za-z_][A-Za-z0-9_]+(?:\.[A-Za-z_][A-Za-z0-9_]*)*):([A-Za-z_][A-Za-z0-9_]*)$")


def is_reference(text: str) -> bool:
    """Whether ``text`` names a function rather than a file.

    >>> is_reference("model:build"), is_reference("data/test.csv"), is_reference("C:test")
    (True, False, False)
    """
    return _REFERENCE.match(text) is not None


def call_factory(reference: str, folder: Path, *, where: str) -> Any:
    """Import ``module:function`` and call the function without arguments.

    The folder of the configuration is on ``sys.path`` only while the function's module is imported and while
    the function runs; a module of the same name from another folder is not mistaken for it.

    Args:
        reference: ``module:function``.
        folder: The configuration's folder.
        where: File and line for errors.

    Raises:
        UsageError: AK136 not a reference, no such module or function.
        AuditkitError: AK137 the module or the function raised.
    """
    match = _REFERENCE.match(reference)
    if match is None:
        raise UsageError("AK136", f"{reference!r} is not a function", where=where, fix='write it as "module:function"')
    name, attribute = match.groups()
    with _on_path(folder):
        module = _module(name, folder, where)
        function = getattr(module, attribute, None)
        if not callable(function):
            raise UsageError(
                "AK136",
                f"module {name!r} has no function {attribute!r}",
                where=where,
                fix=nearest(attribute, vars(module)) or "name a function of that module",
            )
        try:
            return function()
        except AuditkitError:
            raise
        except (Exception, SystemExit) as error:
            raise _raised(f"the factory {reference!r} raised", error, where) from error


def _module(name: str, folder: Path, where: str) -> ModuleType:
    top = name.partition(".")[0]
    local = (folder / f"{top}.py").exists() or (folder / top / "__init__.py").exists()
    known = sys.modules.get(top)
    if local and known is not None and not _inside(known, folder):
        for loaded in [key for key in sys.modules if key == top or key.startswith(f"{top}.")]:
            del sys.modules[loaded]
    importlib.invalidate_caches()
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
            raise UsageError(
                "AK136",
                f"there is no module {name!r}",
                where=where,
                why="looked in the configuration's folder and among the installed packages",
                fix=f"write {name.replace('.', '/')}.py beside the configuration, or install the package",
            ) from error
        raise _raised(f"module {name!r} cannot be imported", error, where) from error
    except (Exception, SystemExit) as error:
        raise _raised(f"module {name!r} cannot be imported", error, where) from error


def _inside(module: ModuleType, folder: Path) -> bool:
    file = getattr(module, "__file__", None)
    return file is not None and Path(file).resolve().is_relative_to(folder.resolve())


def _raised(what: str, error: Exception | SystemExit, where: str) -> AuditkitError:
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    place = f", {Path(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno}" if trace else ""
    return AuditkitError(
        "AK137",
        what,
        where=where + place,
        why=f"{type(error).__name__}: {str(error)[:500]}",
        fix="mend that code; --debug shows the whole traceback",
    )


@contextmanager
def _on_path(folder: Path) -> Iterator[None]:
    entry = str(folder)
    sys.path.insert(0, entry)
    try:
        yield
    finally:
        if entry in sys.path:
            sys.path.remove(entry)
