"""Bounds on epsilon against brute force, simulation, figures of the papers and mechanisms that attain them."""

import math

import numpy as np
import pytest
from scipy import integrate, stats

pytest.importorskip("dp_accounting")

from auditkit.methods.privacy.accounting import epsilon as accounted
from auditkit.methods.privacy.accounting import noise_multiplier_for
from auditkit.methods.privacy.one_run import (
    Guesses,
    critical_count,
    gaussian_mu_bound,
    guess,
    guess_by_mean,
    one_run_epsilon,
    one_run_p_value,
    tradeoff_is_refuted,
)
from auditkit.methods.privacy.probe import canaries_needed, effect_power, gaussian_effect
from auditkit.methods.privacy.tradeoff import (
    approximate_dp_tradeoff,
    dp_sgd_profile,
    gaussian_delta,
    gaussian_epsilon,
    gaussian_mu,
    gaussian_tradeoff,
    profile_tradeoff,
)


def brute_tail(made, at_least, right):
    return sum(math.comb(made, i) * right**i * (1 - right) ** (made - i) for i in range(max(at_least, 0), made + 1))


@pytest.mark.parametrize(("made", "correct"), [(10, 10), (12, 9), (20, 14), (7, 0)])
@pytest.mark.parametrize("epsilon", [0.0, 0.5, 2.0])
@pytest.mark.parametrize("delta", [0.0, 1e-3])
def test_p_value_is_the_binomial_tail_with_its_slack_summed_by_hand(made, correct, epsilon, delta):
    right = math.exp(epsilon) / (1 + math.exp(epsilon))
    tail = brute_tail(made, correct, right)
    slack = max([0.0] + [(brute_tail(made, correct - i, right) - tail) / i for i in range(1, correct + 1)])
    expected = min(1.0, tail + 2 * 30 * delta * slack)
    got = one_run_p_value(Guesses(canaries=30, made=made, correct=correct), epsilon, delta)
    assert got == pytest.approx(expected, abs=1e-12)


def test_ceilings_of_the_method_are_those_known():
    """All of 200 or 1000 guesses right of 1000 canaries, 95 %, delta 1e-5: 4.17 and 5.78; closed form without delta."""
    assert one_run_epsilon(Guesses(canaries=1000, made=200, correct=200), 1e-5) == pytest.approx(4.17, abs=0.01)
    assert one_run_epsilon(Guesses(canaries=1000, made=1000, correct=1000), 1e-5) == pytest.approx(5.78, abs=0.01)
    right = 0.05 ** (1 / 300)
    expected = math.log(right / (1 - right))
    assert one_run_epsilon(Guesses(canaries=300, made=300, correct=300), 0.0) == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("epsilon", [0.0, 1.0, 3.0])
def test_randomised_response_which_spends_all_of_epsilon_is_hardly_ever_refuted(epsilon):
    right = math.exp(epsilon) / (1 + math.exp(epsilon))
    correct = np.random.default_rng(0).binomial(200, right, 4000)
    values, times = np.unique(correct, return_counts=True)
    flagged = [one_run_epsilon(Guesses(canaries=200, made=200, correct=int(c)), 0.0) > epsilon + 1e-4 for c in values]
    assert times[flagged].sum() / 4000 < 0.06
    assert one_run_epsilon(Guesses(canaries=200, made=200, correct=200), 0.0) > epsilon


@pytest.mark.parametrize("mu", [0.25, 1.0, 2.5])
@pytest.mark.parametrize("made", [100, 300])
def test_gaussian_privacy_is_not_refuted_by_what_it_allows(mu, made):
    rng, flagged = np.random.default_rng(1), 0
    critical = critical_count(300, made, gaussian_tradeoff(mu))
    for _ in range(400):
        included = rng.random(300) < 0.5
        found = guess(rng.normal(size=300) + mu * included, included, made)
        flagged += critical is not None and found.correct >= critical
    assert flagged / 400 <= 0.07


def test_a_mechanism_that_tells_all_with_chance_delta_is_not_refuted():
    """It is (0, delta) private and has all guesses right with chance delta: the bound must not be under that chance."""
    everything = Guesses(canaries=20, made=20, correct=20)
    assert not tradeoff_is_refuted(everything, approximate_dp_tradeoff(0.0, 0.06), level=0.95)
    assert tradeoff_is_refuted(everything, approximate_dp_tradeoff(0.0, 1e-4), level=0.95)
    assert one_run_p_value(everything, 0.0, 0.06) >= 0.06


@pytest.mark.parametrize("correct", [170, 190, 200])
def test_bound_for_any_mechanism_is_below_that_for_independent_canaries(correct):
    """With independent Gaussian canaries the exact binomial bound is the largest that could be right."""
    low = stats.beta.ppf(0.05, correct, 200 - correct + 1)
    found = gaussian_mu_bound(Guesses(canaries=200, made=200, correct=correct))
    assert 0.0 < found < 2 * stats.norm.ppf(low)


def test_more_right_guesses_never_lower_a_bound():
    by_epsilon = [one_run_epsilon(Guesses(canaries=100, made=60, correct=c), 1e-5) for c in range(61)]
    by_mu = [gaussian_mu_bound(Guesses(canaries=100, made=60, correct=c)) for c in range(0, 61, 4)]
    assert by_epsilon == sorted(by_epsilon)
    assert by_mu == sorted(by_mu)
    assert by_epsilon[30] == by_mu[7] == 0.0
    assert by_epsilon[-1] > 2.9


def test_impossible_guesses_are_refused():
    with pytest.raises(ValueError, match="11 of 10 guesses on 20 canaries is impossible"):
        Guesses(canaries=20, made=10, correct=11)


def test_guessing_by_the_mean_is_perfect_without_noise_whatever_the_coins():
    included = np.random.default_rng(0).random(501) < 0.5
    assert guess_by_mean(3.0 * included, included).correct == 501
    assert guess_by_mean(-1.0 * included, included).correct == 0


@pytest.mark.parametrize("mu", [0.3, 1.0, 4.0])
@pytest.mark.parametrize("epsilon", [0.0, 1.0, 6.0])
def test_gaussian_delta_is_the_integral_of_the_hockey_stick(mu, epsilon):
    def excess(x):
        return max(0.0, stats.norm.pdf(x, mu) - math.exp(epsilon) * stats.norm.pdf(x))

    expected = integrate.quad(excess, epsilon / mu + mu / 2, epsilon / mu + mu / 2 + 40, epsabs=1e-13, limit=200)[0]
    assert gaussian_delta(mu, epsilon) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(("mu", "delta"), [(1.0, 1e-20), (3.0, 1e-40), (0.2, 1e-100)])
def test_gaussian_epsilon_of_a_tiny_delta_is_that_of_many_digits(mu, delta):
    mpmath = pytest.importorskip("mpmath")
    with mpmath.workdps(150):
        eps, m = mpmath.mpf(gaussian_epsilon(mu, delta)), mpmath.mpf(mu)
        exact = mpmath.ncdf(m / 2 - eps / m) - mpmath.exp(eps) * mpmath.ncdf(-m / 2 - eps / m)
    assert float(exact / mpmath.mpf(delta)) == pytest.approx(1.0, rel=1e-6)


def test_gaussian_epsilon_is_the_accountants():
    for noise in (0.8, 2.0, 5.0):
        expected = accounted(noise, 1.0, 1, 1e-5, "pld")
        assert gaussian_epsilon(1 / noise, 1e-5) == pytest.approx(expected, abs=0.02)
        assert gaussian_mu(gaussian_epsilon(1 / noise, 1e-5), 1e-5) == pytest.approx(1 / noise, rel=1e-6)
    assert gaussian_epsilon(1e-7, 1e-5) == 0.0


@pytest.mark.parametrize("alarms", [0.001, 0.05, 0.4, 0.9])
def test_tradeoff_functions_are_their_own_inverse_and_the_profile_gives_the_gaussian(alarms):
    gaussian = gaussian_tradeoff(1.0)
    assert gaussian(gaussian(alarms)) == pytest.approx(alarms, abs=1e-9)
    assert gaussian(alarms) == pytest.approx(stats.norm.cdf(stats.norm.ppf(1 - alarms) - 1))
    from_profile = profile_tradeoff(dp_sgd_profile(1.0, 1.0, 1))
    assert gaussian(alarms) - 0.01 < from_profile(alarms) <= gaussian(alarms) + 1e-6
    pure = approximate_dp_tradeoff(1.0, 0.0)
    assert pure(alarms) == pytest.approx(max(0, 1 - math.e * alarms, (1 - alarms) / math.e))


@pytest.mark.parametrize(("rate", "steps"), [(0.01, 1000), (0.05, 300)])
@pytest.mark.parametrize("epsilon", [1.0, 8.0])
def test_the_gaussian_of_the_same_epsilon_is_nowhere_more_private_than_noisy_sgd(rate, steps, epsilon):
    noise = noise_multiplier_for(epsilon, sample_rate=rate, steps=steps, delta=1e-5, accountant="rdp")
    exact = profile_tradeoff(dp_sgd_profile(noise, rate, steps))
    spent = accounted(noise, rate, steps, 1e-5, "pld")
    gaussian = gaussian_tradeoff(gaussian_mu(spent, 1e-5))
    assert all(exact(a) >= gaussian(a) - 1e-3 for a in np.geomspace(1e-3, 0.99, 30))


@pytest.mark.parametrize(("count", "mu"), [(100, 1.0), (1000, 0.2), (300, 5.0)])
def test_bounds_of_an_effect_hold_as_often_as_they_say(count, mu):
    rng, above, below = np.random.default_rng(2), 0, 0
    for _ in range(500):
        included = rng.random(count) < 0.5
        found = gaussian_effect(7.0 * (rng.normal(size=count) + mu * included), included, 0.95)
        assert found.low <= found.mu <= found.high
        above, below = above + (found.low > mu), below + (0.0 < found.high < mu)
    assert 0.02 < above / 500 < 0.08
    assert 0.02 < below / 500 < 0.08


def test_power_is_what_simulation_gives():
    rng, mu = np.random.default_rng(3), 0.5
    hits = 0
    for _ in range(400):
        included = np.arange(60) < 30
        hits += gaussian_effect(rng.normal(size=60) + 2 * mu * included, included, 0.95).low > mu
    assert hits / 400 == pytest.approx(effect_power(60, 2 * mu, mu, 0.95), abs=0.07)
    needed = canaries_needed(2 * mu, mu, 0.99)
    assert 0.985 < effect_power(needed, 2 * mu, mu, 0.99) < 0.999


def test_a_release_that_shows_nothing_refutes_nothing():
    effect = gaussian_effect(np.zeros(40), np.arange(40) % 2 == 0)
    assert (effect.mu, effect.low, effect.high, effect.infinite) == (0.0, 0.0, math.inf, False)


def test_no_noise_at_all_and_noise_that_is_not_normal_are_seen():
    included = np.arange(200) % 2 == 0
    assert gaussian_effect(3.0 * included, included).infinite
    heavy = np.random.default_rng(4).standard_cauchy(200)
    assert gaussian_effect(heavy + included, included).normal < 1e-4
