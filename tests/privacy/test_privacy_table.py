"""Anonymity of a table: published tables, brute force, planted faults and their clean twins."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import subject_zoo
from auditkit.core.plan import Step
from auditkit.core.registry import load
from auditkit.execution.runner import run_step
from auditkit.methods.privacy.anonymity import anonymity, equivalence_classes, l_diversity, t_closeness
from auditkit.methods.privacy.generalisation import (
    categorical_hierarchy,
    generalise,
    kept_classes,
    numeric_hierarchy,
)

# Machanavajjhala et al. (2007), figures 2 and 3: 12 patients, coarsened in two ways.
HEART, VIRAL, CANCER = 0, 1, 2
FOUR_ANONYMOUS = (
    [0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2],
    [HEART, HEART, VIRAL, VIRAL, CANCER, HEART, VIRAL, VIRAL, CANCER, CANCER, CANCER, CANCER],
)
THREE_DIVERSE = (
    [0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2],
    [HEART, VIRAL, CANCER, CANCER, CANCER, HEART, VIRAL, VIRAL, HEART, VIRAL, CANCER, CANCER],
)


def arrays(pair):
    return np.array(pair[0]), np.array(pair[1])


def test_the_published_tables_have_their_published_k_and_l():
    classes, illness = arrays(FOUR_ANONYMOUS)
    assert anonymity(classes).k == 4
    assert l_diversity(classes, illness).distinct == 1
    assert l_diversity(classes, illness).n_exposed == 4
    classes, illness = arrays(THREE_DIVERSE)
    found = l_diversity(classes, illness)
    assert (anonymity(classes).k, found.distinct, found.n_exposed) == (4, 3, 0)
    assert found.entropy == pytest.approx(math.exp(1.5 * math.log(2)))  # shares 1/4, 1/4, 1/2


def test_the_published_distances_of_two_salary_classes():
    # Li et al. (2007), section 4.2: salaries 3k to 11k; {3k, 4k, 5k} is 0.375 from all, {6k, 8k, 11k} is 0.167.
    salaries = np.arange(9)
    low = np.array([0, 0, 0, 1, 1, 1, 1, 1, 1])
    assert t_closeness(low, salaries, ordered=True) == pytest.approx(0.375)
    spread = np.array([0, 1, 2, 3, 2, 3, 1, 0, 3])  # only class 3, {6k, 8k, 11k}, is asked about
    one = np.where(spread == 3, 0, 1)
    distances = [t_closeness(one, salaries, ordered=True), _distance(one, salaries, 0, ordered=True)]
    assert distances[1] == pytest.approx(1 / 6)
    assert distances[0] >= distances[1]


def _distance(classes, values, which, *, ordered):
    """By the definition, for one class."""
    domain = np.unique(values)
    inside = np.array([(values[classes == which] == v).mean() for v in domain])
    whole = np.array([(values == v).mean() for v in domain])
    if not ordered:
        return 0.5 * np.abs(inside - whole).sum()
    return np.abs(np.cumsum(inside - whole)).sum() / max(len(domain) - 1, 1)


rows = st.integers(1, 40).flatmap(
    lambda n: st.tuples(
        *(st.lists(st.integers(0, width), min_size=n, max_size=n).map(np.array) for width in (1, 3, 2, 6))
    )
)


@settings(max_examples=200, deadline=None)
@given(rows)
def test_all_numbers_are_those_of_the_definitions(columns):
    *known, secret = columns
    classes = equivalence_classes(known)
    tuples = list(zip(*(column.tolist() for column in known), strict=True))
    sizes = {t: tuples.count(t) for t in tuples}
    assert all((classes[i] == classes[j]) == (tuples[i] == tuples[j]) for i in range(len(tuples)) for j in range(i))
    found = anonymity(classes)
    assert found.k == min(sizes.values())
    assert found.n_unique == sum(size == 1 for size in sizes.values())
    assert found.mean_risk == pytest.approx(np.mean([1 / sizes[t] for t in tuples]))
    members = {t: secret[[other == t for other in tuples]] for t in sizes}
    diverse = l_diversity(classes, secret)
    assert diverse.distinct == min(len(set(values.tolist())) for values in members.values())
    assert diverse.n_exposed == sum(len(values) for values in members.values() if len(set(values.tolist())) == 1)
    entropies = []
    for values in members.values():
        shares = np.unique(values, return_counts=True)[1] / len(values)
        entropies.append(-(shares * np.log(shares)).sum())
    assert diverse.entropy == pytest.approx(math.exp(min(entropies)))
    for ordered in (False, True):
        wanted = max(_distance(classes, secret, which, ordered=ordered) for which in set(classes.tolist()))
        assert t_closeness(classes, secret, ordered=ordered) == pytest.approx(wanted, abs=1e-12)


def test_very_wide_columns_do_not_overflow():
    n = 50
    wide = [np.arange(n, dtype=np.int64) * 10**15 for _ in range(6)]
    assert anonymity(equivalence_classes(wide)).n_unique == n
    assert anonymity(equivalence_classes([column * 0 for column in wide])).k == n


@pytest.mark.parametrize(
    ("columns", "message"),
    [([], "at least one column"), ([np.array([], dtype=int)], "at least one"), ([np.array([-1])], "negative"),
     ([np.array([0]), np.array([0, 1])], "differ in length")],
)  # fmt: skip
def test_what_is_no_table_is_refused(columns, message):
    with pytest.raises(ValueError, match=message):
        equivalence_classes(columns)


# Generalisation


def people(n=600, seed=0):
    rng = np.random.default_rng(seed)
    age = rng.integers(18, 90, n).astype(float)
    age[rng.random(n) < 0.02] = np.nan
    place = np.minimum(rng.geometric(0.25, n) - 1, 30)
    return [
        numeric_hierarchy("age", age),
        categorical_hierarchy("place", np.unique(place, return_inverse=True)[1]),
        categorical_hierarchy("sex", rng.integers(0, 2, n)),
    ]


@pytest.mark.parametrize(("k", "most"), [(2, 0.0), (5, 0.05), (20, 0.0), (20, 0.1)])
def test_a_generalised_table_is_k_anonymous_and_no_column_is_coarser_than_needed(k, most):
    hierarchies = people()
    found = generalise(hierarchies, k, most)
    assert found.suppressed.mean() <= most
    assert anonymity(kept_classes(found)).k >= k
    for place, level in enumerate(found.levels):
        if level:
            finer = [at - (at_place == place) for at_place, at in enumerate(found.levels)]
            classes = equivalence_classes([h.levels[at].codes for h, at in zip(hierarchies, finer, strict=True)])
            assert (np.bincount(classes)[classes] < k).mean() > most


def test_coarser_levels_only_join_values():
    for hierarchy in people():
        for finer, coarser in zip(hierarchy.levels, hierarchy.levels[1:], strict=False):
            if finer.told == "as given":
                pairs = {tuple(pair) for pair in np.stack([finer.codes, coarser.codes], axis=1).tolist()}
                assert len(pairs) == len(set(finer.codes.tolist()))
            assert len(set(coarser.codes.tolist())) <= len(set(finer.codes.tolist()))


def test_too_few_rows_cannot_be_hidden():
    found = generalise([categorical_hierarchy("sex", np.array([0, 1, 0]))], 5, 0.0)
    assert found.suppressed.all()


def test_infinite_and_huge_numbers_are_values_of_their_own():
    values = np.array([np.inf, -np.inf, 1e308, -1e308, np.nan, *np.linspace(0, 9, 40)])
    levels = numeric_hierarchy("x", values).levels
    assert [level.told for level in levels][:2] == ["as given", "in steps of 0.5"]
    assert all(len(np.unique(level.codes[:5])) == 5 for level in levels[:-1])


# The analyzer


def audited(frame, y=None, sensitive=None, **settings_):
    from auditkit.subjects.build import make_subject

    y = np.arange(len(frame)) % 2 if y is None else y
    subject = make_subject(lambda X: np.zeros(len(X), dtype=int), frame, y, sensitive=sensitive)
    analyzer = load("privacy.table")
    return run_step(subject, Step(name="privacy.table", params=analyzer.params(**settings_), analyzer=analyzer))


def number(outcome, name, table="as given"):
    return next(m.value for m in outcome.measurements if m.name == f"privacy.{name}" and m.params["table"] == table)


def test_a_planted_identifier_is_caught_and_its_absence_is_quiet():
    n = 400
    rng = np.random.default_rng(1)
    frame = pd.DataFrame({"age": rng.integers(2, 5, n) * 10, "sex": rng.choice(["f", "m"], n), "x": rng.normal(size=n)})
    clean = audited(frame)
    assert number(clean, "k_anonymity") >= 40
    assert number(clean, "unique_share") == 0
    planted = audited(frame.assign(postcode=np.arange(n)))
    assert number(planted, "k_anonymity") == 1
    assert number(planted, "unique_share") == 1
    assert number(planted, "k_anonymity", "generalised") >= 5


def test_a_group_that_gives_the_label_away_is_caught():
    frame = pd.DataFrame({"town": ["a"] * 50 + ["b"] * 50, "x": np.arange(100.0)})
    mixed = np.arange(100) % 2
    told = np.where(np.arange(100) < 50, 1, mixed)
    assert number(audited(frame, mixed), "exposed_share") == 0
    assert number(audited(frame, told), "exposed_share") == 0.5
    assert number(audited(frame, told), "l_diversity") == 1


def test_values_agree_with_pandas_on_a_real_subject():
    subject = subject_zoo.pipeline_subject()
    analyzer = load("privacy.table")
    params = analyzer.params(quasi_identifiers=("age", "home"), confidential="home", suggest=False)
    outcome = run_step(subject, Step(name="privacy.table", params=params, analyzer=analyzer))
    sizes = subject.train.inputs.groupby(["age", "home"]).size()
    assert number(outcome, "k_anonymity") == sizes.min()
    assert number(outcome, "unique_share") == (sizes == 1).sum() / sizes.sum()
    assert number(outcome, "t_closeness") > 0.3  # home is known, so it is given away


def test_without_any_column_to_know_it_does_not_apply():
    outcome = audited(pd.DataFrame({"x": np.arange(30.0), "y2": np.arange(30.0)}))
    assert outcome.status == "not_applicable"
    assert "AK611" in outcome.reason
    assert "quasi_identifiers" in outcome.reason


def test_missing_mixed_and_datetime_columns_are_values_like_others():
    frame = pd.DataFrame(
        {
            "age": [30.0, None, None, 40.0] * 10,
            "city": pd.Series(["x", None, 3, "x"] * 10, dtype=object),
            "birth": pd.to_datetime(["2000-01-01", None, "2001-01-01", "2000-01-01"] * 10),
        }
    )
    outcome = audited(frame, quasi_identifiers=("age", "city", "birth"))
    assert outcome.status == "measured", outcome.reason
    assert number(outcome, "k_anonymity") == 10


def test_a_misspelt_column_is_told_with_the_nearest():
    outcome = audited(pd.DataFrame({"age": np.arange(30)}), quasi_identifiers=("agee",))
    assert outcome.status == "failed"
    assert "AK610" in outcome.reason
    assert "'age'" in outcome.reason
