"""Pairs of scores and predictions at the gate, and pairs of everything in ``compare``."""

from __future__ import annotations

import datetime
import json
import re
import tomllib

import numpy as np
import pytest
from test_policy_pairs import harmed, people, record

from auditkit.api import audit_predictions
from auditkit.core.errors import EvidenceError, PolicyError
from auditkit.core.evidence import Interval, Measurement
from auditkit.core.rows import ROWS_FILE, RowsRecord, read_rows, rows_bytes
from auditkit.core.schema import dumps, loads
from auditkit.policy.baseline import make_baseline
from auditkit.policy.evaluate import evaluate
from auditkit.policy.model import parse_policy
from auditkit.policy.moves import moves, remarks
from auditkit.policy.paired_moves import PairedMoves
from auditkit.policy.pairs import Pairs, pair_files, pair_up, pairs_document, read_pairs
from auditkit.stats.linearised import mean
from auditkit.stats.ranking import auc

DAY = datetime.date(2026, 5, 1)


def scored(n=3000, seed=0, loss=0.08):
    """Labels, two columns of probabilities that mostly agree (the second is worse for women), and the groups."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 2, n)
    groups = {"sex": rng.choice(["F", "M"], n)}
    then = rng.normal(size=n) + (1.6 - 0.7 * (groups["sex"] == "F")) * y
    now = then + rng.normal(0, 0.1, n) - loss * (groups["sex"] == "F") * (2 * y - 1)
    return y, *(1 / (1 + np.exp(0.7 - part)) for part in (then, now)), groups


def audited(kit, y, probability, groups):
    """Evidence with areas under the curve as the analyzers measure them, and the record of the rows."""
    found = []
    for where, rows in ({}, slice(None)), *(({"sex": g}, groups["sex"] == g) for g in ("F", "M")):
        value, interval = auc(probability[rows], y[rows] == 1)
        about = {"direction": "higher", "bounds": (0.0, 1.0), "n": len(y[rows]), "slice": where}
        found.append(Measurement(name="fairness.roc_auc", value=value, interval=interval, **about))
    ends = [m.value for m in found[1:]]
    wide = Interval(low=0.0, high=1.0, level=0.95, method="wide")
    gap = {"value": abs(ends[0] - ends[1]), "interval": wide, "over": ("sex",), "direction": "lower"}
    found.append(Measurement(name="fairness.roc_auc.difference", n=len(y), bounds=(0.0, 1.0), **gap))
    decided = (probability > 0.5).astype(int)
    evidence = kit.evidence(y, decided, groups, measurements=found)
    subject = kit.replace(evidence.subject, score_space="probability")
    scores = np.stack([1 - probability, probability], axis=1)
    return kit.replace(evidence, subject=subject), kit.replace(record(y, decided, groups), scores=scores)


def two(kit, y, then, now, groups):
    base, one = audited(kit, y, then, groups)
    head, other = audited(kit, y, now, groups)
    return base, head, pair_up(base, one, head, other)


def judged(kit, base, head, pairs, **keys):
    document = make_baseline(base, reason="release 1", accepted=DAY)
    document["pairs"] = json.loads(json.dumps(pairs_document(pairs)))
    rule = {
        "metric": "fairness.roc_auc",
        "compare": "value",
        "min": None,
        "baseline": "b",
        "max_increase": 0.01,
        **keys,
    }
    policy = parse_policy(
        {**tomllib.loads(kit.rule(**rule)), "baseline": {"b": document}}, measured={"fairness.roc_auc"}
    )
    return evaluate(head, policy, as_of=kit.AS_OF).results[0]


def test_pairs_catch_a_worse_area_that_two_samples_do_not_and_a_clean_twin_passes(kit):
    y, then, now, groups = scored()
    base, head, pairs = two(kit, y, then, now, groups)
    caught, missed = (judged(kit, base, head, part) for part in (pairs, Pairs(reason="none")))
    assert (caught.state, missed.state) == ("fail", "inconclusive")
    assert "paired test: the same 3,000 rows in both audits" in caught.message
    worst = next(c for c in caught.comparisons if "F" in c.label)
    assert worst.interval.method == "paired-t"
    twin = two(kit, y, then, then + 1e-4 * (np.arange(3000) % 2), groups)
    assert judged(kit, *twin).state == "pass"


def test_the_gap_of_areas_between_groups_is_paired_too(kit):
    base, head, pairs = two(kit, *scored())
    keys = {"compare": "difference", "over": ["sex"], "max_increase": 0.01}
    caught, missed = (judged(kit, base, head, part, **keys) for part in (pairs, Pairs(reason="none")))
    narrow, wide = (part.comparisons[0].interval for part in (caught, missed))
    assert narrow.high - narrow.low < 0.6 * (wide.high - wide.low)


def test_models_that_rank_alike_are_two_samples(kit):
    y, then, _, groups = scored()
    result = judged(kit, *two(kit, y, then, then, groups))
    assert "(paired" not in result.message


@pytest.mark.parametrize("damage", ["value", "field", "key"])
def test_scores_that_are_not_of_both_audits_are_an_error(kit, damage):
    base, head, pairs = two(kit, *scored(400))
    document = json.loads(json.dumps(pairs_document(pairs)))
    assert read_pairs(document, base, head, where="p").scored == pairs.scored
    if damage == "value":
        document["scored"]["fairness.roc_auc"]["now"] += 0.01
    elif damage == "field":
        del document["scored"]["fairness.roc_auc"]["covariance"]
    else:
        document["scored"]["fairness.other"] = document["scored"].pop("fairness.roc_auc")
    with pytest.raises(PolicyError, match="AK257 the pairs of the baseline are damaged"):
        read_pairs(document, base, head, where="p")


def test_scores_of_another_model_give_no_pairs(kit):
    y, then, now, groups = scored(600)
    base, one = audited(kit, y, then, groups)
    head, other = audited(kit, y, now, groups)
    assert "fairness.roc_auc" in pair_up(base, one, head, other).scored
    foreign = kit.replace(other, scores=other.scores[:, ::-1])
    assert pair_up(base, one, head, foreign).scored == {}


# Regression ----------------------------------------------------------------------------------------------


def regressed(kit, y, predicted, groups):
    """Evidence of a regression with its mean absolute error, and the record."""
    blank = kit.evidence((y > 0).astype(int), (y > 0).astype(int), groups, status="failed", reason="regression")
    estimate = mean(np.abs(predicted - y), least=0.0)
    about = {"direction": "lower", "bounds": (0.0, None), "n": len(y), "interval": estimate.interval(0.95)}
    m = Measurement(name="performance.mean_absolute_error", value=estimate.value, **about)
    outcome = kit.replace(blank.outcomes[0], analyzer="performance", status="measured", reason=None, measurements=(m,))
    subject = kit.replace(blank.subject, task="regression", classes=(), positive=None)
    outcome = kit.replace(outcome, artifacts=())
    rows = RowsRecord(fingerprint="sha256:0", y=y, decided=predicted, groups=groups)
    return kit.replace(blank, outcomes=(outcome,), subject=subject), rows


def errors(n=800, seed=0, more=0.05):
    rng = np.random.default_rng(seed)
    y = rng.normal(size=n)
    then = y + rng.normal(size=n)
    return y, then, y + (then - y) * (1 + more) + rng.normal(0, 0.05, n), {"sex": rng.choice(["F", "M"], n)}


def test_errors_of_predictions_have_the_paired_t_test_at_the_gate_and_in_compare(kit):
    from scipy import stats

    y, then, now, groups = errors()
    base, one = regressed(kit, y, then, groups)
    head, other = regressed(kit, y, now, groups)
    pairs = pair_up(base, one, head, other)
    name = "performance.mean_absolute_error"
    caught, missed = (
        judged(kit, base, head, p, metric=name, over=None, max_increase=0.005) for p in (pairs, Pairs(reason="none"))
    )
    assert (caught.state, missed.state) == ("fail", "inconclusive")
    (move,) = moves(base, head, pairs=PairedMoves(base, head, pairs))
    ends = stats.ttest_rel(np.abs(now - y), np.abs(then - y)).confidence_interval(0.95)
    assert (move.interval.low, move.interval.high) == pytest.approx((ends.low, ends.high))
    assert (move.state, move.paired, move.interval.method) == ("worse", True, "paired-t")
    swapped = pair_up(base, other, head, one)
    assert (swapped.known, swapped.reason) == (False, "the records give nothing that both audits measured")


# Compare -------------------------------------------------------------------------------------------------


def decided(kit, y, then, now, groups, extra=None, metrics=("selection_rate", "true_positive_rate")):
    """Both audits with their rates as the analyzer measures them, and what their pairs say."""
    from auditkit.analyzers.fairness.groups import GroupsParams, measured_from

    extra, sides = extra or {}, []
    for decisions in (then, now):
        evidence = kit.evidence(y, decisions, groups, intersections=1, **extra)
        found = [m for part in evidence.counts() for m in measured_from(part, GroupsParams(metrics=metrics))]
        outcome = kit.replace(evidence.outcomes[0], measurements=tuple(found))
        sides.append((kit.replace(evidence, outcomes=(outcome,)), record(y, decisions, groups, **extra)))
    (base, one), (head, other) = sides
    return base, head, PairedMoves(base, head, pair_up(base, one, head, other))


def test_a_group_of_one_row_has_no_limits_on_pairs_and_stops_nothing(tmp_path):
    rng = np.random.default_rng(0)
    y, groups = rng.normal(size=40), np.array(["many"] * 20 + ["more"] * 19 + ["one"])
    audits = []
    for name, noise in (("base", 0.0), ("head", 0.5)):
        predicted = y + noise * rng.normal(size=40)
        settings = {"analyzers": ["performance", "fairness.regression"], "keep_rows": True, "progress": False}
        audit_predictions(y, predicted, sensitive={"g": groups}, task="regression", out=tmp_path / name, **settings)
        audits.append(loads((tmp_path / name / "evidence.json").read_bytes()))
    base, head = audits
    pairs = pair_files(base, tmp_path / "base" / ROWS_FILE, head, tmp_path / "head" / ROWS_FILE)
    found = {move.key: move for move in moves(base, head, pairs=PairedMoves(base, head, pairs))}
    (gap,) = (move for key, move in found.items() if key.startswith("performance.mean_absolute_error.difference"))
    assert (gap.interval, gap.paired) == (None, False)


def test_compare_finds_on_pairs_what_two_samples_miss_and_says_which(kit):
    base, head, pairs = decided(kit, *harmed(n=3000, share=0.03))
    together, apart = ({m.key: m for m in moves(base, head, pairs=p)} for p in (pairs, None))
    key = "fairness.selection_rate|sex=F"
    assert (together[key].state, apart[key].state) == ("changed", "still")
    assert together[key].interval.method == "matched-melded"
    assert (together[key].paired, apart[key].paired) == (True, False)
    gap = "fairness.selection_rate.difference|over=sex"
    assert together[gap].paired
    assert together[gap].interval.high - together[gap].interval.low < 0.8 * (
        apart[gap].interval.high - apart[gap].interval.low
    )
    (told,) = remarks(base, head, tuple(together.values()), pairs)
    assert told.startswith("The same 3,000 rows in both: ")
    assert "changes are tested on pairs of rows" in told
    (told,) = remarks(base, head, tuple(apart.values()), None)
    assert "tested as of two samples" in told


def test_compare_and_the_gate_give_the_same_interval(kit):
    y, then, now, groups = harmed(n=3000)
    base, head, pairs = decided(kit, y, then, now, groups)
    found = {m.key: m for m in moves(base, head, pairs=pairs)}
    joint = pair_up(base, record(y, then, groups), head, record(y, now, groups))
    for metric, compare, ends in (
        ("fairness.true_positive_rate", "value", "|sex=F"),
        ("fairness.selection_rate", "difference", ".difference|over=sex"),
    ):
        result = judged(kit, base, head, joint, metric=metric, compare=compare, over=["sex"])
        gate = next(c for c in result.comparisons if compare == "difference" or "F" in c.label).interval
        own = found[f"{metric}{ends}"].interval
        turned = (-own.high, -own.low) if compare == "value" else (own.low, own.high)
        assert (gate.low, gate.high) == pytest.approx(turned)


@pytest.mark.parametrize("extra", [{}, {"weights": True}, {"clusters": True}])
def test_changes_on_pairs_hold_the_same_value_and_are_narrower_on_the_whole(kit, extra):
    y, then, now, groups, more = people(1500, seed=7, **extra)
    base, head, pairs = decided(kit, y, then, now, groups, more, ("accuracy", "positive_predictive_value"))
    together, apart = ({m.key: m for m in moves(base, head, pairs=p)} for p in (pairs, None))
    widths = []
    for key, move in together.items():
        if move.paired:
            assert move.change == apart[key].change
            assert move.interval.low <= move.change <= move.interval.high
            widths.append([m.interval.high - m.interval.low for m in (move, apart[key])])
    narrow, wide = np.array(widths).T
    assert len(widths) > 10
    assert np.mean(narrow < wide) > 0.8
    assert np.median(narrow / wide) < 0.75


def gap_misses(kit, rates_then, rates_now, rows, audits, seed, kind="difference"):
    """Share of audits whose paired interval of the change of the worst gap leaves out the truth."""
    rng, missed = np.random.default_rng(seed), 0
    sex = np.repeat(list("abc"), rows)
    then_rate, now_rate = (np.repeat(part, rows) for part in (rates_then, rates_now))

    def gap(rates):
        return max(rates) - min(rates) if kind == "difference" else min(rates) / max(rates)

    truth = gap(rates_now) - gap(rates_then)
    for _ in range(audits):
        draw = rng.random(len(sex))
        then, now = (draw < then_rate).astype(int), (draw + rng.normal(0, 0.01, len(sex)) < now_rate).astype(int)
        y = rng.integers(0, 2, len(sex))
        base, head, pairs = decided(kit, y, then, now, {"sex": sex}, metrics=("selection_rate",))
        key = f"fairness.selection_rate.{kind}|over=sex"
        one, two_ = ({m.key: m for m in e.measurements()}[key] for e in (base, head))
        assert pairs.has(one, two_)
        low, high = pairs.limits(one, 0.95)
        missed += not low <= truth <= high
    return missed / audits


def test_the_change_of_the_worst_gap_holds_the_truth(kit):
    assert gap_misses(kit, (0.5, 0.45, 0.4), (0.5, 0.45, 0.35), 150, 15, 3) <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 15)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["difference", "ratio"])
@pytest.mark.parametrize("now", [(0.5, 0.45, 0.35), (0.5, 0.45, 0.4), (0.38, 0.45, 0.42), (0.45, 0.45, 0.45)])
def test_the_change_of_the_worst_gap_holds_the_truth_in_many_settings(kit, kind, now):
    share = gap_misses(kit, (0.5, 0.45, 0.4), now, 200, 400, 4, kind)
    assert share <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 400)


# Files ---------------------------------------------------------------------------------------------------


def test_the_record_keeps_scores_and_values(kit, tmp_path):
    y, then, _, groups = scored(50)
    _, rows = audited(kit, y, then, groups)
    path = tmp_path / ROWS_FILE
    path.write_bytes(rows_bytes(rows))
    assert np.array_equal(read_rows(path).scores, rows.scores)
    _, rows = regressed(kit, *errors(50)[:2], {"sex": groups["sex"]})
    path.write_bytes(rows_bytes(rows))
    again = read_rows(path)
    assert np.array_equal(again.y, rows.y)
    assert np.array_equal(again.decided, rows.decided)
    assert again.scores is None
    with np.load(path) as archive:
        old = {name: archive[name] for name in archive.files}
    np.savez(path, **{**old, "version": np.array(1)})
    assert np.array_equal(read_rows(path).y, rows.y)
    for fault in ({"version": np.array(9)}, {"scores": np.zeros((3, 2))}, {"y": np.array(["a"] * 50)}):
        np.savez(path, **{**old, **fault})
        with pytest.raises(EvidenceError, match="AK256"):
            read_rows(path)


def test_the_command_finds_the_records_and_says_what_it_tested(kit, tmp_path):
    from click.testing import CliRunner

    from auditkit.cli.main import cli

    base, head, _ = decided(kit, *harmed(n=1200))
    y, then, now, groups = harmed(n=1200)
    files = []
    for name, evidence, decisions in (("base", base, then), ("head", head, now)):
        (tmp_path / name).mkdir()
        files.append(tmp_path / name / "evidence.json")
        files[-1].write_text(dumps(evidence), encoding="utf-8")
        (tmp_path / name / ROWS_FILE).write_bytes(rows_bytes(record(y, decisions, groups)))
    asked = ["compare", *map(str, files), "--json", "--html", str(tmp_path / "page.html")]
    found = json.loads(CliRunner().invoke(cli, asked).stdout)
    assert found["remarks"][0].startswith("The same 1,200 rows in both: ")
    assert all(move["paired"] for move in found["moves"])
    assert any(move["method"] == "matched-melded" for move in found["moves"])
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "The same 1,200 rows in both: " in page
    assert re.search(r"  pairs\n", page)
    (tmp_path / "base" / ROWS_FILE).unlink()
    done = CliRunner().invoke(cli, asked)
    assert "BASE kept no record of its rows (rows.npz, [run] keep_rows = true)" in json.loads(done.stdout)["remarks"][0]
    assert not any(move["paired"] for move in json.loads(done.stdout)["moves"])
