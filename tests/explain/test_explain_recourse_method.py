"""The cheapest change found against the least there is: linear programs, grids looked through, leaves of trees."""

import dataclasses
import doctest
import itertools
import math

import numpy as np
import pytest
import scipy.optimize
import scipy.stats
from sklearn.ensemble import RandomForestClassifier
from sklearn.tree import DecisionTreeClassifier

import auditkit.stats.medians
from auditkit.core.feasible import Choice, Feasible, Rules
from auditkit.methods.explain import recourse
from auditkit.methods.explain.recourse import find_recourse
from auditkit.methods.explain.recourse_moves import Search, changed_parts
from auditkit.stats.linearised import Design
from auditkit.stats.medians import median_estimate


@pytest.mark.parametrize("module", [recourse, auditkit.stats.medians])
def test_documented_examples_hold(module):
    result = doctest.testmod(module)
    assert result.attempted > 0
    assert result.failed == 0


def program(x, w, b, space):
    """Least cost of ``w @ point + b >= 0`` inside the bounds, by linear programming over changes up and down."""
    f = len(w)
    mutable = space.scale > 0
    price = np.tile(np.where(mutable, 1 / np.where(mutable, space.scale, 1.0), 0.0), 2)
    up, down = np.where(mutable, space.high - x, 0.0), np.where(mutable, x - space.low, 0.0)
    falls = np.ones(f, bool) if space.falls is None else space.falls
    limits = [(0, u) for u in up] + [(0, d if may else 0) for d, may in zip(down, falls, strict=True)]
    solved = scipy.optimize.linprog(price, A_ub=-np.concatenate([w, -w])[None], b_ub=[w @ x + b], bounds=limits)
    return solved.fun if solved.status == 0 else math.inf


@pytest.mark.parametrize("f", [4, 12])
def test_linear_models_against_linear_programs(f):
    rng = np.random.default_rng(f)
    w, x = rng.normal(size=f), rng.normal(size=(80, f))
    b = -1.2 * np.linalg.norm(w)
    scale = rng.uniform(0.5, 2.0, f)
    scale[0] = 0.0  # immutable
    space = Feasible(
        low=x.min(axis=0), high=x.max(axis=0), scale=scale, whole=np.zeros(f, bool), falls=np.arange(f) != 1
    )

    def judge(points):
        return points @ w + b >= 0, points @ w + b

    x = x[~judge(x)[0]]
    donors = rng.normal(size=(800, f)).clip(space.low, space.high)
    found = find_recourse(judge, x, space, donors[judge(donors)[0]])
    least = np.array([program(row, w, b, space) for row in x])
    assert found.found.tolist() == np.isfinite(least).tolist()
    ratio = (found.cost / least)[found.found]
    assert ratio.min() > 1 - 1e-9
    assert ratio.mean() < 1.01
    assert np.median(ratio) < 1.0005
    assert space.feasible(x, found.points, None).all()
    assert judge(found.points[found.found])[0].all()
    assert (found.points[:, 0] == x[:, 0]).all()
    assert (found.points[:, 1] >= x[:, 1]).all()


def whole_numbers(seed=0, n=1500):
    """Four whole numbers 0..9, of which the last may only rise, and a one-hot group of three."""
    rng = np.random.default_rng(seed)
    x = np.column_stack([rng.integers(0, 10, (n, 4)), np.eye(3)[rng.integers(0, 3, n)]]).astype(float)
    merit = (x[:, 0] - 4.5) * 0.5 + (x[:, 1] - 4.5) * (x[:, 2] > 5) * 0.6 + 0.8 * x[:, 5] - 0.1 * (x[:, 3] - 4) ** 2
    y = merit + rng.normal(0, 0.7, n) > 0.8
    category = Choice(columns=np.array([4, 5, 6]), options=np.eye(3), cost=0.8)
    space = Feasible(
        low=np.zeros(7), high=np.array([9.0] * 4 + [1.0] * 3), scale=np.array([2.9] * 4 + [0.0] * 3),
        whole=np.array([True] * 4 + [False] * 3), falls=np.array([True] * 3 + [False] + [True] * 3),
        choices=(category,),
    )  # fmt: skip
    return x, y, space


def looked_through(judge, x, space):
    """The least cost over every point of the grid that is feasible and accepted."""
    numbers = np.array(list(itertools.product(range(10), repeat=4)), dtype=float)
    grid = np.concatenate([np.column_stack([numbers, np.tile(o, (len(numbers), 1))]) for o in np.eye(3)])
    yes = grid[judge(grid)[0]]
    price = np.array([1 / 2.9] * 4)
    out = []
    for row in x:
        cost = np.abs(yes[:, :4] - row[:4]) @ price + 0.8 * (yes[:, 4:] != row[4:]).any(axis=1)
        out.append(cost[yes[:, 3] >= row[3]].min(initial=np.inf))
    return np.array(out)


@pytest.mark.parametrize("scored", [True, False])
def test_forests_on_whole_numbers_against_every_point_of_the_grid(scored):
    x, y, space = whole_numbers()
    forest = RandomForestClassifier(15, max_depth=7, random_state=0).fit(x, y)

    def judge(points):
        score = forest.predict_proba(points)[:, 1]
        return score > 0.5, score if scored else np.zeros(len(points))

    yes = judge(x)[0]
    rows = x[~yes][:60]
    found = find_recourse(judge, rows, space, x[yes][:200])
    least = looked_through(judge, rows, space)
    ratio = (found.cost / least)[found.found]
    assert ratio.min() > 1 - 1e-9
    assert found.found.mean() >= (np.isfinite(least).mean() if scored else 0.9)
    assert ratio.mean() < (1.005 if scored else 1.05)
    assert np.mean(ratio < 1 + 1e-9) > (0.85 if scored else 0.7)
    assert space.feasible(rows, found.points, None).all()
    assert (found.points == np.round(found.points)).all()
    assert (found.points[:, 4:].sum(axis=1) == 1).all()


def leaves(tree, f):
    """``(low, high]`` of every accepted leaf of a fitted tree."""
    inner, boxes = tree.tree_, []

    def descend(node, low, high):
        if inner.children_left[node] == -1:
            if inner.value[node][0].argmax() == 1:
                boxes.append((low, high))
            return
        j, cut = inner.feature[node], inner.threshold[node]
        below, above = high.copy(), low.copy()
        below[j], above[j] = min(high[j], cut), max(low[j], cut)
        descend(inner.children_left[node], low, below)
        descend(inner.children_right[node], above, high)

    descend(0, np.full(f, -np.inf), np.full(f, np.inf))
    return boxes


@pytest.mark.parametrize("depth", [3, 6])
def test_trees_against_their_leaves(depth):
    rng = np.random.default_rng(depth)
    x = rng.uniform(-1, 1, size=(600, 4))
    y = (x[:, 0] * x[:, 1] + 0.5 * x[:, 2] + rng.normal(0, 0.2, 600)) > 0.3
    tree = DecisionTreeClassifier(max_depth=depth, random_state=0).fit(x, y)
    scale = np.array([0.5, 1.0, 0.7, 2.0])
    space = Feasible(low=np.full(4, -1.0), high=np.ones(4), scale=scale, whole=np.zeros(4, bool))

    def judge(points):
        score = tree.predict_proba(points)[:, 1]
        return score > 0.5, score

    rows = x[~judge(x)[0]][:60]
    found = find_recourse(judge, rows, space, x[judge(x)[0]][:200])
    gaps = [np.maximum(low - rows, 0) + np.maximum(rows - high, 0) for low, high in leaves(tree, 4)]
    least = np.min([(gap / scale).sum(axis=1) for gap in gaps], axis=0)
    assert found.found.all()
    assert (found.cost > least - 1e-6).all()
    # One deep tree is the hardest to search: accepted cells are small and the score leads past them.
    least_found = np.mean(found.cost < 1.001 * least + 1e-6)
    assert least_found > (0.95 if depth == 3 else 0.55)


def test_rules_missing_cells_and_directions_are_kept():
    rng = np.random.default_rng(0)
    x = rng.uniform(0, 5, size=(40, 3))
    x[::5, 2] = np.nan
    rules = Rules(matrix=np.array([[1.0, -0.5, 0.0]]), most=np.array([4.0]), texts=("a <= 0.5*b + 4",))
    space = Feasible(low=np.zeros(3), high=np.full(3, 10.0), scale=np.ones(3), whole=np.zeros(3, bool), rules=rules)

    def judge(points):
        score = np.nan_to_num(points).sum(axis=1)
        return score >= 14, score

    found = find_recourse(judge, x, space, np.array([[5.0, 9.0, 9.0]]))
    assert found.found.any()
    assert space.feasible(x, found.points, None).all()
    assert np.isnan(found.points[::5, 2]).all()
    assert judge(found.points[found.found])[0].all()


def test_categories_move_in_their_directions_only():
    """A diploma may be won and never given back: the cheap way is barred, the dear one is found."""
    space = Feasible(
        low=np.zeros(2), high=np.array([1.0, 10.0]), scale=np.array([0.0, 1.0]), whole=np.zeros(2, bool),
        falls=np.array([False, True]),
        choices=(Choice(columns=np.array([0]), options=np.array([[0.0], [1.0]])),),
    )  # fmt: skip
    free = dataclasses.replace(space, falls=None)

    def judge(points):
        score = np.where(points[:, 0] == 0.0, 5.0, points[:, 1]) - 4.0
        return score >= 0.0, score

    x = np.array([[1.0, 1.0]])
    barred = find_recourse(judge, x, space, np.zeros((0, 2)))
    np.testing.assert_allclose(barred.points, [[1.0, 4.0]], atol=1e-3)
    assert space.feasible(x, barred.points, None).all()
    np.testing.assert_allclose(find_recourse(judge, x, free, np.zeros((0, 2))).points, [[0.0, 1.0]])
    won = space.project(np.array([[0.0, 1.0]]), np.array([[1.0, 1.0]]), None)
    assert won.tolist() == [[1.0, 1.0]]
    assert space.project(x, np.array([[0.0, 1.0]]), None).tolist() == x.tolist()


def test_what_is_out_of_reach_is_not_found():
    x = np.zeros((3, 2))
    space = Feasible(low=np.zeros(2), high=np.ones(2), scale=np.ones(2), whole=np.zeros(2, bool))
    found = find_recourse(lambda p: (p.sum(axis=1) > 5, p.sum(axis=1)), x, space, np.zeros((0, 2)))
    assert not found.found.any()
    assert np.isinf(found.cost).all()
    assert (found.points == x).all()
    frozen = Feasible(low=np.zeros(2), high=np.ones(2), scale=np.zeros(2), whole=np.zeros(2, bool))
    assert not find_recourse(lambda p: (p.sum(axis=1) > 5, p.sum(axis=1)), x, frozen, x).found.any()
    none = find_recourse(lambda p: (p.sum(axis=1) > 5, p.sum(axis=1)), x[:0], space, x)
    assert none.found.shape == (0,)


def test_labels_that_need_many_changes_at_once_are_reached_through_accepted_rows():
    x = np.zeros((2, 6))
    space = Feasible(low=np.zeros(6), high=np.ones(6), scale=np.ones(6), whole=np.zeros(6, bool))

    def judge(points):
        return (points > 0.4).all(axis=1), np.zeros(len(points))

    found = find_recourse(judge, x, space, np.full((1, 6), 0.9), Search(max_changes=2))
    assert found.found.all()
    assert np.allclose(found.cost, 6 * 0.4, atol=0.01)
    assert changed_parts(space, x, found.points).all()


def test_medians_with_what_never_happened():
    values = np.array([3.0, 1.0, 2.0, np.inf, np.inf])
    assert median_estimate(values).value == 3.0
    assert median_estimate(np.array([1.0, np.inf, np.inf])).value is None
    assert median_estimate(np.array([1.0, np.inf])).value is None
    assert median_estimate(np.zeros(0)).value is None
    assert median_estimate(np.array([1.0, 2.0, 3.0, 4.0])).value == 2.5
    many = np.sort(np.random.default_rng(0).normal(size=101))
    interval = median_estimate(many).interval(0.95)
    ranks = [int(np.flatnonzero(many == end)[0]) + 1 for end in (interval.low, interval.high)]
    inside = scipy.stats.binom.cdf(ranks[1] - 1, 101, 0.5) - scipy.stats.binom.cdf(ranks[0] - 1, 101, 0.5)
    tighter = scipy.stats.binom.cdf(ranks[1] - 2, 101, 0.5) - scipy.stats.binom.cdf(ranks[0], 101, 0.5)
    assert inside >= 0.95 > tighter
    assert median_estimate(np.arange(4.0)).interval(0.95) is None
    mostly = median_estimate(np.concatenate([np.arange(60.0), np.full(38, np.inf)]))
    assert mostly.value == 48.5
    assert mostly.interval(0.95).high == 59.0
    doubled = median_estimate(np.repeat(many, 2), Design(None, np.repeat(np.arange(101), 2))).interval(0.95)
    assert doubled.low == pytest.approx(interval.low, abs=0.15)
    weighted = median_estimate(np.array([1.0, 2.0, 3.0]), Design(np.array([1.0, 1.0, 5.0])))
    assert weighted.value == 3.0


def test_of_very_many_features_those_that_matter_are_searched():
    rng = np.random.default_rng(0)
    f, n = 200, 8
    w = np.zeros(f)
    w[[3, 70, 150]] = 1.0, -2.0, 0.5
    x = rng.normal(size=(n, f))
    space = Feasible(low=np.full(f, -4.0), high=np.full(f, 4.0), scale=np.ones(f), whole=np.zeros(f, bool))

    def judge(points):
        return points @ w >= 6, points @ w

    x = x[~judge(x)[0]]
    found = find_recourse(judge, x, space, x)
    assert {3, 70, 150} <= set(found.parts.tolist())
    assert len(found.parts) == 40
    assert found.found.all()
    least = np.array([program(row, w, -6.0, space) for row in x])
    assert (found.cost / least).max() < 1.01
