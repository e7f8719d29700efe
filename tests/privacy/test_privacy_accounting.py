"""Epsilon against closed forms, numerical integration, a second library and published values."""

import math

import numpy as np
import pytest

pytest.importorskip("opacus")

from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq
from scipy.stats import norm

from auditkit.core.errors import AuditkitError, UsageError
from auditkit.methods.privacy import accountants, accounting
from auditkit.methods.privacy.accounting import default_delta, epsilon, guarantee, noise_multiplier_for


def gaussian_epsilon(noise, steps, delta):
    """Balle and Wang (2018), theorem 8: the exact curve of composed Gaussian mechanisms without sampling."""
    mu = math.sqrt(steps) / noise

    def excess(eps):
        return norm.cdf(mu / 2 - eps / mu) - math.exp(eps) * norm.cdf(-mu / 2 - eps / mu) - delta

    return brentq(excess, 1e-9, 200)


def one_step_epsilon(noise, rate, delta):
    """The hockey-stick divergence of one Poisson-sampled step, integrated, in the worse direction."""

    x = np.linspace(-12 * noise, 1 + 12 * noise, 200_001)
    plain = norm.pdf(x, 0, noise)
    mixed = (1 - rate) * plain + rate * norm.pdf(x, 1, noise)

    def excess(eps, first, second):
        return np.trapezoid(np.maximum(0.0, first - math.exp(eps) * second), x) - delta

    pairs = [pair for pair in ((mixed, plain), (plain, mixed)) if excess(1e-6, *pair) > 0]
    return max(brentq(excess, 1e-6, 40, args=pair) for pair in pairs)


@pytest.mark.parametrize(("noise", "steps"), [(2.0, 10), (10.0, 10), (1.0, 1), (5.0, 200)])
def test_epsilon_without_sampling_is_the_closed_form(noise, steps):
    exact = gaussian_epsilon(noise, steps, 1e-5)
    assert exact <= epsilon(noise, 1.0, steps, 1e-5) <= exact + 0.012
    assert exact - 1e-3 <= epsilon(noise, 1.0, steps, 1e-5, "pld") <= exact + 0.005


@pytest.mark.parametrize(("noise", "rate", "delta"), [(0.6, 0.1, 1e-3), (1.0, 0.3, 1e-3)])
def test_epsilon_of_one_sampled_step_is_the_integral(noise, rate, delta):
    exact = one_step_epsilon(noise, rate, delta)
    assert exact - 1e-6 <= epsilon(noise, rate, 1, delta) <= exact + 0.012


def test_abadi_published_value_is_a_bound():
    """Abadi et al. (2016), section 1: q = 0.01, sigma = 4, T = 10 000, delta = 1e-5 gives 1.26 by moments."""
    prv, rdp = (epsilon(4.0, 0.01, 10_000, 1e-5, name) for name in ("prv", "rdp"))
    assert prv < rdp <= 1.26
    assert prv == pytest.approx(0.95, abs=0.05)


@pytest.mark.parametrize(("noise", "rate", "steps"), [(1.0, 0.0512, 400), (2.0, 0.0512, 400), (1.1, 0.0043, 14070)])
def test_two_accountants_agree_and_moments_are_above_both(noise, rate, steps):
    prv, pld, rdp = (epsilon(noise, rate, steps, 1e-5, name) for name in accounting.ACCOUNTANTS)
    assert pld <= prv <= pld + 0.011
    assert rdp > prv


def test_epsilon_falls_with_noise_and_grows_with_steps_and_rate():
    noises = [epsilon(noise, 0.05, 100, 1e-5) for noise in (0.7, 1.0, 2.0, 8.0)]
    assert noises == sorted(noises, reverse=True)
    assert epsilon(1.0, 0.05, 50, 1e-5) < epsilon(1.0, 0.05, 100, 1e-5) < epsilon(1.0, 0.1, 100, 1e-5)
    assert epsilon(1.0, 0.05, 100, 1e-6) > epsilon(1.0, 0.05, 100, 1e-5)


def test_no_noise_and_no_steps():
    assert epsilon(0.0, 0.1, 10, 1e-5) == math.inf
    assert epsilon(0.0, 0.1, 0, 1e-5) == 0.0
    with pytest.raises(AuditkitError, match="AK563 without noise no epsilon is finite"):
        guarantee(0.0, n=1000, batch_size=64, steps=10, delta=1e-5)


@pytest.mark.parametrize("target", [0.1, 1.0, 6.0])
def test_noise_for_a_target_spends_it_and_never_more(target):
    noise = noise_multiplier_for(target, sample_rate=0.05, steps=100, delta=1e-5)
    assert 0.99 * target <= epsilon(noise, 0.05, 100, 1e-5) <= target


def test_noise_for_a_target_by_the_second_accountant():
    noise = noise_multiplier_for(1.0, sample_rate=0.05, steps=200, delta=1e-5, accountant="pld")
    assert 0.99 <= epsilon(noise, 0.05, 200, 1e-5, "pld") <= 1.0


@pytest.mark.parametrize("target", [0.0, -1.0, 0.04, math.inf, math.nan])
def test_targets_out_of_reach_are_refused(target):
    with pytest.raises(AuditkitError, match="AK563 epsilon .* is below what the accountant can resolve"):
        noise_multiplier_for(target, sample_rate=0.1, steps=10, delta=1e-5)


def test_gdp_is_refused_because_it_under_reports():
    with pytest.raises(UsageError, match="AK561 the GDP accountant is refused(.|\n)*reports less epsilon"):
        epsilon(1.0, 0.1, 10, 1e-5, "gdp")
    with pytest.raises(UsageError, match="AK561 there is no accountant 'moments'"):
        epsilon(1.0, 0.1, 10, 1e-5, "moments")


def test_delta_must_be_below_one_over_n():
    with pytest.raises(UsageError, match="AK560 delta = 0.001 is not below 1/n = 0.001"):
        epsilon(1.0, 0.1, 10, 1e-3, n=1000)
    assert epsilon(1.0, 0.1, 10, 0.999e-3, n=1000) > 0
    for delta in (0.0, 1.0, -1e-5):
        with pytest.raises(UsageError, match="AK560 delta must be above 0 and below 1"):
            epsilon(1.0, 0.1, 10, delta)
    for n in (1, 10, 1000, 10**7):
        assert default_delta(n) < 1 / n


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((-1.0, 0.1, 10), "noise multiplier must be 0 or more"),
        ((math.nan, 0.1, 10), "noise multiplier must be 0 or more"),
        ((1.0, 0.0, 10), "sample rate must be above 0 and at most 1"),
        ((1.0, 1.1, 10), "sample rate must be above 0 and at most 1"),
        ((1.0, 0.1, 10.5), "steps must be a whole number"),
        ((1.0, 0.1, -1), "steps must be a whole number"),
        ((1.0, 0.1, math.nan), "steps must be a whole number"),
    ],
)
def test_arguments_that_make_no_sense(arguments, message):
    with pytest.raises(UsageError, match=f"AK564 {message}|AK564 the {message}"):
        epsilon(*arguments, 1e-5)


def test_batch_larger_than_the_data():
    with pytest.raises(UsageError, match="AK565 the batch size 101 is larger than the 100 training rows"):
        guarantee(1.0, n=100, batch_size=101, steps=10, delta=1e-5)


def test_an_accountant_that_under_reports_fails_the_run(monkeypatch):
    honest = accountants.prv_epsilon
    arguments = {"n": 1000, "batch_size": 50, "steps": 100, "delta": 1e-5}
    with monkeypatch.context() as patch:
        accounting._epsilon.cache_clear()
        patch.setattr(accountants, "prv_epsilon", lambda *numbers: 0.8 * honest(*numbers))
        with pytest.raises(AuditkitError, match="AK562 two accountants disagree on epsilon"):
            guarantee(1.0, **arguments)
    accounting._epsilon.cache_clear()
    assert guarantee(1.0, **arguments).second_opinion is not None


def test_long_trainings_are_confirmed_by_the_second_accountant():
    promise = guarantee(1.0, n=50_000, batch_size=50, steps=100_000, delta=2e-6)
    assert promise.second_opinion == pytest.approx(promise.epsilon, abs=0.012)


def test_a_grid_that_would_fill_the_memory_is_refused_before_it_is_made(monkeypatch):
    assert accountants.prv_points(1.0, 0.01, 1000, 1e-5) < 1e6
    monkeypatch.setattr(accountants, "PRVAccountant", lambda: pytest.fail("the grid was made"))
    with pytest.raises(
        AuditkitError, match=r"(?s)AK563 the PRV accountant gives no epsilon.*would have 1.9e\+09 points"
    ):
        epsilon(0.3, 0.5, 10_000, 1e-5)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.floats(1e-12, 1e6))
def test_a_bound_in_print_is_never_below_itself(value):
    told = accounting.rounded_up(value)
    assert value <= float(told) <= value * 1.0101
    assert len(told.split("e")[0].replace(".", "").strip("0")) <= 3


def test_without_the_second_library_there_is_no_second_opinion(monkeypatch):
    monkeypatch.setattr(accountants, "pld_available", lambda: False)
    promise = guarantee(1.0, n=1000, batch_size=50, steps=100, delta=1e-5)
    assert promise.second_opinion is None
    assert promise.epsilon > 0


def test_a_guarantee_says_what_it_rests_on():
    promise = guarantee(1.0, n=1000, batch_size=50, steps=100, delta=1e-5)
    for words in ("adding or removing one row", "Poisson", "delta 1e-05", "(1000) is treated as public"):
        assert words in promise.sentence()
    assert promise.sample_rate == 0.05
    assert promise.loose > promise.epsilon


def test_the_room_gives_its_functions_by_name_and_stays_light():
    import subprocess
    import sys

    code = (
        "import sys; import auditkit.methods.privacy as p; assert 'torch' not in sys.modules;"
        "assert p.epsilon(0.0, 0.1, 1, 1e-5) == float('inf'); assert 'torch' not in sys.modules;"
        "assert p.dp_train.__name__ == 'dp_train'"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    import auditkit.methods.privacy as room

    with pytest.raises(AttributeError, match="no attribute 'gdp'"):
        room.gdp  # noqa: B018
