"""Data files: CSV and Parquet through DuckDB, image arrays from npz. Nothing is fetched, nothing unpickled."""

from __future__ import annotations

import contextlib
import stat
import warnings
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from auditkit.core.errors import LoadError
from auditkit.core.registry import nearest

if TYPE_CHECKING:
    import duckdb
    import pandas as pd

CSV_SUFFIXES = (".csv", ".tsv", ".txt", ".csv.gz", ".tsv.gz", ".csv.zst", ".tsv.zst")
PARQUET_SUFFIXES = (".parquet", ".pq")
MAX_ARRAY_BYTES = 8 * 2**30
_OTHER_ENCODING = "save it again as UTF-8 text (spreadsheets call it CSV UTF-8); a file that is not text is no CSV"
# What DuckDB calls Ctrl-C.
_INTERRUPTED = "Query interrupted"
_WRONG_TYPES = ("BLOB", "STRUCT", "MAP", "UNION", "TIME", "BIT", "VARIANT", "GEOMETRY")
_INTEGERS = frozenset(f"{sign}{size}" for sign in ("", "U") for size in ("TINYINT", "SMALLINT", "INTEGER", "BIGINT"))
_PLAIN = _INTEGERS | {"BOOLEAN", "FLOAT", "DOUBLE", "VARCHAR"}


def read_table(
    path: str | Path, *, columns: Sequence[str] | None = None, types: Mapping[str, str] | None = None
) -> pd.DataFrame:
    """A CSV (with a header line) or Parquet file as a DataFrame.

    Whole numbers with gaps become floats with NaN, true/false with gaps the nullable boolean; numbers with
    leading zeros stay strings; dates become datetimes. The type of a CSV column rests on all of its rows.

    Args:
        path: An existing file; by its suffix CSV, TSV (also ``.gz``, ``.zst``) or Parquet.
        columns: The columns to read, in this order; all when left out.
        types: Column -> DuckDB type for CSV columns, e.g. ``{"zip": "VARCHAR"}``.

    Raises:
        LoadError: AK207 duplicate column names, AK230 no such file, AK231 unreadable, AK232 a column that is
            not there, AK233 a column of lists, bytes or structures.
    """
    path = existing_file(path)
    with _queried(path, types) as (cursor, kinds):
        frame = _frame(cursor, kinds)
    if columns is not None:
        lacking = [column for column in columns if column not in kinds]
        if lacking:
            raise LoadError(
                "AK232",
                f"there is no column {lacking[0]!r}",
                where=path.name,
                fix=nearest(lacking[0], list(kinds)) or f"columns are {', '.join(map(repr, list(kinds)[:20]))}",
            )
        frame = frame[list(columns)]
    _refuse_wrong({name: kinds[name] for name in frame.columns}, path)
    return _plain_dtypes(frame, kinds)


def read_columns(path: str | Path) -> pd.DataFrame | dict[str, npt.NDArray[Any]]:
    """The columns of :func:`read_table` as arrays by name, read without pandas, where all are plain.

    Plain are numbers, truth values and strings. Whole numbers with gaps become floats with NaN, true/false and
    strings with gaps objects with ``None``. With a column of any other type the DataFrame is returned.

    Raises:
        LoadError: As :func:`read_table`.
    """
    path = existing_file(path)
    with _queried(path, None) as (cursor, kinds):
        if not _PLAIN.issuperset(kinds.values()):
            frame = _frame(cursor, kinds)
        else:
            found = zip(kinds, cursor.fetchnumpy().values(), strict=True)
            return {name: _filled(values) for name, values in found}
    _refuse_wrong(kinds, path)
    return _plain_dtypes(frame, kinds)


def without_rows(message: str) -> str:
    """What the reader says is wrong, on one line, without the line of the file that it quotes or its own options."""
    kept = []
    for line in (part.strip() for part in message.splitlines()):
        if line.startswith(("Possible", "*")):
            break
        if not line.startswith("Original Line"):
            kept.append(line)
    return " ".join(" ".join(kept).split())[:300]


def read_arrays(path: str | Path, *, max_bytes: int = MAX_ARRAY_BYTES) -> dict[str, npt.NDArray[Any]]:
    """The arrays of an ``.npz`` file by name; pickled objects inside are refused.

    Raises:
        LoadError: AK230 no such file, AK234 not an npz, or one that holds objects, AK243 too large unpacked.
    """
    path = existing_file(path)
    try:
        with zipfile.ZipFile(path) as archive:
            total = sum(item.file_size for item in archive.infolist())
    except (zipfile.BadZipFile, OSError) as error:
        raise LoadError(
            "AK234",
            f"{path.name!r} is not an npz file",
            where=path.name,
            why=str(error),
            fix="save the arrays with numpy.savez",
        ) from error
    if total > max_bytes:
        raise LoadError(
            "AK243", f"{path.name!r} unpacks to {total} bytes; at most {max_bytes} are read", where=path.name
        )
    try:
        with np.load(path, allow_pickle=False) as stored:
            return {name: stored[name] for name in stored.files}
    except Exception as error:
        raise LoadError(
            "AK234",
            f"{path.name!r} cannot be read as plain arrays",
            where=path.name,
            why=" ".join(str(error).split())[:200],
            fix="save it with numpy.savez from numeric arrays",
        ) from error


def existing_file(path: str | Path) -> Path:
    """The path of a regular file (links are followed).

    Raises:
        LoadError: AK230 a URL, no such file, or something that is not a file.
    """
    if "://" in str(path):
        raise LoadError(
            "AK230", "addresses are not opened, only files", where=str(path)[:200], fix="download the file first"
        )
    path = Path(path)
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError) as error:
        beside = [item.name for item in path.parent.iterdir()] if path.parent.is_dir() else []
        raise LoadError(
            "AK230", f"there is no file {path.name!r}", where=str(path), fix=nearest(path.name, beside)
        ) from error
    if not stat.S_ISREG(mode):
        raise LoadError("AK230", f"{path.name!r} is not a regular file", where=str(path), fix="give a file")
    return path


@contextlib.contextmanager
def _queried(path: Path, types: Mapping[str, str] | None) -> Iterator[tuple[duckdb.DuckDBPyConnection, dict[str, str]]]:
    """The rows of a table, still to be fetched, and the type of each column by its name as written.

    Raises:
        LoadError: AK207, AK231, AK232 as :func:`read_table`.
    """
    name = path.name.lower()
    read = _read_csv if name.endswith(CSV_SUFFIXES) else _read_parquet if name.endswith(PARQUET_SUFFIXES) else None
    if read is None:
        raise LoadError(
            "AK231",
            f"{path.name!r} is not a kind of table that auditkit reads",
            where=path.name,
            fix="give a .csv, .tsv or .parquet file",
        )
    with opened_table(path, "look at the file: one header line, the same number of cells in each row") as connection:
        cursor, header = read(connection, literal_path(str(path.resolve())), types or {}, path.name)
        yield cursor, {column: str(told[1]) for column, told in zip(header, cursor.description, strict=True)}


def _refuse_wrong(kinds: Mapping[str, str], path: Path) -> None:
    for name, kind in kinds.items():
        if kind.endswith("]") or kind.split("(")[0].split(" ")[0] in _WRONG_TYPES:
            raise LoadError(
                "AK233",
                f"column {name!r} is of type {kind}, which is neither a number, a string nor a date",
                where=path.name,
                fix="leave it out with columns=, or flatten it",
            )


@contextlib.contextmanager
def opened_table(path: Path, fix: str, **settings: str) -> Iterator[duckdb.DuckDBPyConnection]:
    """A database that may read the file ``path`` alone; Ctrl-C is an interrupt in it, never a fault of the file.

    DuckDB tells of an interrupt as a plain error.

    Raises:
        LoadError: AK231 when the file cannot be read as a table; ``fix`` says what to do then.
    """
    import duckdb

    target = str(path.resolve())
    try:
        with closed_database(target, **settings) as connection:
            yield connection
    except (duckdb.InterruptException, RuntimeError) as error:
        if isinstance(error, duckdb.InterruptException) or str(error) == _INTERRUPTED:
            raise KeyboardInterrupt from error
        raise
    except duckdb.Error as error:
        raise LoadError(
            "AK231",
            f"{path.name!r} cannot be read as a table",
            where=path.name,
            why=without_rows(str(error).replace(target, path.name)),
            fix=_OTHER_ENCODING if "not utf-8" in str(error) else fix,
        ) from error


def closed_database(target: str, **settings: str) -> duckdb.DuckDBPyConnection:
    """An in-memory database that may read this one file and can load no extension; ``settings`` are DuckDB's own."""
    import duckdb

    connection = duckdb.connect(
        ":memory:",
        config={"autoinstall_known_extensions": False, "autoload_known_extensions": False, **settings},
    )
    paths = ", ".join(_text(path) for path in (target, literal_path(target)))
    connection.execute(f"SET allowed_paths = [{paths}]")
    connection.execute("SET enable_external_access = false")
    connection.execute("SET lock_configuration = true")
    return connection


def literal_path(path: str) -> str:
    """The path with DuckDB's wildcards taken literally."""
    return "".join(f"[{letter}]" if letter in "*?[" else letter for letter in path)


def _read_csv(
    connection: duckdb.DuckDBPyConnection, target: str, types: Mapping[str, str], name: str
) -> tuple[duckdb.DuckDBPyConnection, list[str]]:
    line = connection.execute(
        "SELECT * FROM read_csv(?, header = false, all_varchar = true, auto_detect = false, delim = chr(31), "
        "quote = '', escape = '', columns = {'line': 'VARCHAR'}, strict_mode = false, null_padding = true) LIMIT 1",
        [target],
    ).fetchone()
    if line is None or not line[0] or "\x00" in line[0]:
        raise LoadError(
            "AK231",
            f"{name!r} does not begin with a header line of column names",
            where=name,
            fix="save it as UTF-8 text with the column names in the first line",
        )
    options = ", delim = ?, quote = '\"', escape = '\"', comment = '', skip = 0"
    values = [target, _delimiter(line[0], name)]
    raw = connection.execute(
        f"SELECT * FROM read_csv(?, header = false, all_varchar = true{options}) LIMIT 1",  # noqa: S608 - bound values
        values,
    ).fetchone()
    # Only our own words and quoted literals enter the statement; the path and the delimiter are bound.
    query = f"SELECT * FROM read_csv(?, header = true, sample_size = -1{options})"  # noqa: S608
    cursor = connection.execute(query, values)
    header = _header(raw or (), [column[0] for column in cursor.description], name)
    unknown = [column for column in types if column not in header]
    if unknown:
        raise LoadError("AK232", f"there is no column {unknown[0]!r}", where=name, fix=nearest(unknown[0], header))
    given = [column[0] for column in cursor.description]
    words = _word_columns(connection, query, values, cursor.description)
    types = {**{header[given.index(column)]: "VARCHAR" for column in words}, **types}
    if types:
        wanted = ", ".join(f"{_text(given[header.index(column)])}: {_text(kind)}" for column, kind in types.items())
        cursor = connection.execute(f"{query[:-1]}, types = {{{wanted}}})", values)
    return cursor, header


def _word_columns(connection: duckdb.DuckDBPyConnection, query: str, values: Sequence[Any], columns: Any) -> list[str]:
    """Columns that DuckDB takes for boolean although they hold other words, such as yes and no: a model was
    fitted on the words.
    """
    booleans = [column[0] for column in columns if str(column[1]) == "BOOLEAN"]
    if not booleans:
        return []
    quoted = ['"' + column.replace('"', '""') + '"' for column in booleans]
    tests = ", ".join(f"bool_and(lower(trim({column})) IN ('true', 'false', ''))" for column in quoted)
    plain = query.replace("SELECT *", f"SELECT {tests}").replace("sample_size = -1", "all_varchar = true")
    answers = connection.cursor().execute(plain, list(values)).fetchone() or ()
    return [column for column, only in zip(booleans, answers, strict=False) if only is False]


def _read_parquet(
    connection: duckdb.DuckDBPyConnection, target: str, types: Mapping[str, str], name: str
) -> tuple[duckdb.DuckDBPyConnection, list[str]]:
    rows = connection.execute("SELECT name, num_children FROM parquet_schema(?)", [target]).fetchall()
    names = []
    inside = 0  # nodes still to come below the last top-level column
    for node, children in rows[1:]:
        if inside == 0:
            names.append(node)
        else:
            inside -= 1
        inside += children or 0
    cursor = connection.execute("SELECT * FROM read_parquet(?)", [target])
    return cursor, _header(names, [column[0] for column in cursor.description], name)


def _delimiter(line: str, name: str) -> str:
    """The separator of the header line: the one that occurs most outside quotes; a tab in a ``.tsv``.

    It is read off the header alone, so that a damaged row is an error and never another dialect.
    """
    if ".tsv" in name.lower():
        return "\t"
    bare = "".join(line.split('"')[::2])
    return max((",", ";", "\t", "|"), key=bare.count)


def _text(value: str) -> str:
    """A string literal of SQL."""
    return "'" + value.replace("'", "''") + "'"


def _header(raw: Sequence[Any], given: Sequence[str], name: str) -> list[str]:
    """Column names as written: DuckDB itself would rename ``A`` and ``a`` apart."""
    if len(raw) != len(given):
        return list(given)
    written = [
        str(cell).removeprefix("\ufeff") if cell else fallback for cell, fallback in zip(raw, given, strict=True)
    ]
    twice = sorted({column for column in written if written.count(column) > 1})
    if twice:
        raise LoadError(
            "AK207",
            f"two columns have the same name: {', '.join(map(repr, twice[:8]))}",
            where=name,
            fix="rename one of them in the file",
        )
    return written


def _frame(cursor: duckdb.DuckDBPyConnection, header: Iterable[str]) -> pd.DataFrame:
    import pandas as pd  # noqa: F401 - DuckDB imports it and would tell of an interrupt meanwhile as its own error

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # DuckDB's own conversion calls deprecated pandas options
        frame = cursor.df()
    frame.columns = list(header)
    return frame


def _filled(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The array with its gaps as NaN, or as ``None`` where it holds anything but numbers."""
    gaps, values = np.ma.getmaskarray(values), np.ma.getdata(values)
    if not gaps.any():
        return values
    numbers = values.dtype.kind in "iuf" or bool(gaps.all())
    if values.dtype.kind != "f":
        values = np.where(gaps, 0, values).astype(np.float64) if numbers else values.astype(object)
    return np.where(gaps, np.array(np.nan if numbers else None), values)


def _plain_dtypes(frame: pd.DataFrame, kinds: Mapping[str, str]) -> pd.DataFrame:
    """Nullable integers and empty columns as floats with NaN, as pandas itself reads them; UUIDs as strings."""
    import pandas as pd

    changed = {}
    for name, dtype in frame.dtypes.items():
        objects = pd.api.types.is_object_dtype(dtype)
        integers = pd.api.types.is_extension_array_dtype(dtype) and pd.api.types.is_integer_dtype(dtype)
        if integers or (objects and len(frame) and frame[name].isna().all()):
            changed[name] = frame[name].astype("float64")
        elif kinds[name] == "UUID":
            changed[name] = frame[name].map(str, na_action="ignore")
    return frame.assign(**changed) if changed else frame
