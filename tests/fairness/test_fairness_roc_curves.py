"""Areas between many ROC curves at a time, against exact fractions and scikit-learn's curves."""

from __future__ import annotations

import itertools
from fractions import Fraction

import numpy as np
import pytest
from sklearn.metrics import roc_curve

from auditkit.methods.fairness.roc_curves import areas_between, roc_curves


def height(points, place, side):
    """Of the polyline ``points``: its height just right (+1) or just left (-1) of ``place``."""
    for (x0, y0), (x1, y1) in itertools.pairwise(points):
        inside = x0 <= place < x1 if side > 0 else x0 < place <= x1
        if inside:
            return y0 + (place - x0) * (y1 - y0) / (x1 - x0)
    raise AssertionError


def exact_area(one, two):
    """Area between two polylines in exact fractions, piece by piece."""
    total, grid = Fraction(0), sorted({x for x, _ in (*one, *two)})
    for left, right in itertools.pairwise(grid):
        start = height(one, left, 1) - height(two, left, 1)
        end = height(one, right, -1) - height(two, right, -1)
        if start * end >= 0:
            total += (right - left) * (abs(start) + abs(end)) / 2
        else:
            turn = (right - left) * abs(start) / (abs(start) + abs(end))
            total += turn * abs(start) / 2 + (right - left - turn) * abs(end) / 2
    return total


def polyline(positive, negative):
    x, y = [Fraction(0)], [Fraction(0)]
    for p, n in zip(positive[::-1].tolist(), negative[::-1].tolist(), strict=True):
        x.append(x[-1] + Fraction(n, int(negative.sum())))
        y.append(y[-1] + Fraction(p, int(positive.sum())))
    return list(zip(x, y, strict=True))


def tables(rng, levels, count):
    """Masses of few levels with many empty cells: steps straight up, flats and tied points."""
    found = rng.integers(0, 4, (count, 2, levels)) * rng.integers(0, 2, (count, 2, levels))
    found[found.sum(axis=2) == 0] = 1
    return found


@pytest.mark.parametrize("levels", [1, 2, 3, 7, 40])
def test_areas_equal_exact_fractions(levels):
    rng = np.random.default_rng(levels)
    first, second = tables(rng, levels, 75), tables(rng, levels, 75)
    found = areas_between(*(roc_curves(mass[:, 1], mass[:, 0]) for mass in (first, second)))
    for area, one, two in zip(found, first, second, strict=True):
        assert area == pytest.approx(float(exact_area(polyline(one[1], one[0]), polyline(two[1], two[0]))), abs=1e-14)


def test_one_curve_may_stand_against_many():
    masses = tables(np.random.default_rng(3), 6, 50)
    curves = roc_curves(masses[:, 1], masses[:, 0])
    one_by_one = [float(areas_between(curves[i], curves[7])[0]) for i in range(50)]
    np.testing.assert_array_equal(areas_between(curves, curves[7]), one_by_one)
    np.testing.assert_allclose(areas_between(curves[7], curves), one_by_one, rtol=0, atol=1e-15)
    assert one_by_one[7] == 0.0
    assert max(one_by_one) > 0.1


def test_curves_are_scikit_learns():
    rng = np.random.default_rng(0)
    y, score = rng.integers(0, 2, 300), rng.integers(0, 9, 300)
    mass = np.stack([np.bincount(score[y == label], minlength=9) for label in (0, 1)])
    curve = roc_curves(mass[1], mass[0])
    x, heights, _ = roc_curve(y, score, drop_intermediate=False)
    np.testing.assert_allclose((curve.x, curve.y), (x, heights), rtol=0, atol=1e-15)


def test_a_curve_without_a_class_is_refused():
    with pytest.raises(ValueError, match="both classes"):
        roc_curves(np.array([[1.0, 2.0], [0.0, 0.0]]), np.ones((2, 2)))
