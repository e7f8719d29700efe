"""A rule at a stricter level than the audit's tells what an audit at that level tells, with few clusters too."""

import datetime
import functools
import json
from dataclasses import replace

import numpy as np
import pytest
from click.testing import CliRunner
from scipy.stats import t

import auditkit
from auditkit.cli.verify import verify
from auditkit.core.evidence import Interval, Measurement
from auditkit.core.schema import dumps, from_document, loads, seal, to_document
from auditkit.policy.evaluate import evaluate
from auditkit.policy.measured import Measured
from auditkit.policy.model import Policy, Rule, parse_policy
from auditkit.policy.moves import moves
from auditkit.policy.pairs import Pairs
from auditkit.policy.resolve import settle
from auditkit.policy.resolve_change import changes_between
from auditkit.render.redact import redact
from auditkit.stats.rebuilt import _ODDS, SCALES, rebuilt
from auditkit.stats.replication import replicated_difference, replicated_rate

TODAY = datetime.date(2026, 1, 1)
DESIGNS = [(False, True), (True, True), (False, False)]


def keys(rng, n, weighted, clustered):
    return {
        "weights": np.exp(rng.normal(0, 0.7, n)) if weighted else None,
        "clusters": rng.integers(0, 14, n) if clustered else None,
    }


@functools.cache
def decisions(weighted, clustered, level=0.95, seed=0, n=200):
    rng = np.random.default_rng(seed)
    sex = rng.choice(list("FMX"), n)
    label = (rng.random(n) < 0.3 + 0.2 * (sex == "M")).astype(int)
    score = np.clip(0.5 * label + 0.25 + rng.normal(0, 0.25, n) - 0.1 * (sex == "F"), 0, 1).round(2)
    analyzers = {
        "performance": {"confidence": level},
        "fairness.groups": {"cross_check": False, "level": level},
        "fairness.scores": {"resamples": 20, "permutations": 0, "level": level},
        "fairness.outcomes": {"level": level},
        "fairness.individual": {"level": level, "resamples": 20},
    }
    return auditkit.audit_predictions(
        label, (score > 0.5).astype(int), scores=score, sensitive={"sex": sex}, positive=1, progress=False,
        analyzers=analyzers, **keys(rng, n, weighted, clustered),
    ).evidence  # fmt: skip


@functools.cache
def predictions(weighted, clustered, level=0.95, seed=3, n=240):
    rng = np.random.default_rng(seed)
    true, sex = rng.gamma(9, 1, n), rng.choice(list("FMX"), n)
    analyzers = {
        "performance": {"confidence": level},
        "fairness.groups": {"level": level},
        "fairness.regression": {"level": level, "resamples": 20},
    }
    return auditkit.audit_predictions(
        true, true + rng.normal(0, 1.5, n) + 0.3 * (sex == "F"), sensitive={"sex": sex}, task="regression",
        progress=False, analyzers=analyzers, **keys(rng, n, weighted, clustered),
    ).evidence  # fmt: skip


def told(evidence):
    """What has limits that are made on a known scale, or exact ones, in both of which the rest is a level."""
    return {
        m.key: m
        for m in evidence.measurements()
        if m.interval and m.interval.method in {*SCALES, *_ODDS} and not m.interval.method.startswith("bootstrap")
    }


def wider(m, level):
    low, high = Measured(measurements=(m,)).limits(level)
    return float(low[0]), float(high[0])


def is_close(ends, interval, tolerance=1e-9):
    size = max(1.0, abs(interval.low), abs(interval.high))
    return max(abs(ends[0] - interval.low), abs(ends[1] - interval.high)) <= tolerance * size


METHODS = {
    (decisions, False): {"cluster-student-t", "delong-clustered-logit", "korn-graubard-clustered", "linearised-log",
                         "korn-graubard-clustered-mapped", "cluster-linearised-logit", "linearised-log-root"},
    (predictions, False): {"cluster-student-t", "cluster-linearised-log", "fisher-z", "linearised-t"},
}  # fmt: skip


@pytest.mark.parametrize("made", [decisions, predictions])
@pytest.mark.parametrize(
    ("weighted", "clustered", "level"), [(*design, 0.99) for design in DESIGNS] + [(False, True, 0.9)]
)
def test_limits_at_another_level_are_those_of_an_audit_at_that_level(made, weighted, clustered, level):
    audited, strict = told(made(weighted, clustered)), told(made(weighted, clustered, level))
    assert audited.keys() == strict.keys()
    assert len(audited) >= 37
    for key, m in audited.items():
        if m.interval.low == m.interval.high or rebuilt(m) is None:
            assert m.bounds in ((m.interval.low, m.interval.high), (0.0, 1.0)), key  # cut off at both ends
            continue
        ends, held = wider(m, level), strict[key].interval
        if level < m.interval.level and m.rests_on_clusters:  # a shared copy tells fewer: never nearer than is true
            assert m.interval.low <= ends[0] <= held.low + 1e-9, key
            assert held.high - 1e-9 <= ends[1] <= m.interval.high, key
            continue
        assert is_close(ends, held), (key, m.interval, held)
    if clustered and not weighted:
        assert {m.interval.method for m in audited.values()} >= METHODS[made, weighted]


@pytest.mark.parametrize("made", [decisions, predictions])
def test_without_their_degrees_of_freedom_limits_of_few_clusters_would_be_too_near(made):
    audited, strict = told(made(False, True)), told(made(False, True, 0.99))
    near = 0
    for key, m in audited.items():
        assert m.interval.degrees_of_freedom is not None, key
        low, high = wider(replace(m, interval=replace(m.interval, degrees_of_freedom=None)), 0.99)
        held = strict[key].interval
        near += (held.high - held.low) > 1.02 * (high - low)
    assert near >= 30


def test_a_rule_on_a_mean_of_twelve_clusters_counts_them():
    """Clusters of one size: the mean of their means has Student's limits with eleven degrees of freedom."""
    rng = np.random.default_rng(0)
    each = rng.normal(10, 1, 12)[:, None] + rng.normal(0, 0.5, (12, 10))
    evidence = auditkit.audit_predictions(
        np.zeros(120) + rng.normal(0, 1, 120), each.ravel(), sensitive={"sex": np.repeat("F", 120)}, task="regression",
        clusters=np.repeat(np.arange(12), 10), progress=False, analyzers={"fairness.groups": {}},
    ).evidence  # fmt: skip
    means = each.mean(axis=1)
    for confidence in (0.95, 0.99, 0.999):
        (found,) = judged(evidence, "fairness.mean_prediction", "value", confidence, max=20.0, over=())
        half = t.ppf(0.5 + confidence / 2, 11) * means.std(ddof=1) / 12**0.5
        expected = means.mean() - half, means.mean() + half
        assert (found.interval.low, found.interval.high) == pytest.approx(expected, abs=1e-9)


def judged(evidence, metric, compare, confidence, **rule):
    rule = {
        "id": "r",
        "metric": metric,
        "compare": compare,
        "over": ["sex"],
        "confidence": confidence,
        "min_n": 0,
    } | rule
    names = {m.name for m in evidence.measurements()}
    result = evaluate(evidence, parse_policy({"rule": [rule]}, measured=names), as_of=TODAY).results[0]
    assert result.state != "error", result.message
    return result.comparisons


GAPS = [
    (decisions, "fairness.mean_score", "difference"),
    (decisions, "fairness.log_loss", "difference"),
    (decisions, "fairness.roc_auc", "difference"),
    (decisions, "fairness.true_positive_rate", "ratio"),
    (decisions, "performance.recall", "difference"),
    (predictions, "fairness.mean_prediction", "difference"),
    (predictions, "fairness.root_mean_squared_error", "ratio"),
    (predictions, "fairness.correlation", "difference"),
    (predictions, "performance.mean_absolute_error", "difference"),
]


@pytest.mark.parametrize(("weighted", "clustered"), DESIGNS[:2])
@pytest.mark.parametrize(("made", "metric", "compare"), GAPS)
def test_a_rule_on_a_gap_at_a_stricter_level_is_that_of_a_stricter_audit(made, metric, compare, weighted, clustered):
    limit = {"max": 1e-6} if compare == "difference" else {"min": 0.999999}
    audited, strict = (
        judged(made(weighted, clustered, level), metric, compare, 0.99, **limit) for level in (0.95, 0.99)
    )
    assert len(audited) == len(strict) == 3
    for one, two in zip(audited, strict, strict=True):
        assert one.label == two.label
        assert is_close((one.interval.low, one.interval.high), two.interval), (one, two)
        assert one.state == two.state


@pytest.mark.parametrize(("made", "metric", "compare"), GAPS)
def test_so_is_a_rule_on_the_change_since_a_baseline(made, metric, compare):
    settings = settle(
        Rule(id="r", metric=metric, compare=compare, over=("sex",), max_increase=0.0, baseline="b"), Policy()
    )
    bounds = []
    for level in (0.95, 0.99):
        now, then = made(False, True, level), made(False, True, level, 7)
        ((change,), _) = changes_between(settings, Policy(), now, then, Pairs(reason="other rows"))
        bounds.append(change.bounds(0.99))
    assert np.isfinite(bounds[0]).all()
    np.testing.assert_allclose(bounds[0], bounds[1], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("trainings", [1, 3])
def test_means_over_trainings_keep_satterthwaites_degrees_of_freedom(trainings):
    rng = np.random.default_rng(5)
    one, two = (rng.random((trainings, 30)) < chance for chance in (0.8, 0.6))
    clusters = np.repeat(np.arange(10), 3)
    for value, make, bounds in (
        (one.mean(), lambda level: replicated_rate(one.astype(float), None, clusters, level)[1], (0.0, 1.0)),
        (
            one.mean() - two.mean(),
            lambda level: replicated_difference(one.astype(float), two.astype(float), None, clusters, level)[1],
            (-1.0, 1.0),
        ),
    ):
        held = make(0.95)
        assert held.degrees_of_freedom is not None
        m = Measurement(name="a.b", value=float(value), n=30, interval=held, bounds=bounds)
        assert is_close(wider(m, 0.99), make(0.99))


def test_limits_joined_from_several_are_never_nearer_than_those_of_a_stricter_audit():
    """Means of recalls cannot be told at another level: their widening is that of the fewest clusters."""
    audited, strict = ({m.key: m for m in decisions(False, True, level).measurements()} for level in (0.95, 0.99))
    found = [key for key, m in audited.items() if m.interval and m.interval.method == "mover-korn-graubard-clustered"]
    assert len(found) >= 4
    for key in found:
        low, high = wider(audited[key], 0.99)
        held = strict[key].interval
        assert low <= held.low + 1e-12
        assert high >= held.high - 1e-12


def test_the_worst_of_several_gaps_is_widened_for_groups_that_hardly_differ():
    """The far limit may be that of a small group which differs little: all of it is that group's error."""
    held = Interval(low=0.05, high=0.4, method="bootstrap-simultaneous", degrees_of_freedom=9.0)
    gap = Measurement(name="a.b.difference", value=0.1, n=90, interval=held, over=("g",), bounds=(0.0, 1.0))
    times = t.ppf(0.995, 9) / t.ppf(0.975, 9)
    alone = Measured(measurements=(gap, gap), gap=gap, several=True).gap_limits(0.99)
    assert alone[1][0] == pytest.approx(0.4 * times)
    assert alone[0][0] == pytest.approx(0.1 - 0.05 * times)
    pair = Measured(measurements=(gap, gap), gap=gap).gap_limits(0.99)
    assert pair[1][0] == pytest.approx(0.1 + 0.3 * times)
    for several in (False, True):
        same = Measured(measurements=(gap, gap), gap=gap, several=several).gap_limits(0.95)
        assert (same[0][0], same[1][0]) == pytest.approx((0.05, 0.4))
    turned = Interval(low=0.6, high=0.95, method="bootstrap-simultaneous", degrees_of_freedom=9.0)
    ratio = replace(gap, name="a.b.ratio", value=0.9, interval=turned)
    low, high = Measured(measurements=(ratio, ratio), gap=ratio, several=True).gap_limits(0.99)
    assert low[0] == pytest.approx(min(1.0 - 0.4 * times, 0.6**times))
    assert high[0] == pytest.approx(min(max(0.9 + 0.05 * times, 0.9 * (0.95 / 0.9) ** times), 1.0))


def stripped(evidence):
    """The evidence as an earlier release wrote it."""
    document = to_document(evidence)
    for outcome in document["outcomes"]:
        for m in outcome["measurements"]:
            (m.get("interval") or {}).pop("degrees_of_freedom", None)
    document["digest"] = ""
    return dumps(seal(from_document(document)))


def test_evidence_of_an_earlier_release_loads_and_is_verified(tmp_path):
    evidence = predictions(False, True)
    assert "degrees_of_freedom" in dumps(evidence)
    assert loads(dumps(evidence)).digest == evidence.digest
    old = stripped(evidence)
    assert "degrees_of_freedom" not in old
    assert all(m.interval is None or m.interval.degrees_of_freedom is None for m in loads(old).measurements())
    for text in (old, dumps(evidence)):
        (tmp_path / "evidence.json").write_text(text)
        result = CliRunner().invoke(verify, [str(tmp_path / "evidence.json")])
        assert result.exit_code == 0, result.output


def test_plain_rates_of_counts_say_no_degrees_of_freedom():
    evidence = decisions(False, False)
    shares = [m for m in evidence.by_name["fairness.selection_rate"] if m.interval]
    assert {m.interval.degrees_of_freedom for m in shares} == {None}
    assert "degrees_of_freedom" not in json.dumps([to_document(evidence)["outcomes"][1]["measurements"][:3]])


def test_shared_copies_tell_no_small_number_of_clusters_of_a_group():
    evidence = predictions(False, True)
    kept = [m for m in redact(evidence, 10).measurements() if m.interval and m.interval.degrees_of_freedom]
    assert len([m for m in kept if m.slice]) >= 10
    assert {m.interval.degrees_of_freedom for m in kept} == {13.0}
    few = redact(evidence, 15).measurements()
    assert {bool(m.slice or m.over) for m in few if m.interval and m.interval.degrees_of_freedom} == {False}


def test_limits_of_a_shared_copy_at_a_lower_level_are_never_nearer():
    compared = 0
    for evidence, strict in ((made(False, True), made(False, True, 0.9)) for made in (decisions, predictions)):
        true = told(strict)
        for least in (2, 10):
            for key, m in told(redact(evidence, least)).items():
                if m.value is None or not m.slice or not m.rests_on_clusters:
                    continue
                ends, held = wider(m, 0.9), true[key].interval
                size = 1e-5 * max(1.0, abs(held.low), abs(held.high))  # six digits are shared
                assert ends[0] <= held.low + size, key
                assert ends[1] >= held.high - size, key
                compared += 1
    assert compared >= 40


def test_the_change_of_a_gap_on_a_curved_scale_is_that_of_its_groups():
    """Of three groups: limits at half the error each, which those at the audits' own level do not tell."""
    then, now = (predictions(False, False, seed=seed) for seed in (3, 4))
    strict = [predictions(False, False, 0.975, seed=seed) for seed in (3, 4)]
    key = next(m.key for m in then.measurements() if m.name == "fairness.r2.difference")
    (move,) = [move for move in moves(then, now, other_data=True) if move.key == key]
    old, new = (told_one.interval for each in strict for told_one in each.measurements() if told_one.key == key)
    assert move.interval.low == pytest.approx(new.low - old.high, abs=1e-9)
    assert move.interval.high == pytest.approx(new.high - old.low, abs=1e-9)


def test_a_ratio_is_widened_as_far_as_numbers_go():
    held = Interval(low=0.2, high=3.0, method="melded-worst-pair", degrees_of_freedom=1.0)
    ratio = Measurement(name="a.rate.ratio", value=0.7, n=90, interval=held, over=("g",))
    low, high = Measured(measurements=(ratio,)).limits(0.9999)
    assert low[0] <= 1e-200
    assert 1e200 <= high[0] < np.inf
    below = replace(ratio, interval=replace(held, low=-0.1))
    assert Measured(measurements=(below,)).limits(0.99)[0][0] < 0.0


def test_a_gate_on_a_shared_copy_is_never_surer_than_the_whole():
    evidence = predictions(False, True)
    for compare, limit in (("value", {"max": 99.0}), ("difference", {"max": 9.0})):
        whole, part = (
            judged(each, "fairness.mean_prediction", compare, 0.99, **limit)
            for each in (evidence, redact(evidence, 10))
        )
        ends = [(min(c.interval.low for c in found), max(c.interval.high for c in found)) for found in (whole, part)]
        assert ends[1][0] <= ends[0][0] + 1e-4
        assert ends[1][1] >= ends[0][1] - 1e-4


def test_degrees_of_freedom_are_checked():
    for wrong in (0.0, -1.0, float("inf"), float("nan")):
        with pytest.raises(ValueError, match="degrees of freedom"):
            Interval(low=0.0, high=1.0, method="student-t", degrees_of_freedom=wrong)
    assert isinstance(Interval(low=0.0, high=1.0, method="student-t", degrees_of_freedom=3).degrees_of_freedom, float)
