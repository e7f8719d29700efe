"""auditkit audits a trained model and proves what it says.

``auditkit.audit(model, X, y, ...)`` runs the analyzers and returns a report; see README.md.
Public names are resolved lazily: importing auditkit loads nothing heavy.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from auditkit.api import Report, audit, audit_predictions, load_report
    from auditkit.core.analyzer import Analyzer, Context, Params
    from auditkit.core.attribution import Attribution
    from auditkit.core.errors import AuditkitError
    from auditkit.core.evidence import Evidence, Interval, Measurement, Outcome
    from auditkit.core.subject import Dataset, Model, Subject
    from auditkit.core.verdict import GateFailed, Verdict
    from auditkit.subjects.recipes import SklearnRecipe, TorchRecipe

__version__ = "0.1.0"

_HOMES = {
    "Report": "auditkit.api",
    "audit": "auditkit.api",
    "audit_predictions": "auditkit.api",
    "load_report": "auditkit.api",
    "Analyzer": "auditkit.core.analyzer",
    "Context": "auditkit.core.analyzer",
    "Params": "auditkit.core.analyzer",
    "Attribution": "auditkit.core.attribution",
    "AuditkitError": "auditkit.core.errors",
    "Evidence": "auditkit.core.evidence",
    "Interval": "auditkit.core.evidence",
    "Measurement": "auditkit.core.evidence",
    "Outcome": "auditkit.core.evidence",
    "Dataset": "auditkit.core.subject",
    "Model": "auditkit.core.subject",
    "Subject": "auditkit.core.subject",
    "GateFailed": "auditkit.core.verdict",
    "Verdict": "auditkit.core.verdict",
    "SklearnRecipe": "auditkit.subjects.recipes",
    "TorchRecipe": "auditkit.subjects.recipes",
}

__all__ = [
    "Analyzer",
    "Attribution",
    "AuditkitError",
    "Context",
    "Dataset",
    "Evidence",
    "GateFailed",
    "Interval",
    "Measurement",
    "Model",
    "Outcome",
    "Params",
    "Report",
    "SklearnRecipe",
    "Subject",
    "TorchRecipe",
    "Verdict",
    "__version__",
    "audit",
    "audit_predictions",
    "load_report",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'auditkit' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
