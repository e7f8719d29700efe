"""Student's t quantiles against scipy, closed forms and the published table."""

from __future__ import annotations

import math
import subprocess
import sys

import numpy as np
import pytest
from scipy.special import stdtrit

from auditkit.stats.intervals import t_value
from auditkit.stats.student import t_quantile

TAILS = (0.49, 0.4, 0.25, 0.1, 0.05, 0.025, 0.005, 1e-3, 1e-5, 1e-8, 1e-12)
FREEDOMS = (0.3, 0.5, 1, 1.5, 2, 2.5, 3, 3.3, 4, 7.77, 15, 39, 40, 41, 100.5, 999, 1999.5)


@pytest.mark.parametrize("freedom", FREEDOMS)
def test_quantiles_are_those_of_scipy(freedom):
    found = [t_quantile(tail, freedom) for tail in TAILS]
    assert found == pytest.approx([-float(stdtrit(freedom, tail)) for tail in TAILS], rel=2e-12)


def test_quantiles_of_any_freedom_and_tail_are_those_of_scipy():
    rng = np.random.default_rng(4)
    freedom, tail = np.exp(rng.uniform(np.log(0.3), np.log(2000), 500)), np.exp(rng.uniform(np.log(1e-9), -0.8, 500))
    found = np.array([t_quantile(q, f) for q, f in zip(tail.tolist(), freedom.tolist(), strict=True)])
    np.testing.assert_allclose(found, -stdtrit(freedom, tail), rtol=2e-12)


@pytest.mark.parametrize("tail", TAILS)
def test_one_two_and_four_degrees_have_closed_forms(tail):
    # Shaw (2006), "Sampling Student's T distribution", section 3.
    spread = 4.0 * tail * (1.0 - tail)
    root = 4.0 * math.cos(math.acos(math.sqrt(spread)) / 3.0) / math.sqrt(spread)
    assert t_quantile(tail, 1) == pytest.approx(1.0 / math.tan(math.pi * tail), rel=1e-9)
    assert t_quantile(tail, 2) == pytest.approx((1.0 - 2.0 * tail) * math.sqrt(2.0 / spread), rel=1e-9)
    assert t_quantile(tail, 4) == pytest.approx(math.sqrt(root - 4.0), rel=1e-6)


@pytest.mark.parametrize(
    ("freedom", "tail", "printed"),
    # Abramowitz and Stegun (1964), table 26.10.
    [
        (1, 0.025, 12.706),
        (5, 0.025, 2.571),
        (10, 0.025, 2.228),
        (30, 0.005, 2.750),
        (60, 0.05, 1.671),
        (120, 0.025, 1.980),
    ],
)
def test_quantiles_are_those_of_the_printed_table(freedom, tail, printed):
    assert round(t_quantile(tail, freedom), 3) == printed


@pytest.mark.parametrize("freedom", [1e-300, 1e-9, 1e-3, 0.01])
def test_hardly_any_freedom_gives_a_far_quantile_and_no_overflow(freedom):
    assert 1e100 < t_quantile(0.025, freedom) < math.inf


@pytest.mark.parametrize("freedom", [0, -1, math.nan])
def test_without_degrees_of_freedom_there_is_no_quantile(freedom):
    assert math.isnan(t_value(0.95, freedom))


def test_a_gate_on_student_intervals_starts_without_scipy():
    code = (
        "import sys\nfrom auditkit.stats.intervals import t_value\nassert round(t_value(0.95, 10), 3) == 2.228\n"
        "assert not any(name.split('.')[0] == 'scipy' for name in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
