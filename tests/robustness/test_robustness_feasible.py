"""The schema of a table and what is feasible under it: rules read, points projected, and every kind of fault caught."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from auditkit.core.errors import UsageError
from auditkit.core.feasible import Choice, Feasible, Rules
from auditkit.core.features import Feature, parse_constraint
from auditkit.subjects.build import make_subject
from auditkit.subjects.grid import table_grid


def space():
    """Debt at most half the income, an age that only rises, a whole number, a category and a one-hot pair."""
    return Feasible(
        low=np.array([0.0, 0.0, 18.0, 0.0, 0.0, 0.0, 0.0]),
        high=np.array([100.0, 100.0, 90.0, 9.0, 2.0, 1.0, 1.0]),
        scale=np.array([10.0, 5.0, 10.0, 2.0, 0.0, 0.0, 0.0]),
        whole=np.array([False, False, True, True, False, False, False]),
        falls=np.array([True, True, False, True, True, True, True]),
        choices=(
            Choice(columns=np.array([4]), options=np.array([[0.0], [1.0], [2.0]]), cost=0.5),
            Choice(columns=np.array([5, 6]), options=np.eye(2), cost=1.5),
        ),
        rules=Rules(matrix=np.array([[-0.5, 1.0, 0, 0, 0, 0, 0]]), most=np.zeros(1), texts=("debt <= 0.5*income",)),
    )


ROW = np.array([[40.0, 10.0, 30.0, 4.0, 1.0, 1.0, 0.0]])


@pytest.mark.parametrize(
    ("text", "terms", "bound"),
    [
        ("a <= b", {"a": 1, "b": -1}, 0),
        ("2 a + 3*b - 4 >= -c", {"a": -2, "b": -3, "c": -1}, -4),
        ("years_employed <= age - 16", {"years_employed": 1, "age": -1}, -16),
        ("`part a`*2 - -1.5e1 <= 3", {"part a": 2}, -12),
        ("a + a <= 1 + a", {"a": 1}, 1),
    ],
)
def test_constraints_are_read(text, terms, bound):
    (rule,) = parse_constraint(text)
    assert dict(rule.terms) == terms
    assert rule.bound == bound
    assert rule.text == text


@pytest.mark.parametrize("text", ["a < b", "a b <= 1", "a*b <= 1", "3 <= 4", "a + <= 2", "a <= 2 <= b", "a/2 <= 1", ""])
def test_what_is_no_linear_rule_is_refused(text):
    with pytest.raises(UsageError, match="AK576 the constraint .* cannot be read"):
        parse_constraint(text)


def test_an_equation_is_two_rules():
    below, above = parse_constraint("a + b == 1")
    assert dict(below.terms) == {"a": 1.0, "b": 1.0}
    assert (below.bound, above.bound) == (1.0, -1.0)
    assert dict(above.terms) == {"a": -1.0, "b": -1.0}


def test_wrong_fields_of_a_feature_are_refused():
    with pytest.raises(UsageError, match="AK575 feature 'a' moves 'left'"):
        Feature(name="a", kind="numeric", moves="left")
    with pytest.raises(UsageError, match="AK575 the scale of feature 'a' must be above 0"):
        Feature(name="a", kind="numeric", scale=0.0)


@pytest.mark.parametrize(
    ("place", "value"),
    [(0, -1.0), (0, 101.0), (1, 20.1), (2, 29.0), (2, 30.5), (3, 4.5), (4, 3.0), (4, 0.5), (5, 0.0), (6, 1.0)],
)
def test_each_kind_of_fault_is_caught_and_projected_away(place, value):
    bad = ROW.copy()
    bad[0, place] = value
    assert space().violations(ROW, bad, None) == 1
    mended = space().project(ROW, bad, None)
    assert space().violations(ROW, mended, None) == 0
    np.testing.assert_array_equal(space().project(ROW, ROW, None), ROW)


def test_what_is_allowed_stays_as_it_is():
    good = np.array([[60.0, 29.0, 35.0, 5.0, 2.0, 0.0, 1.0]])
    assert space().violations(ROW, good, None) == 0
    np.testing.assert_array_equal(space().project(ROW, good, None), good)
    assert space().cost(ROW, good)[0] == pytest.approx(2.0 + 3.8 + 0.5 + 0.5 + 0.5 + 1.5)
    assert space().distance(ROW, good)[0] == pytest.approx(3.8)


def test_a_category_changes_only_where_its_cost_is_within_eps():
    wanted = ROW.copy()
    wanted[0, 4:] = [2.0, 0.0, 1.0]
    np.testing.assert_array_equal(space().project(ROW, wanted, 0.4), ROW)
    half = space().project(ROW, wanted, 0.5)
    assert half[0, 4:].tolist() == [2.0, 1.0, 0.0]
    np.testing.assert_array_equal(space().project(ROW, wanted, 1.5), wanted)


def test_a_broken_rule_is_mended_by_the_scaled_projection():
    bad = ROW.copy()
    bad[0, 1] = 30.0
    found = space().project(ROW, bad, None)[0]
    # The nearest point of 0.5*income - debt >= 0 in units of the scales, by Lagrange: steps of s^2 w / sum(s^2 w^2).
    step = 10.0 / (100 * 0.25 + 25)
    np.testing.assert_allclose(found[:2], [40.0 + 100 * 0.5 * step, 30.0 - 25 * step])


def test_mending_one_point_leaves_the_others_as_they_are():
    good = np.array([[60.0, 29.0, 35.0, 5.0, 2.0, 0.0, 1.0]])
    bad = ROW.copy()
    bad[0, 1] = 30.0
    both = space().project(np.repeat(ROW, 2, axis=0), np.concatenate([good, bad]), None)
    np.testing.assert_array_equal(both[0], good[0])


@settings(max_examples=150, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), eps=st.one_of(st.none(), st.floats(0, 4)), far=st.floats(0.1, 200))
def test_projections_are_feasible_whatever_comes(seed, eps, far):
    rng = np.random.default_rng(seed)
    rows = np.repeat(ROW, 20, axis=0)
    rows[:, 0] = rng.uniform(0, 100, 20)
    rows[:, 1] = rng.uniform(0, 0.6, 20) * rows[:, 0]
    rows[3, 1] = np.nan
    wild = rows + far * rng.standard_normal(rows.shape)
    points = space().project(rows, wild, eps)
    assert space().violations(rows, points, eps) == 0
    assert space().violations(rows, space().project(rows, points, eps), eps) == 0


def test_the_schema_of_a_table_becomes_what_is_feasible():
    rng = np.random.default_rng(0)
    table = pd.DataFrame(
        {
            "income": rng.uniform(20, 60, 200),
            "debt": rng.uniform(0, 10, 200),
            "age": rng.integers(18, 80, 200),
            "job": rng.choice(["a", "b", "c"], 200),
            "sex": rng.choice(["F", "M"], 200),
        }
    )
    subject = make_subject(
        lambda t: (t["income"] > 40).astype(int).to_numpy(),
        table,
        (table["income"] > 40).astype(int),
        positive=1,
        sensitive=table[["sex"]].copy(),
        schema={"age": {"moves": "up", "unit": "years"}, "income": {"scale": 5.0}, "job": {"scale": 2.0}},
        constraints=["debt <= 0.5*income"],
    )
    grid = table_grid(subject.test, choose=True)
    names = dict(zip(grid.names, range(5), strict=True))
    assert grid.frozen == ("sex",)
    assert grid.units[names["age"]] == "years"
    assert grid.space.scale[names["income"]] == 5.0
    assert grid.space.scale[names["debt"]] == pytest.approx(table["debt"].std(ddof=0))
    assert [choice.cost for choice in grid.space.choices] == [2.0]
    x = grid.matrix[:1]
    younger = x.copy()
    younger[0, names["age"]] -= 1
    assert grid.space.violations(x, younger, None) == 1
    other = x.copy()
    other[0, names["sex"]] = 1 - other[0, names["sex"]]
    assert grid.space.violations(x, other, None) == 1
    assert grid.space.violations(grid.matrix, grid.matrix, 0.0) == 0
    plain = table_grid(subject.test)
    assert plain.frozen == ("job", "sex")
    assert table_grid(subject.test, freeze_sensitive=False, choose=True).frozen == ()


def test_a_constraint_on_what_is_no_number_is_refused():
    table = pd.DataFrame({"a": [1.0, 2.0, 3.0], "b": ["x", "y", "x"]})
    for rule, why in (("a <= b", "a categorical column"), ("a <= c", "no column")):
        with pytest.raises(UsageError, match=f"AK577 .*{why}"):
            make_subject(lambda t: np.zeros(len(t), int), table, [0, 1, 0], positive=1, constraints=[rule])
    with pytest.raises(UsageError, match="AK225"):
        make_subject(
            lambda t: np.zeros(len(t), int), np.zeros((3, 4, 4)), [0, 1, 0], positive=1, constraints=["a <= 1"]
        )
