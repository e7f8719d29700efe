"""Shadow attacks against the published formulas, worked row by row by other means, and on scores of known truth."""

import math

import numpy as np
import pytest
from scipy import integrate, stats

from auditkit.core.errors import AuditkitError
from auditkit.methods.privacy import shadow_attacks
from auditkit.methods.privacy.membership import membership_auc, tpr_at_fpr
from auditkit.methods.privacy.shadow_attacks import (
    bavaria,
    check_shadows,
    finite_scores,
    halves,
    lira_offline,
    lira_online,
    rmia,
    rmia_shares,
)

ATTACKS = {"lira-offline": lira_offline, "lira-online": lira_online, "rmia": rmia, "bavaria": bavaria}


def world(n=400, models=16, gain=2.0, seed=0):
    """Rows of unequal difficulty and spread whose score rises by up to ``2 gain`` spreads when they are trained on."""
    rng = np.random.default_rng(seed)
    difficulty, spread, gains = rng.normal(1.0, 2.0, n), rng.uniform(0.3, 1.0, n), rng.uniform(0.0, 2.0 * gain, n)
    inside = halves(n, models, rng)
    member = halves(n, 4, rng)[0]

    def scores(trained_on):
        return difficulty + spread * (gains * trained_on + rng.normal(size=trained_on.shape))

    return scores(member), scores(inside), inside, member


def test_every_row_is_in_half_of_the_models_and_classes_are_even():
    classes = np.repeat([0, 1], [70, 30])
    inside = halves(100, 16, np.random.default_rng(0), classes)
    assert (inside.sum(axis=0) == 8).all()
    assert (inside.sum(axis=1) == 50).all()
    assert (inside[:, classes == 1].sum(axis=1) == 15).all()
    assert len({own.tobytes() for own in inside}) == 16
    together = np.corrcoef(halves(100, 400, np.random.default_rng(1)).T.astype(float)[:40])
    assert np.abs(together - np.eye(40)).max() < 0.4
    for n, models in ((99, 16), (100, 3), (100, 2)):
        with pytest.raises(ValueError, match="must be even and at least 4"):
            halves(n, models, np.random.default_rng(0))


def by_row(own, shadow, inside, shared):
    """Means and standard deviations of each row by lists of numbers: ``(in, out)`` pairs."""
    rows = [[shadow[inside[:, at] == side, at].tolist() for side in (True, False)] for at in range(len(own))]
    spreads = []
    for side in (0, 1):
        if shared:
            squares = sum((s - np.mean(row[side])) ** 2 for row in rows for s in row[side])
            spreads.append([math.sqrt(squares / sum(len(row[side]) - 1 for row in rows))] * len(own))
        else:
            spreads.append([np.std(row[side], ddof=1) for row in rows])
    return [[(np.mean(row[side]), spreads[side][at]) for side in (0, 1)] for at, row in enumerate(rows)]


@pytest.mark.parametrize(("models", "shared"), [(16, True), (80, False)])
def test_lira_is_the_published_likelihood_ratio(models, shared):
    own, shadow, inside, _ = world(60, models)
    found, offline = lira_online(own, shadow, inside), lira_offline(own, shadow, inside)
    for at, ((mean_in, spread_in), (mean_out, spread_out)) in enumerate(by_row(own, shadow, inside, shared)):
        ratio = stats.norm.logpdf(own[at], mean_in, spread_in) - stats.norm.logpdf(own[at], mean_out, spread_out)
        assert found[at] == pytest.approx(ratio, abs=1e-6)
        assert stats.norm.sf(offline[at]) == pytest.approx(stats.norm.sf(own[at], mean_out, spread_out), abs=1e-9)


@pytest.mark.parametrize("gamma", [1.0, 2.0])
def test_rmia_ranks_by_the_published_share_of_dominated_rows(gamma):
    own, shadow, inside, member = world(80)
    chance = 1.0 / (1.0 + np.exp(-own))
    likely = 1.0 / (1.0 + np.exp(-shadow))
    usual = [0.5 * (likely[inside[:, at], at].mean() + likely[~inside[:, at], at].mean()) for at in range(len(own))]
    others = np.flatnonzero(~member)
    shares = [
        np.mean([(chance[at] / usual[at]) / (chance[z] / usual[z]) > gamma for z in others]) for at in range(len(own))
    ]
    ratio = rmia(own, shadow, inside)
    assert rmia_shares(ratio, ratio[others], gamma) == pytest.approx(shares, abs=1e-12)
    order = np.argsort(ratio)
    assert (np.diff(np.array(shares)[order]) >= 0).all()


def test_bavaria_is_the_predictive_density_by_numerical_integration():
    own, shadow, inside, _ = world(120)
    found = bavaria(own, shadow, inside)
    for at in (0, 7, 33):
        logs = []
        for side in (inside, ~inside):
            count = side.sum(axis=0)
            means = np.array([shadow[side[:, i], i].mean() for i in range(120)])
            squares = np.array([((shadow[side[:, i], i] - means[i]) ** 2).sum() for i in range(120)])
            freedom, scale = shadow_attacks._variance_prior(squares, count - 1.0)
            logs.append(math.log(predictive(own[at], shadow[side[:, at], at], freedom, scale)))
        assert found[at] == pytest.approx(logs[0] - logs[1], abs=1e-4)


def predictive(x, seen, freedom, scale):
    """Density of ``x`` after ``seen``: flat mean, scaled inverse chi-square variance, integrated over both."""

    def weight(log_variance, values):
        variance = math.exp(log_variance)
        prior = stats.invgamma.pdf(variance, freedom / 2, scale=freedom * scale / 2) * variance
        middle, rest = np.mean(values), np.var(values) * len(values)
        # The mean is integrated out exactly under its flat prior.
        likelihood = (2 * math.pi * variance) ** (-(len(values) - 1) / 2) / math.sqrt(len(values))
        return prior * likelihood * math.exp(-rest / (2 * variance)) if np.isfinite(middle) else 0.0

    bounds = (math.log(scale) - 8, math.log(scale) + 8)
    top = integrate.quad(weight, *bounds, args=([*seen, x],), epsabs=0, epsrel=1e-9, limit=400)[0]
    return top / integrate.quad(weight, *bounds, args=(list(seen),), epsabs=0, epsrel=1e-9, limit=400)[0]


@pytest.mark.parametrize("truth", [4.0, 20.0])
def test_the_prior_of_the_variances_is_found(truth):
    rng = np.random.default_rng(0)
    variances = 2.5 * truth / rng.chisquare(truth, 40_000)
    squares = variances * rng.chisquare(7, 40_000)
    freedom, scale = shadow_attacks._variance_prior(squares, np.full(40_000, 7.0))
    assert freedom == pytest.approx(truth, rel=0.1)
    assert scale == pytest.approx(2.5, rel=0.03)
    same, _ = shadow_attacks._variance_prior(2.5 * rng.chisquare(7, 40_000), np.full(40_000, 7.0))
    assert same > 200


@pytest.mark.parametrize("name", ATTACKS)
def test_members_are_found_and_a_model_that_saw_nobody_is_quiet(name):
    own, shadow, inside, member = world(4000, gain=2.0)
    caught = tpr_at_fpr(ATTACKS[name](own, shadow, inside), member, 0.01)
    assert membership_auc(ATTACKS[name](own, shadow, inside), member)[1].low > 0.7
    assert caught.interval.low > 0.02
    areas = []
    for seed in range(12):
        own, shadow, inside, member = world(1000, gain=2.0, seed=100 + seed)
        stranger = np.random.default_rng(seed).permutation(member)
        areas.append(membership_auc(ATTACKS[name](own, shadow, inside), stranger)[1])
    assert sum(area.low <= 0.5 <= area.high for area in areas) >= 10


def test_the_ranking_of_attacks_is_that_of_the_papers():
    """Rows of unequal difficulty: each comparison with shadows beats the plain threshold, online beats offline."""
    own, shadow, inside, member = world(6000, gain=1.5)
    areas = {name: membership_auc(attack(own, shadow, inside), member)[0] for name, attack in ATTACKS.items()}
    plain = membership_auc(own, member)[0]
    assert min(areas.values()) > plain + 0.05
    assert areas["lira-online"] > areas["lira-offline"]
    assert areas["bavaria"] > areas["lira-online"] - 0.005


def test_certain_answers_are_drawn_in():
    own, shadow = np.array([690.0, 1.0]), np.array([[2.0, -690.0], [3.0, 0.0]])
    first, others = finite_scores(own, shadow)
    limit = 3.0 + math.log(2)
    assert first.tolist() == [limit, 1.0]
    assert others.tolist() == [[2.0, -limit], [3.0, 0.0]]
    alike, rest = finite_scores(np.array([690.0]), np.array([[690.0]]))
    assert alike.tolist() == rest[0].tolist() == [math.log(2)]


def test_attacks_stay_finite_where_all_shadows_agree():
    inside = halves(8, 8, np.random.default_rng(0))
    for attack in ATTACKS.values():
        assert np.isfinite(attack(np.linspace(-1, 1, 8), np.ones((8, 8)), inside)).all()


def test_what_no_attack_can_use_is_refused():
    inside = halves(8, 4, np.random.default_rng(0))
    shadow = np.zeros((4, 8))
    check_shadows(shadow, inside)
    shadow[1, 3] = np.nan
    with pytest.raises(AuditkitError, match="AK621 1 of 4 shadow models give scores that are no numbers"):
        check_shadows(shadow, inside)
    inside[:3, 0] = True
    with pytest.raises(AuditkitError, match="AK622 some row was in or out of only"):
        check_shadows(np.zeros((4, 8)), inside)
