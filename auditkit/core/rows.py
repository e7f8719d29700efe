"""The private record of rows: label, decision and groups of each row of an audit, in a file beside its evidence.

It is written only when it is asked for, never shown, never embedded. Two such records of the same rows let a change be
tested on pairs; what leaves them is sums alone.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from auditkit.core.errors import EvidenceError

ROWS_FILE = "rows.npz"
_VERSION = 1

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class RowsRecord:
    """Rows of one audit of classes, in the order of its data.

    Attributes:
        fingerprint: The content hash of the test data, as in the evidence.
        y: ``(n,)`` class codes of the labels.
        decided: ``(n,)`` class codes of the model's decisions.
        groups: Sensitive column -> ``(n,)`` names.
        weights: ``(n,)`` or ``None``.
        clusters: ``(n,)`` codes or ``None``.
    """

    fingerprint: str
    y: IntArray
    decided: IntArray
    groups: Mapping[str, npt.NDArray[np.str_]]
    weights: FloatArray | None = None
    clusters: IntArray | None = None

    def __len__(self) -> int:
        return len(self.y)


def rows_bytes(record: RowsRecord) -> bytes:
    """The file's content: a zip of plain arrays, the same bytes for the same record."""
    arrays: dict[str, npt.NDArray[np.generic]] = {
        "version": np.array(_VERSION),
        "fingerprint": np.array(record.fingerprint),
        "y": record.y.astype(np.int32),
        "decided": record.decided.astype(np.int32),
        "columns": np.array(list(record.groups), dtype=np.str_),
    }
    for index, values in enumerate(record.groups.values()):
        names, codes = np.unique(np.asarray(values).astype(np.str_), return_inverse=True)
        arrays[f"names_{index}"], arrays[f"codes_{index}"] = names, codes.astype(np.int32)
    if record.weights is not None:
        arrays["weights"] = record.weights
    if record.clusters is not None:
        arrays["clusters"] = record.clusters
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, array in arrays.items():
            part = io.BytesIO()
            np.lib.format.write_array(part, np.asarray(array, order="C"), allow_pickle=False)
            entry = zipfile.ZipInfo(f"{name}.npy", date_time=(1980, 1, 1, 0, 0, 0))
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, part.getvalue())
    return out.getvalue()


def read_rows(path: Path) -> RowsRecord:
    """The record in ``path``; nothing in it is ever unpickled.

    Raises:
        EvidenceError: AK256 when it cannot be read, or is not such a record.
    """
    try:
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as archive:
            found = {name: archive[name] for name in archive.files}
        if int(found["version"]) != _VERSION:
            raise ValueError(f"version {int(found['version'])}, and this release reads {_VERSION}")
        y, decided = found["y"].astype(np.int64), found["decided"].astype(np.int64)
        groups = {
            str(column): found[f"names_{index}"][found[f"codes_{index}"]]
            for index, column in enumerate(found["columns"].tolist())
        }
        weights, clusters = found.get("weights"), found.get("clusters")
        lengths = {len(part) for part in (y, decided, weights, clusters, *groups.values()) if part is not None}
        if y.ndim != 1 or len(lengths) != 1:
            raise ValueError("its columns differ in length")
    except (OSError, ValueError, KeyError, IndexError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise EvidenceError(
            "AK256",
            "the record of rows cannot be read",
            where=path.name,
            why=(error.strerror or "") if isinstance(error, OSError) else str(error)[:200],
            fix="run the audit again with [run] keep_rows = true, or remove the file",
        ) from error
    return RowsRecord(
        fingerprint=str(found["fingerprint"]), y=y, decided=decided, groups=groups, weights=weights, clusters=clusters
    )
