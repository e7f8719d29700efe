"""``explain.proxies``: a copy of the sensitive column that the model uses is ranked first, its clean twin is quiet."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from auditkit.core.plan import make_plan
from auditkit.execution.runner import run_plan, run_step
from auditkit.subjects.build import make_subject

SMALL = {"max_rows": 120, "max_background": 20, "budget": 128}
USE = "explain.proxy_use"


class Scorer:
    """Weighs income and, in the planted model, the district; never looks at the sensitive column or the badge."""

    classes_ = np.array([0, 1])

    def __init__(self, weight, own=0.0):
        self.weight, self.own = weight, own

    def fit(self, table, y):
        return self

    def predict_proba(self, table):
        margin = table["income"].fillna(0.3).to_numpy(dtype=float)
        margin = margin + self.weight * table["district"].isin(["d0", "d1", "d2", "d3"]).to_numpy()
        if "club_a" in table:
            margin = margin + self.own * table["club_a"].to_numpy(dtype=float)
        p = 1 / (1 + np.exp(-margin))
        return np.column_stack([1 - p, p])

    def predict(self, table):
        return (self.predict_proba(table)[:, 1] > 0.5).astype(int)


def people(postcode, n=800, seed=0):
    """Ten districts; with ``postcode`` each sex lives in its own five, nine times of ten."""
    rng = np.random.default_rng(seed)
    sex = rng.choice(["F", "M"], n)
    home = rng.integers(0, 5, n) + 5 * ((sex == "M") ^ (rng.random(n) < 0.1))
    district = home if postcode else rng.integers(0, 10, n)
    table = pd.DataFrame(
        {
            "income": np.where(rng.random(n) < 0.1, np.nan, rng.normal(size=n)),
            "district": pd.Categorical([f"d{d}" for d in district]),
            "badge": np.where(sex == "F", 1.0, 0.0),  # gives the sex away, and is not used
        }
    )
    return table, sex


def subject_of(postcode, weight=2.0, table=None, own=0.0, **people_settings):
    found, sex = people(postcode, **people_settings)
    model = Scorer(weight, own)
    table = found if table is None else table(found, sex)
    y = model.predict(table)
    y[:2] = 0, 1
    return make_subject(model, table, y, sensitive=pd.DataFrame({"sex": sex}))


def outcome_of(subject, **settings):
    plan = make_plan(["explain.proxies"], {"explain.proxies": {**SMALL, **settings}})
    return run_step(subject, plan.steps[0], seed=1)


def use_of(outcome):
    return {m.params["feature"]: m for m in outcome.measurements if m.name == USE}


def one(outcome, name):
    (found,) = [m for m in outcome.measurements if m.name == name]
    return found


def test_a_postcode_that_copies_the_group_is_ranked_first_and_a_proxy_that_is_not_used_counts_nothing():
    outcome = outcome_of(subject_of(postcode=True))
    use = use_of(outcome)
    assert next(iter(use)) == "district"
    assert use["district"].interval.low > 0.2
    assert use["badge"].value == 0.0
    assert use["badge"].interval.high < 0.01
    assert use["income"].interval.low == 0.0
    assert one(outcome, "explain.group_auc_of_features").interval.low > 0.85
    assert one(outcome, "explain.group_auc_of_attributions").interval.low > 0.6


def test_the_twin_is_quiet():
    outcome = outcome_of(subject_of(postcode=False, table=lambda table, _: table.drop(columns="badge")))
    assert all(m.interval.low == 0.0 and m.value < 0.05 for m in use_of(outcome).values())
    for name in ("explain.group_auc_of_features", "explain.group_auc_of_attributions"):
        assert one(outcome, name).interval.low <= 0.5


def test_the_product_is_strength_by_share():
    subject = subject_of(postcode=True)
    plan = make_plan(["explain.shap", "explain.proxies"], {"explain.shap": SMALL, "explain.proxies": SMALL})
    outcomes = {outcome.analyzer: outcome for outcome in run_plan(subject, plan).outcomes}
    shares = {m.params["feature"]: m.value for m in outcomes["explain.shap"].measurements
              if m.name == "explain.attribution_share" and not m.slice}  # fmt: skip
    income = subject.test.inputs["income"].to_numpy()
    female = subject.test.sensitive["sex"] == "F"
    known = ~np.isnan(income)
    areas = [roc_auc_score(female[known], income[known]), roc_auc_score(female, ~known)]
    strength = max(max(area, 1 - area) for area in areas)
    use = use_of(outcomes["explain.proxies"])
    assert use["income"].value == pytest.approx((2 * strength - 1) * shares["income"], abs=1e-12)
    table = next(a for a in outcomes["explain.proxies"].artifacts if a.name == "explain.proxies.sex")
    for name, auc, _, _, share, product, *_ in table.rows:
        assert share == pytest.approx(shares[name], abs=1e-12)
        assert product == pytest.approx(max(2 * auc - 1, 0) * share, abs=1e-12)


def with_clubs(table, sex):
    """Three one-hot columns that say the sex together; the model uses the first."""
    rng = np.random.default_rng(9)
    club = np.where(sex == "F", rng.choice(["a", "b"], len(sex)), "c")
    return table.assign(**{f"club_{name}": (club == name).astype(float) for name in "abc"})


def test_one_hot_columns_are_one_feature():
    use = use_of(outcome_of(subject_of(postcode=False, weight=0.0, table=with_clubs, own=2.0)))
    assert {"club", "district"} <= set(use)
    assert not {"club_a", "club_b"} & set(use)
    # The group tells the sex always, its first column alone only half of the women.
    assert use["club"].interval.low > 0.4


def test_a_one_hot_group_may_leave_its_first_category_out():
    """Rows with none of the columns set are those of the category left out, not of the first one that is there."""
    from sklearn.linear_model import LogisticRegression

    rng = np.random.default_rng(0)
    place = rng.integers(0, 3, 600)
    table = pd.DataFrame({"z": rng.normal(size=600), "in_b": (place == 1) * 1, "in_c": (place == 2) * 1})
    sex = np.where(place == 2, rng.choice(["F", "M"], 600), np.where(place == 1, "M", "F"))
    y = (table["z"] + table["in_b"] + rng.normal(size=600) > 0).astype(int)
    group = {name: {"kind": "onehot", "group": "place"} for name in ("in_b", "in_c")}
    model = LogisticRegression().fit(table, y)
    subject = make_subject(model, table, y, sensitive=pd.DataFrame({"sex": sex}), schema=group)
    chance = np.array([(sex[place == p] == "M").mean() for p in range(3)])[place]
    (line,) = [row for row in outcome_of(subject).artifacts[0].rows if row[0] == "place"]
    assert line[1] == pytest.approx(roc_auc_score(sex == "M", chance), abs=0.02)
    assert line[1] > 0.8


def test_the_column_itself_is_said_and_counts():
    def with_sex(table, sex):
        return table.assign(sex=pd.Categorical(sex))

    subject = subject_of(postcode=False, table=with_sex)
    outcome = outcome_of(subject)
    assert any("sex is itself a feature of the model: sex" in note for note in outcome.notes)
    table = next(a for a in outcome.artifacts if a.kind == "table")
    assert "sex (the column itself)" in [row[0] for row in table.rows]


def test_few_rows_a_single_group_and_nothing_used_have_reasons():
    subject = subject_of(postcode=True)
    alone = dataclasses.replace(subject, test=dataclasses.replace(subject.test, sensitive={"sex": np.full(800, "F")}))
    found = one(outcome_of(alone), "explain.group_auc_of_features")
    assert found.value is None
    assert "fewer than two groups" in found.reason

    class Constant(Scorer):
        def predict_proba(self, table):
            return np.full((len(table), 2), 0.5)

    table, sex = people(True)
    silent = make_subject(Constant(0.0), table, np.arange(800) % 2, sensitive=pd.DataFrame({"sex": sex}))
    use = use_of(outcome_of(silent))
    assert all(m.value is None and "no feature moves" in m.reason for m in use.values())


def test_a_rule_on_use_fails_the_copy_and_passes_the_twin():
    import auditkit

    rule = {"id": "no-proxies", "metric": USE, "over": ["sex"], "max": 0.2}
    states = {}
    for postcode in (True, False):
        subject = subject_of(postcode)
        report = auditkit.audit(
            Scorer(2.0), subject.test.inputs, subject.test.y, sensitive=pd.DataFrame(subject.test.sensitive),
            analyzers={"explain.proxies": SMALL}, progress=False,
        )  # fmt: skip
        states[postcode] = report.gate({"version": 1, "rule": [rule]}).state
    assert states == {True: "fail", False: "pass"}


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_interval_covers_the_true_product():
    """A feature whose AUC and share are known: two normal columns with weights 2 and 1, the first shifted by sex."""
    hits, runs = 0, 200
    rng = np.random.default_rng(0)
    big = rng.normal(size=(2_000_000, 2))
    sexes = rng.random(2_000_000) < 0.5
    sizes = np.abs(np.column_stack([2 * (big[:, 0] + 0.5 * sexes - 0.25), big[:, 1]])).mean(axis=0)
    from scipy.stats import norm

    truth = (2 * norm.cdf(0.5 / np.sqrt(2)) - 1) * sizes[0] / sizes.sum()

    class Line:
        def fit(self, table, y):
            return self

        def predict(self, table):
            return (2 * table["a"] + table["b"]).to_numpy()

        _estimator_type = "regressor"

    for seed in range(runs):
        rng = np.random.default_rng([seed, 5])
        sex = rng.random(400) < 0.5
        table = pd.DataFrame({"a": rng.normal(size=400) + 0.5 * sex - 0.25, "b": rng.normal(size=400)})
        zero = pd.DataFrame({"a": [0.0, 0.0], "b": [0.0, 0.0]})
        subject = make_subject(
            Line(), table, Line().predict(table), sensitive=pd.DataFrame({"sex": np.where(sex, "F", "M")}),
            train=(zero, np.array([0.0, 0.0]), pd.DataFrame({"sex": ["F", "M"]})), task="regression",
        )  # fmt: skip
        interval = use_of(outcome_of(subject, max_rows=400, joint_rows=100))["a"].interval
        hits += interval.low <= truth <= interval.high
    assert hits / runs >= 0.93
