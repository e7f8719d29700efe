"""Changes on pairs: against exact tests, brute force and simulation; what pairs catch, and when they are refused."""

from __future__ import annotations

import datetime
import json

import numpy as np
import pytest
from statsmodels.stats.contingency_tables import mcnemar

from auditkit.core.errors import EvidenceError, PolicyError
from auditkit.core.evidence import Counts
from auditkit.core.rows import ROWS_FILE, RowsRecord, read_rows, rows_bytes
from auditkit.methods.fairness.metric_table import METRICS
from auditkit.methods.fairness.metrics import group_rates
from auditkit.methods.fairness.paired import joint_counts, pair_rates
from auditkit.policy.baseline import make_baseline
from auditkit.policy.evaluate import evaluate
from auditkit.policy.files import load_policy, with_pairs
from auditkit.policy.model import parse_policy
from auditkit.policy.pairs import pair_up, pairs_document, read_pairs
from auditkit.stats.matched import matched_limits

DAY = datetime.date(2026, 5, 1)


def limits(up, down, n, level=0.95):
    low, high = matched_limits(np.array([up / n]), np.array([down / n]), np.array([float(n)]), level)
    return float(low[0]), float(high[0])


# The interval of matched pairs ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("up", "down", "n"), [(9, 2, 161), (10, 4, 100), (1, 0, 10), (30, 3, 60), (40, 38, 200), (200, 9, 5000), (7, 3, 10)]
)
def test_limits_are_quantiles_of_the_melded_product(up, down, n):
    """Fay and Lumbard (2021), section 3, by random draws from the four beta distributions."""
    rng, draws, changed = np.random.default_rng(1), 400_000, up + down

    def lower(x, y):
        theta = rng.beta(x, y + 1, draws) if x else np.zeros(draws)
        least = rng.beta(changed, n - changed + 1, draws)
        most = rng.beta(changed + 1, n - changed, draws) if changed < n else np.ones(draws)
        return np.quantile((2 * theta - 1) * np.where(theta > 0.5, least, most), 0.025)

    found = limits(up, down, n)
    assert found == pytest.approx((lower(up, down), -lower(down, up)), abs=0.02 * (found[1] - found[0]))
    assert limits(down, up, n) == pytest.approx((-found[1], -found[0]), abs=1e-7)


@pytest.mark.parametrize("changed", [1, 5, 6, 11, 25, 60])
def test_zero_is_left_out_exactly_where_the_exact_mcnemar_test_rejects(changed):
    for up in range(changed + 1):
        table = [[50, up], [changed - up, 50]]
        p = float(mcnemar(table, exact=True).pvalue)
        low, high = limits(up, changed - up, 100 + changed)
        assert (low > 0 or high < 0) == (p <= 0.05), (up, changed, p, low, high)


def test_edges_have_closed_forms():
    for n in (1, 30, 5000):
        none = 1 - 0.025 ** (1 / n)  # nobody changed: the exact upper limit of a share of 0
        assert limits(0, 0, n) == pytest.approx((-none, none), rel=1e-6)
        assert limits(0, n, n)[0] == -1.0
    low, high = matched_limits(np.array([0.1, np.nan]), np.array([0.1, 0.1]), np.array([0.0, 9.0]), 0.95)
    assert np.isnan([low, high]).all()


def test_more_confidence_is_wider_and_the_value_is_inside():
    for up, down, n in [(3, 1, 9), (80, 20, 1000), (0, 4, 40)]:
        ends = [limits(up, down, n, level) for level in (0.8, 0.95, 0.999)]
        assert ends[0][0] > ends[1][0] > ends[2][0]
        assert ends[0][1] < ends[1][1] < ends[2][1]
        assert ends[0][0] <= (up - down) / n <= ends[0][1]


@pytest.mark.parametrize(("up", "down"), [(0.02, 0.01), (0.1, 0.1), (0.3, 0.05), (0.0, 0.1), (0.01, 0.0)])
@pytest.mark.parametrize("n", [12, 30])
def test_each_limit_misses_at_most_as_often_as_it_says(up, down, n):
    """Exact: every outcome is listed with its probability."""
    from scipy.stats import multinomial

    x, y = (part.ravel() for part in np.meshgrid(np.arange(n + 1), np.arange(n + 1)))
    x, y = x[x + y <= n], y[x + y <= n]
    chance = multinomial.pmf(np.stack([x, y, n - x - y], axis=1), n, [up, down, 1 - up - down])
    low, high = matched_limits(x / n, y / n, np.full(len(x), float(n)), 0.95)
    truth = up - down
    assert chance @ (low > truth + 1e-9) <= 0.025 + 1e-9
    assert chance @ (high < truth - 1e-9) <= 0.025 + 1e-9


# Joint cells ---------------------------------------------------------------------------------------------


def people(n=3000, seed=0, flip=0.06, weights=False, clusters=False):
    """Labels, two models that mostly agree, and two sensitive columns."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 2, n)
    groups = {"sex": rng.choice(["F", "M"], n), "site": rng.choice(["a", "b", "c"], n)}
    then = np.where(rng.random(n) < 0.25, 1 - y, y)
    then = np.where((groups["sex"] == "M") & (rng.random(n) < 0.4), 1, then)
    now = np.where(rng.random(n) < flip, 1 - then, then)
    extra = {}
    if weights:
        extra["weights"] = rng.gamma(4.0, 0.25, n)
    if clusters:
        extra["clusters"] = rng.integers(0, n // 5, n)
    return y, then, now, groups, extra


def joint_of(kit, y, then, now, groups, extra):
    head = kit.evidence(y, now, groups, **extra)
    tables = list(head.counts())
    return tables, joint_counts(y, then, now, tables, groups, **extra)


@pytest.mark.parametrize("extra", [{}, {"weights": True}, {"clusters": True}, {"weights": True, "clusters": True}])
def test_margins_are_the_cells_of_both_audits(kit, extra):
    y, then, now, groups, more = people(600, **extra)
    tables, joint = joint_of(kit, y, then, now, groups, more)
    before = list(kit.evidence(y, then, groups, **more).counts())
    for table, earlier, cells in zip(tables, before, joint, strict=True):
        assert np.array_equal(cells.now(), np.array(table.n))
        assert np.array_equal(cells.then(), np.array(earlier.n))
        if more.get("weights") is not None:
            assert np.allclose(cells.weight.sum(axis=2), np.array(table.weight))


@pytest.mark.parametrize("metric", sorted(METRICS))
def test_variance_and_correlation_are_those_of_a_bootstrap_of_the_rows(kit, metric):
    y, then, now, groups, _ = people(900, seed=3)
    _, joint = joint_of(kit, y, then, now, groups, {})
    rates = [group_rates(next(kit.evidence(y, p, groups).counts()), metric) for p in (now, then)]
    pairing = pair_rates(joint[0], *rates)
    rng, values = np.random.default_rng(0), []
    for _ in range(400):
        rows = rng.integers(0, len(y), len(y))
        values.append([formula(metric, y[rows], p[rows]) for p in (now, then)])
    drawn = np.array(values)
    assert np.sqrt(pairing.spread[0]) == pytest.approx(drawn.std(axis=0), rel=0.15)
    assert pairing.correlation[0] == pytest.approx(np.corrcoef(drawn.T)[0, 1], abs=0.09)


def formula(metric, y, p):
    """Every count metric by its textbook formula."""
    tp, fp = np.sum((y == 1) & (p == 1)), np.sum((y == 0) & (p == 1))
    fn, tn = np.sum((y == 1) & (p == 0)), np.sum((y == 0) & (p == 0))
    n = len(y)
    return {
        "selection_rate": (tp + fp) / n, "rejection_rate": (fn + tn) / n, "base_rate": (tp + fn) / n,
        "true_positive_rate": tp / (tp + fn), "false_positive_rate": fp / (fp + tn),
        "true_negative_rate": tn / (fp + tn), "false_negative_rate": fn / (tp + fn),
        "positive_predictive_value": tp / (tp + fp), "negative_predictive_value": tn / (tn + fn),
        "false_discovery_rate": fp / (tp + fp), "false_omission_rate": fn / (tn + fn),
        "f1": 2 * tp / (2 * tp + fp + fn), "threat_score": tp / (tp + fp + fn), "false_negative_share": fn / (fn + fp),
        "accuracy": (tp + tn) / n, "error_rate": (fp + fn) / n,
        "balanced_accuracy": (tp / (tp + fn) + tn / (fp + tn)) / 2,
    }[metric]  # fmt: skip


def test_each_row_twice_in_one_cluster_gives_half_the_effective_pairs(kit):
    y, then, now, groups, _ = people(800, seed=5)
    double = [np.repeat(part, 2) for part in (y, then, now)]
    twice = {name: np.repeat(values, 2) for name, values in groups.items()}
    codes = {"clusters": np.repeat(np.arange(len(y)), 2)}
    effective = []
    for rows, columns, extra in (((y, then, now), groups, {}), (double, twice, {}), (double, twice, codes)):
        _, joint = joint_of(kit, *rows, columns, extra)
        rates = [
            group_rates(next(kit.evidence(rows[0], p, columns, **extra).counts()), "accuracy") for p in rows[2:0:-1]
        ]
        effective.append(pair_rates(joint[0], *rates).effective[0])
    assert effective[1] == pytest.approx(2 * effective[0], rel=1e-9)
    assert effective[2] == pytest.approx(effective[0], rel=0.01)


# The gate ------------------------------------------------------------------------------------------------


def record(y, decided, groups, weights=None, clusters=None):
    return RowsRecord(fingerprint="sha256:0", y=y, decided=decided, groups=groups, weights=weights, clusters=clusters)


def paired(kit, y, then, now, groups, extra, *, pairs=True, **keys):
    """The one rule's result on ``now`` with ``then`` as its baseline."""
    import tomllib

    base, head = kit.evidence(y, then, groups, **extra), kit.evidence(y, now, groups, **extra)
    document = make_baseline(base, reason="release 1", accepted=DAY)
    if pairs:
        found = pair_up(base, record(y, then, groups, **extra), head, record(y, now, groups, **extra))
        document["pairs"] = json.loads(json.dumps(pairs_document(found)))
    rule = {"compare": "difference", "min": None, "baseline": "b", "max_increase": 0.02, **keys}
    policy = {**tomllib.loads(kit.rule(**rule)), "baseline": {"b": document}}
    return evaluate(head, parse_policy(policy), as_of=kit.AS_OF).results[0]


def harmed(n=4000, share=0.035, seed=1, women=0.5):
    """A new model that turns down some of the women that the old one chose, and is the same on all other rows."""
    rng = np.random.default_rng(seed)
    y, groups = rng.integers(0, 2, n), {"sex": np.repeat(["F", "M"], n // 2)}
    then = (rng.random(n) < np.where(groups["sex"] == "F", women, 0.5)).astype(int)
    hit = (groups["sex"] == "F") & (then == 1) & (rng.random(n) < share / women)
    return y, then, np.where(hit, 0, then), groups


def test_pairs_catch_a_regression_that_independent_samples_do_not_and_a_clean_twin_passes(kit):
    y, then, now, groups = harmed()
    keys = {"compare": "value", "over": ["sex"], "max_increase": 0.02}
    caught, missed = (paired(kit, y, then, now, groups, {}, pairs=pairs, **keys) for pairs in (True, False))
    assert (caught.state, missed.state) == ("fail", "inconclusive")
    assert "paired test: the same 4,000 rows in both audits" in caught.message
    assert "(paired, n = 2,000)" in caught.message
    assert "two-sample test: the rows are the same, but a paired test needs the record" in missed.message
    assert caught.comparisons[0].interval.method == "matched-melded"
    clean = [paired(kit, y, then, then, groups, {}, pairs=pairs, **keys) for pairs in (True, False)]
    assert [result.state for result in clean] == ["pass", "inconclusive"]


def test_the_gap_between_groups_is_paired_too(kit):
    y, then, now, groups = harmed(share=0.06, women=0.35)
    caught, missed = (paired(kit, y, then, now, groups, {}, pairs=p, max_increase=0.03) for p in (True, False))
    assert (caught.state, missed.state) == ("fail", "inconclusive")
    assert caught.comparisons[0].interval.method == "matched-melded-union"
    wide, narrow = (part.comparisons[0].interval for part in (missed, caught))
    assert narrow.high - narrow.low < 0.6 * (wide.high - wide.low)
    assert paired(kit, y, then, then, groups, {}, max_increase=0.03).state == "pass"


@pytest.mark.parametrize("compare", ["value", "difference", "ratio"])
@pytest.mark.parametrize("metric", ["selection_rate", "positive_predictive_value", "f1", "balanced_accuracy"])
@pytest.mark.parametrize("extra", [{}, {"weights": True}, {"clusters": True}])
def test_paired_intervals_are_narrower_and_hold_the_same_value(kit, compare, metric, extra):
    y, then, now, groups, more = people(3000, seed=7, **extra)
    keys = {"metric": metric, "compare": compare, "over": ["sex"]}
    one, two = (paired(kit, y, then, now, groups, more, pairs=pairs, **keys) for pairs in (True, False))
    for narrow, wide in zip(*(sorted(r.comparisons, key=lambda c: c.label) for r in (one, two)), strict=True):
        assert narrow.value == pytest.approx(wide.value)
        assert narrow.interval.low <= narrow.value <= narrow.interval.high
        assert narrow.interval.high - narrow.interval.low < wide.interval.high - wide.interval.low


def test_a_metric_of_the_performance_family_is_judged_from_the_joint_cells(kit):
    y, then, now, groups, _ = people()
    result = paired(kit, y, then, now, groups, {}, metric="performance.accuracy", compare="value", over=None)
    assert "paired" in result.message
    assert result.comparisons[0].value == pytest.approx(np.mean(then == y) - np.mean(now == y))


def test_rows_needed_grow_with_the_pairs_and_settle_it(kit):
    y, then, now, groups = harmed(n=800, share=0.035)
    keys = {"compare": "value", "over": ["sex"], "max_increase": 0.04}
    result = paired(kit, y, then, now, groups, {}, **keys)
    worst = result.comparisons[0]
    assert worst.state == "inconclusive"
    more = int(np.ceil(worst.n_needed * 1.6 / 400))
    many = [np.tile(part, more) for part in (y, then, now)]
    settled = paired(kit, *many, {"sex": np.tile(groups["sex"], more)}, {}, **keys)
    assert settled.state == "pass"


@pytest.mark.parametrize("damage", ["cell", "group", "schema", "shape"])
def test_pairs_that_are_not_of_both_audits_are_an_error(kit, damage):
    y, then, now, groups, _ = people(400)
    base, head = kit.evidence(y, then, groups), kit.evidence(y, now, groups)
    document = pairs_document(pair_up(base, record(y, then, groups), head, record(y, now, groups)))
    assert read_pairs(document, base, head, where="p").rows == 400
    if damage == "cell":
        document["tables"][1]["n"][0][0][0][0] += 1
    elif damage == "group":
        document["tables"][1]["groups"][0] = ["X"]
    elif damage == "schema":
        document["schema"] = "other"
    else:
        document["tables"][0]["n"] = [[1, 2]]
    with pytest.raises(PolicyError, match="AK257 the pairs of the baseline are damaged"):
        read_pairs(document, base, head, where="p")


def test_records_of_other_rows_are_not_paired_and_say_why(kit):
    y, then, now, groups, _ = people(400)
    base, head = kit.evidence(y, then, groups), kit.evidence(y, now, groups)
    mine, yours = record(y, then, groups), record(y, now, groups)
    assert pair_up(base, mine, head, yours).rows == 400
    swapped = pair_up(base, yours, head, mine)
    assert "its cells differ from the evidence" in swapped.reason
    other = kit.replace(yours, fingerprint="sha256:1")
    assert pair_up(base, mine, head, other).reason == "the records are not of the same rows"
    turned = record(y[::-1], now[::-1], {name: values[::-1] for name, values in groups.items()})
    assert pair_up(base, mine, head, turned).reason == "the records do not have the same labels and groups"
    many = np.arange(400) % 20
    classes = tuple(map(str, range(20)))
    wide = [kit.evidence(many, many, groups, classes=classes) for _ in range(2)]
    told = pair_up(wide[0], record(many, many, groups), wide[1], record(many, many, groups)).reason
    assert told == "rows of 20 classes are not paired: at most 12 are"


# Files ---------------------------------------------------------------------------------------------------


def test_the_record_survives_its_file_and_a_broken_one_is_refused(tmp_path):
    y, then, _, groups, extra = people(50, weights=True, clusters=True)
    path = tmp_path / ROWS_FILE
    path.write_bytes(rows_bytes(record(y, then, groups, **extra)))
    assert path.read_bytes() == rows_bytes(record(y, then, groups, **extra))
    again = read_rows(path)
    assert (again.fingerprint, len(again), list(again.groups)) == ("sha256:0", 50, ["sex", "site"])
    for name in ("y", "decided", "weights", "clusters"):
        assert np.array_equal(getattr(again, name), getattr(record(y, then, groups, **extra), name))
    assert all(np.array_equal(again.groups[name], groups[name]) for name in groups)
    for junk in (b"", b"junk", path.read_bytes()[:200]):
        path.write_bytes(junk)
        with pytest.raises(EvidenceError, match="AK256 the record of rows cannot be read"):
            read_rows(path)
    np.savez(path, version=np.array(1), y=np.array([{}], dtype=object))
    with pytest.raises(EvidenceError, match="AK256"):
        read_rows(path)


def test_the_gate_finds_both_records_beside_their_files(kit, tmp_path):
    y, then, now, groups = harmed()
    base, head = kit.evidence(y, then, groups), kit.evidence(y, now, groups)
    (tmp_path / "release.json").write_text(json.dumps(make_baseline(base, reason="r", accepted=DAY)))
    rule = {"compare": "value", "min": None, "baseline": "release", "max_increase": 0.02}
    (tmp_path / "audit.toml").write_text(kit.rule(**rule))

    def judged():
        policy = with_pairs(load_policy(tmp_path / "audit.toml"), tmp_path, head, tmp_path / "out")
        return evaluate(head, policy, as_of=kit.AS_OF).results[0]

    (tmp_path / "out").mkdir()
    assert "no record of them was kept beside the baseline" in judged().message
    (tmp_path / "release.rows.npz").write_bytes(rows_bytes(record(y, then, groups)))
    assert "this audit kept no record" in judged().message
    (tmp_path / "out" / ROWS_FILE).write_bytes(rows_bytes(record(y, now, groups)))
    assert (judged().state, "paired test" in judged().message) == ("fail", True)


def test_shared_copies_hold_no_joint_cells(kit):
    from auditkit.core.schema import plain
    from auditkit.render.redact import redact

    y, then, now, groups, _ = people(400)
    base, head = kit.evidence(y, then, groups), kit.evidence(y, now, groups)
    document = make_baseline(base, reason="r", accepted=DAY)
    document["pairs"] = pairs_document(pair_up(base, record(y, then, groups), head, record(y, now, groups)))
    copy = redact(kit.replace(head, policy={"baseline": {"b": document}}))
    assert set(plain(copy.policy)["baseline"]["b"]["pairs"]) == {"schema", "reason"}


# Simulation ----------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("metric", ["selection_rate", "true_positive_rate", "positive_predictive_value", "f1"])
@pytest.mark.parametrize("compare", ["value", "difference", "ratio"])
def test_limits_of_a_paired_change_miss_at_most_as_often_as_they_say(metric, compare):
    """Two groups of 400 rows; the truth from the cells' probabilities."""
    from auditkit.policy.change import Change

    rng, audits, rows = np.random.default_rng(11), 2000, 400
    chance = rng.dirichlet(np.array([8, 1, 1, 3, 3, 1, 1, 9.0]), 2)
    drawn = np.stack([rng.multinomial(rows, p, audits) for p in chance], axis=1).reshape(-1, 2, 2, 2)
    names = tuple((f"g{index}",) for index in range(len(drawn)))

    def rates(cells):
        n = tuple(tuple(tuple(int(v) for v in row) for row in block) for block in cells)
        return group_rates(Counts(name="decisions", over=("g",), groups=names[: len(n)], classes=("n", "y"), n=n,
                                  positive=1), metric)  # fmt: skip

    from auditkit.methods.fairness.paired import JointCounts

    joint = JointCounts(over=("g",), groups=names, k=2, n=drawn)
    now, then = rates(joint.now()), rates(joint.then())
    pairing = pair_rates(joint, now, then)
    whole = (chance * 10**7).round().astype(int).reshape(2, 2, 2, 2)
    truth_now, truth_then = rates(whole.sum(axis=2)).value, rates(whole.sum(axis=3)).value
    size = len(drawn)
    left, right = np.arange(0, size, 2), np.arange(1, size, 2)
    if compare == "value":
        right = left
    change = Change(
        label="", kind=compare, names=("",) * size, slices=({},) * size, estimates=now, base=then, pairing=pairing,
        undefined=(None,) * size, unbounded=(None,) * size, totals=np.full(size, rows), small=np.zeros(size, bool),
        left=left, right=right, tests=1, direction="lower",
    )  # fmt: skip
    truth = {
        "value": truth_now[0] - truth_then[0],
        "difference": abs(truth_now[0] - truth_now[1]) - abs(truth_then[0] - truth_then[1]),
        "ratio": truth_then.min() / truth_then.max() - truth_now.min() / truth_now.max(),
    }[compare]
    low, high = change.bounds(0.95)
    slack = 3 * np.sqrt(0.025 * 0.975 / audits)
    assert np.mean(low > truth) <= 0.025 + slack
    assert np.mean(high < truth) <= 0.025 + slack
    if compare == "value":
        assert np.mean((low <= truth) & (truth <= high)) < 0.99, "wider than it need be"
