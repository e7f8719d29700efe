"""What comparisons of fresh trainings share: prepared rows, the slices that are reported, and their design."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from auditkit.core.analyzer import Context
from auditkit.core.errors import AuditkitError
from auditkit.core.evidence import OVERALL
from auditkit.core.subject import Dataset, FloatArray, IntArray, Subject, TorchTrainingRecipe, take_rows

BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class Data:
    """Prepared tensors on the device: training inputs and codes, test inputs and codes.

    Attributes:
        rows: Positions of the training rows in the training data.
        prepare: The recipe's fitted preparation, inputs -> tensor.
    """

    x: Any
    y: Any
    x_test: Any
    y_test: Any
    n_classes: int
    rows: IntArray
    prepare: Any

    @property
    def n(self) -> int:
        """Number of training rows."""
        return len(self.x)


def prepared_data(subject: Subject, context: Context, max_rows: int) -> Data:
    """Training rows (at most ``max_rows``) and test rows as tensors, by the recipe's own preparation.

    Raises:
        AuditkitError: AK573 when the preparation leaves missing or infinite numbers.
    """
    import torch

    recipe, train = subject.recipe, subject.train
    assert isinstance(recipe, TorchTrainingRecipe)
    assert train is not None
    rows = context.sample_rows(train.n, max_rows)
    inputs = take_rows(train.inputs, rows)
    prepare = recipe.fit_preparation(inputs)
    tensors = []
    for name, part in (("training", inputs), ("test", subject.test.inputs)):
        tensor = torch.as_tensor(prepare(part), device=context.device)
        if tensor.is_floating_point():
            tensor = tensor.float()
            if not bool(torch.isfinite(tensor).all()):
                raise AuditkitError(
                    "AK573",
                    f"the recipe's preparation leaves missing or infinite numbers in the {name} rows",
                    where=f"recipe {recipe.name}",
                    fix="fill missing values in the recipe's prepare=",
                )
        tensors.append(tensor)
    y = torch.as_tensor(np.ascontiguousarray(train.y[rows]), dtype=torch.int64, device=context.device)
    y_test = torch.as_tensor(np.ascontiguousarray(subject.test.y), dtype=torch.int64, device=context.device)
    return Data(
        x=tensors[0],
        y=y,
        x_test=tensors[1],
        y_test=y_test,
        n_classes=len(subject.classes),
        rows=rows,
        prepare=prepare,
    )


@dataclass(frozen=True)
class Where:
    """A slice of the test rows."""

    slice: Mapping[str, str]
    rows: BoolArray

    @property
    def label(self) -> str:
        """``all rows`` or ``sex=F``."""
        return ", ".join(f"{column}={group}" for column, group in self.slice.items()) or "all rows"


def slices(test: Dataset) -> tuple[Where, ...]:
    """All rows, then each group of each sensitive column."""
    found = [Where(OVERALL, np.ones(test.n, dtype=bool))]
    for column, values in test.sensitive.items():
        found += [Where({column: str(group)}, values == group) for group in np.unique(values)]
    return tuple(found)


def design(test: Dataset, rows: BoolArray | IntArray) -> tuple[FloatArray | None, IntArray | None]:
    """Weights and clusters of these rows, marked or by position."""
    return (
        None if test.weights is None else test.weights[rows],
        None if test.clusters is None else test.clusters[rows],
    )
