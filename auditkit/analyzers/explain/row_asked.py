"""What may be asked about one row, and what the methods hand back."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from typing import get_args

from auditkit.analyzers.explain.attributed import DEFAULTS, WORDS, Method
from auditkit.core.analyzer import Context
from auditkit.core.attribution import Attribution
from auditkit.core.errors import UsageError
from auditkit.core.shown import Picture
from auditkit.core.subject import FloatArray, Subject

GRADIENT_METHODS: tuple[str, ...] = get_args(Method)
ROW_METHODS: tuple[str, ...] = ("shap", "lime", *GRADIENT_METHODS)
TOLERANCE = 0.01  # completeness gap accepted, as a share of the change explained
PATH_STEPS = 4096
METHOD_WORDS = {"shap": "Shapley values", "lime": "LIME", **WORDS}


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What was asked for.

    Attributes:
        row: Position in the split, from 0.
        split: ``test`` or ``train``.
        methods: Names of :data:`ROW_METHODS`; chosen by the kind of data when empty.
        budget: Model evaluations for methods that sample.
        background: Most background rows.
        shared: Columns whose values may be shown; ``column`` names the one of texts and images.
        column: What the one column of texts or images is called.
    """

    row: int
    split: str = "test"
    methods: tuple[str, ...] = ()
    budget: int = 2**15
    background: int = 100
    shared: frozenset[str] = frozenset()
    column: str = "inputs"


@dataclass(frozen=True, kw_only=True)
class RowParts:
    """What the methods found, on the same parts: method, attribution and one amount a part; see ``ExplainedRow``."""

    names: tuple[str, ...]
    values: tuple[str | None, ...]
    attributions: tuple[tuple[str, Attribution, FloatArray], ...]
    output: str
    notes: tuple[str, ...]
    pictures: tuple[Picture, ...] = ()
    across: int | None = None
    shown: bool = False


def chosen_methods(alone: Subject, wanted: Sequence[str]) -> tuple[str, ...]:
    """The methods of ``wanted``, or those of the kind of data, in order.

    Raises:
        UsageError: AK429.
    """
    differentiable = "gradients" in alone.model.capabilities
    modality = alone.test.modality
    if not wanted:
        if modality == "tabular":
            return ("shap",)
        if differentiable:
            return DEFAULTS["image" if modality == "image" else "tokens"]
        if modality == "sequence":
            raise UsageError(
                "AK429",
                "token ids of a model without gradients cannot be explained",
                fix="give the texts and tokenizer=, or a torch module",
            )
        return ("lime",)
    chosen = tuple(dict.fromkeys(wanted))
    gradients = [method for method in chosen if method in GRADIENT_METHODS]
    if gradients and not differentiable:
        raise UsageError("AK429", f"{gradients[0]} needs a torch module", fix="leave --method out")
    if modality != "tabular" and ("shap" in chosen or ("lime" in chosen and len(chosen) > 1)):
        why = "Shapley values are for tables" if "shap" in chosen else "LIME has parts of its own"
        raise UsageError("AK429", f"these methods do not fit a row of {modality}", why=why, fix="leave --method out")
    if modality == "sequence" and "lime" in chosen:
        raise UsageError("AK429", "lime leaves out words, and token ids have none", fix="leave --method out")
    return chosen


def check_installed(methods: Sequence[str]) -> None:
    """Refuse methods whose packages are missing.

    Raises:
        UsageError: AK431.
    """
    wanted = {"lime": ("lime", "sklearn"), "shap": ()}
    for method in methods:
        missing = [p for p in wanted.get(method, ("torch", "captum")) if importlib.util.find_spec(p) is None]
        if missing:
            raise UsageError(
                "AK431",
                f"{METHOD_WORDS[method]} needs {' and '.join(missing)}, which is not installed",
                fix='pip install "auditkit[explain]"',
            )


def gradient_methods(methods: Sequence[str]) -> tuple[Method, ...]:
    """Those of ``methods`` that need gradients or a module, integrated gradients first, which all others go with."""
    kept: list[Method] = [method for method in get_args(Method) if method in methods]
    return tuple(dict.fromkeys(("integrated_gradients", *kept)))


def gradient_output(alone: Subject, context: Context) -> str:
    """The output that gradient methods explain, by name."""
    if alone.task == "regression":
        return "value"
    if alone.task == "binary":
        return alone.classes[1 if alone.positive is None else alone.positive]
    return alone.classes[int(context.decisions()[0])]


def proof_of(attribution: Attribution) -> str:
    """One sentence on what was checked against the model's own output."""
    found = attribution.diagnostics
    if attribution.status == "failed":
        return f"failed: {attribution.reason}"
    parts = []
    if "additivity_residual" in found:
        parts.append(
            f"base value plus attributions miss the model's own output by {found['additivity_residual']:.2g}, "
            f"limit {found['additivity_limit']:.2g}"
        )
    if "completeness_delta" in found:
        parts.append(
            f"attributions miss the change of the model's own output by {found['completeness_delta']:.2g}, "
            f"limit {found['completeness_limit']:.2g}"
        )
    if attribution.std_error is not None:
        parts.append(f"standard errors up to {float(attribution.std_error.max()):.2g}")
    if "mean_r2" in found:
        parts.append(f"the surrogate explains {found['mean_r2']:.0%} of the variance around the row (R2)")
    if attribution.status == "unverified":
        parts.append(str(attribution.reason))
    return f"{attribution.status}: {'; '.join(parts) or 'checked'}"
