"""The demo: two models of the loan table, audited by a reduced plan."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from auditkit.demo.loan import APPROVED, LoanSplit, loan_splits
from auditkit.demo.models import boosted_pipeline, mlp_recipe, require, table_encoder

if TYPE_CHECKING:
    from auditkit.api import Report
    from auditkit.core.plan import Plan
    from auditkit.core.subject import Subject
    from auditkit.execution.runner import ProgressSink

POLICY_FILE = "audit.toml"
N_TRAIN, N_TEST = 3000, 6000
REDUCED = (
    "The demo's plan is reduced so that it ends within minutes: few rows are explained and attacked, private training "
    "runs at two epsilon with two seeds. examples/loan runs the same story in full."
)
PROSE = {
    "owner": "auditkit demo",
    "intended_use": "To show what an audit finds. The table is synthetic and the model decides about nobody.",
    "out_of_scope": "Any decision about a person.",
    "training_data": "A synthetic table; its generator and its faults are documented in auditkit/demo/loan.py.",
    "evaluation_data": "An independent draw of the same generator.",
    "ethical_considerations": "In the faulty table women of the same merit were approved less, and one feature tells "
    "their sex: a model trained on it repeats the harm although it is never given the sex.",
}
# The noise that the accountant finds for 3,000 rows, batches of 128 and 15 epochs; the analyzer checks it again.
NOISE_MULTIPLIERS: Mapping[str, float] = {"8.0": 0.826, "1.0": 3.185}
# Settings of both models, and of each one: small versions of the defaults.
COMMON: Mapping[str, Mapping[str, Any]] = {
    "data.quality": {},
    "performance": {},
    "fairness.groups": {},
    "explain.shap": {"max_rows": 60, "max_background": 50},
    "privacy.membership": {},
    "robustness.noise": {},
    "robustness.adversarial": {"max_rows": 150, "eps": [0.05, 0.1]},
}
BOOSTED: Mapping[str, Mapping[str, Any]] = {"explain.lime": {"max_rows": 12, "samples": 500}}
MLP: Mapping[str, Mapping[str, Any]] = {
    "explain.saliency": {"max_rows": 60},
    "privacy.dp_training": {"epsilons": [8.0, 1.0], "seeds": 2, "noise_multipliers": NOISE_MULTIPLIERS},
}


def demo_reports(
    out: Path,
    *,
    clean: bool = False,
    leak: bool = False,
    seed: int = 0,
    fresh: bool = False,
    sink: ProgressSink | None = None,
) -> Iterator[tuple[Path, Report]]:
    """Train and audit both models; yields ``(folder, report)`` as each is written.

    Raises:
        MissingExtra: AK301 when scikit-learn or torch is absent, before anything is trained.
    """
    from auditkit.api import audit_subject
    from auditkit.core.schema import write_text

    require(("sklearn", "sklearn"), ("torch", "torch"))
    train, test = loan_splits(N_TRAIN, N_TEST, seed=seed, clean=clean, leak=leak)
    for kind, folder in (("boosted", out), ("mlp", out / "mlp")):
        text = policy_text(kind)
        report = audit_subject(
            demo_subject(kind, train, test, seed=seed),
            plan=demo_plan(kind, seed),
            policy=policy_tables(text),
            card={**PROSE, "summary": _summary(kind, clean, leak)},
            out=folder,
            fresh=fresh,
            progress=sink or False,
        )
        write_text(folder / POLICY_FILE, text)
        yield folder, report


def demo_subject(kind: str, train: LoanSplit, test: LoanSplit, *, seed: int = 0) -> Subject:
    """Train the ``boosted`` pipeline or the ``mlp`` and join it with the data."""
    from auditkit.subjects.build import make_subject

    model: Any
    recipe: Any = None
    if kind == "boosted":
        model = boosted_pipeline(seed).fit(train.inputs, train.y)
        name = "Loan decisions, gradient boosting"
    else:
        encode = table_encoder(train.inputs)
        train, test = replace(train, inputs=encode(train.inputs)), replace(test, inputs=encode(test.inputs))
        recipe, name = mlp_recipe(train.inputs), "Loan decisions, neural network"
        model = recipe.fit(train.inputs, (train.y == APPROVED).to_numpy().astype("int64"), seed)
    return make_subject(
        model,
        test.inputs,
        test.y,
        sensitive=test.sensitive,
        train=(train.inputs, train.y, train.sensitive),
        positive=APPROVED,
        recipe=recipe,
        device="cpu",
        name=name,
    )


def demo_plan(kind: str, seed: int = 0) -> Plan:
    """The reduced plan of one model."""
    from auditkit.core.plan import make_plan

    settings = {**COMMON, **(BOOSTED if kind == "boosted" else MLP)}
    return make_plan(tuple(settings), settings, seed=seed, reduced=REDUCED)


def policy_text(kind: str) -> str:
    """The rules of one model as TOML: the common ones and its own."""
    rules = files("auditkit.demo") / "rules"
    return "\n".join((rules / f"{name}.toml").read_text(encoding="utf-8") for name in ("common", kind))


def policy_tables(text: str) -> dict[str, Any]:
    """The policy in a rules file, without the version of the format."""
    document = tomllib.loads(text)
    document.pop("version", None)
    return document


def _summary(kind: str, clean: bool, leak: bool) -> str:
    model = "A gradient-boosted pipeline" if kind == "boosted" else "A small neural network"
    faults = "without planted faults (the clean twin)" if clean else "with planted faults"
    more = " and with a column that is known only after the decision" if leak else ""
    return f"{model} that decides loans, trained on a synthetic table {faults}{more}."
