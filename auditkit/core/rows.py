"""The private record of rows: label, decision, scores and groups of each row, in a file beside the evidence.

It is written only when it is asked for, never shown, never embedded. Two such records of the same rows let a change be
tested on pairs; what leaves them is sums alone.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from auditkit.core.errors import EvidenceError

ROWS_FILE = "rows.npz"
_VERSION = 2
# Version 1 had neither scores nor regressions.
_READ = (1, 2)

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class RowsRecord:
    """Rows of one audit, in the order of its data.

    Attributes:
        fingerprint: The content hash of the test data, as in the evidence.
        y: ``(n,)`` class codes of the labels, or true values of a regression.
        decided: ``(n,)`` class codes of the model's decisions, or its predictions.
        groups: Sensitive column -> ``(n,)`` names.
        weights: ``(n,)`` or ``None``.
        clusters: ``(n,)`` codes or ``None``.
        scores: ``(n, k)`` scores of the classes, or ``None``.
    """

    fingerprint: str
    y: npt.NDArray[Any]
    decided: npt.NDArray[Any]
    groups: Mapping[str, npt.NDArray[np.str_]]
    weights: FloatArray | None = None
    clusters: IntArray | None = None
    scores: FloatArray | None = None

    def __len__(self) -> int:
        return len(self.y)


def rows_bytes(record: RowsRecord) -> bytes:
    """The file's content: a zip of plain arrays, the same bytes for the same record."""
    arrays: dict[str, npt.NDArray[np.generic]] = {
        "version": np.array(_VERSION),
        "fingerprint": np.array(record.fingerprint),
        "y": _narrow(record.y),
        "decided": _narrow(record.decided),
        "columns": np.array(list(record.groups), dtype=np.str_),
    }
    for index, values in enumerate(record.groups.values()):
        names, codes = np.unique(np.asarray(values).astype(np.str_), return_inverse=True)
        arrays[f"names_{index}"], arrays[f"codes_{index}"] = names, codes.astype(np.int32)
    if record.weights is not None:
        arrays["weights"] = record.weights
    if record.clusters is not None:
        arrays["clusters"] = record.clusters
    if record.scores is not None:
        arrays["scores"] = record.scores
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, array in arrays.items():
            part = io.BytesIO()
            np.lib.format.write_array(part, np.asarray(array, order="C"), allow_pickle=False)
            entry = zipfile.ZipInfo(f"{name}.npy", date_time=(1980, 1, 1, 0, 0, 0))
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, part.getvalue())
    return out.getvalue()


def _narrow(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Codes in four bytes, values as they are."""
    return values.astype(np.int32 if values.dtype.kind in "iub" else np.float64)


def _wide(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    if values.dtype.kind not in "if":
        raise ValueError("its labels are not numbers")
    return values.astype(np.int64 if values.dtype.kind == "i" else np.float64)


def read_rows(path: Path) -> RowsRecord:
    """The record in ``path``; nothing in it is ever unpickled.

    Raises:
        EvidenceError: AK256 when it cannot be read, or is not such a record.
    """
    try:
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as archive:
            found = {name: archive[name] for name in archive.files}
        if int(found["version"]) not in _READ:
            raise ValueError(f"version {int(found['version'])}, and this release reads {_VERSION}")
        y, decided = _wide(found["y"]), _wide(found["decided"])
        groups = {
            str(column): found[f"names_{index}"][found[f"codes_{index}"]]
            for index, column in enumerate(found["columns"].tolist())
        }
        weights, clusters, scores = (found.get(name) for name in ("weights", "clusters", "scores"))
        parts = (y, decided, weights, clusters, scores, *groups.values())
        if y.ndim != 1 or len({len(part) for part in parts if part is not None}) != 1:
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
        fingerprint=str(found["fingerprint"]),
        y=y,
        decided=decided,
        groups=groups,
        weights=weights,
        clusters=clusters,
        scores=scores,
    )
