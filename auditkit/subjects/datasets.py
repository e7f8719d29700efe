"""From what the user has to a :class:`Dataset`: modality, alignment, schema and fingerprint."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, get_args

import numpy as np
import numpy.typing as npt

from auditkit.core.errors import UsageError
from auditkit.core.registry import nearest
from auditkit.core.subject import Dataset, Modality, Schema
from auditkit.subjects.alignment import (
    cluster_codes,
    common_index,
    label_column,
    row_weights,
    sensitive_columns,
)
from auditkit.subjects.fingerprint import fingerprint_parts
from auditkit.subjects.output_checks import row_count
from auditkit.subjects.schema import image_schema, infer_schema, text_schema, token_schema

MODALITIES: tuple[str, ...] = get_args(Modality)


def plain_inputs(inputs: Any, *, where: str = "X") -> Any:
    """Inputs as a DataFrame, ndarray or list of str.

    Lists of texts and Series of texts become lists; torch tensors become arrays; lists of rows become arrays.

    Raises:
        UsageError: AK200 no rows, AK208 anything else.
    """
    if hasattr(inputs, "detach"):
        inputs = inputs.detach().cpu().numpy()
    if hasattr(inputs, "columns") and not hasattr(inputs, "iloc"):
        raise UsageError(
            "AK208",
            f"{where} is a table of {type(inputs).__module__.partition('.')[0]}",
            where=where,
            fix="give a pandas DataFrame, e.g. X.to_pandas()",
        )
    if hasattr(inputs, "tocsr"):
        raise UsageError(
            "AK208",
            f"{where} is a sparse matrix",
            where=where,
            fix="give X.toarray(), or the raw texts and the pipeline that vectorises them",
        )
    if hasattr(inputs, "columns"):
        if inputs.shape[1] == 0:
            raise UsageError("AK208", f"{where} has no columns", where=where)
    else:
        inputs = _texts_or_array(inputs, where)
    if row_count(inputs) == 0:
        raise UsageError("AK200", f"{where} has no rows", where=where, fix="give at least one row")
    return inputs


def infer_modality(inputs: Any, wanted: str | None, *, token_model: bool = False) -> Modality:
    """The modality: DataFrame or 2-D array -> tabular; texts -> text; 3-D and 4-D arrays -> image.

    A 2-D array of integers for a model with an embedding layer is a ``sequence``.

    Raises:
        UsageError: AK208 unknown or impossible modality.
    """
    is_text, frame = isinstance(inputs, list), hasattr(inputs, "columns")
    ndim = 2 if frame else (1 if is_text else inputs.ndim)
    integers = not is_text and not frame and inputs.dtype.kind in "iu"
    if wanted is None:
        if is_text:
            return "text"
        if integers and ndim == 2 and token_model:
            return "sequence"
        return "tabular" if ndim == 2 else "image"
    if wanted not in MODALITIES:
        raise UsageError(
            "AK208", f"there is no modality {wanted!r}", fix=nearest(wanted, MODALITIES) or ", ".join(MODALITIES)
        )
    fits = {"text": is_text, "tabular": ndim == 2, "image": ndim in (3, 4), "sequence": integers and ndim == 2}
    if not fits[wanted]:
        shape = f"{row_count(inputs)} texts" if is_text else f"shape {inputs.shape}"
        raise UsageError(
            "AK208",
            f"inputs of {shape} are not of modality {wanted!r}",
            where="X",
            why="tabular is 2-D, image 3-D or 4-D, sequence 2-D integers, text a list of strings",
        )
    found: Modality = wanted  # type: ignore[assignment]
    return found


def make_schema(
    splits: Sequence[Any], modality: Modality, override: Any = None, constraints: Sequence[str] = ()
) -> Schema:
    """The schema of the splits' inputs; ``override`` and ``constraints`` are for tables."""
    if modality == "tabular":
        return infer_schema(splits, override, constraints)
    if override is not None or constraints:
        raise UsageError("AK225", f"schema= is for tables; this data is of modality {modality}", where="schema")
    if modality == "image":
        return image_schema(splits)
    return token_schema(splits) if modality == "sequence" else text_schema()


def same_columns(test: Any, train: Any) -> None:
    """Check that the training inputs have the shape and columns of the test inputs.

    Raises:
        UsageError: AK244.
    """
    frames = hasattr(test, "columns"), hasattr(train, "columns")
    if all(frames):
        same = list(map(str, test.columns)) == list(map(str, train.columns))
    elif isinstance(test, list) or isinstance(train, list):
        same = isinstance(test, list) and isinstance(train, list)
    else:
        same = not any(frames) and test.shape[1:] == train.shape[1:]
    if not same:
        raise UsageError(
            "AK244",
            "the training inputs do not have the columns or shape of the test inputs",
            where="train",
            fix="give both the same columns in the same order",
        )


def make_dataset(
    inputs: Any,
    y: Any,
    encode: Callable[[Any], npt.NDArray[Any]],
    *,
    modality: Modality,
    sensitive: Any = None,
    weights: Any = None,
    clusters: Any = None,
) -> Dataset:
    """A data set without its schema: ``inputs`` as :func:`plain_inputs` gives them, all else aligned to them.

    Args:
        inputs: The rows.
        y: Labels or values, aligned by index or by position.
        encode: Labels ``(n,)`` -> codes or values.
        modality: The modality of the inputs.
        sensitive: See :func:`auditkit.subjects.alignment.sensitive_columns`.
        weights: Row weights.
        clusters: The person or site of each row.
    """
    n = row_count(inputs)
    index = common_index(inputs, y, sensitive, weights, clusters)
    return Dataset(
        inputs=inputs,
        y=encode(label_column(y, index, n, where="y")),
        modality=modality,
        sensitive=sensitive_columns(sensitive, inputs, index, n, where="sensitive"),
        weights=row_weights(weights, index, n),
        clusters=cluster_codes(clusters, index, n),
    )


def finished(dataset: Dataset, schema: Schema, classes: tuple[str, ...]) -> Dataset:
    """The data set with its schema and its content hash."""
    inputs = dataset.inputs
    parts: list[tuple[str, Any]] = [
        ("modality", dataset.modality),
        ("inputs", inputs),
        ("y", dataset.y),
        ("classes", classes),
        ("weights", dataset.weights),
        ("clusters", dataset.clusters),
        ("schema", repr(schema)),
    ]
    parts += [(f"sensitive {name}", values) for name, values in sorted(dataset.sensitive.items())]
    return dataclasses.replace(dataset, schema=schema, fingerprint=fingerprint_parts(parts))


def _texts_or_array(inputs: Any, where: str) -> Any:
    if isinstance(inputs, str):
        raise UsageError("AK208", f"{where} is one string", where=where, fix="give a list of texts, or a DataFrame")
    listed = list(inputs) if hasattr(inputs, "iloc") or isinstance(inputs, list | tuple) else None
    if listed and all(isinstance(item, str) for item in listed):
        return listed
    try:
        array = inputs if isinstance(inputs, np.ndarray) else np.asarray(inputs)
    except ValueError as error:
        raise UsageError("AK208", f"{where} is not an array", where=where, why=str(error)) from error
    if array.ndim == 1 and array.size and all(isinstance(item, str) for item in array.tolist()):
        return [str(item) for item in array.tolist()]
    if array.dtype.kind not in "iufb":
        raise UsageError(
            "AK208",
            f"{where} is an array of {array.dtype}",
            where=where,
            fix="give numbers, or a DataFrame when columns have different types; texts must not be missing",
        )
    if array.ndim not in (2, 3, 4):
        raise UsageError(
            "AK208",
            f"{where} has shape {array.shape}",
            where=where,
            why="tables are 2-D, images (n, h, w), (n, c, h, w) or (n, h, w, c)",
            fix="reshape it to one row for each label",
        )
    return array
