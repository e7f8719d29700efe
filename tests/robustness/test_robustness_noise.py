"""Natural corruptions: analytic expectations, other libraries, planted faults with clean twins, and the contract."""

from statistics import NormalDist

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter
from scipy.stats import multinomial
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LinearRegression, LogisticRegression

from auditkit.analyzers.robustness.drops import Drop, DropLimits
from auditkit.analyzers.robustness.estimates import Estimate, Rows
from auditkit.analyzers.robustness.noise import ANALYZER
from auditkit.analyzers.robustness.shifted import rows_changed
from auditkit.analyzers.robustness.table_noise import NoiseParams
from auditkit.core.errors import UsageError
from auditkit.core.plan import Step
from auditkit.execution.runner import run_step
from auditkit.methods.robustness import noise
from auditkit.methods.robustness.feasible import Feasible
from auditkit.stats.intervals import newcombe_difference
from auditkit.subjects.build import make_subject
from auditkit.subjects.torch import TorchModel
from auditkit.testing import check_analyzer


def paired_drop(before, after, rows):
    return Estimate.at(DropLimits().estimate(Drop.of(before, after, rows)))


def audit(subject, **params):
    return run_step(subject, Step(name=ANALYZER.name, params=NoiseParams(**params), analyzer=ANALYZER))


def find(outcome, corruption, severity, name="robustness.corrupted_accuracy", **where):
    found = [
        m
        for m in outcome.measurements
        if m.name == name and dict(m.slice) == where and m.params == {"corruption": corruption, "severity": severity}
    ]
    assert len(found) == 1, [m.key for m in outcome.measurements]
    return found[0]


def threshold_rows(n=4000, seed=0):
    """One feature at -1 or +1 in the middle of a wide range, labelled by its sign."""
    rng = np.random.default_rng(seed)
    y = rng.integers(2, size=n)
    x = np.stack([np.where(y == 1, 1.0, -1.0), rng.standard_normal(n)], axis=1)
    x[:2, 0] = [-30.0, 30.0]
    y[:2] = [0, 1]
    return x, y


@pytest.mark.parametrize("severity", [0.5, 1.0, 2.0])
def test_threshold_model_under_gaussian_noise_is_the_normal_distribution_function(severity):
    x, y = threshold_rows()
    subject = make_subject(lambda rows: (rows[:, 0] > 0).astype(int), x, y, positive=1)
    found = find(audit(subject, numeric_noise=(severity,), max_rows=4000), "numeric_noise", severity)
    expected = NormalDist().cdf(1.0 / (severity * x[:, 0].std()))
    assert found.value == pytest.approx(expected, abs=3.5 * np.sqrt(expected * (1 - expected) / 4000))
    assert found.interval.low <= expected <= found.interval.high or abs(found.value - expected) < 0.02
    assert found.n == 4000


def test_a_model_that_ignores_the_noisy_column_is_quiet():
    x, y = threshold_rows()
    frame = pd.DataFrame({"a": x[:, 0], "b": x[:, 1]})
    schema = {"a": {"immutable": True}}
    subject = make_subject(lambda t: (t["a"] > 0).astype(int).to_numpy(), frame, y, positive=1, schema=schema)
    outcome = audit(subject, missing_values=(0.25,))
    for severity in (0.1, 1.0):
        drop = find(outcome, "numeric_noise", severity, "robustness.accuracy_drop")
        assert drop.value == 0.0
        assert drop.interval.low < 0.0 < drop.interval.high
        assert find(outcome, "numeric_noise", severity).value == 1.0


def test_severity_zero_is_the_clean_model():
    x, y = threshold_rows(300)
    model = LogisticRegression().fit(x, y)
    outcome = audit(make_subject(model, x, y, positive=1), numeric_noise=(0.0, 3.0))
    assert find(outcome, "numeric_noise", 0.0).value == pytest.approx(model.score(x, y))
    assert find(outcome, "numeric_noise", 0.0, "robustness.accuracy_drop").value == 0.0
    assert find(outcome, "numeric_noise", 3.0, "robustness.accuracy_drop").value > 0.0


def test_the_group_that_is_fragile_is_found_and_its_twin_is_not():
    rng = np.random.default_rng(0)
    x, y = threshold_rows(2000)
    sex = rng.choice(["F", "M"], 2000)
    x[2:, 0] *= np.where(sex[2:] == "F", 0.3, 3.0)
    model = lambda rows: (rows[:, 0] > 0).astype(int)  # noqa: E731
    fragile = audit(make_subject(model, x, y, positive=1, sensitive={"sex": sex}), numeric_noise=(0.5,))
    f, m = (find(fragile, "numeric_noise", 0.5, "robustness.accuracy_drop", sex=group) for group in "FM")
    assert f.interval.low > m.interval.high
    twin = audit(make_subject(model, x, y, positive=1, sensitive={"sex": rng.permutation(sex)}), numeric_noise=(0.5,))
    f, m = (find(twin, "numeric_noise", 0.5, "robustness.accuracy_drop", sex=group) for group in "FM")
    assert f.interval.low < m.interval.high
    assert m.interval.low < f.interval.high


def test_missing_values_only_where_the_model_takes_them():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((300, 3))
    y = (x[:, 0] > 0).astype(int)
    takes = audit(make_subject(HistGradientBoostingClassifier(max_iter=10).fit(x, y), x, y, positive=1))
    refuses = audit(make_subject(LogisticRegression().fit(x, y), x, y, positive=1))
    assert find(takes, "missing_values", 0.25, "robustness.accuracy_drop").interval.low > 0.0
    assert not any("not injected" in note for note in takes.notes)
    assert refuses.status == "measured"
    assert not [m for m in refuses.measurements if m.params["corruption"] == "missing_values"]
    assert any("the model does not accept them" in note for note in refuses.notes)
    whole = rng.integers(5, size=(300, 3))
    cannot = audit(make_subject(LogisticRegression().fit(whole, y), whole, y, positive=1))
    assert any("no column of this table can hold them" in note for note in cannot.notes)


def test_category_swaps_hurt_a_model_that_uses_the_category_and_no_other():
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"job": rng.choice(["a", "b", "c"], 1500), "size": rng.standard_normal(1500)})
    y = (frame["job"] == "a").astype(int).to_numpy()
    uses = make_subject(lambda t: (t["job"] == "a").astype(int).to_numpy(), frame, y, positive=1)
    ignores = make_subject(lambda t: (t["size"] > 0).astype(int).to_numpy(), frame, y, positive=1)
    found = find(audit(uses), "category_swap", 0.25)
    # A swap changes the answer of every "a", and of half of the others.
    expected = 1.0 - 0.25 * (y.mean() + (1 - y.mean()) / 2)
    assert found.value == pytest.approx(expected, abs=0.04)
    assert find(audit(ignores), "category_swap", 0.25, "robustness.accuracy_drop").value == 0.0


def test_one_hot_groups_are_swapped_as_a_whole():
    rng = np.random.default_rng(0)
    codes = rng.integers(3, size=200)
    x = np.column_stack([np.eye(3)[codes], rng.standard_normal(200)])
    changed = noise.swapped_levels(x, [np.arange(3)], 1.0, rng)
    np.testing.assert_array_equal(changed[:, :3].sum(axis=1), 1.0)
    assert (changed[:, :3].argmax(axis=1) != codes).all()
    np.testing.assert_array_equal(changed[:, 3], x[:, 3])
    half = noise.swapped_levels(x, [np.arange(3)], 0.5, rng)
    assert 0.35 < (half[:, :3].argmax(axis=1) != codes).mean() < 0.65


def test_missing_and_constant_categories_stay():
    x = np.array([[np.nan, 1.0], [0.0, 1.0], [2.0, 1.0]])
    changed = noise.swapped_levels(x, [np.array([0]), np.array([1])], 1.0, np.random.default_rng(0))
    np.testing.assert_array_equal(changed, [[np.nan, 1.0], [2.0, 1.0], [0.0, 1.0]])


@settings(max_examples=40, deadline=None)
@given(severity=st.floats(0, 10), seed=st.integers(0, 2**32 - 1))
def test_noisy_rows_are_feasible(severity, seed):
    rng = np.random.default_rng(seed)
    x = np.column_stack([rng.uniform(-1, 1, 30), rng.integers(0, 9, 30), rng.uniform(0, 1, 30)])
    x[3, 0] = np.nan
    space = Feasible(
        low=np.array([-1.0, 0.0, 0.0]),
        high=np.array([1.0, 9.0, 1.0]),
        scale=np.array([0.5, 2.0, 0.0]),
        whole=np.array([False, True, False]),
    )
    noisy = noise.gaussian_cells(x, space, severity, rng)
    assert space.violations(x, noisy, None) == 0
    if severity == 0.0:
        np.testing.assert_array_equal(noisy, x)


@pytest.mark.parametrize("sigma", [0.3, 1.0, 2.5])
def test_blur_agrees_with_scipy(sigma):
    images = np.random.default_rng(0).random((4, 3, 9, 11))
    expected = gaussian_filter(images, sigma=(0, 0, sigma, sigma), truncate=np.ceil(4 * sigma) / sigma, mode="reflect")
    np.testing.assert_allclose(noise.blurred(images, sigma, (2, 3)), expected, atol=1e-12)
    np.testing.assert_array_equal(noise.blurred(images, 0.0, (2, 3)), images)
    np.testing.assert_allclose(noise.blurred(np.full((1, 5, 5), 0.7), sigma, (1, 2)), 0.7)


def test_pixels_stay_in_range_and_do_what_they_say():
    images = np.random.default_rng(0).uniform(0.2, 0.6, (50, 8, 8))
    noisy = noise.gaussian_pixels(images, 0.02, (0.0, 1.0), np.random.default_rng(1))
    assert (noisy - images).std() == pytest.approx(0.02, rel=0.05)
    wild = noise.gaussian_pixels(images, 5.0, (0.0, 1.0), np.random.default_rng(1))
    assert wild.min() == 0.0
    assert wild.max() == 1.0
    np.testing.assert_allclose(noise.brightened(images, 0.3, (0.0, 1.0)) - images, 0.3)
    faded = noise.faded(images, 0.75, (0.0, 1.0))
    np.testing.assert_allclose(faded.std(axis=(1, 2)), images.std(axis=(1, 2)) / 4)
    np.testing.assert_allclose(faded.mean(axis=(1, 2)), images.mean(axis=(1, 2)))


def test_images_of_bytes_stay_bytes():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, size=(60, 8, 8), dtype=np.uint8)
    y = (images.mean(axis=(1, 2)) > 127).astype(int)
    seen = []

    def model(batch):
        seen.append(batch)
        return (batch.mean(axis=(1, 2)) > 127).astype(int)

    outcome = audit(make_subject(model, images, y, positive=1))
    assert outcome.status == "measured", outcome.reason
    assert {batch.dtype for batch in seen} == {np.dtype(np.uint8)}
    assert {m.params["corruption"] for m in outcome.measurements} == {"pixel_noise", "blur", "brightness", "contrast"}
    assert find(outcome, "brightness", 0.3).value < find(outcome, "pixel_noise", 0.05).value
    curve = next(a for a in outcome.artifacts if a.name == "robustness.noise.brightness")
    assert curve.series[0].x == (0.0, 0.1, 0.2, 0.3)
    assert curve.series[0].y[0] == 1.0


def test_tokens_are_replaced_but_padding_is_not():
    tokens = np.array([[5, 6, 7, 8, 0, 0], [9, 8, 7, 6, 5, 4], [1, 2, 0, 0, 0, 0]])
    changed = noise.replaced_tokens(tokens, 1.0, np.random.default_rng(0))
    np.testing.assert_array_equal(changed[0, 4:], 0)
    np.testing.assert_array_equal(changed[2, 2:], 0)
    assert set(changed.ravel()) <= set(tokens.ravel())
    assert (changed != tokens).any()
    np.testing.assert_array_equal(noise.replaced_tokens(tokens, 0.0, np.random.default_rng(0)), tokens)


def test_token_models_are_corrupted_by_replacement():
    rng = np.random.default_rng(0)
    tokens = rng.integers(2, 50, size=(200, 12))
    y = (tokens[:, 0] > 25).astype(int)

    class First(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.table = torch.nn.Embedding(50, 1)
            with torch.no_grad():
                self.table.weight.copy_(torch.arange(50.0)[:, None] - 25.5)

        def forward(self, ids):
            return self.table(ids[:, 0])

    subject = make_subject(TorchModel(First(), classes=(0, 1)), tokens, y, positive=1)
    assert subject.test.modality == "sequence"
    outcome = audit(subject, token_replacement=(0.0, 0.5))
    assert find(outcome, "token_replacement", 0.0).value == 1.0
    assert find(outcome, "token_replacement", 0.5).value == pytest.approx(0.75, abs=0.1)


def test_regression_error_grows_as_the_closed_form_says():
    rng = np.random.default_rng(0)
    x = rng.uniform(-1, 1, size=(3000, 2))
    x[0], x[1] = -50.0, 50.0
    y = 3.0 * x[:, 0] + 0.01 * rng.standard_normal(3000)
    model = LinearRegression().fit(x, y)
    outcome = audit(make_subject(model, x, y), numeric_noise=(0.5,), max_rows=3000)
    found = find(outcome, "numeric_noise", 0.5, "robustness.corrupted_mean_absolute_error")
    expected = 3.0 * 0.5 * x[:, 0].std() * np.sqrt(2 / np.pi)
    assert found.value == pytest.approx(expected, rel=0.06)
    rise = find(outcome, "numeric_noise", 0.5, "robustness.mean_absolute_error_increase")
    assert rise.value == pytest.approx(found.value - np.abs(model.predict(x) - y).mean())
    assert not [m for m in outcome.measurements if "accuracy" in m.name]


def test_paired_interval_is_narrower_than_unpaired_and_covers():
    rng = np.random.default_rng(0)
    rows, limits, drops = Rows(positions=np.arange(80), weights=None, clusters=None), DropLimits(), []
    for _ in range(300):
        before = rng.random(80) < 0.9
        after = before & (rng.random(80) < 0.9)
        drops.append(Drop.of(before, after, rows))
    limits.prepare(drops)
    ends = [limits.estimate(drop).interval(0.95) for drop in drops]
    assert np.mean([end.low <= 0.09 <= end.high for end in ends]) >= 0.95
    found = paired_drop(before, after, rows)
    both = paired_drop(np.ones(50, dtype=bool), np.ones(50, dtype=bool), rows)
    assert both.value == 0.0
    # Where no row changed the limits are those of a share of which nothing was seen (Clopper and Pearson).
    assert both.interval.high == -both.interval.low == pytest.approx(1 - 0.025 ** (1 / 50), rel=1e-6)
    unpaired = newcombe_difference(before.mean(), 80, after.mean(), 80)
    assert found.interval.high - found.interval.low < unpaired.high - unpaired.low


@pytest.mark.parametrize(("n", "lost", "won"), [(10, 0.2, 0.0), (20, 0.1, 0.0), (20, 0.3, 0.02), (20, 0.1, 0.1)])
def test_limits_of_a_drop_miss_as_rarely_as_they_say(n, lost, won):
    """Every outcome is listed with its chance; the interval after Agresti and Min missed in up to 12 % on one side."""
    counts = [(up, down) for up in range(n + 1) for down in range(n + 1 - up)]
    limits, drops = DropLimits(), [Drop(up / n, down / n, float(n), n) for up, down in counts]
    limits.prepare(drops)
    chance = multinomial.pmf([(up, down, n - up - down) for up, down in counts], n, [lost, won, 1 - lost - won])
    ends = [limits.estimate(drop).interval(0.95) for drop in drops]
    above = sum(p for p, end in zip(chance, ends, strict=True) if end.high < lost - won - 1e-12)
    below = sum(p for p, end in zip(chance, ends, strict=True) if end.low > lost - won + 1e-12)
    assert above <= 0.025
    assert below <= 0.025
    half = 1.96 * np.sqrt(1.0) / (n + 2)  # that interval where no row changed
    assert half < 1 - 0.025 ** (1 / n) == pytest.approx(limits.estimate(Drop(0.0, 0.0, n, n)).interval(0.95).high)


def test_limits_of_many_drops_are_those_of_each():
    together = DropLimits()
    drops = [Drop(lost, won, worth, 30) for lost, won, worth in [(0.1, 0.05, 30.0), (0.2, 0.0, 12.5), (0.0, 0.3, 30.0)]]
    together.prepare([*drops, *drops])
    for drop in drops:
        one, all_ = DropLimits().estimate(drop).interval(0.95), together.estimate(drop).interval(0.95)
        assert (one.low, one.high) == pytest.approx((all_.low, all_.high), abs=1e-9)
    none = DropLimits().estimate(
        Drop.of(*[np.zeros(0, dtype=bool)] * 2, Rows(positions=None, weights=None, clusters=None))
    )
    assert none.value is None


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: noise.blurred(np.zeros((1, 3, 3)), -1.0, (1, 2)),
            "AK550 a severity must be finite and 0 or more, got -1",
        ),
        (lambda: noise.faded(np.zeros((1, 3, 3)), 1.5, (0.0, 1.0)), r"AK550 a share must be in \[0, 1\], got 1.5"),
    ],
)
def test_bad_severities_are_told(call, message):
    with pytest.raises(UsageError, match=message):
        call()


@pytest.mark.parametrize(
    ("settings_", "message"),
    [({"missing_values": (1.2,)}, "shares must lie in"), ({"blur": (-1.0,)}, "severities must be finite")],
)
def test_settings_are_checked(settings_, message):
    with pytest.raises(ValueError, match=message):
        NoiseParams(**settings_)


def test_raw_text_is_not_applicable():
    subject = make_subject(
        lambda texts: np.array([len(t) > 3 for t in texts]).astype(int), ["ab", "abcd"] * 10, [0, 1] * 10, positive=1
    )
    outcome = audit(subject)
    assert outcome.status == "not_applicable"
    assert "AK552" in outcome.reason


def test_contract():
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"a": rng.standard_normal(80), "n": rng.integers(9, size=80), "c": rng.choice(["x", "y"], 80)})
    y = (frame["a"] > 0).astype(int).to_numpy()
    model = lambda t: np.stack([1 / (1 + np.exp(t["a"])), 1 / (1 + np.exp(-t["a"]))], axis=1)  # noqa: E731
    subject = make_subject(model, frame, y, sensitive=frame[["c"]].rename(columns={"c": "site"}), positive=1)
    check_analyzer(ANALYZER, subject, params={"min_group_rows": 2})


def test_equal_weights_change_nothing_in_a_paired_drop_and_copies_with_their_cluster_hardly():
    rng = np.random.default_rng(4)
    before = rng.random(200) < 0.9
    after = before & (rng.random(200) < 0.97)

    def drop(before, after, weights=None, clusters=None):
        return paired_drop(before, after, Rows(positions=np.arange(len(before)), weights=weights, clusters=clusters))

    plain = drop(before, after).interval
    weighted = drop(before, after, weights=np.full(200, 2.0)).interval
    assert (weighted.low, weighted.high) == pytest.approx((plain.low, plain.high), abs=1e-12)
    five = np.repeat(np.arange(200), 5)
    copied = drop(before[five], after[five], clusters=five).interval
    assert (copied.low, copied.high) == pytest.approx((plain.low, plain.high), abs=1e-12)
    unmoved = drop(before, before, weights=np.full(200, 2.0)).interval
    assert unmoved.low < 0.0 < unmoved.high


@pytest.mark.parametrize("severity", [0.5, 1.0])
def test_drift_of_one_column_is_the_shifted_normal_distribution_function(severity):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((4000, 2))
    x[0], x[1] = -9.0, 9.0
    y = (x[:, 0] > 0).astype(int)
    outcome = audit(
        make_subject(lambda rows: (rows[:, 0] > 0).astype(int), x, y, positive=1), drift=(severity,), max_rows=4000
    )
    shift = severity * x[:, 0].std()
    expected = 1.0 - (NormalDist().cdf(shift) - 0.5)
    for word in ("up", "down"):
        found = find(outcome, f"drift_{word}: x0", severity)
        assert found.value == pytest.approx(expected, abs=0.025)
        assert find(outcome, f"drift_{word}: x1", severity, "robustness.accuracy_drop").value == 0.0


def test_drift_names_the_columns_it_left_out():
    x, y = threshold_rows(200)
    subject = make_subject(lambda rows: (rows[:, 0] > 0).astype(int), x, y, positive=1)
    outcome = audit(subject, drift_columns=1)
    assert {m.params["corruption"] for m in outcome.measurements if "drift" in m.params["corruption"]} == {
        "drift_up: x0",
        "drift_down: x0",
    }
    assert any("1 of 2 numeric columns" in note for note in outcome.notes)


def gap_of(outcome, corruption, severity):
    name = "robustness.accuracy_drop.difference"
    (found,) = [
        m
        for m in outcome.measurements
        if m.name == name and m.params == {"corruption": corruption, "severity": severity}
    ]
    return found


def test_the_gap_between_groups_is_found_and_its_twin_is_quiet():
    rng = np.random.default_rng(0)
    x, y = threshold_rows(2000)
    sex = rng.choice(["F", "M"], 2000)
    x[2:, 0] *= np.where(sex[2:] == "F", 0.3, 3.0)
    model = lambda rows: (rows[:, 0] > 0).astype(int)  # noqa: E731
    fragile = audit(make_subject(model, x, y, positive=1, sensitive={"sex": sex}), numeric_noise=(0.5,))
    gap = gap_of(fragile, "numeric_noise", 0.5)
    f, m = (find(fragile, "numeric_noise", 0.5, "robustness.accuracy_drop", sex=group) for group in "FM")
    assert gap.value == pytest.approx(abs(f.value - m.value))
    assert gap.over == ("sex",)
    assert gap.interval.low > 0.1
    twin = audit(make_subject(model, x, y, positive=1, sensitive={"sex": rng.permutation(sex)}), numeric_noise=(0.5,))
    assert gap_of(twin, "numeric_noise", 0.5).interval.low == 0.0
    still = audit(make_subject(lambda rows: np.ones(len(rows), int), x, y, positive=1, sensitive={"sex": sex}))
    quiet = gap_of(still, "numeric_noise", 1.0)
    assert quiet.value == 0.0
    assert 0.0 < quiet.interval.high < 0.02


def test_a_corruption_that_moves_no_row_is_no_robustness():
    # Noise of a twentieth of a standard deviation is rounded away from whole numbers; a tenth of the rows would move
    # at half of one.
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"count": rng.integers(0, 3, 200), "other": rng.integers(0, 3, 200)})
    y = (frame["count"] > 1).astype(int).to_numpy()
    model = LogisticRegression().fit(frame, y)
    outcome = audit(make_subject(model, frame, y), numeric_noise=(0.05, 2.0), drift=(0.05,))
    still, moved = find(outcome, "numeric_noise", 0.05), find(outcome, "numeric_noise", 2.0)
    assert still.value is None
    assert still.interval is None
    assert "no row looked at is changed" in still.reason
    assert find(outcome, "numeric_noise", 0.05, "robustness.accuracy_drop").value is None
    assert moved.value < 1.0
    assert find(outcome, "drift_up: count", 0.05).value is None


def nullable(n=200):
    """Numbers, flags and categories of the nullable kinds, a fifth of them missing; the numbers decide."""
    rng = np.random.default_rng(0)
    level = pd.array(rng.integers(0, 9, n), dtype="Int64")
    flag = pd.array(rng.random(n) < 0.5, dtype="boolean")
    share = pd.array(rng.random(n), dtype="Float64")
    for column in (level, flag, share):
        column[rng.random(n) < 0.2] = pd.NA
    return pd.DataFrame({"level": level, "flag": flag, "share": share})


def test_nullable_columns_with_missing_cells_are_corrupted_as_plain_ones_are():
    frame = nullable()
    plain = frame.astype("Float64").astype("float64")
    decide = lambda t: (t["level"].astype("Float64").fillna(0).to_numpy(dtype=float) > 4).astype(int)  # noqa: E731
    y = decide(frame)
    seen = []

    def watched(table):
        seen.append(table.copy())
        return decide(table)

    whole = {"level": {"kind": "integer"}, "flag": {"kind": "boolean"}}
    settings_ = {"drift": (), "numeric_noise": (0.5,), "missing_values": (0.1,), "category_swap": (0.5,)}
    found = audit(make_subject(watched, frame, y, positive=1), **settings_)
    assert found.status == "measured", found.reason
    assert {str(kind) for table in seen for kind in table.dtypes} == {"Int64", "boolean", "Float64"}
    twin = audit(make_subject(decide, plain, y, positive=1, schema=whole), **settings_)
    for corruption, severity in (("numeric_noise", 0.5), ("missing_values", 0.1)):
        assert find(found, corruption, severity).value == find(twin, corruption, severity).value < 1.0
    swapped = seen[-1]
    moved = (swapped["flag"] != frame["flag"]).fillna(False).to_numpy(dtype=bool)
    assert 0.3 < moved[frame["flag"].notna()].mean() < 0.7
    assert swapped["flag"].isna().equals(frame["flag"].isna())


def test_rows_that_differ_are_told_cell_by_cell():
    frame = nullable(40)
    assert not rows_changed(frame, frame.copy()).any()
    for place, value in ((3, pd.NA), (5, 8)):
        other = frame.copy()
        other.iloc[place, 0] = value
        expected = np.zeros(40, dtype=bool)
        before, after = frame.iloc[place, 0], value
        expected[place] = (before is pd.NA) != (after is pd.NA) or (before is not pd.NA and before != after)
        np.testing.assert_array_equal(rows_changed(frame, other), expected)


def test_a_token_is_replaced_by_a_different_one_as_often_as_the_data_hold_it():
    rng = np.random.default_rng(0)
    tokens = rng.choice([3, 5, 9], p=[0.6, 0.3, 0.1], size=(3000, 12)).astype(np.int64)
    tokens[:, 0] = np.arange(3000) % 3 + 20  # no runs at the front
    tokens[:, -1] = np.arange(3000) % 3 + 30
    half = noise.replaced_tokens(tokens, 0.5, np.random.default_rng(1))
    assert (half != tokens).mean() == pytest.approx(0.5, abs=0.01)
    whole = noise.replaced_tokens(tokens, 1.0, np.random.default_rng(1))
    assert (whole != tokens).all()
    shares = {token: (tokens == token).mean() for token in np.unique(tokens)}
    for own in (3, 5, 9):
        drawn = whole[tokens == own]
        for other, share in shares.items():
            expected = 0.0 if other == own else share / (1 - shares[own])
            assert (drawn == other).mean() == pytest.approx(expected, abs=0.02)
    alike = np.full((4, 1), 7)
    np.testing.assert_array_equal(noise.replaced_tokens(alike, 1.0, rng), alike)


def test_padding_is_left_alone_at_either_end():
    tokens = np.array([[0, 0, 0, 4, 5, 6], [4, 5, 6, 0, 0, 0], [0, 4, 0, 6, 5, 0], [0, 0, 4, 6, 0, 0]])
    left = noise.replaced_tokens(tokens, 1.0, np.random.default_rng(0))
    still = np.array([[1, 1, 1, 0, 0, 0], [0, 0, 0, 1, 1, 1], [0, 0, 0, 0, 0, 0], [1, 1, 0, 0, 1, 1]], dtype=bool)
    np.testing.assert_array_equal(left == tokens, still)


def test_units_are_the_scales_of_the_schema_where_it_tells_them():
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"a": rng.normal(size=80), "b": rng.normal(size=80)})
    y = (frame["a"] > 0).astype(int).to_numpy()
    model = LogisticRegression().fit(frame, y)

    def unit(**schema):
        outcome = audit(make_subject(model, frame, y, schema=schema or None), missing_values=())
        return {curve.name.split(".")[-1]: curve.x_label for curve in outcome.artifacts if curve.kind == "curve"}

    assert unit()["numeric_noise"] == "standard deviations of each numeric column"
    assert unit()["drift_up: a"] == "standard deviations of the column"
    some = unit(a={"scale": 2.0})
    assert some["numeric_noise"] == "standard deviations of each numeric column, or its scale in the schema"
    every = unit(a={"scale": 2.0}, b={"scale": 2.0})
    assert every["numeric_noise"] == "scales in the schema of each numeric column"


def test_drift_moves_one_column_as_far_as_a_rule_allows():
    rng = np.random.default_rng(0)
    owed = rng.uniform(2, 9, 100)
    frame = pd.DataFrame({"paid": owed * rng.uniform(0.2, 0.9, 100), "owed": owed})
    y = (frame["paid"] > 2.5).astype(int).to_numpy()
    seen = []

    def model(table):
        seen.append(table.copy())
        return (table["paid"] > 2.5).astype(int).to_numpy()

    rule = ["paid <= owed"]
    audit(
        make_subject(model, frame, y, positive=1, constraints=rule), numeric_noise=(), missing_values=(), drift=(4.0,)
    )
    _, up, down, more, less = (table for table in seen if len(table) == 100)
    far = 4.0 * frame["paid"].std(ddof=0)
    top = np.minimum(frame["paid"].max(), frame["owed"])  # the largest seen, and what is owed
    np.testing.assert_allclose(up["paid"], np.minimum(frame["paid"] + far, top))
    np.testing.assert_allclose(down["paid"], np.maximum(frame["paid"] - far, frame["paid"].min()))
    for table in (up, down):
        np.testing.assert_array_equal(table["owed"], frame["owed"])
    assert (top < frame["paid"] + far).all()
    # The column that is tied to it drifts down to what is paid, and no further.
    for table in (more, less):
        np.testing.assert_array_equal(table["paid"], frame["paid"])
    lowest = np.maximum(np.maximum(frame["owed"] - 4.0 * frame["owed"].std(ddof=0), frame["owed"].min()), frame["paid"])
    np.testing.assert_allclose(less["owed"], lowest)
    assert (lowest == frame["paid"]).any()
