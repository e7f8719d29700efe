"""The random numbers of image corruptions, and the patterns made of them, against closed forms and plain loops."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

from auditkit.methods.robustness.corruptions import corrupt
from auditkit.methods.robustness.corruptions.blur import moved
from auditkit.methods.robustness.corruptions.draws import SeededDraws
from auditkit.methods.robustness.corruptions.inversion import _CELLS, _count_table, _normal_table
from auditkit.methods.robustness.corruptions.plasma import plasma
from auditkit.methods.robustness.corruptions.severities import STRENGTHS


def sources():
    """Draws as on the CPU, and as on other devices."""
    elsewhere = SeededDraws(5)
    elsewhere.source = None
    return [SeededDraws(5), elsewhere]


def test_cells_of_the_normal_table_hold_their_means():
    table, ends = _normal_table().double().numpy(), stats.norm.ppf(np.arange(2**16 + 1) / 2**16)
    assert (table > ends[:-1]).all()
    assert (table < ends[1:]).all()
    # The mean of a cell as the mean of its quantiles.
    for cell in (1, 100, 30_000, 32_768, 65_000):
        inside = stats.norm.ppf((cell + (np.arange(4000) + 0.5) / 4000) / 2**16)
        assert table[cell] == pytest.approx(inside.mean(), abs=3e-7 * max(1.0, abs(inside.mean())))
    # All but the outermost cells, whose second moment is known in closed form.
    beyond = 2 * (-ends[1] * stats.norm.pdf(ends[1]) + 2.0**-16)
    assert (table[1:-1] ** 2).sum() / 2**16 + beyond == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize("draws", sources(), ids=["cpu", "elsewhere"])
def test_normal_numbers_are_normal_out_into_the_tails(draws):
    numbers = draws.normal((2, 1000, 1000)).double().numpy()
    assert numbers.shape == (2, 1000, 1000)
    flat = numbers.ravel()
    assert stats.kstest(flat, "norm").pvalue > 0.01
    assert flat.mean() == pytest.approx(0.0, abs=0.003)
    assert flat.std() == pytest.approx(1.0, abs=0.002)
    # About 61 numbers lie beyond 4.17, half of them on either side; means of cells alone would end at 4.3.
    for side in (flat, -flat):
        assert 15 <= (side > 4.1735).sum() <= 50
        assert side.max() > 4.6
    assert abs(np.corrcoef(flat[:-1], flat[1:])[0, 1]) < 0.003


@pytest.mark.parametrize("draws", sources(), ids=["cpu", "elsewhere"])
def test_swings_and_impulses_have_the_shares_asked_for(draws):
    swings = draws.swings((4, 50, 1000)).double().numpy().ravel()
    assert stats.kstest(swings, stats.uniform(-1, 2).cdf).pvalue > 0.01
    assert -1.0 < swings.min() < -0.999
    assert 0.999 < swings.max() < 1.0
    for share in (0.01, 0.27, 1.0):
        impulses = draws.impulses((1_000_000,), share).numpy()
        for sign in (-1.0, 1.0):
            expected = 1_000_000 * share / 2
            assert (impulses == sign).sum() == pytest.approx(expected, abs=4 * math.sqrt(expected))
        assert set(np.unique(impulses)) <= {-1.0, 0.0, 1.0}


@pytest.mark.parametrize("most", [3, 12, 60, 500])
def test_settled_cells_of_the_photon_table_are_those_of_plain_sums(most):
    table = _count_table(most)
    counts = table.counts.reshape(256, _CELLS)
    open_ = counts == np.iinfo(counts.dtype).max
    for level in (0, 1, 17, 128, 255):
        mean = most * level / 255
        terms = [
            math.exp(k * math.log(mean) - mean - math.lgamma(k + 1)) if mean else float(k == 0) for k in range(800)
        ]
        steps = np.array([math.fsum(terms[: k + 1]) for k in range(800)])
        cell = np.flatnonzero(~open_[level])
        count = counts[level][cell].astype(int)
        below = np.where(count > 0, steps[count - 1], 0.0)
        assert (below <= cell / _CELLS + 1e-12).all()
        assert (steps[count] >= (cell + 1) / _CELLS - 1e-12).all()
    assert 0.0 < open_.mean() < 0.1


def poisson_p(counts, mean):
    """The p-value of Pearson's test that counts are Poisson, with rare counts taken together."""
    places = np.arange(stats.poisson.ppf(0.002, mean), stats.poisson.ppf(0.998, mean) + 1)
    seen = np.array([(counts == k).sum() for k in places], dtype=float)
    chance = stats.poisson.pmf(places, mean)
    seen, chance = np.append(seen, len(counts) - seen.sum()), np.append(chance, 1.0 - chance.sum())
    return stats.chisquare(seen, chance * len(counts)).pvalue


@pytest.mark.parametrize("draws", sources(), ids=["cpu", "elsewhere"])
@pytest.mark.parametrize("most", [3, 60, 500])
@pytest.mark.parametrize("light", [0.0, 1 / 255, 77 / 255, 1.0, 0.30019, 0.0031, 0.9999])
def test_photons_are_poisson_between_bytes_as_on_them(light, most, draws):
    counts = draws.photons(torch.full((400, 500), light), most).numpy().ravel()
    if light == 0.0:
        assert not counts.any()
        return
    assert poisson_p(counts, light * most) > 1e-3
    assert counts.mean() == pytest.approx(light * most, abs=4 * math.sqrt(light * most / len(counts)))


def test_light_cut_to_bytes_would_be_told():
    counts = SeededDraws(5).photons(torch.full((400, 500), 76 / 255), 500).numpy().ravel()
    assert poisson_p(counts, 500 * 76.6 / 255) < 1e-6


@pytest.mark.parametrize("angle", [-170.0, -100.0, -45.0, 0.0, 20.0, 90.0, 135.0])
def test_motion_is_the_plain_sum_along_the_line(angle):
    images = np.random.default_rng(0).random((2, 3, 12, 17))
    sine, cosine = math.sin(math.radians(angle)), math.cos(math.radians(angle))
    weights = np.exp(-(np.arange(15) ** 2) / (2 * 3.0**2))
    weights /= weights.sum()
    plain = np.zeros_like(images)
    for tap, weight in enumerate(weights):
        down, right = math.ceil(tap * sine - 0.5), math.ceil(tap * cosine - 0.5)
        if abs(down) >= 12 or abs(right) >= 17:
            break
        rows, columns = np.clip(np.arange(12) + down, 0, 11), np.clip(np.arange(17) + right, 0, 16)
        plain += weight * images[:, :, rows][..., columns]
    ours = moved(torch.from_numpy(images), 7, 3.0, torch.tensor([angle, angle], dtype=torch.float64))
    np.testing.assert_allclose(ours, plain, atol=1e-12)


class Kept(SeededDraws):
    """Draws that are remembered."""

    def __init__(self, seed):
        super().__init__(seed)
        self.made = []

    def swings(self, shape):
        self.made.append(super().swings(shape).numpy().copy())
        return torch.from_numpy(self.made[-1].copy())


def test_plasma_is_diamond_square_point_by_point():
    draws = Kept(0)
    ours = plasma(1, (140, 200), 1.8, draws)[0].numpy()
    side, wild = 256, 100.0
    noise = iter(np.concatenate([part.ravel() for part in draws.made]).astype(np.float64))
    field, step = np.zeros((side, side)), side
    while step >= 2:
        half = step // 2
        spots = range(0, side, step)
        for down, right in ((half, half), (0, half), (half, 0)):
            for row in spots:
                for column in spots:
                    r, c = row + down, column + right
                    near = [(r - half, c), (r + half, c), (r, c - half), (r, c + half)]
                    if down and right:
                        near = [(r - half, c - half), (r - half, c + half), (r + half, c - half), (r + half, c + half)]
                    mean = sum(field[a % side, b % side] for a, b in near) / 4
                    field[r, c] = mean + wild * wild * next(noise)
        step, wild = half, wild / 1.8
    assert next(noise, None) is None
    whole = (field - field.min()) / (field.max() - field.min())
    np.testing.assert_allclose(ours, whole[:140, :200], atol=2e-6)


def test_every_image_has_a_cloud_of_its_own_from_end_to_end():
    clouds = plasma(3, (256, 256), 1.7, SeededDraws(1))
    assert clouds.amin(dim=(1, 2)).tolist() == [0.0, 0.0, 0.0]
    assert clouds.amax(dim=(1, 2)).tolist() == [1.0, 1.0, 1.0]
    assert not torch.equal(clouds[0], clouds[1])
    assert not torch.equal(clouds[1], clouds[2])


@pytest.mark.parametrize("side", [32, 96])
def test_frost_is_cut_from_sheets_as_bright_and_uneven_as_the_photographs(side):
    size = "large" if side >= 64 else "small"
    share = STRENGTHS[size]["frost"][2][1]
    ice = corrupt(torch.zeros((60, 3, side, side)), "frost", 3, seed=2) / share
    grey = ice.mean(dim=1)
    assert float(grey.mean()) == pytest.approx(0.62, abs=0.03)
    spread = grey.std(dim=(1, 2))
    assert 0.03 < float(spread.min()) < float(spread.max()) < 0.2
    # Bluish, and every image has a part of its own.
    assert (ice[:, 2].mean(dim=(1, 2)) > ice[:, 0].mean(dim=(1, 2))).all()
    assert len({float(value) for value in grey[:, 3, 5] + 2 * grey[:, 20, 11]}) > 40
    torch.testing.assert_close(ice, corrupt(torch.zeros((60, 3, side, side)), "frost", 3, seed=2) / share)
