"""An audit in MLflow: numbers as metrics, the verdict as tags, card and shared evidence as artifacts.

``pip install "auditkit[mlflow]"``; then, inside or outside a run::

    from auditkit.integrations.mlflow import log_report

    log_report(report)
"""

from __future__ import annotations

import contextlib
import importlib
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from auditkit.core.errors import MissingExtra
from auditkit.core.evidence import Measurement
from auditkit.core.schema import dumps
from auditkit.render.shared import known, shared_copy, slice_words

if TYPE_CHECKING:
    from auditkit.api import Report

_LONGEST = 250
_BATCH = 1000


def log_report(report: Report, *, run_id: str | None = None, folder: str = "auditkit") -> str:
    """Log ``report`` to an MLflow run.

    What is logged is what may be shared: small groups are withheld as on the card. Metrics are named
    ``fairness.selection_rate sex-F``, with ``.low`` and ``.high`` for the ends of the interval; a number that is
    missing or not to be relied upon is no metric. Tags: ``auditkit.state``, ``auditkit.exit_code`` (with a policy),
    ``auditkit.evidence`` (digest of the shared copy).

    Args:
        report: The audit.
        run_id: The run to log to; the active one by default, or a new one.
        folder: Folder of the artifacts in the run.

    Returns:
        The run's id.

    Raises:
        MissingExtra: AK301 without MLflow.
    """
    mlflow = _mlflow()
    evidence = report.evidence
    verdict = report.gate(as_of=evidence.as_of) if evidence.policy else None
    shared, judged = shared_copy(evidence, verdict)
    with _run(mlflow, run_id) as run:
        metrics = metrics_of(tuple(known(shared)))
        names = list(metrics)
        for start in range(0, len(names), _BATCH):  # the tracking server takes no more at once
            mlflow.log_metrics({name: metrics[name] for name in names[start : start + _BATCH]})
        tags = {"auditkit.evidence": shared.digest}
        if judged is not None:
            tags |= {"auditkit.state": judged.state, "auditkit.exit_code": str(judged.exit_code)}
        mlflow.set_tags(tags)
        mlflow.log_text(report.to_html(), f"{folder}/model-card.html")
        mlflow.log_text(dumps(shared), f"{folder}/evidence-shared.json")
        return str(run.info.run_id)


def metrics_of(measurements: tuple[Measurement, ...]) -> dict[str, float]:
    """Metric name -> value, with the ends of intervals; names hold only what MLflow allows, no
    slash (its folder store would take it for a folder), and are all different.

    >>> metrics_of((Measurement(name="performance.accuracy", value=0.5, slice={"sex": "F"}),))
    {'performance.accuracy sex-F': 0.5}
    """
    found: dict[str, float] = {}
    for measurement in measurements:
        base = _free(_name(measurement), found)
        found[base] = float(measurement.value or 0.0)
        if measurement.interval is not None:
            found[_free(f"{base}.low", found)] = measurement.interval.low
            found[_free(f"{base}.high", found)] = measurement.interval.high
    return found


def _name(measurement: Measurement) -> str:
    parts = [measurement.name, slice_words(measurement)]
    parts += [f"{key} {value}" for key, value in sorted(measurement.params.items())]
    allowed = (re.sub(r"[^\w\-. ]+", "-", part.replace("; ", " "), flags=re.ASCII) for part in parts if part)
    return " ".join(part.strip(" .") or "-" for part in allowed)[: _LONGEST - 20]


def _free(name: str, taken: dict[str, float]) -> str:
    """``name``, or with a number where it is taken."""
    if name not in taken:
        return name
    number = 2
    while f"{name} {number}" in taken:
        number += 1
    return f"{name} {number}"


@contextlib.contextmanager
def _run(mlflow: Any, run_id: str | None) -> Iterator[Any]:
    active = mlflow.active_run()
    if active is not None and run_id in (None, active.info.run_id):
        yield active
        return
    with mlflow.start_run(run_id=run_id, nested=active is not None) as run:
        yield run


def _mlflow() -> Any:
    try:
        return importlib.import_module("mlflow")
    except ImportError as error:
        raise MissingExtra.of("mlflow", "mlflow-skinny") from error
