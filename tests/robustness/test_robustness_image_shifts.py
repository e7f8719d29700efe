"""The analyzers of corrupted and shifted images: closed forms, planted faults with clean twins, groups and the mCE."""

import math

import numpy as np
import pytest
import torch

from auditkit.analyzers.robustness import corruptions, scanner
from auditkit.core.errors import UsageError
from auditkit.core.plan import Step
from auditkit.execution.runner import run_step
from auditkit.methods.robustness.scanner import NAMES, STRENGTHS, scanner_shift
from auditkit.subjects.build import make_subject


def audit(subject, module=corruptions, **params):
    analyzer = module.ANALYZER
    return run_step(subject, Step(name=analyzer.name, params=analyzer.params(**params), analyzer=analyzer))


def find(outcome, name, where=None, **params):
    found = [
        m for m in outcome.measurements if m.name == name and m.params == params and dict(m.slice) == (where or {})
    ]
    assert len(found) == 1, [m.key for m in outcome.measurements]
    return found[0]


def images(n=300, seed=0, shape=(1, 16, 16)):
    """Grey levels of 0.3 or 0.7 with a little texture; the class is which of them."""
    rng = np.random.default_rng(seed)
    y = rng.integers(2, size=n)
    level = np.where(y == 1, 0.7, 0.3).reshape(-1, 1, 1, 1)
    x = np.clip(level + 0.02 * rng.standard_normal((n, *shape)), 0, 1).astype(np.float32)
    x[0, 0, 0, 0], x[1, 0, 0, 0] = 0.0, 1.0
    return x, y


def bright(threshold=0.5):
    return lambda batch: (np.asarray(batch, dtype=float).reshape(len(batch), -1).mean(axis=1) > threshold).astype(int)


def test_a_model_of_the_mean_bears_contrast_and_noise_and_falls_to_brightness():
    x, y = images()
    outcome = audit(make_subject(bright(), x, y, positive=1), corruptions=("contrast", "brightness", "gaussian_noise"))
    assert outcome.status == "measured", outcome.reason
    for name in ("contrast", "gaussian_noise"):
        for severity in range(1, 6):
            found = find(outcome, "robustness.corruption_accuracy", corruption=name, severity=severity)
            assert found.value == 1.0
            assert found.n == 300
    # A rise of 0.3 (severity 5) takes all of class 0, at 0.3, above 0.5.
    lost = find(outcome, "robustness.corruption_accuracy", corruption="brightness", severity=5)
    assert lost.value == pytest.approx(y.mean())
    assert find(outcome, "robustness.corruption_accuracy", corruption="brightness", severity=1).value == 1.0
    single = [
        find(outcome, "robustness.corruption_accuracy", corruption="brightness", severity=s).value for s in range(1, 6)
    ]
    assert find(outcome, "robustness.mean_corruption_accuracy", corruption="brightness").value == pytest.approx(
        np.mean(single)
    )
    mean = find(outcome, "robustness.mean_corruption_accuracy")
    assert mean.value == pytest.approx((2 + np.mean(single)) / 3)
    assert mean.interval.low < mean.value < mean.interval.high
    curve = next(a for a in outcome.artifacts if a.name == "robustness.corruption_accuracy")
    assert [line.name for line in curve.series] == ["mean of all", "noise", "weather", "digital"]
    assert curve.series[2].y == pytest.approx((1.0, *single))
    drop = find(outcome, "robustness.corruption_drop")
    assert drop.value == pytest.approx(1 - mean.value)
    assert drop.interval.low > 0


def test_the_mean_corruption_error_is_that_of_its_definition():
    x, y = images()
    chosen = ("brightness", "contrast")
    baseline = {"brightness": 0.4, "contrast": 0.5}
    outcome = audit(
        make_subject(bright(), x, y, positive=1),
        corruptions=chosen,
        baseline_errors=baseline,
        baseline_clean_error=0.1,
    )
    errors = {c: 1 - find(outcome, "robustness.mean_corruption_accuracy", corruption=c).value for c in chosen}
    expected = 100 * np.mean([errors[c] / baseline[c] for c in chosen])
    assert find(outcome, "robustness.mean_corruption_error").value == pytest.approx(expected)
    relative = 100 * np.mean([errors[c] / (baseline[c] - 0.1) for c in chosen])
    assert find(outcome, "robustness.relative_mean_corruption_error").value == pytest.approx(relative)
    partial = audit(make_subject(bright(), x, y, positive=1), corruptions=chosen, baseline_errors={"contrast": 0.5})
    assert not [m for m in partial.measurements if "error" in m.name]
    assert any("no error for brightness" in note for note in partial.notes)
    # What is over two corruptions is no published figure, and a baseline that gains by a corruption has no rise.
    assert any("over 2 of 15 corruptions" in note for note in outcome.notes)
    odd = audit(
        make_subject(bright(), x, y, positive=1), corruptions=chosen, baseline_errors=baseline, baseline_clean_error=0.4
    )
    assert not [m for m in odd.measurements if m.name == "robustness.relative_mean_corruption_error"]
    assert any("under brightness is not above its error of 0.4" in note for note in odd.notes)
    assert not any("No relative" in note for note in outcome.notes)


@pytest.mark.parametrize("kind", ["float64", "float32", "float16", "uint8"])
def test_images_that_are_the_same_but_for_rounding_are_not_changed(kind):
    x, y = images(60)
    flat = np.broadcast_to(x.mean(axis=(1, 2, 3), keepdims=True), x.shape).astype(np.float64)
    flat = np.rint(flat * 255).astype(np.uint8) if kind == "uint8" else flat.astype(kind)
    chosen = {"corruptions": ("contrast", "defocus_blur", "pixelate", "brightness"), "severities": (1, 2)}
    outcome = audit(make_subject(bright(127.5 if kind == "uint8" else 0.5), flat, y, positive=1), **chosen)
    if kind != "uint8":  # pixelate counts in bytes, which a level of floats is not
        assert find(outcome, "robustness.corruption_accuracy", corruption="pixelate", severity=1).value == 1.0
    for name in ("contrast", "defocus_blur"):
        found = find(outcome, "robustness.corruption_accuracy", corruption=name, severity=2)
        assert found.value is None, name
        assert "no row looked at is changed" in found.reason
    assert find(outcome, "robustness.corruption_accuracy", corruption="brightness", severity=2).value == 1.0


@pytest.mark.parametrize("layout", ["bytes", "channels last", "no channels", "colour"])
def test_every_layout_of_images_comes_back_as_it_was(layout):
    x, y = images(60)
    if layout == "bytes":
        x = np.uint8(np.rint(x * 255))
    elif layout == "channels last":
        x = np.repeat(np.moveaxis(x, 1, -1), 3, axis=-1)
    elif layout == "no channels":
        x = x[:, 0]
    else:
        x = np.repeat(x, 3, axis=1)
    seen = []

    def model(batch):
        seen.append((batch.dtype, batch.shape[1:]))
        return bright(127.5 if layout == "bytes" else 0.5)(batch)

    outcome = audit(make_subject(model, x, y, positive=1), corruptions=("contrast", "fog"), severities=(1,))
    assert outcome.status == "measured", outcome.reason
    assert set(seen) == {(x.dtype, x.shape[1:])}
    assert find(outcome, "robustness.corruption_accuracy", corruption="contrast", severity=1).value == 1.0


def test_the_group_whose_images_are_fragile_is_found_and_its_twin_is_not():
    x, y = images(600, seed=2)
    rng = np.random.default_rng(3)
    site = rng.choice(["north", "south"], 600)
    faint = x.copy()
    faint[2:] = np.where((site[2:] == "south").reshape(-1, 1, 1, 1), 0.5 + 0.2 * (x[2:] - 0.5), x[2:])
    chosen = {"corruptions": ("gaussian_noise", "brightness"), "severities": (1, 2)}
    over = "robustness.mean_corruption_accuracy.difference"
    planted = audit(make_subject(bright(), faint, y, positive=1, sensitive={"site": site}), **chosen)
    gap = find(planted, over)
    assert gap.over == ("site",)
    assert gap.interval.low > 0.05
    south, north = (find(planted, "robustness.mean_corruption_accuracy", {"site": s}).value for s in ("south", "north"))
    assert gap.value == pytest.approx(north - south)
    twin = audit(make_subject(bright(), faint, y, positive=1, sensitive={"site": rng.permutation(site)}), **chosen)
    assert find(twin, over).interval.low == 0.0


def test_images_that_are_no_pictures_and_unknown_names_are_told():
    x, y = images(40)
    four = np.repeat(x, 4, axis=1)
    outcome = audit(make_subject(bright(), four, y, positive=1))
    assert outcome.status == "not_applicable"
    assert "AK580" in outcome.reason
    wrong = audit(make_subject(bright(), x, y, positive=1), corruptions=("smog",))
    assert wrong.status == "failed"
    assert "AK578" in wrong.reason
    with pytest.raises(ValueError, match="1 to 5"):
        corruptions.CorruptionParams(severities=(6,))


@pytest.mark.parametrize("name", NAMES)
def test_scanner_shifts_grow_are_seeded_and_stay_in_range(name):
    rng = np.random.default_rng(0)
    coarse = torch.from_numpy(rng.uniform(0.1, 0.9, (8, 1, 5, 5))).float()
    batch = torch.nn.functional.interpolate(coarse, size=28, mode="bilinear")
    moved = []
    for severity in range(1, 6):
        out = scanner_shift(batch, name, severity, seed=1)
        assert 0 <= float(out.min()) <= float(out.max()) <= 1
        torch.testing.assert_close(out, scanner_shift(batch, name, severity, seed=1), rtol=0, atol=0)
        moved.append(float((out - batch).abs().mean()))
    # Boxes of pixels meet edges by chance, so that one step of resolution more may cost a little less.
    assert moved[4] > moved[0] > 0 if name == "resampling" else moved == sorted(moved)
    if name not in ("blur", "resampling"):
        assert not torch.equal(scanner_shift(batch, name, 3, seed=1), scanner_shift(batch, name, 3, seed=2))


def test_scanner_noise_has_the_moments_of_its_distribution():
    sigma = STRENGTHS["rician_noise"][2]
    dark = scanner_shift(torch.zeros((4, 1, 64, 64)), "rician_noise", 3)
    # Rayleigh: the mean of the magnitude of pure noise.
    assert float(dark.mean()) == pytest.approx(sigma * math.sqrt(math.pi / 2), rel=0.02)
    lit = scanner_shift(torch.full((4, 1, 64, 64), 0.4), "rician_noise", 3)
    assert float((lit**2).mean()) == pytest.approx(0.4**2 + 2 * sigma**2, rel=0.01)
    counted = scanner_shift(torch.full((4, 1, 64, 64), 0.4), "poisson_noise", 2)
    assert float(counted.var()) == pytest.approx(0.4 / 200, rel=0.05)
    assert float(counted.mean()) == pytest.approx(0.4, rel=0.01)


def test_gain_gamma_and_shading_are_what_they_say():
    batch = torch.full((200, 1, 8, 8), 0.25)
    gain = scanner_shift(batch, "gain", 2)[:, 0, 0, 0]
    assert sorted(set(gain.round(decimals=3).tolist())) == pytest.approx(
        [0.25 * math.exp(-0.2), 0.25 * math.exp(0.2)], abs=1e-3
    )
    gamma = scanner_shift(batch, "gamma", 2)[:, 0, 0, 0]
    assert sorted(set(gamma.round(decimals=3).tolist())) == pytest.approx(
        [0.25 ** math.exp(0.2), 0.25 ** math.exp(-0.2)], abs=1e-3
    )
    shade = torch.log(scanner_shift(batch, "bias_field", 5) / 0.25)
    torch.testing.assert_close(shade.abs().amax(dim=(1, 2, 3)), torch.full((200,), 0.6), atol=1e-4, rtol=0)


def test_a_model_of_absolute_brightness_falls_to_gain_and_one_of_contrast_does_not():
    x, y = images(400, seed=5)
    x[2:, :, :8] *= 0.5
    y = (x[:, :, 8:].mean(axis=(1, 2, 3)) > 0.5).astype(int)
    fragile = audit(make_subject(bright(0.37), x, y, positive=1), scanner, shifts=("gain",))
    assert find(fragile, "robustness.scanner_drop").interval.low > 0.1
    ratio = lambda b: (b[:, :, 8:].mean(axis=(1, 2, 3)) / b[:, :, :8].mean(axis=(1, 2, 3)) > 0).astype(int)  # noqa: E731
    ones = np.ones_like(y)
    ones[0] = 0
    firm = audit(make_subject(ratio, x, ones, positive=1), scanner, shifts=("gain", "gamma", "bias_field"))
    assert find(firm, "robustness.scanner_drop").value == pytest.approx(0.0)
    assert any(note.startswith("Simulated") for note in firm.notes)
    with pytest.raises(UsageError, match="AK578 there is no scanner shift 'gian'"):
        scanner_shift(torch.zeros((1, 1, 4, 4)), "gian", 1)
    with pytest.raises(UsageError, match="AK579 scanner shifts take images"):
        scanner_shift(torch.zeros((1, 1, 4, 4)) + 2, "gain", 1)


@pytest.mark.parametrize("shape", [(4, 9, 9), (9, 9, 4)])
def test_images_of_four_channels_are_told_by_their_number(shape):
    x = np.random.default_rng(0).random((20, *shape)).astype(np.float32)
    outcome = audit(make_subject(bright(), x, np.arange(20) % 2, positive=1))
    assert outcome.status == "not_applicable"
    assert "AK580 the images have 4 channels" in outcome.reason


@pytest.mark.parametrize("share", [1.0, 0.5, 0.0])
def test_a_drop_that_is_the_same_in_all_rows_has_exact_limits(share):
    x, y = images(60)

    def model(batch):
        # Right on clean images, and on all corrupted ones at some of the four severities.
        whole = bright()(batch) if len(batch) != 60 or np.array_equal(batch, x) else y
        calls.append(len(batch) == 60 and not np.array_equal(batch, x))
        return 1 - whole if calls[-1] and sum(calls) > 4 * share else whole

    calls = []
    outcome = audit(make_subject(model, x, y, positive=1), corruptions=("brightness",), severities=(1, 2, 4, 5))
    drop = find(outcome, "robustness.corruption_drop")
    assert drop.value == pytest.approx(1 - share)
    other = 1 - 0.025 ** (1 / 60)  # at most this share of rows is otherwise, with 97.5 %
    assert drop.interval.low == pytest.approx(drop.value - other * (drop.value + 1))
    assert drop.interval.high == pytest.approx(drop.value + other * (1 - drop.value))
