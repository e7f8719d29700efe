"""Tables: what is feasible, the searches inside it, ART behind its adapter, and points scored afresh."""

import logging
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.tree import DecisionTreeClassifier

from auditkit.core.errors import MissingExtra, UsageError
from auditkit.methods.robustness import art_engine, checks
from auditkit.methods.robustness.feasible import Feasible
from auditkit.methods.robustness.lockstep import in_lockstep
from auditkit.methods.robustness.rescore import rescore
from auditkit.methods.robustness.search import feasible_search, margin_loss, random_noise


def free(features, scale=1.0):
    return Feasible(
        low=np.full(features, -np.inf),
        high=np.full(features, np.inf),
        scale=np.full(features, scale),
        whole=np.zeros(features, dtype=bool),
    )


cells = st.floats(-20, 20, allow_nan=False)


@settings(max_examples=80, deadline=None)
@given(
    x=st.lists(st.lists(cells, min_size=4, max_size=4), min_size=1, max_size=5),
    moved=st.lists(st.floats(-1e6, 1e6), min_size=4, max_size=4),
    eps=st.one_of(st.none(), st.floats(0, 5)),
)
def test_projection_is_feasible_and_idempotent(x, moved, eps):
    space = Feasible(
        low=np.array([-20.0, -3.0, 0.0, -20.0]),
        high=np.array([20.0, 3.0, 9.0, 20.0]),
        scale=np.array([1.0, 0.5, 2.0, 0.0]),
        whole=np.array([False, False, True, False]),
    )
    rows = np.array(x)
    rows[:, 2] = np.round(rows[:, 2])
    points = space.project(rows, rows + np.array(moved), eps)
    assert space.violations(rows, points, eps) == 0
    np.testing.assert_array_equal(points[:, 3], rows[:, 3])
    np.testing.assert_array_equal(points[:, 2], np.round(points[:, 2]))
    np.testing.assert_array_equal(space.project(rows, points, eps), points)
    np.testing.assert_array_equal(space.project(rows, rows, eps), rows)
    if eps is not None:
        assert (np.abs(points - rows)[:, :3] <= eps * space.scale[:3] * (1 + 1e-9) + 1e-8).all()


def test_violations_catch_each_kind_of_fault():
    space = Feasible(
        low=np.zeros(3), high=np.full(3, 9.0), scale=np.array([1.0, 1.0, 0.0]), whole=np.array([False, True, False])
    )
    x = np.array([[1.0, 2.0, 3.0]])
    for bad in ([1.6, 2, 3], [1, 2.4, 3], [1, 2, 3.1], [1, 2, np.nan], [-0.2, 2, 3]):
        assert space.violations(x, np.array([bad], dtype=float), 0.5) == 1, bad
    assert space.violations(x, np.array([[1.5, 2.0, 3.0]]), 0.5) == 0
    assert space.violations(x, np.array([[9.5, 2.0, 3.0]]), None) == 1


def test_missing_cells_and_frozen_features_never_move():
    space = Feasible(low=np.zeros(2), high=np.ones(2), scale=np.array([1.0, 0.0]), whole=np.zeros(2, dtype=bool))
    x = np.array([[np.nan, 0.5], [0.2, np.nan]])
    points = space.project(x, np.ones((2, 2)), None)
    np.testing.assert_array_equal(points, [[np.nan, 0.5], [1.0, np.nan]])
    assert space.distance(x, points).tolist() == [0.0, 0.8]


def test_lengths_that_differ_are_refused():
    with pytest.raises(UsageError, match="AK535 low, high, scale and whole differ in length"):
        Feasible(low=np.zeros(2), high=np.ones(3), scale=np.ones(3), whole=np.zeros(3, dtype=bool))
    with pytest.raises(UsageError, match="AK535 scale must be finite"):
        Feasible(low=np.zeros(1), high=np.ones(1), scale=np.array([np.nan]), whole=np.zeros(1, dtype=bool))


@pytest.fixture(scope="module")
def line():
    """A logistic regression on six features with the rows it decides rightly."""
    rng = np.random.default_rng(3)
    x = rng.standard_normal((300, 6))
    y = (x @ np.array([1.0, -2.0, 0.5, 0.0, 1.5, -0.5]) + 0.3 * rng.standard_normal(300) > 0).astype(np.int64)
    model = LogisticRegression().fit(x, y)
    right = model.predict(x) == y
    return model, x[right][:60], y[right][:60]


def exact_distance(model, x):
    return np.abs(model.decision_function(x)) / np.abs(model.coef_[0]).sum()


def judge_of(model):
    def judge(points, y):
        scores = model.predict_proba(points)
        return scores.argmax(axis=1) != y, margin_loss(scores, y)

    return judge


@pytest.mark.parametrize("eps", [0.1, 0.3, 0.6])
def test_search_never_beats_and_nearly_meets_the_closed_form(line, eps):
    model, x, y = line
    possible = exact_distance(model, x) < eps
    rng = np.random.default_rng(0)
    found = feasible_search(judge_of(model), x, y, free(6), eps, rounds=60, rng=rng)
    blind = random_noise(model.predict, x, y, free(6), eps, draws=20, rng=rng)
    assert not (found.success & ~possible).any()
    assert not (blind.success & ~possible).any()
    assert found.success.sum() >= possible.sum() - 2
    assert found.success.sum() >= blind.success.sum()
    assert (free(6).distance(x, found.points) <= eps * (1 + 1e-9)).all()


def test_search_in_blocks_is_still_feasible(line, monkeypatch):
    from auditkit.methods.robustness import search

    monkeypatch.setattr(search, "CELLS", 500)
    model, x, y = line
    found = feasible_search(judge_of(model), x, y, free(6), 0.3, rng=np.random.default_rng(0))
    np.testing.assert_array_equal(model.predict(found.points) != y, found.success)
    blind = random_noise(model.predict, x, y, free(6), 0.3, draws=20, rng=np.random.default_rng(0))
    np.testing.assert_array_equal(model.predict(blind.points) != y, blind.success)


def jump(model, x, y, space, seed=0, **budget):
    rng = np.random.default_rng(seed)
    starts, _ = art_engine.adversarial_starts(model.predict, x, y, space, x, draws=60, rng=rng)
    return art_engine.hop_skip_jump(model.predict, x, y, space, starts, seed=seed, **budget)


def test_hop_skip_jump_is_above_and_near_the_exact_distance(line):
    model, x, y = line
    exact = exact_distance(model, x[:20])
    found = jump(model, x[:20], y[:20], free(6), max_iter=20, max_queries=20_000)
    assert found.started.all()
    assert found.rescored.fooled.all()
    assert (found.rescored.distance >= exact - 1e-6).all()
    assert np.median(found.rescored.distance / exact) < 1.6
    more = exact.max() * 3
    assert found.rescored.success(more).sum() >= 18
    assert not found.rescored.success(exact.min() * 0.99).any()


@pytest.mark.parametrize("bound", [9.0, np.inf])
@pytest.mark.parametrize("odd", [np.inf, -np.inf, 1e300, np.nan])
def test_a_cell_that_cannot_be_walked_from_stays_and_the_others_are_attacked(odd, bound):
    pytest.importorskip("art")
    space = Feasible(low=np.full(2, -bound), high=np.full(2, bound), scale=np.ones(2), whole=np.zeros(2, dtype=bool))
    x, y = np.array([[odd, 1.0], [0.0, 1.0]]), np.zeros(2, dtype=np.int64)
    pool = np.array([[0.0, 5.0], [1.0, 4.0], [0.0, -4.0]])

    def decide(points):
        return (points[:, 1] > 3.0).astype(np.int64)

    starts, _ = art_engine.adversarial_starts(decide, x, y, space, pool, draws=20, rng=np.random.default_rng(0))
    for attack in (art_engine.hop_skip_jump, art_engine.boundary_attack):
        found = attack(decide, x, y, space, starts).rescored
        assert found.fooled.all()
        assert found.distance == pytest.approx([2.0, 2.0], abs=0.05)
        np.testing.assert_equal(found.points[0, 0], odd)


def test_a_row_that_only_an_infinite_cell_decides_is_not_walked_from():
    pytest.importorskip("art")
    x, y = np.array([[np.inf, 1.0], [5.0, 1.0]]), np.zeros(2, dtype=np.int64)

    def decide(points):
        return (points[:, 0] < 3.0).astype(np.int64)

    pool, rng = np.array([[0.0, 5.0]]), np.random.default_rng(0)
    starts, _ = art_engine.adversarial_starts(decide, x, y, free(2), pool, draws=20, rng=rng)
    found = art_engine.hop_skip_jump(decide, x, y, free(2), starts)
    assert found.started.tolist() == [False, True]
    assert found.rescored.fooled.tolist() == [False, True]


def test_hop_skip_jump_repeats_and_leaves_the_generators_alone(line):
    model, x, y = line
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    first, second = (jump(model, x[:5], y[:5], free(6)) for _ in range(2))
    np.testing.assert_array_equal(first.rescored.points, second.rescored.points)
    np.testing.assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002
    other = jump(model, x[:5], y[:5], free(6), seed=1)
    assert (other.rescored.points != first.rescored.points).any()


def test_every_point_that_the_model_sees_is_feasible(line):
    _, x, _ = line
    x = x.copy()
    x[:, 0] = np.round(x[:, 0] * 4)
    y = (x[:, 0] + x[:, 1] > 0).astype(np.int64)
    space = Feasible(
        low=x.min(axis=0),
        high=x.max(axis=0),
        scale=np.array([2.0, 1.0, 1.0, 1.0, 0.0, 0.0]),
        whole=np.array([True] + [False] * 5),
    )
    seen = []

    def decide(points):
        seen.append(points)
        return (points[:, 0] + points[:, 1] > 0).astype(np.int64)

    starts, _ = art_engine.adversarial_starts(decide, x, y, space, x, draws=60, rng=np.random.default_rng(0))
    found = art_engine.hop_skip_jump(decide, x, y, space, starts)
    for points in seen:
        assert (points[:, 0] == np.round(points[:, 0])).all()
        assert (points >= space.low - 1e-9).all()
        assert (points <= space.high + 1e-9).all()
    assert found.rescored.fooled[found.started].all()
    np.testing.assert_array_equal(found.rescored.points[:, 4:], x[:, 4:])
    assert space.violations(x, found.rescored.points, None) == 0


def test_a_row_without_a_start_is_left_alone_and_said_so(line):
    _, x, _ = line
    found = art_engine.hop_skip_jump(
        lambda points: np.zeros(len(points), dtype=np.int64),
        x[:3],
        np.zeros(3, dtype=np.int64),
        free(6),
        np.full((3, 6), np.nan),
    )
    assert not found.started.any()
    assert found.rescored.invalid == "the attack moved no row, so that no row was fooled says nothing about the model"


def test_query_budget_ends_a_walk_but_keeps_what_it_found(line):
    model, x, y = line
    found = jump(model, x[:5], y[:5], free(6), max_queries=60)
    assert found.exhausted == 5
    assert found.rescored.fooled.all()
    assert found.n_evaluations <= 5 * 60 + 5


def test_one_class_is_never_fooled(line):
    _, x, _ = line
    constant = lambda points: np.zeros(len(points), dtype=np.int64)  # noqa: E731
    y = np.zeros(len(x), dtype=np.int64)
    starts, spent = art_engine.adversarial_starts(constant, x, y, free(6), x, draws=7, rng=np.random.default_rng(0))
    assert np.isnan(starts).all()
    assert spent == 7 * len(x)


def test_toolbox_attack_that_moves_nothing_is_invalid(line):
    """ZOO at its default step leaves trees' inputs where they are, and its own score calls that robust."""
    _, x, y = line
    forest = RandomForestClassifier(10, random_state=0).fit(x, y)
    evasion = art_engine.load("art.attacks.evasion")
    wrapper = art_engine.load("art.estimators.classification")
    classifier = wrapper.SklearnClassifier(model=forest, clip_values=(x.min(), x.max()))
    attack = evasion.ZooAttack(
        classifier, max_iter=5, nb_parallel=2, use_resize=False, use_importance=False, verbose=False
    )
    points = attack.generate(x[:5].astype(np.float32))
    space = Feasible(low=x.min(axis=0), high=x.max(axis=0), scale=np.ones(6), whole=np.zeros(6, dtype=bool))
    clean = x[:5].astype(np.float32).astype(np.float64)
    scored = rescore(forest.predict, clean, y[:5], points, space)
    assert scored.moved == 0.0
    assert "moved no row" in scored.invalid
    assert not checks.moved(scored.moved).passed
    pushed = rescore(forest.predict, clean, y[:5], points + 0.1, space)
    assert pushed.invalid is None


def test_minimum_norm_success_needs_the_distance_to_be_within_eps():
    x, y = np.zeros((2, 1)), np.zeros(2, dtype=np.int64)
    decide = lambda points: (points[:, 0] > 0.05).astype(np.int64)  # noqa: E731
    scored = rescore(decide, x, y, np.array([[0.1], [0.9]]), free(1))
    assert scored.fooled.all()
    assert scored.success(0.2).tolist() == [True, False]
    assert scored.success(0.01).tolist() == [False, False]


def test_decision_tree_attack_crosses_a_threshold_of_the_tree():
    rng = np.random.default_rng(0)
    x = rng.uniform(size=(200, 3))
    y = (x[:, 0] > 0.5).astype(np.int64)
    tree = DecisionTreeClassifier(max_depth=2, random_state=0).fit(x, y)
    space = Feasible(low=np.zeros(3), high=np.ones(3), scale=np.ones(3), whole=np.zeros(3, dtype=bool))
    scored = rescore(tree.predict, x, y, art_engine.decision_tree_points(tree, x), space)
    assert scored.fooled.all()
    exact = np.abs(x[:, 0] - tree.tree_.threshold[0])
    np.testing.assert_allclose(scored.distance, exact, atol=2e-3)


def test_importing_the_toolbox_leaves_logging_as_it_was(tmp_path):
    code = f"""
import logging
handler = logging.FileHandler({str(tmp_path / "log.txt")!r}, mode="w")
root = logging.getLogger()
root.addHandler(handler)
root.setLevel(logging.INFO)
before = list(root.handlers), root.level, list(logging._handlerList)
from auditkit.methods.robustness.art_engine import load
load("art.attacks.evasion.hop_skip_jump")
assert (list(root.handlers), root.level) == before[:2]
assert before[2] == [h for h in logging._handlerList if h in before[2]]
assert logging.getLogger("tests").handlers == []
import logging.config
assert logging.config.dictConfig.__module__ == "logging.config"
logging.info("still here")
handler.flush()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "log.txt").read_text() == "still here\n"


def test_a_missing_toolbox_gives_the_pip_line():
    with pytest.raises(MissingExtra, match=r'AK301(.|\n)*pip install "auditkit\[robustness\]"'):
        art_engine.load("art_that_is_not_there")
    assert logging.getLogger("art").level == logging.NOTSET


def test_lockstep_answers_in_one_batch_and_tells_faults():
    batches = []

    def decide(points):
        batches.append(len(points))
        return points[:, 0].astype(np.int64)

    seen = {}

    def search(name, turns):
        def go(ask):
            seen[name] = [int(ask(np.full((1, 1), float(name)))[0]) for _ in range(turns)]

        return go

    in_lockstep([search(1, 3), search(2, 1), search(3, 2)], decide)
    assert batches == [3, 2, 1]
    assert seen == {1: [1, 1, 1], 2: [2], 3: [3, 3]}

    def broken(ask):
        ask(np.zeros((1, 1)))
        raise RuntimeError("went wrong")

    with pytest.raises(RuntimeError, match="went wrong"):
        in_lockstep([broken, search(1, 5)], decide)

    def refuse(points):
        raise ValueError("model raised")

    with pytest.raises(ValueError, match="model raised"):
        in_lockstep([search(1, 5), search(2, 5)], refuse)

    def stop():
        raise TimeoutError("deadline")

    with pytest.raises(TimeoutError, match="deadline"):
        in_lockstep([search(1, 5), search(2, 5)], decide, tick=stop)
    in_lockstep([], decide)
