"""Predictions counted as they are read give what the kept rows give; what counts cannot give is said."""

from __future__ import annotations

import duckdb
import numpy as np
import pandas as pd
import pytest

from auditkit.api import audit_subject
from auditkit.config.load import load_config
from auditkit.config.subject import subject_from_config
from auditkit.core.errors import LoadError, UsageError
from auditkit.core.plan import make_plan
from auditkit.core.registry import discover
from auditkit.methods.performance.counted import binned_auc

CONFIG = """\
version = 1
[data]
test = "rows.parquet"
rows = "{rows}"
target = "label"
prediction = "decision"
score = "p"
positive = "yes"
sensitive = ["sex", "team"]
"""
ANALYZERS = ("performance", "fairness.groups")


def table(n=3000, seed=0):
    rng = np.random.default_rng(seed)
    p = rng.beta(0.6, 1.1, n)
    return pd.DataFrame(
        {
            "label": np.where(rng.random(n) < p, "yes", "no"),
            "decision": np.where(p >= 0.4, "yes", "no"),
            "p": p,
            "sex": rng.choice(["F", "M", None], n, p=[0.5, 0.4, 0.1]),
            "team": rng.choice([1, 2, 3], n),
        }
    )


def subject(folder, rows, frame=None, text=CONFIG):
    frame = table() if frame is None else frame
    duckdb.sql(f"COPY (SELECT * FROM frame) TO '{folder / 'rows.parquet'}' (FORMAT parquet)")
    (folder / "audit.toml").write_text(text.format(rows=rows))
    return subject_from_config(load_config(folder / "audit.toml"))


def audited(folder, rows, *more, **keys):
    settings = {"fairness.groups": {"cross_check": False}}
    plan = make_plan((*ANALYZERS, *more), settings)
    return audit_subject(subject(folder, rows, **keys), plan=plan).evidence


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    return [audited(tmp_path_factory.mktemp(rows), rows) for rows in ("count", "keep")]


def test_a_threshold_decides_as_saved_decisions_would(tmp_path):
    by_score = CONFIG.replace('prediction = "decision"', "threshold = 0.4")
    saved = subject(tmp_path, "count").test.counted
    for rows in ("count", "keep"):
        found = subject(tmp_path, rows, text=by_score)
        assert found.positive == 1
        decided = found.model.predict(found.test.inputs) if rows == "keep" else found.test.counted.decided
        weights = np.ones(len(decided)) if rows == "keep" else found.test.counted.rows
        assert (decided * weights).sum() == (saved.decided * saved.rows).sum()
        with pytest.raises(UsageError, match="AK259 threshold=40.0 does not apply(.|\n)*audit.toml"):
            subject(tmp_path, rows, text=by_score.replace("0.4", "40"))


UNSORTED = ("performance.average_precision", "performance.expected_calibration_error")


def test_every_number_is_that_of_the_kept_rows(both):
    counted, kept = ({m.key: m for m in evidence.measurements()} for evidence in both)
    assert set(counted) == set(kept)
    compared = 0
    for key, measurement in counted.items():
        reference = kept[key]
        assert measurement.n == reference.n or measurement.value is None
        if measurement.name.startswith((*UNSORTED, "performance.roc_auc")):
            continue
        assert (measurement.value is None) == (reference.value is None), key
        if reference.value is not None:
            assert measurement.value == pytest.approx(reference.value, abs=1e-12), key
            compared += 1
        if reference.interval is not None and not key.endswith(".difference"):
            assert measurement.interval.low == pytest.approx(reference.interval.low, abs=1e-9), key
            assert measurement.interval.high == pytest.approx(reference.interval.high, abs=1e-9), key
    assert compared > 400


def test_counts_group_sizes_and_label_counts_are_those_of_the_kept_rows(both):
    counted, kept = both
    assert [(c.over, c.groups, c.n) for c in counted.counts()] == [(c.over, c.groups, c.n) for c in kept.counts()]
    for field in ("n_rows", "sensitive", "label_counts"):
        assert getattr(counted.subject.test, field) == getattr(kept.subject.test, field)
    assert counted.subject.test.sensitive["sex"]["(missing)"] > 0


def test_the_exact_auc_lies_within_the_stated_bound(both):
    counted, kept = ({m.key: m for m in e.measurements() if m.name == "performance.roc_auc"} for e in both)
    assert len(counted) == 7
    for key, measurement in counted.items():
        exact = kept[key]
        assert measurement.value == pytest.approx(exact.value, abs=2e-4)
        assert measurement.interval.low <= exact.interval.low + 1e-9
        assert measurement.interval.high >= exact.interval.high - 1e-9
    notes = next(o.notes for o in both[0].outcomes if o.analyzer == "performance")
    assert any("the exact AUC differs by at most" in note for note in notes)


def test_coarse_bins_move_the_auc_by_less_than_the_bound():
    rng = np.random.default_rng(3)
    score, y = rng.random(500), rng.random(500)
    y = y < score
    pairs = score[y][:, None] - score[~y][None, :]
    exact = float(((pairs > 0) + 0.5 * (pairs == 0)).mean())
    bins = np.minimum((score * 10).astype(int), 9)
    sides = [np.bincount(bins[part], minlength=10) for part in (y, ~y)]
    found, bound = binned_auc(*sides)
    assert bound > 0.005
    assert abs(found.value - exact) <= bound
    assert found.interval(0.95).low < exact - bound / 2


def test_what_needs_the_rows_says_so(both):
    found = {m.name: m for m in both[0].measurements() if not m.slice and not m.over}
    for name in UNSORTED:
        assert found[name].value is None
        assert 'set [data] rows = "keep"' in found[name].reason


def test_analyzers_that_need_the_rows_do_not_apply(tmp_path):
    evidence = audited(tmp_path, "count", "data.quality", "fairness.scores")
    states = {o.analyzer: (o.status, o.reason) for o in evidence.outcomes}
    for name in ("data.quality", "fairness.scores"):
        status, reason = states[name]
        assert status == "not_applicable"
        assert "these 3,000 were counted as they were read" in reason
    assert "fairness.individual" in discover()


def test_scores_alone_decide(tmp_path):
    text = CONFIG.replace('prediction = "decision"\n', "")
    frame = table().assign(p=lambda t: t.p.round(1))  # ties at 0.5
    found = {rows: audited(tmp_path, rows, frame=frame, text=text) for rows in ("count", "keep")}
    assert [c.n for c in found["count"].counts()] == [c.n for c in found["keep"].counts()]


def test_several_classes_and_no_scores(tmp_path):
    text = CONFIG.replace('score = "p"\npositive = "yes"\n', "")
    rng = np.random.default_rng(1)
    frame = table().assign(label=rng.integers(0, 3, 3000), decision=rng.integers(0, 3, 3000))
    counted, kept = (audited(tmp_path, rows, frame=frame, text=text) for rows in ("count", "keep"))
    first, second = ({m.key: m for m in e.measurements()} for e in (counted, kept))
    assert set(first) == set(second)
    for key, reference in second.items():
        assert first[key].value == pytest.approx(reference.value, abs=1e-12)
        assert first[key].n == reference.n


def test_the_fingerprint_is_of_the_bytes_and_the_columns(tmp_path):
    one, same = (subject(tmp_path, "count").test.fingerprint for _ in range(2))
    other = subject(tmp_path, "count", table(seed=1)).test.fingerprint
    fewer = subject(tmp_path, "count", text=CONFIG.replace(', "team"', "")).test.fingerprint
    assert one == same
    assert len({one, other, fewer}) == 3


BROKEN = {
    "missing label": (lambda t: t.assign(label=t.label.where(t.index > 4)), "AK203 5 of 3,000 labels"),
    "missing decision": (lambda t: t.assign(decision=t.decision.where(t.index > 0)), "AK203 1 of 3,000 decisions"),
    "missing score": (lambda t: t.assign(p=t.p.where(t.index > 1)), "AK248 2 of 3,000 scores are missing"),
    "infinite score": (lambda t: t.assign(p=t.p.where(t.index > 1, np.inf)), "AK248 2 of 3,000 scores are missing"),
    "percent": (lambda t: t.assign(p=t.p * 100), "AK248 .* they lie outside 0 to 1"),
    "third decision": (
        lambda t: t.assign(decision=t.decision.where(t.index > 0, "maybe")),
        "AK247 there are 3 classes",
    ),
    "another coding": (lambda t: t.assign(decision=t.decision.map({"no": 0, "yes": 1})), "AK246"),
    "one class": (lambda t: t.assign(label="no", decision="no"), "AK249"),
    "names for groups": (lambda t: t.assign(sex=[f"id{i}" for i in range(len(t))]), "AK218 .* about"),
    "60 groups": (lambda t: t.assign(sex=[f"g{i % 60}" for i in range(len(t))]), "AK218 .* 60 distinct"),
    "names for labels": (lambda t: t.assign(label=[f"id{i}" for i in range(len(t))]), "AK252 there are about"),
    "no rows": (lambda t: t.iloc[:0], "AK200"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_rows_are_refused_with_their_place(tmp_path, name):
    change, words = BROKEN[name]
    with pytest.raises(UsageError, match=words) as caught:
        subject(tmp_path, "count", change(table()))
    assert caught.value.where.startswith("audit.toml:")


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('"rows.parquet"', '"rows.csv"', "not in a Parquet file"),
        ('score = "p"', 'score = "p"\nweight = "p"', "weights and clusters need every row"),
        ('score = "p"', 'score = ["p", "p"]', "several score columns"),
        ('score = "p"', 'score = "p"\nscore_space = "logit"', "scores that are no probabilities"),
        ('"label"', '"p"', "values of a regression"),
    ],
)
def test_what_cannot_be_counted_is_refused_when_it_was_asked_for(tmp_path, old, new, words):
    table().to_csv(tmp_path / "rows.csv", index=False)
    with pytest.raises(UsageError, match="AK253") as caught:
        subject(tmp_path, "count", text=CONFIG.replace(old, new, 1))
    assert words in caught.value.why


def test_few_rows_are_kept_and_many_counted_unless_told_otherwise(tmp_path, monkeypatch):
    assert subject(tmp_path, "auto").test.counted is None
    monkeypatch.setattr("auditkit.config.counted.MANY_ROWS", 1000)
    assert subject(tmp_path, "auto").test.counted.total == 3000
    assert subject(tmp_path, "keep").test.counted is None
    assert (
        subject(tmp_path, "auto", text=CONFIG.replace('score = "p"', 'score = "p"\nweight = "p"')).test.counted is None
    )


def test_nobody_can_be_asked_for_predictions(tmp_path):
    with pytest.raises(UsageError, match="AK226 the predictions were counted"):
        subject(tmp_path, "count").model.predict_scores(np.arange(3))


def test_a_file_cut_short_is_refused(tmp_path):
    subject(tmp_path, "count")
    whole = (tmp_path / "rows.parquet").read_bytes()
    (tmp_path / "rows.parquet").write_bytes(whole[:-50])
    with pytest.raises(LoadError, match="AK231"):
        subject_from_config(load_config(tmp_path / "audit.toml"))
