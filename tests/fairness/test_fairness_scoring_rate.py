"""The scoring rate against the definition by hand, the example of the rule, and what it refuses."""

from __future__ import annotations

import numpy as np
import pytest

from auditkit.core.plan import make_plan
from auditkit.execution.runner import run_step
from auditkit.subjects.build import make_predictions_subject


def scoring(y, scores, sensitive, **keys):
    subject = make_predictions_subject(y, scores=scores, sensitive=sensitive, positive=1, **keys)
    (step,) = make_plan(["fairness.scoring_rate"]).steps
    return run_step(subject, step)


def test_the_share_above_the_median_by_group_and_crossing():
    rng = np.random.default_rng(0)
    scores, sex, site = rng.random(301), rng.choice(["F", "M"], 301), rng.choice(["a", "b"], 301)
    scores[:40] = 0.5  # ties at no one's expense: only above counts
    outcome = scoring((scores > 0.6).astype(int), scores, {"sex": sex, "site": site})
    assert outcome.status == "measured", outcome.reason
    median = sorted(scores)[150]
    found = {tuple(sorted(m.slice.items())): m for m in outcome.measurements}
    assert len(found) == 2 + 2 + 4
    for key, m in found.items():
        inside = np.array([all({"sex": s, "site": t}[c] == v for c, v in key) for s, t in zip(sex, site, strict=True)])
        assert m.n == inside.sum()
        assert m.value == pytest.approx(sum(s > median for s in scores[inside]) / inside.sum())
        assert m.interval.low <= m.value <= m.interval.high


def test_the_rules_own_example():
    sex = np.repeat(["Male", "Female"], [92, 76])
    high = np.concatenate([np.arange(92) < 50, np.arange(76) < 34])
    outcome = scoring(np.arange(168) % 2, np.where(high, 0.9, 0.1), {"sex": sex})
    shown = {m.slice["sex"]: f"{m.value * 100:.1f}" for m in outcome.measurements}
    assert shown == {"Male": "54.3", "Female": "44.7"}


def test_weights_and_missing_scores_do_not_apply():
    y, sex = np.arange(40) % 2, np.repeat(["F", "M"], 20)
    weighted = scoring(y, np.linspace(0, 1, 40), {"sex": sex}, weights=np.ones(40) * 2)
    assert (weighted.status, "AK424" in weighted.reason) == ("not_applicable", True)
    subject = make_predictions_subject(y, y, sensitive={"sex": sex}, positive=1)
    (step,) = make_plan(["fairness.scoring_rate"]).steps
    labels = run_step(subject, step)
    assert (labels.status, "AK425" in labels.reason) == ("not_applicable", True)
