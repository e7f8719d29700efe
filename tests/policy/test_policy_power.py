"""With the rows that an inconclusive rule asks for, it is settled about four times in five."""

import numpy as np
import pytest

from auditkit.core.evidence import DataFacts, Evidence, Outcome, PlanFacts, SubjectFacts
from auditkit.methods.fairness.counts import count_groups
from auditkit.policy.evaluate import evaluate
from auditkit.policy.model import parse_policy

AS_OF = __import__("datetime").date(2026, 1, 1)


def judged(rates, n, rule, rng=None):
    """The one comparison of a rule on two groups of ``n`` rows, at exactly these rates or drawn at random."""
    groups, decided = [], []
    for name, rate in zip("ab", rates, strict=True):
        hits = round(n * rate) if rng is None else rng.binomial(n, rate)
        groups += [name] * n
        decided += [1] * hits + [0] * (n - hits)
    y_pred = np.array(decided)
    y_true = np.arange(len(y_pred)) % 2
    counts = count_groups(y_true, y_pred, {"g": np.array(groups)}, classes=("0", "1"), positive=1)
    facts = SubjectFacts(
        name="m",
        task="binary",
        model_kind="k",
        model_fingerprint=None,
        classes=("0", "1"),
        positive="1",
        score_space=None,
        capabilities=(),
        test=DataFacts(fingerprint="f", n_rows=2 * n, modality="tabular", sensitive={"g": {"a": n, "b": n}}),
    )
    outcome = Outcome(analyzer="fairness.groups", version="1", status="measured", artifacts=tuple(counts))
    evidence = Evidence(subject=facts, plan=PlanFacts(seed=0, analyzers=()), outcomes=(outcome,))
    policy = parse_policy({"rule": [{"id": "r", "metric": "fairness.selection_rate", "over": ["g"], **rule}]})
    return evaluate(evidence, policy, as_of=AS_OF).results[0]


@pytest.mark.parametrize(
    ("rates", "rule"),
    [
        ((0.5, 0.44), {"compare": "difference", "max": 0.1}),
        ((0.5, 0.36), {"compare": "difference", "max": 0.1}),
        ((0.5, 0.45), {"compare": "ratio", "min": 0.8}),
    ],
)
def test_the_rows_asked_for_settle_it_four_times_in_five(rates, rule):
    small = judged(rates, 200, rule)
    assert small.state == "inconclusive"
    needed = small.comparisons[0].n_needed
    rng = np.random.default_rng(0)
    settled = sum(judged(rates, needed, rule, rng).state != "inconclusive" for _ in range(120))
    assert 0.68 <= settled / 120 <= 0.92
