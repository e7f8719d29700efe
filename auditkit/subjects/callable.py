"""Any Python function behind the ``Model`` face: inputs -> probabilities, scores, labels or values."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from auditkit.core.errors import UsageError
from auditkit.core.subject import FloatArray, ScoreSpace, Task
from auditkit.subjects.labels import class_names
from auditkit.subjects.output_checks import (
    checked_scores,
    checked_values,
    decided_codes,
    model_raised,
    row_count,
)


class CallableModel:
    """A function of the inputs.

    What it returns is declared by ``output``: ``probability`` (``(n, k)``, or ``(n,)`` for the last of two
    classes), ``logit`` or ``margin`` (the same shapes), ``label`` (``(n,)`` labels) or ``value`` (regression).
    Decisions from scores are the largest score. The optional attribute ``fingerprint`` of the function (a
    string) identifies it; without one its results are never reused.

    Attributes:
        function: The user's own function.
        labels: Class labels in the order of the score columns.
    """

    classes: tuple[str, ...]
    score_space: ScoreSpace | None
    capabilities: frozenset[str]
    kind: str
    fingerprint: str | None

    def __init__(
        self,
        function: Callable[[Any], Any],
        *,
        classes: Sequence[Any] | None = None,
        task: Task | None = None,
        output: str = "probability",
        threshold: float | None = None,
    ) -> None:
        """Wrap ``function``.

        Args:
            function: Inputs of ``n`` rows -> one of the outputs below.
            classes: Class labels in the order of the score columns.
            task: ``regression`` for a function of values.
            output: ``probability``, ``logit``, ``margin``, ``label`` or ``value``.
            threshold: Probability of the second of two classes from which it is decided; otherwise the
                largest score decides.

        Raises:
            UsageError: AK217 classes missing or wrong, AK215 unknown ``output`` or impossible threshold.
        """
        if task == "regression":
            output = "value"
        if output not in ("probability", "logit", "margin", "label", "value"):
            raise UsageError(
                "AK215", f"there is no output {output!r}", fix="use probability, logit, margin, label or value"
            )
        if output != "value" and not classes:
            raise UsageError("AK217", "the classes of a callable must be given", fix="pass classes=(0, 1)")
        self.function = function
        self.output = output
        self.labels: tuple[Any, ...] = () if output == "value" else tuple(classes or ())
        self.classes = class_names(self.labels) if self.labels else ()
        spaces: dict[str, ScoreSpace] = {
            "probability": "probability",
            "logit": "logit",
            "margin": "margin",
            "value": "value",
        }
        self.score_space = spaces.get(output)
        self.threshold = checked_threshold(threshold, self.classes, self.score_space)
        scores = {"scores"} if self.score_space else set()
        self.capabilities = frozenset({"labels", "model", "inputs"} | scores)
        name = getattr(function, "__qualname__", type(function).__qualname__).replace("<locals>.", "")
        self.kind = f"callable {name}"
        own = getattr(function, "fingerprint", None)
        self.fingerprint = own if isinstance(own, str) and own else None

    def predict(self, inputs: Any) -> npt.NDArray[Any]:
        """Decisions ``(n,)``: int64 codes, or float64 values for regression."""
        if self.output == "label":
            lookup = {name: code for code, name in enumerate(self.classes)}
            return decided_codes(self._call(inputs), row_count(inputs), lookup, where=self.kind)
        return self.decide(self.predict_scores(inputs))

    def decide(self, scores: FloatArray) -> npt.NDArray[Any]:
        """Class codes from scores ``(n, k)``; the value itself for regression."""
        return decide_from(scores, self.score_space, self.threshold)

    def predict_scores(self, inputs: Any) -> FloatArray:
        """Scores ``(n, k)``.

        Raises:
            UsageError: AK216 when the function returns labels.
        """
        n = row_count(inputs)
        if self.score_space is None:
            raise UsageError("AK216", f"{self.kind} gives labels only, no scores", fix='declare output="probability"')
        raw = self._call(inputs)
        if not self.classes:
            return checked_values(raw, n, where=self.kind)[:, None]
        array = np.asarray(raw)
        if len(self.classes) == 2 and array.shape in ((n,), (n, 1)):
            array = two_columns(array.reshape(n), self.score_space)
        return checked_scores(array, n, len(self.classes), space=self.score_space, where=self.kind)

    def _call(self, inputs: Any) -> Any:
        try:
            return self.function(inputs)
        except (Exception, SystemExit) as error:
            model_raised(error, inputs, where=self.kind)


def two_columns(scores: npt.NDArray[Any], space: ScoreSpace) -> FloatArray:
    """Two class columns from the score of the second class: ``1-p, p``, ``0, z`` or ``-m, m``.

    >>> two_columns(np.array([0.25]), "probability").tolist()
    [[0.75, 0.25]]
    """
    second = np.asarray(scores, dtype=np.float64)
    if space == "probability":
        return np.stack([1.0 - second, second], axis=1)
    first = -second if space == "margin" else np.zeros_like(second)
    return np.stack([first, second], axis=1)


def guess_output(raw: Any, n: int, y: npt.NDArray[Any], classes: Sequence[Any] | None) -> str:
    """What a function that does not say so returns, from its outputs ``raw`` for ``n`` rows with labels ``y``.

    ``(n, k)`` rows in [0, 1] that sum to 1 are probabilities; ``(n,)`` numbers strictly inside (0, 1)
    somewhere and never outside [0, 1] are probabilities of the second class; ``(n,)`` values that are all
    labels are labels.

    Raises:
        UsageError: AK215 anything else: it must be declared.
    """
    array = np.asarray(raw)
    if array.ndim == 2 and array.shape[0] == n and array.shape[1] >= 1 and array.dtype.kind in "fiu":
        numbers = array.astype(np.float64)
        inside = bool(((numbers >= 0) & (numbers <= 1)).all())
        if inside and (array.shape[1] == 1 or bool((np.abs(numbers.sum(axis=1) - 1) < 1e-3).all())):
            return "probability"
    if array.shape == (n,):
        known = {str(value) for value in np.unique(np.asarray(y))} | {str(value) for value in classes or ()}
        if array.dtype.kind in "OUSTbiu" or {str(value) for value in np.unique(array)} <= known:
            return "label"
        if array.dtype.kind == "f" and bool(((array >= 0) & (array <= 1)).all()):
            return "probability"
    raise UsageError(
        "AK215",
        f"what the callable returns cannot be told from its outputs (shape {array.shape}, {array.dtype})",
        why=_oddity(array, n),
        fix='wrap it: CallableModel(function, classes=(0, 1), output="logit")',
    )


def _oddity(array: npt.NDArray[Any], n: int) -> str:
    """What is wrong with outputs for ``n`` rows that are neither probabilities nor labels."""
    if array.ndim not in (1, 2) or array.shape[0] != n:
        return f"{n} rows went in: outputs of shape ({n},) or ({n}, classes) were expected"
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        return "there are NaN or infinite values among them"
    return "they are neither probabilities nor labels that y holds"


def checked_threshold(threshold: float | None, classes: Sequence[str], space: ScoreSpace | None) -> float | None:
    """A decision threshold on the probability of the second of two classes.

    Raises:
        UsageError: AK215 not in (0, 1), or there are no probabilities of two classes.
    """
    if threshold is None:
        return None
    if len(classes) != 2 or space not in ("probability", "logit") or not 0.0 < threshold < 1.0:
        raise UsageError(
            "AK215",
            f"threshold={threshold!r} does not apply",
            why="a threshold lies in (0, 1) and cuts the probability of the second of two classes",
            fix="leave it out for the largest score",
        )
    return float(threshold)


def decide_from(scores: FloatArray, space: ScoreSpace | None, threshold: float | None) -> npt.NDArray[Any]:
    """Decisions ``(n,)``: the largest score (the first class at a tie), or the value itself for regression.

    With a threshold, the second class where its probability is at least that.

    >>> decide_from(np.array([[0.7, 0.3], [0.5, 0.5]]), "probability", 0.3).tolist()
    [1, 1]
    """
    if space == "value":
        return scores[:, 0]
    if threshold is None:
        return np.asarray(np.argmax(scores, axis=1), dtype=np.int64)
    if space == "logit":  # p1 >= t  <=>  z1 - z0 >= log(t / (1 - t)), without overflow
        return np.asarray(scores[:, 1] - scores[:, 0] >= np.log(threshold / (1.0 - threshold)), dtype=np.int64)
    return np.asarray(scores[:, 1] >= threshold, dtype=np.int64)
