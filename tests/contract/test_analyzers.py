"""Every registered analyzer keeps the contract on every subject it applies to."""

import pytest

import subject_zoo
from auditkit.cli.recompute import compared
from auditkit.core.capability import missing
from auditkit.core.evidence import DataFacts, Evidence, PlanFacts, SubjectFacts
from auditkit.core.registry import discover, load
from auditkit.testing import check_analyzer

SUBJECTS = {
    "pipeline": subject_zoo.pipeline_subject,
    "mlp": subject_zoo.mlp_subject,
    "regression": subject_zoo.regression_subject,
    "predictions": subject_zoo.predictions_subject,
}
# Subjects of other modalities are tried by the analyzers that need them.
SPECIAL = {
    "image": subject_zoo.image_subject,
    "text": subject_zoo.text_subject,
    "texts": subject_zoo.text_subject,
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
    "explain.faithfulness": {
        "max_rows": 12,
        "max_background": 10,
        "check_rows": 8,
        "lime_samples": 200,
        "sensitivity_rows": 2,
    },
    "explain.permuted_labels": {"max_rows": 6, "max_background": 5, "budget": 64, "draws": 2, "lime_samples": 100},
    "explain.recourse": {"max_rows": 40, "steps": 3, "beam": 4, "max_changes": 2},
    "explain.global": {
        "max_rows": 40,
        "max_background": 10,
        "permutation_rows": 40,
        "pair_rows": 10,
        "effect_rows": 40,
    },
    "explain.lime": {"max_rows": 4, "samples": 200, "seeds": 2},
    "explain.saliency": {"max_rows": 12, "draws": 2},
    "robustness.adversarial": {"max_rows": 12},
    "robustness.noise": {"max_rows": 60},
    "robustness.corruptions": {"max_rows": 40, "severities": [1, 5], "corruptions": ["fog", "shot_noise"]},
    "robustness.feasible": {"max_rows": 20, "rounds": 4, "width": 4, "draws": 4},
    "robustness.text": {"max_rows": 40},
    "robustness.training": {
        "arms": ["fast"],
        "seeds": 1,
        "steps": 2,
        "attack": "pgd",
        "attack_steps": 5,
        "attack_restarts": 1,
        "attacked_rows": 20,
        "check_rows": 0,
    },
    "robustness.scanner": {"max_rows": 40, "severities": [1, 5]},
    "robustness.extraction": {"queries": [60], "seeds": 1, "steps": 60},
    "robustness.label_noise": {"shares": [0.2], "seeds": 2},
    "robustness.certificates": {"max_rows": 20, "draws": 100, "clever_rows": 2},
    "robustness.backdoor": {"max_rows": 40, "steps": 10},
    "privacy.dp_training": {"epsilons": [8.0], "seeds": 2},
    "privacy.memorisation": {"candidates": 15, "secrets": 2, "repeats": [1]},
    "privacy.audit": {"epsilons": [8.0], "canaries": 40, "probe_canaries": 200},
}

NAMES = [name for name, point in discover().items() if point.value.startswith("auditkit.")]


@pytest.mark.parametrize("kind", SPECIAL)
@pytest.mark.parametrize("name", NAMES)
def test_contract_of_special_analyzers(name, kind):
    analyzer = load(name)
    if kind in analyzer.needs:
        assert missing(analyzer.needs, SPECIAL[kind]()) is None
        check_analyzer(analyzer, SPECIAL[kind](), params=BUDGETS.get(name))


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
    outcome = check_analyzer(analyzer, subject, params=BUDGETS.get(name))
    # What `auditkit verify` works out from the outcome alone must be what the analyzer said.
    assert [number for number in compared(evidence_of(subject, outcome)) if number.state == "differs"] == []


def evidence_of(subject, outcome):
    """Evidence of one outcome; of the facts only those that say how numbers may be worked out again."""
    test = subject.test
    clusters = None if test.clusters is None else len(set(test.clusters.tolist()))
    facts = DataFacts(fingerprint="", n_rows=test.n, modality=test.modality, weighted=test.weights is not None,
                      n_clusters=clusters)  # fmt: skip
    about = SubjectFacts(name="", task=subject.task, model_kind="", model_fingerprint=None, classes=subject.classes,
                         positive=None, score_space=None, capabilities=(), test=facts)  # fmt: skip
    return Evidence(subject=about, plan=PlanFacts(seed=0, analyzers=()), outcomes=(outcome,))


def test_every_analyzer_is_tried_on_some_subject():
    for name in NAMES:
        needs = load(name).needs
        assert any(missing(needs, make()) is None for make in (*SUBJECTS.values(), *SPECIAL.values())), (
            f"{name} is never tried"
        )
