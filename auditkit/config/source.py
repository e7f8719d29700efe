"""One split of the data as named columns, whatever it came from: a file, an npz archive or a function."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from auditkit.config.factories import call_factory, is_reference
from auditkit.config.load import project_root
from auditkit.core.errors import UsageError
from auditkit.core.registry import nearest

if TYPE_CHECKING:
    import pandas as pd

    from auditkit.config.model import Config


@dataclass(frozen=True)
class Source:
    """Columns of one split: a DataFrame, or arrays by name.

    Attributes:
        columns: What was read.
        where: Where from: a file or a function.
        part: What errors call one of them.
    """

    columns: pd.DataFrame | Mapping[str, Any]
    where: str
    part: Literal["column", "array"] = "column"

    @property
    def is_table(self) -> bool:
        """Whether this is a table rather than arrays."""
        return hasattr(self.columns, "iloc")

    @property
    def names(self) -> list[str]:
        """Column or array names."""
        return [str(name) for name in self.columns]

    def column(self, name: str, *, where: str) -> Any:
        """One column.

        Raises:
            UsageError: AK135 it is not there (the nearest is named), or is there twice.
        """
        count = self.names.count(name)
        if count == 1:
            return self.columns[name]
        if count > 1:
            raise UsageError("AK135", f"{count} columns are named {name!r}", where=where, fix="rename all but one")
        shown = ", ".join(self.names[:12]) + (", ..." if len(self.names) > 12 else "")
        raise UsageError(
            "AK135",
            f"there is no {self.part} {name!r}",
            where=where,
            why=f"{self.where} has {shown or 'none'}",
            fix=nearest(name, self.names) or f"name one of its {self.part}s",
        )


def read_source(config: Config, key: str, value: str, allowed: tuple[Path, ...] = ()) -> Source:
    """Read one split.

    Args:
        config: The configuration.
        key: ``test`` or ``train``, for errors.
        value: A file under the project, or ``module:function``.
        allowed: Further folders that files may be in.

    Raises:
        UsageError: AK133 outside the project, AK134 no such file, AK136 to AK138 not a table or arrays; and the errors
            of ``subjects.files``.
    """
    where = config.where("data", key)
    if is_reference(value) and not (config.root / value).exists():
        made = call_factory(value, config.root, where=where)
        if hasattr(made, "iloc") and hasattr(made, "columns"):
            return Source(made, value)
        if isinstance(made, Mapping):
            return Source({str(name): np.asarray(array) for name, array in made.items()}, value, "array")
        raise UsageError(
            "AK138",
            f"{value!r} returned {type(made).__name__}, not a table",
            where=where,
            fix="return a DataFrame, or a mapping of arrays",
        )
    path = resolve_path(config, value, where=where, allowed=allowed)
    from auditkit.subjects.files import read_arrays, read_columns, read_table

    if path.suffix.lower() == ".npz":
        return Source(read_arrays(path), path.name, "array")
    return Source(read_columns(path) if config.model is None else read_table(path), path.name)


def resolve_path(config: Config, value: str, *, where: str, allowed: tuple[Path, ...] = ()) -> Path:
    """The file that ``value`` names, relative to the configuration; links are followed first.

    Raises:
        UsageError: AK133 it is not under the project root, AK134 there is no such file, or it is a folder.
    """
    if "://" in value:
        raise UsageError("AK133", f"{value!r} is an address, not a file", where=where, fix="download the file first")
    path = (config.root / value).resolve()
    roots = (project_root(config.path), *(folder.resolve() for folder in allowed))
    if not any(path.is_relative_to(root) for root in roots):
        raise UsageError(
            "AK133",
            f"{value!r} lies outside the project",
            where=where,
            why=f"files must stay under the folder {roots[0].name!r}",
            fix=f"move the file there, or allow its folder: --allow-path {path.parent}",
        )
    if path.is_dir():
        raise UsageError(
            "AK134",
            f"{value!r} is a folder, not a file",
            where=where,
            fix="name the file, such as one inside the folder",
        )
    if not path.is_file():
        beside = [item.name for item in path.parent.iterdir()] if path.parent.is_dir() else []
        raise UsageError(
            "AK134",
            f"there is no file {value!r}",
            where=where,
            fix=nearest(path.name, beside) or "paths are relative to the configuration file",
        )
    return path
