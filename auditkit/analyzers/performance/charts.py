"""Curves and tables of the ``performance`` analyzer; thinned or binned, never raw rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from auditkit.analyzers.performance.rows import Rows
from auditkit.core.analyzer import Note, Produced
from auditkit.core.evidence import Counts, Curve, Series, Table
from auditkit.core.subject import FloatArray, Subject
from auditkit.methods.performance import calibration, classification, curves
from auditkit.stats.coding import rows_by_group
from auditkit.stats.estimate import Estimate, prepare
from auditkit.stats.ranking import ScoreArray

# The moment matrix of clustered rows has k^4 numbers.
MAX_CLASSES, MAX_CLASSES_WITH_CLUSTERS = 50, 12
RESIDUAL_QUANTILES = (0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95)


@dataclass(frozen=True, slots=True)
class Binning:
    """Most bins, and the fewest rows a bin should have."""

    bins: int
    min_rows: int


def draw(
    subject: Subject, rows: Rows, points: int, min_rows: int, binning: Binning, level: float
) -> Iterator[Produced]:
    """Every chart and table that ``rows`` support."""
    if len(rows.y) == 0:
        return
    if subject.task == "regression":
        yield from _regression(rows, binning, level)
        return
    yield from _confusion(rows)
    if rows.probabilities is not None:
        yield from _reliability(rows, binning, level)
    if rows.ranking is None or rows.positive is None:
        return
    positive = rows.y == rows.positive
    if positive.all() or not positive.any():
        yield Note("The labels hold one class only, so there is no ROC curve, no precision-recall curve and no sweep.")
        return
    ranked = rows.ranking[:, rows.positive]
    steps = curves.cumulate(ranked, positive, rows.design.weights)
    why = _why_no_band(rows)
    band = None if why else level
    yield _roc("roc", "ROC curve", [_roc_series("all rows", steps, points, band)], why)
    for column, values in subject.test.sensitive.items():
        yield from _roc_by_group(rows, ranked, positive, (column, values), points, min_rows, band)
    yield _precision_recall(steps, points)
    yield from _sweep(rows, points)


def _confusion(rows: Rows) -> Iterator[Produced]:
    """Label x decision cells of all rows; as counts, so that shared copies can withhold small ones."""
    k, design = len(rows.classes), rows.design
    most = MAX_CLASSES if design.clusters is None else MAX_CLASSES_WITH_CLUSTERS
    if k > most:
        yield Note(f"No confusion matrix: {k} classes, and at most {most} are shown.")
        return
    cells = classification.confusion(rows.y, rows.decided, k).astype(np.int64)
    weight = weight_sq = moment = None
    if design.weights is not None:
        weight = (_rows_of_cells(classification.confusion(rows.y, rows.decided, k, design.weights)),)
        weight_sq = (_rows_of_cells(classification.confusion(rows.y, rows.decided, k, design.weights**2)),)
    if design.clusters is not None:
        names, codes = np.unique(design.clusters, return_inverse=True)
        at = codes * k * k + rows.y * k + rows.decided
        sums = np.bincount(at, weights=design.weights, minlength=len(names) * k * k).reshape(-1, k * k)
        moment = (_rows_of_cells(sums.T.astype(np.float64) @ sums),)
    yield Counts(
        name="confusion",
        over=(),
        groups=((),),
        classes=rows.classes,
        n=(tuple(tuple(int(n) for n in row) for row in cells),),
        positive=rows.positive,
        weight=weight,
        weight_sq=weight_sq,
        moment=moment,
    )


def _rows_of_cells(matrix: FloatArray) -> tuple[tuple[float, ...], ...]:
    return tuple(_floats(row) for row in matrix)


def _reliability(rows: Rows, binning: Binning, level: float) -> Iterator[Produced]:
    confidence, hit = rows.confidence
    binned = calibration.bin_rows(confidence, hit, rows.design, bins=binning.bins, min_rows=binning.min_rows)
    rates = calibration.observed_rates(binned, hit, rows.design)
    low, high = _limits(rates, level)
    stated = tuple(float(value) for value in binned.confidence)
    what = f"rate of {rows.classes[rows.positive]!r}" if rows.positive is not None else "share decided rightly"
    yield Curve(
        name="reliability",
        title="Reliability: stated probability against observed rate",
        x_label="mean stated probability",
        y_label=f"observed {what}",
        series=(
            Series(name="observed", x=stated, y=tuple(rate.value for rate in rates), low=low, high=high),
            Series(name="perfect calibration", x=(0.0, 1.0), y=(0.0, 1.0)),
        ),
        note=f"{len(stated)} equal-mass bins, each rate with its exact interval at {level:.0%}.",
    )
    yield Table(
        name="reliability_bins",
        title="Reliability bins",
        columns=("bin", "n", "mean stated probability", "observed rate", "low", "high"),
        rows=tuple((i + 1, int(binned.n[i]), stated[i], rates[i].value, low[i], high[i]) for i in range(len(stated))),
    )
    plug_in = calibration.plug_in_calibration_error(binned)
    yield Note(
        f"Calibration error: {len(stated)} equal-mass bins; the usual uncorrected sum is {plug_in:.4f}. That sum is "
        "above 0 even for a calibrated model, so the value measured has its estimated bias taken off."
    )


def _limits(rates: Sequence[Estimate], level: float) -> tuple[tuple[float | None, ...], tuple[float | None, ...]]:
    prepare(rates, level)
    found = [rate.interval(level) for rate in rates]
    return tuple(i.low if i else None for i in found), tuple(i.high if i else None for i in found)


def _why_no_band(rows: Rows) -> str:
    """Why the ROC curves have no band, in words for the chart; empty where they have one."""
    if rows.design.plain:
        return ""
    what = "belong to clusters" if rows.design.clusters is not None else "are weighted"
    return f"No band: the one for a whole curve rests on rows that count alike, one by one, and these {what}."


def _roc(name: str, title: str, series: list[Series], why_no_band: str = "") -> Curve:
    bands = "The band holds for the whole curve at once, whatever the scores."
    if len(series) > 1:
        bands = "Each band holds for the whole of its own curve at once, whatever the scores."
    return Curve(
        name=name,
        title=title,
        x_label="false positive rate",
        y_label="true positive rate",
        series=tuple(series),
        note=why_no_band or bands,
    )


def _roc_series(name: str, steps: curves.Cumulated, points: int, level: float | None = None) -> Series:
    """The curve, with its band at ``level`` where there is one: plain rows alone have it."""
    fpr, tpr = steps.fpr, steps.tpr
    at = curves.thin(fpr, tpr, points)
    if level is None:
        return Series(name=name, x=_floats(fpr[at]), y=_floats(tpr[at]))
    low, high = curves.roc_band(steps, level)
    return Series(name=name, x=_floats(fpr[at]), y=_floats(tpr[at]), low=_floats(low[at]), high=_floats(high[at]))


def _roc_by_group(
    rows: Rows,
    ranked: ScoreArray,
    positive: npt.NDArray[np.bool_],
    column: tuple[str, npt.NDArray[np.str_]],
    points: int,
    min_rows: int,
    band: float | None,
) -> Iterator[Produced]:
    name, values = column
    series, left_out = [], []
    for group, part in rows_by_group(values):
        hits = int(positive[part].sum())
        if min(hits, len(part) - hits) < min_rows:
            left_out.append(group)
            continue
        steps = curves.cumulate(ranked[part], positive[part], rows.design.take(part).weights)
        series.append(_roc_series(group, steps, points, band))
    if left_out:
        yield Note(f"No ROC curve for {name} = {', '.join(left_out)}: fewer than {min_rows} rows of a class.")
    if series:
        yield _roc(f"roc_{name}", f"ROC curve for each group of {name}", series, _why_no_band(rows))


def _precision_recall(steps: curves.Cumulated, points: int) -> Curve:
    recall, precision = curves.precision_recall(steps)
    at = curves.thin(recall, precision, points)
    base = float(steps.true[-1] / (steps.true[-1] + steps.false[-1]))
    return Curve(
        name="precision_recall",
        title="Precision-recall curve",
        x_label="recall",
        y_label="precision",
        series=(Series(name="all rows", x=_floats(recall[at]), y=_floats(precision[at])),),
        note=f"A model without skill has precision {base:.3f} everywhere.",
    )


def _sweep(rows: Rows, points: int) -> Iterator[Produced]:
    if (shown := rows.swept) is None:
        return
    steps = curves.cumulate(shown, rows.y == rows.positive, rows.design.weights)
    low, high = (0.0, 1.0) if rows.probabilities is not None else (float(q) for q in np.quantile(shown, (0.01, 0.99)))
    swept = curves.sweep_thresholds(steps, np.linspace(low, high, min(points, 101)))
    x = _floats(swept.threshold)
    lines = {
        "true positive rate": swept.tpr,
        "false positive rate": swept.fpr,
        "precision": swept.precision,
        "selection rate": swept.selection_rate,
        "accuracy": swept.accuracy,
    }
    series = [Series(name=name, x=x, y=_known(line)) for name, line in lines.items()]
    chosen = rows.decided == rows.positive
    rate = float(np.average(chosen, weights=rows.design.weights))
    own = curves.own_threshold(shown, chosen)
    says = f"The model itself decides {rate:.1%} of the rows as {rows.classes[rows.positive or 0]!r}"
    if own is not None:
        at = 0.5 if rows.probabilities is not None and own[0] < 0.5 <= own[1] else (own[0] + own[1]) / 2.0
        series.append(Series(name="the model's own decision", x=(at,), y=(rate,)))
        says += f", which is a threshold of about {at:.3g}."
    elif chosen.any() and not chosen.all():
        says += "; no single threshold on the score gives its decisions."
    else:
        says += "; it makes one decision only, so its threshold is not known."
    yield Curve(
        name="thresholds",
        title="What other decision thresholds would give",
        x_label="decide positive from this score up",
        y_label="rate",
        series=tuple(series),
        note=says,
    )


def _regression(rows: Rows, binning: Binning, level: float) -> Iterator[Produced]:
    y, predicted = rows.y.astype(np.float64), rows.decided.astype(np.float64)
    if len(y) >= 2 * binning.min_rows:
        binned = curves.predicted_against_actual(y, predicted, rows.design, bins=10, min_rows=binning.min_rows)
        low, high = _limits(binned.actual, level)
        x = _floats(binned.predicted)
        yield Curve(
            name="predicted_actual",
            title="Mean target against mean prediction, in bins of the prediction",
            x_label="mean prediction",
            y_label="mean target",
            series=(
                Series(name="mean target", x=x, y=tuple(m.value for m in binned.actual), low=low, high=high),
                Series(name="equal", x=(min(x), max(x)), y=(min(x), max(x))),
            ),
            note=f"{len(x)} equal-mass bins with {level:.0%} intervals of the mean.",
        )
        found = curves.residual_quantiles(y, predicted, np.array(RESIDUAL_QUANTILES))
        yield Table(
            name="residual_quantiles",
            title="Quantiles of prediction less target",
            columns=("quantile", "residual"),
            rows=tuple((at, float(value)) for at, value in zip(RESIDUAL_QUANTILES, found, strict=True)),
        )
    else:
        yield Note(f"No residual chart: fewer than {2 * binning.min_rows} rows.")


def _floats(values: FloatArray) -> tuple[float, ...]:
    return tuple(float(value) for value in values)


def _known(values: FloatArray) -> tuple[float | None, ...]:
    return tuple(float(value) if np.isfinite(value) else None for value in values)
