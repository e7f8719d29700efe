"""Feasible changes of tables: closed forms, brute force, planted faults with clean twins, groups, and rules kept."""

import itertools

import numpy as np
import pandas as pd
import pytest

from auditkit.analyzers.robustness.feasible import ANALYZER
from auditkit.core.analyzer import Context
from auditkit.core.errors import DeadlineReached
from auditkit.core.feasible import Choice, Feasible, Rules
from auditkit.core.plan import Step
from auditkit.execution.runner import run_step
from auditkit.methods.robustness import search
from auditkit.methods.robustness.cheapest import blind_change, cheapest_change
from auditkit.subjects.build import make_subject


def audit(subject, **params):
    settings = ANALYZER.params(**{"rounds": 12, "width": 4, "draws": 5, **params})
    return run_step(subject, Step(name=ANALYZER.name, params=settings, analyzer=ANALYZER))


def find(outcome, name, where=None, **params):
    found = [
        m for m in outcome.measurements if m.name == name and m.params == params and dict(m.slice) == (where or {})
    ]
    assert len(found) == 1, [m.key for m in outcome.measurements]
    return found[0]


def test_a_linear_model_costs_its_margin_over_the_steepest_feature():
    rng = np.random.default_rng(0)
    weights, scale = np.array([1.0, -2.0, 0.5]), np.array([1.0, 0.4, 3.0])
    x = rng.standard_normal((60, 3))
    decide = lambda rows: (rows @ weights > 0).astype(np.int64)  # noqa: E731
    space = Feasible(low=np.full(3, -np.inf), high=np.full(3, np.inf), scale=scale, whole=np.zeros(3, dtype=bool))
    found = cheapest_change(decide, x, decide(x), space, pool=x, rounds=40, rng=rng)
    exact = np.abs(x @ weights) / (np.abs(weights) * scale).max()
    cost = space.cost(x, found.points)
    assert found.success.all()
    assert (decide(found.points) != decide(x)).all()
    assert (cost >= exact - 1e-9).all()
    assert np.median(cost / exact) < 1.02
    assert (cost / exact).max() < 1.5


def small_space():
    """Two whole numbers tied by a rule, one of which only rises, and a category: 6 * 6 * 3 points."""
    return Feasible(
        low=np.zeros(3),
        high=np.array([5.0, 5.0, 2.0]),
        scale=np.array([1.0, 2.0, 0.0]),
        whole=np.array([True, True, False]),
        falls=np.array([True, False, True]),
        choices=(Choice(columns=np.array([2]), options=np.arange(3.0)[:, None], cost=1.5),),
        rules=Rules(matrix=np.array([[1.0, 1.0, 0.0]]), most=np.array([7.0]), texts=("a + b <= 7",)),
    )


@pytest.mark.parametrize("seed", range(4))
def test_brute_force_is_never_beaten_and_nearly_met(seed):
    rng = np.random.default_rng(seed)
    space, table = small_space(), rng.random((6, 6, 3)) < 0.7
    decide = lambda rows: table[tuple(rows.astype(int).T)].astype(np.int64)  # noqa: E731
    points = np.array(list(itertools.product(range(6), range(6), range(3))), dtype=float)
    points = points[points[:, 0] + points[:, 1] <= 7]
    x = points[rng.permutation(len(points))[:30]]
    y = decide(x)
    found = cheapest_change(decide, x, y, space, pool=points, rounds=40, rng=rng)
    assert space.feasible(x, found.points, None).all()
    exact = np.full(len(x), np.inf)
    for k, row in enumerate(x):
        allowed = points[(points[:, 1] >= row[1]) & (decide(points) != y[k])]
        if len(allowed):
            exact[k] = (np.abs(allowed - row)[:, :2] / [1, 2]).sum(1).__add__(1.5 * (allowed[:, 2] != row[2])).min()
    cost = np.where(found.success, space.cost(x, found.points), np.inf)
    assert (cost >= exact - 1e-9).all()
    assert (cost <= exact + 1e-9).mean() > 0.85
    np.testing.assert_array_equal(decide(found.points)[found.success] != y[found.success], True)


def test_blind_changes_are_feasible_and_within_budget():
    rng = np.random.default_rng(0)
    x = np.repeat([[2.0, 1.0, 0.0]], 20, axis=0)
    drawn = blind_change(x, small_space(), 1.5, draws=15, rng=rng)
    for k in range(15):
        assert small_space().violations(x, drawn[:, k], None) == 0
        assert (small_space().cost(x, drawn[:, k]) <= 1.5 + 1e-9).all()
    assert (drawn != x[:, None]).any()


def loans(n=200, seed=0):
    rng = np.random.default_rng(seed)
    table = pd.DataFrame(
        {
            "income": rng.uniform(20, 80, n),
            "age": rng.integers(20, 60, n),
            "job": rng.choice(["clerk", "cook", "driver"], n),
        }
    )
    y = (table["income"] > 50).astype(int).to_numpy()
    return table, y, rng.choice(["F", "M"], n)


def test_a_threshold_on_one_column_is_the_share_of_rows_near_it():
    table, y, _ = loans()
    model = lambda t: (t["income"] > 50).astype(int).to_numpy()  # noqa: E731
    subject = make_subject(model, table, y, positive=1, schema={"income": {"scale": 10.0, "unit": "thousand EUR"}})
    outcome = audit(subject, max_rows=200, costs=(0.5, 1.0, 10.0))
    for cost in (0.5, 1.0):
        near = float((np.abs(table["income"] - 50) > 10.0 * cost).mean())
        assert find(outcome, "robustness.feasible_accuracy", cost=cost).value == pytest.approx(near, abs=0.01)
    assert find(outcome, "robustness.feasible_accuracy", cost=10.0).value == 0.0
    assert find(outcome, "robustness.median_feasible_cost").value == pytest.approx(
        np.median(np.abs(table["income"] - 50)) / 10.0, rel=0.05
    )
    changes = next(a for a in outcome.artifacts if a.name == "robustness.feasible.changes")
    assert changes.rows[0][0] == "income"
    assert changes.rows[0][1] == 1.0
    assert changes.rows[0][3] == "thousand EUR"
    assert not any(m.unreliable for m in outcome.measurements)


def test_immutable_and_one_way_features_and_rules_protect():
    table, y, _ = loans()
    model = lambda t: (t["income"] > 50).astype(int).to_numpy()  # noqa: E731
    fixed = make_subject(model, table, y, positive=1, schema={"income": {"immutable": True}})
    assert find(audit(fixed), "robustness.feasible_accuracy", cost=2.0).value == 1.0
    upward = make_subject(model, table, y, positive=1, schema={"income": {"moves": "up"}})
    rising = audit(upward, costs=(50.0,), max_rows=200)
    assert find(rising, "robustness.feasible_accuracy", cost=50.0).value == pytest.approx(y.mean())
    ruled = make_subject(model, table, y, positive=1, constraints=["income <= 40 + 0*age"])
    kept = audit(ruled, costs=(50.0,), max_rows=200)
    # Rows above the rule may not rise, and may fall; those below may not pass it.
    assert find(kept, "robustness.feasible_accuracy", cost=50.0).value == pytest.approx(1 - y.mean())
    assert any("income <= 40" in note for note in kept.notes)


def test_a_category_that_decides_is_found_and_sensitive_columns_stay():
    table, _, sex = loans()
    y = (table["job"] == "clerk").astype(int).to_numpy()
    model = lambda t: (t["job"] == "clerk").astype(int).to_numpy()  # noqa: E731
    outcome = audit(make_subject(model, table, y, positive=1, schema={"job": {"scale": 0.8}}), costs=(0.5, 0.8))
    assert find(outcome, "robustness.feasible_accuracy", cost=0.5).value == 1.0
    assert find(outcome, "robustness.feasible_accuracy", cost=0.8).value == 0.0
    with_sex = table.assign(sex=sex)
    told = lambda t: (t["sex"] == "F").astype(int).to_numpy()  # noqa: E731
    labels = (sex == "F").astype(int)
    frozen = make_subject(told, with_sex, labels, positive=1, sensitive=with_sex[["sex"]].copy())
    assert find(audit(frozen), "robustness.feasible_accuracy", cost=2.0).value == 1.0
    free = audit(frozen, freeze_sensitive=False)
    assert find(free, "robustness.feasible_accuracy", cost=2.0).value == 0.0


def test_the_group_near_the_threshold_is_found_and_its_twin_is_not():
    table, y, sex = loans(300)
    near = np.where(sex == "F", 50 + 0.2 * (table["income"] - 50), table["income"])
    model = lambda t: (t["income"] > 50).astype(int).to_numpy()  # noqa: E731
    schema = {"income": {"scale": 10.0}}
    name = "robustness.feasible_accuracy.difference"
    planted = make_subject(model, table.assign(income=near), y, positive=1, schema=schema, sensitive={"sex": sex})
    gap = find(audit(planted, max_rows=300), name, cost=0.5)
    assert gap.over == ("sex",)
    assert gap.interval.low > 0.3
    twin = make_subject(model, table, y, positive=1, schema=schema, sensitive={"sex": sex})
    assert find(audit(twin, max_rows=300), name, cost=0.5).interval.low == 0.0


def test_a_random_model_is_unreliable():
    table, y, _ = loans()
    rng = np.random.default_rng(0)
    outcome = audit(make_subject(lambda t: rng.integers(2, size=len(t)), table, y, positive=1))
    assert outcome.status == "measured", outcome.reason
    assert "deterministic" in find(outcome, "robustness.feasible_accuracy", cost=1.0).unreliable


def with_gaps(n=160, seed=1):
    """Incomes, a job that a third of the rows lack, and a one-hot home; income decides, or the job."""
    rng = np.random.default_rng(seed)
    home = rng.integers(3, size=n)
    table = pd.DataFrame({"income": rng.uniform(20, 80, n), "job": rng.choice(["clerk", "cook", None], n)})
    for code, name in enumerate(("home_own", "home_rent", "home_free")):
        table[name] = (home == code).astype(int)
    return table


def changes_of(outcome):
    table = next(a for a in outcome.artifacts if a.name == "robustness.feasible.changes")
    return {row[0]: row[1] for row in table.rows}


def test_a_category_that_is_missing_is_no_change_of_it():
    table = with_gaps()
    rich = lambda t: (t["income"] > 50).astype(int).to_numpy()  # noqa: E731
    shares = changes_of(audit(make_subject(rich, table, rich(table), positive=1), costs=(9.0,)))
    assert shares == {"income": 1.0}
    # The clean twin: where the job decides, it is what changes, in all rows that have one.
    clerk = lambda t: (t["job"] == "clerk").astype(int).to_numpy()  # noqa: E731
    outcome = audit(make_subject(clerk, table, clerk(table), positive=1), costs=(9.0,))
    assert changes_of(outcome) == {"job": 1.0}
    lacking = float(table["job"].isna().mean())
    assert find(outcome, "robustness.feasible_accuracy", cost=9.0).value == pytest.approx(lacking)
    owner = lambda t: t["home_own"].to_numpy().astype(int)  # noqa: E731
    assert changes_of(audit(make_subject(owner, table, owner(table), positive=1))) == {"home (one-hot group)": 1.0}


def test_wide_tables_are_searched_in_blocks_of_rows(monkeypatch):
    rng = np.random.default_rng(0)
    weights, x = np.array([1.0, -2.0, 0.5]), rng.standard_normal((30, 3))
    calls = []

    def decide(rows):
        calls.append(len(rows))
        return (rows @ weights > 0).astype(np.int64)

    space = Feasible(low=np.full(3, -np.inf), high=np.full(3, np.inf), scale=np.ones(3), whole=np.zeros(3, dtype=bool))
    monkeypatch.setattr(search, "CELLS", 3 * 400 * 10)
    found = cheapest_change(decide, x, decide(x), space, pool=x, rounds=5, rng=rng)
    assert max(calls[1:]) <= 10 * 72  # twelve steps of three features both ways, for ten rows
    assert found.success.all()
    assert found.n_evaluations == sum(calls[1:])
    assert (decide(found.points) != decide(x)).all()
    exact = np.abs(x @ weights) / 2.0
    assert (space.cost(x, found.points) >= exact - 1e-9).all()


def test_progress_is_told_over_all_blocks_and_a_deadline_stops_the_search(monkeypatch):
    rng, told = np.random.default_rng(0), []
    weights, x = np.array([1.0, -2.0, 0.5]), rng.standard_normal((30, 3))
    space = Feasible(low=np.full(3, -np.inf), high=np.full(3, np.inf), scale=np.ones(3), whole=np.zeros(3, dtype=bool))
    monkeypatch.setattr(search, "CELLS", 3 * 400 * 10)

    def decide(rows):
        return (rows @ weights > 0).astype(np.int64)

    def tick(done, total):
        told.append((done, total))

    cheapest_change(decide, x, decide(x), space, pool=x, rounds=5, rng=rng, tick=tick)
    assert told == [(done, 21) for done in range(1, 22)]

    table, y, _ = loans()
    model = lambda t: (t["income"] > 50).astype(int).to_numpy()  # noqa: E731
    whole, seen = make_subject(model, table, y, positive=1), []

    def late(self):
        if len(seen) == 4:
            raise DeadlineReached("AK320", "the deadline of the run passed")

    monkeypatch.setattr(Context, "check_deadline", late)
    context = Context(
        sequence=np.random.SeedSequence(0),
        predictions=lambda split: (None, whole.model.predict(table)),
        progress=lambda done, total: seen.append((done, total)),
    )
    with pytest.raises(DeadlineReached):
        list(ANALYZER.run(whole, context, ANALYZER.params()))
    assert len(seen) == 4


def test_the_sample_of_rows_is_drawn_once(monkeypatch):
    drawn = []
    kept = Context.sample_rows
    monkeypatch.setattr(Context, "sample_rows", lambda self, *given: drawn.append(given) or kept(self, *given))
    table, y, _ = loans()
    model = lambda t: (t["income"] > 50).astype(int).to_numpy()  # noqa: E731
    outcome = audit(make_subject(model, table, y, positive=1, constraints=["income <= 60"]), max_rows=50)
    assert drawn == [(200, 50)]
    (note,) = [note for note in outcome.notes if "break a rule" in note]
    assert "of 50 rows break a rule of the schema (income <= 60)" in note


def test_durations_are_counted_in_seconds():
    table, _, _ = loans()
    spans = table.assign(age=pd.to_timedelta(table["age"], unit="h"))
    long = lambda t: (t["age"] > pd.Timedelta(40, unit="h")).astype(int).to_numpy()  # noqa: E731
    outcome = audit(make_subject(long, spans, long(spans), positive=1), costs=(9.0,))
    (row,) = (
        row
        for artifact in outcome.artifacts
        if artifact.name == "robustness.feasible.changes"
        for row in artifact.rows
        if row[0] == "age"
    )
    far = np.abs(table["age"] - 40).median() * 3600
    assert row[2] == pytest.approx(far, rel=0.1)
    assert row[3] == "seconds"


@pytest.mark.parametrize("odd", [np.inf, -np.inf, 1e300])
def test_a_row_with_an_infinite_or_huge_cell_is_attacked_like_the_others(odd):
    table, y, _ = loans()
    table = table.assign(other=np.random.default_rng(1).normal(size=len(table)))
    model = lambda t: (t["income"] > 50).astype(int).to_numpy()  # noqa: E731
    schema = {"income": {"scale": 10.0}}
    plain = audit(make_subject(model, table, y, positive=1, schema=schema), costs=(10.0,))
    assert find(plain, "robustness.feasible_accuracy", cost=10.0).value == 0.0
    table.loc[:19, "other"] = odd
    found = audit(make_subject(model, table, y, positive=1, schema=schema), costs=(10.0,))
    assert find(found, "robustness.feasible_accuracy", cost=10.0).value == 0.0
    assert not find(found, "robustness.feasible_accuracy", cost=10.0).unreliable


def test_an_infinite_cell_that_moves_is_still_forbidden():
    space = Feasible(low=np.full(2, -9.0), high=np.full(2, 9.0), scale=np.ones(2), whole=np.zeros(2, dtype=bool))
    x = np.array([[np.inf, 1.0]] * 3)
    points = np.array([[np.inf, 3.0], [5.0, 1.0], [-np.inf, 1.0]])
    assert space.cost(x, points).tolist() == [2.0, np.inf, np.inf]
    assert space.distance(x, points).tolist() == [2.0, np.inf, np.inf]
    assert space.feasible(x, points, None).tolist() == [True, False, False]


def test_rows_that_blind_changes_turn_fall_though_the_search_finds_nothing(monkeypatch):
    from auditkit.methods.robustness import cheapest

    table, y, _ = loans()
    rich = lambda t: (t["income"] > 50).astype(int).to_numpy()  # noqa: E731
    subject = make_subject(rich, table, y, positive=1, schema={"income": {"scale": 10.0}})
    sound = find(audit(subject, costs=(2.0,), draws=40), "robustness.feasible_accuracy", cost=2.0)

    def blunt(decide, x, y, space, **settings):
        return search.Found(points=x.copy(), success=np.zeros(len(x), dtype=bool), n_evaluations=0)

    monkeypatch.setattr(cheapest, "cheapest_change", blunt)
    outcome = audit(subject, costs=(2.0,), draws=40)
    blind = find(outcome, "robustness.feasible_accuracy", cost=2.0)
    reached = float((np.abs(table["income"] - 50) > 20.0).mean())
    assert sound.value == pytest.approx(reached, abs=0.01)
    assert reached <= blind.value < 0.9
    assert "random changes are weaker" in blind.unreliable
    assert not sound.unreliable
    assert changes_of(outcome)["income"] == 1.0


def test_a_model_that_is_wrong_everywhere_has_nothing_to_turn():
    table, y, _ = loans()
    poor = lambda t: (t["income"] <= 50).astype(int).to_numpy()  # noqa: E731
    outcome = audit(make_subject(poor, table, y, positive=1))
    assert find(outcome, "robustness.feasible_accuracy", cost=1.0).value == 0.0
    assert find(outcome, "robustness.median_feasible_cost").value is None
