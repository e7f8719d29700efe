"""Every registered analyzer keeps the contract on every subject it applies to."""

import pytest

import subject_zoo
from auditkit.core.capability import missing
from auditkit.core.registry import discover, load
from auditkit.testing import check_analyzer

SUBJECTS = {
    "pipeline": subject_zoo.pipeline_subject,
    "mlp": subject_zoo.mlp_subject,
    "regression": subject_zoo.regression_subject,
    "predictions": subject_zoo.predictions_subject,
}

# Small budgets: the contract is about behaviour, not about precision.
BUDGETS = {
    "fairness.individual": {"resamples": 40},
    "fairness.mitigation": {"columns": ["sex"], "tolerances": [0.05], "alphas": [1.0], "rounds": 2},
    "fairness.ranking": {"resamples": 40, "permutations": 19},
    "fairness.regression": {"resamples": 40},
    "fairness.subgroups": {"min_rows": 20, "permutations": 19},
    "fairness.scores": {"resamples": 40, "permutations": 19},
    "explain.shap": {"max_rows": 12, "max_background": 10},
    "explain.disparity": {"max_rows": 60, "max_background": 10, "budget": 64, "permutations": 99},
    "explain.proxies": {"max_rows": 60, "max_background": 10, "budget": 64},
    "explain.lime": {"max_rows": 4, "samples": 200, "seeds": 2},
    "explain.saliency": {"max_rows": 12, "draws": 2},
    "robustness.adversarial": {"max_rows": 12},
    "robustness.noise": {"max_rows": 60},
    "privacy.dp_training": {"epsilons": [8.0], "seeds": 2},
    "privacy.audit": {"epsilons": [8.0], "canaries": 40, "probe_canaries": 200},
}

NAMES = [name for name, point in discover().items() if point.value.startswith("auditkit.")]


@pytest.mark.parametrize("kind", SUBJECTS)
@pytest.mark.parametrize("name", NAMES)
def test_contract(name, kind):
    analyzer, subject = load(name), SUBJECTS[kind]()
    lacking = missing(analyzer.needs, subject)
    if lacking:
        from auditkit.core.plan import Step
        from auditkit.execution.runner import run_step

        outcome = run_step(subject, Step(name=name, params=analyzer.params(), analyzer=analyzer))
        assert outcome.status == "not_applicable"
        assert outcome.reason == lacking
        return
    check_analyzer(analyzer, subject, params=BUDGETS.get(name))


def test_every_analyzer_is_tried_on_some_subject():
    for name in NAMES:
        needs = load(name).needs
        assert any(missing(needs, make()) is None for make in SUBJECTS.values()), f"{name} is never tried"
