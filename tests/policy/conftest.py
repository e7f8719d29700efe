from __future__ import annotations

import datetime
import tomllib
from dataclasses import replace

import numpy as np
import pytest

from auditkit.core.evidence import DataFacts, Evidence, Outcome, PlanFacts, SubjectFacts
from auditkit.methods.fairness.counts import count_groups
from auditkit.policy.evaluate import evaluate
from auditkit.policy.model import parse_policy

AS_OF = datetime.date(2026, 6, 1)


def selected(**groups):
    """Rows of one sensitive column: ``name=(positive decisions, rows)``; every second label is positive."""
    p = np.concatenate([np.arange(n) < k for k, n in groups.values()]).astype(int)
    g = np.repeat(list(groups), [n for _, n in groups.values()])
    y = np.arange(len(p)) % 2
    return y, p, {"sex": g}


def evidence_of(
    y, p, groups, *, others=(), measurements=(), classes=("no", "yes"), status="measured", reason=None, **keys
):
    """Evidence as ``fairness.groups`` leaves it, with further outcomes and measurements."""
    positive = 1 if len(classes) == 2 else None
    counts = count_groups(y, p, groups, classes=classes, positive=positive, **{"intersections": 2, **keys})
    artifacts = tuple(counts) if status == "measured" else ()
    fairness = Outcome(analyzer="fairness.groups", version="1", status=status, reason=reason, artifacts=artifacts)
    extra = ()
    if measurements:
        family = measurements[0].family
        extra = (Outcome(analyzer=family, version="1", status="measured", measurements=tuple(measurements)),)
    sizes = {name: {str(v): int((g == v).sum()) for v in np.unique(g)} for name, g in groups.items()}
    facts = SubjectFacts(
        name="model",
        task="binary" if len(classes) == 2 else "multiclass",
        model_kind="fixed",
        model_fingerprint=None,
        classes=classes,
        positive=classes[1],
        score_space=None,
        capabilities=("labels",),
        test=DataFacts(fingerprint="sha256:0", n_rows=len(y), modality="tabular", sensitive=sizes),
    )
    return Evidence(
        subject=facts,
        plan=PlanFacts(seed=0, analyzers=()),
        outcomes=(fairness, *extra, *others),
        as_of=AS_OF.isoformat(),
    )


def policy_of(text, **keys):
    """The policy written in TOML."""
    return parse_policy(tomllib.loads(text), text=text, where="audit.toml", **keys)


def judge(evidence, text, as_of=AS_OF):
    """The verdict on ``evidence`` of a policy written in TOML."""
    measured = {m.name for m in evidence.measurements()}
    return evaluate(evidence, policy_of(text, measured=measured), as_of=as_of)


def rule(**keys):
    """One ``[[rule]]`` as TOML text; a ``ratio`` rule on selection rate over sex unless told otherwise."""
    base = {"id": "r", "metric": "fairness.selection_rate", "compare": "ratio", "over": ["sex"], "min": 0.8}
    base.update(keys)

    def write(value):
        if isinstance(value, bool):
            return "true" if value else "false"
        if isinstance(value, str):
            return f'"{value}"'
        if isinstance(value, list):
            return "[" + ", ".join(map(write, value)) + "]"
        if isinstance(value, dict):
            return "{" + ", ".join(f"{k} = {write(v)}" for k, v in value.items()) + "}"
        return str(value)

    return "[[rule]]\n" + "".join(f"{k} = {write(v)}\n" for k, v in base.items() if v is not None)


class Kit:
    """The helpers above, as one fixture."""

    AS_OF = AS_OF
    selected = staticmethod(selected)
    evidence = staticmethod(evidence_of)
    judge = staticmethod(judge)
    policy = staticmethod(policy_of)
    rule = staticmethod(rule)
    replace = staticmethod(replace)


@pytest.fixture
def kit():
    return Kit
