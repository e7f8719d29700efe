"""Membership attacks against scikit-learn, brute force and a model whose ROC curve is known."""

import math

import numpy as np
import pytest
from scipy.stats import norm

from auditkit.methods.privacy.membership import (
    attack_scores,
    dp_ceiling,
    membership_auc,
    thinned_roc,
    tpr_at_fpr,
)


def binormal(n=300, shift=0.8, seed=0):
    rng = np.random.default_rng(seed)
    member = np.arange(2 * n) < n
    return rng.normal(size=2 * n) + shift * member, member


def test_auc_is_sklearns():
    metrics = pytest.importorskip("sklearn.metrics")
    scores, member = binormal()
    for values in (scores, scores.round(0)):
        assert membership_auc(values, member)[0] == pytest.approx(metrics.roc_auc_score(member, values), abs=1e-12)


@pytest.mark.parametrize("fpr", [0.01, 0.05, 0.2])
def test_tpr_is_the_best_threshold_by_brute_force(fpr):
    scores, member = binormal()
    allowed = [
        ((scores[member] >= cut).mean(), int((scores[~member] >= cut).sum()))
        for cut in [*np.unique(scores), np.inf]
        if (scores[~member] >= cut).mean() <= fpr
    ]
    found = tpr_at_fpr(scores, member, fpr)
    assert (found.value, found.false_positives) == max(allowed)


@pytest.mark.parametrize("fpr", [0.01, 0.05, 0.2])
def test_ties_are_broken_at_random_as_an_attacker_would(fpr):
    """Rounded scores with random tie-breaks: members above the last false positive allowed, and above the next."""
    scores, member = binormal()
    rounded, rng, rates = scores.round(0), np.random.default_rng(1), []
    allowed = round(fpr * (~member).sum())
    for _ in range(400):
        broken = rounded + 1e-6 * rng.random(len(rounded))
        outside = np.sort(broken[~member])[::-1]
        rates.append([(broken[member] > outside[at]).mean() for at in (allowed - 1, allowed)])
    found = tpr_at_fpr(rounded, member, fpr)
    low, high = np.mean(rates, axis=0)
    assert low - 0.005 <= found.value <= high + 0.005
    assert found.value > (rounded[member] > np.sort(rounded[~member])[-allowed]).mean() + 0.01
    assert found.interval.low <= found.value <= found.interval.high


def test_equal_scores_are_a_blind_attack_and_not_a_safe_model():
    member = np.arange(400) < 200
    assert tpr_at_fpr(np.zeros(400), member, 0.05).value == pytest.approx(0.05)
    # A memorising tree: every member is certain, and so is every second of the others.
    certain = np.where(member, 1.0, np.arange(400) % 2)
    found = tpr_at_fpr(certain, member, 0.05)
    assert found.value == pytest.approx(0.1)
    assert found.false_positives == 10


def test_tpr_interval_covers_the_true_rate():
    """Binormal scores: the true rate at false positive rate f is Phi(shift - z). Nominal 95 %."""
    for fpr, n in ((0.05, 200), (0.01, 200)):
        truth = norm.sf(norm.isf(fpr) - 0.8)
        inside = 0
        for seed in range(200):
            interval = tpr_at_fpr(*binormal(n, seed=seed), fpr).interval
            inside += interval.low <= truth <= interval.high
        assert inside >= 186


def test_tpr_interval_is_not_vacuous():
    interval = tpr_at_fpr(*binormal(5000), 0.05).interval
    assert interval.high - interval.low < 0.1


def test_a_rate_that_cannot_be_seen_is_not_reported():
    scores, member = binormal(200)
    found = tpr_at_fpr(scores, member, 0.001)
    assert found.value is None
    assert "cannot be seen with 200 non-members; it takes 1000" in found.reason
    assert found.interval.low == 0.0
    assert tpr_at_fpr(scores, member, 0.005).value is not None


def test_attack_scores_follow_their_definitions():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(50, 4))
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    y = rng.integers(0, 4, 50)
    for space, scores in (("logit", logits), ("probability", p)):
        found = attack_scores(scores, y, p.argmax(axis=1), space)
        own = p[np.arange(50), y]
        assert np.allclose(found["loss"], np.log(own / (1 - own)))
        assert (np.argsort(found["loss"]) == np.argsort(own)).all()
        assert np.allclose(found["confidence"], np.log(p.max(axis=1) / (1 - p.max(axis=1))))
        assert np.allclose(found["entropy"], (p * np.log(p)).sum(axis=1))
        assert (found["correctness"] == (p.argmax(axis=1) == y)).all()


def test_saturated_rows_stay_apart_and_finite():
    logits = np.array([[400.0, 0.0], [900.0, 0.0], [0.0, 2000.0]])
    loss = attack_scores(logits, np.array([0, 0, 0]), np.array([0, 0, 1]), "logit")["loss"]
    assert loss.tolist() == [400.0, 900.0, -2000.0]
    certain = np.array([[1.0, 0.0], [0.0, 1.0]])
    for values in attack_scores(certain, np.array([0, 0]), np.array([0, 1]), "probability").values():
        assert np.isfinite(values).all()


def test_margins_and_labels_only():
    margin = np.array([[-2.0, 2.0], [1.0, -1.0]])
    found = attack_scores(margin, np.array([1, 1]), np.array([1, 0]), "margin")
    assert found["loss"].tolist() == [4.0, -2.0]
    assert found["confidence"].tolist() == [4.0, 2.0]
    assert "entropy" not in found
    assert list(attack_scores(None, np.array([0]), np.array([0]), None)) == ["correctness"]


def test_correctness_auc_is_half_plus_half_the_accuracy_gap():
    right = np.array([1.0] * 90 + [0.0] * 10 + [1.0] * 70 + [0.0] * 30)
    area, _ = membership_auc(right, np.arange(200) < 100)
    assert area == pytest.approx(0.5 + (0.9 - 0.7) / 2)


def test_copies_of_a_row_do_not_narrow_a_clustered_interval():
    scores, member = binormal(150)
    area, alone = membership_auc(scores, member)
    copies = np.repeat(np.arange(300), 4)
    same, clustered = membership_auc(scores[copies], member[copies], copies)
    naive = membership_auc(scores[copies], member[copies])[1]
    assert same == pytest.approx(area)
    assert clustered.high - clustered.low == pytest.approx(alone.high - alone.low, rel=0.02)
    assert naive.high - naive.low < 0.6 * (alone.high - alone.low)
    assert clustered.method == "cluster-delong-logit"


def test_dp_ceiling_is_that_of_randomised_response():
    """Telling one bit truthfully with chance e^eps / (1 + e^eps) is eps-private and sits on the ceiling."""
    for eps in (0.1, 1.0, 3.0):
        fpr = 1 / (1 + math.exp(eps))
        assert dp_ceiling(fpr, eps, 0.0) == pytest.approx(1 - fpr)
    assert dp_ceiling(0.001, 1.0, 0.0) == pytest.approx(math.e * 0.001)
    assert dp_ceiling(0.9, 1.0, 0.0) <= 1.0
    assert dp_ceiling(0.0, 1.0, 1e-5) == pytest.approx(1e-5)


def test_thinned_roc_keeps_both_ends():
    false, true = thinned_roc(*binormal(2000), points=50)
    assert len(false) <= 50
    assert (false[0], true[0], false[-1], true[-1]) == (0, 0, 1, 1)
    assert (np.diff(false) >= 0).all()
