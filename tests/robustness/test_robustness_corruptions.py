"""Image corruptions against the scripts that made ImageNet-C and CIFAR-10-C, and against what they must do."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import features

sys.path.insert(0, str(Path(__file__).parent / "reference"))
from picture import picture, seed_of

from auditkit.core.errors import MissingExtra, UsageError
from auditkit.methods.robustness.corruptions import FAMILIES, NAMES, apply, corrupt, jpeg
from auditkit.methods.robustness.corruptions.severities import STRENGTHS
from auditkit.methods.robustness.corruptions.weather import blended

REFERENCE = np.load(Path(__file__).parent / "reference" / "corruptions.npz")


class Repeated:
    """The random numbers that a reference script drew for one image."""

    def __init__(self, seed, exact, impulse=False):
        self.legacy = np.random.RandomState(seed)
        self.source = np.random.default_rng(seed) if impulse else self.legacy
        self.exact = exact

    @staticmethod
    def _channels_last(shape):
        assert shape[0] == 1
        if len(shape) != 4:
            return shape[1:], lambda array: array
        if shape[1] == 1:
            return shape[2:], lambda array: array[None]
        return (*shape[2:], shape[1]), lambda array: array.transpose(2, 0, 1)

    def _shaped(self, shape, draw):
        size, back = self._channels_last(shape)
        return torch.from_numpy(np.ascontiguousarray(back(np.asarray(draw(size))))).reshape(shape)

    def normal(self, shape):
        return self._shaped(shape, self.legacy.standard_normal)

    def uniform(self, shape):
        return self._shaped(shape, lambda size: self.source.random(size) if size else self.source.random())

    def integers(self, low, high, shape):
        return self._shaped(shape, lambda size: self.legacy.randint(low, high, size=size))

    def swings(self, shape):
        return 2.0 * self.uniform(shape) - 1.0

    def impulses(self, shape, share):
        hit, salt = self.uniform(shape) <= share, self.uniform(shape) <= 0.5
        return hit * (2.0 * salt - 1.0)

    def photons(self, light, most):
        return self._shaped(tuple(light.shape), lambda size: self.legacy.poisson(self.exact * most)).float()


def as_tensor(image):
    return torch.from_numpy(image.transpose(2, 0, 1)[None] / 255.0).float()


def bytes_of(tensor):
    return np.uint8(np.floor(tensor[0].numpy().transpose(1, 2, 0) * 255 + 1e-3))


# The largest share of values that may differ by more than one of 255 steps, and the largest mean difference in steps.
LOOSE = {
    # Affine maps of the reference are rounded to 1/32 pixel.
    ("large", "elastic_transform"): (0.03, 0.5),
    ("small", "elastic_transform"): (0.03, 0.5),
    # Whole steps of the reference are rounded, ours are cut.
    ("large", "motion_blur"): (0.002, 0.6),
    ("small", "motion_blur"): (0.002, 0.6),
}
# JPEG libraries reckon in whole numbers: a coefficient halfway between two steps may go the other way, and takes its
# block with it (a quarter of the colours of a small image).
RECKONED = {"large": (0.09, 0.8), "small": (0.4, 2.5)}


def gap_to_reference(size, name, severity):
    """Share of values more than one step off, and the mean difference in steps."""
    image, step = picture(64 if size == "large" else 32), 4 if size == "large" else 2
    draws = Repeated(seed_of(name, severity), image / 255.0, impulse=name == "impulse_noise")
    ours = bytes_of(corrupt(as_tensor(image), name, severity, size=size, draws=draws))[::step, ::step].astype(int)
    gap = np.abs(ours - REFERENCE[f"{size}_{name}_{severity}"].astype(int))
    return float((gap > 1).mean()), float(gap.mean())


@pytest.mark.parametrize("size", ["large", "small"])
@pytest.mark.parametrize("severity", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("name", [name for name in NAMES if name != "frost"])
def test_corruptions_agree_with_the_scripts_of_the_data_sets(name, severity, size):
    share, mean = gap_to_reference(size, name, severity)
    most, largest = LOOSE.get((size, name), (0.002, 0.5))
    assert share <= most, f"{share:.4f} of the values differ"
    assert mean <= largest, mean


@pytest.mark.parametrize("size", ["large", "small"])
@pytest.mark.parametrize("severity", [1, 2, 3, 4, 5])
def test_jpeg_is_that_of_the_scripts_to_the_byte_and_nearly_so_where_it_is_reckoned(severity, size, monkeypatch):
    if features.check_feature("libjpeg_turbo"):
        assert gap_to_reference(size, "jpeg_compression", severity) == (0.0, 0.0)
    monkeypatch.setitem(
        apply.CORRUPTIONS, "jpeg_compression", lambda x, strength, draws: jpeg.reckoned(x, int(strength[0]))
    )
    share, mean = gap_to_reference(size, "jpeg_compression", severity)
    assert share <= RECKONED[size][0]
    assert 0.0 < mean <= RECKONED[size][1]


@pytest.mark.parametrize("quality", [10, 50, 80])
@pytest.mark.parametrize("shape", [(1, 40, 33), (3, 17, 23)])
def test_jpeg_reckoned_is_near_the_one_coded_for_grey_and_odd_images(shape, quality):
    images = smooth_images(channels=shape[0], side=64)[:2, :, : shape[1], : shape[2]].contiguous()
    coded, reckoned = jpeg.coded(images, quality), jpeg.reckoned(images, quality)
    assert float((coded - reckoned).abs().mean()) < 1.0 / 255
    assert float((coded - images).abs().mean()) > 0.0


def test_without_pillow_jpeg_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(MissingExtra, match=r'AK301 pillow is not installed\n.*\n.*pip install "auditkit\[torch\]"'):
        corrupt(smooth_images(), "jpeg_compression", 1)


@pytest.mark.parametrize(
    ("name", "severity", "strength"),
    [
        # The lengths that the imagecorruptions package gives elastic maps, which are not those of ImageNet-C.
        ("elastic_transform", 1, (12.5, 0.01, 0.005, 0.0)),
        ("elastic_transform", 5, (30.0, 0.01, 0.005, 0.0)),
        ("pixelate", 3, (0.5,)),
        ("snow", 4, (0.55, 0.3, 4.0, 0.85, 12, 8, 0.65)),
    ],
)
def test_other_strengths_are_told_from_those_of_the_scripts(name, severity, strength, monkeypatch):
    table = list(STRENGTHS["large"][name])
    table[severity - 1] = strength
    monkeypatch.setitem(STRENGTHS["large"], name, tuple(table))
    share, mean = gap_to_reference("large", name, severity)
    most, largest = LOOSE.get(("large", name), (0.002, 0.5))
    assert share > 2 * most
    assert mean > largest


@pytest.mark.parametrize("severity", [1, 2, 3, 4, 5])
def test_frost_is_laid_on_as_in_the_reference(severity):
    image = as_tensor(picture())[..., ::4, ::4]
    texture = as_tensor(REFERENCE[f"texture_{severity}"])
    ours = bytes_of(blended(image, texture, STRENGTHS["large"]["frost"][severity - 1])).astype(int)
    assert np.abs(ours - REFERENCE[f"large_frost_{severity}"]).max() <= 1


def test_every_corruption_has_five_strengths_for_both_sizes_and_a_family():
    assert len(NAMES) == 15
    assert set(NAMES) == {name for names in FAMILIES.values() for name in names}
    for table in STRENGTHS.values():
        assert set(table) == set(NAMES)
        assert all(len(strengths) == 5 for strengths in table.values())


def smooth_images(n=6, channels=3, side=32):
    rng = np.random.default_rng(1)
    coarse = torch.from_numpy(rng.random((n, channels, 4, 4))).float()
    return torch.nn.functional.interpolate(coarse, size=side, mode="bicubic").clamp(0.05, 0.95)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", NAMES)
def test_severity_grows_the_batch_is_seeded_and_nothing_else_moves(name, channels):
    images = smooth_images(channels=channels)
    before, state = images.clone(), torch.get_rng_state()
    moved = []
    for severity in range(1, 6):
        once = corrupt(images, name, severity, seed=3)
        assert once.shape == images.shape
        assert once.dtype == images.dtype
        assert 0.0 <= float(once.min()) <= float(once.max()) <= 1.0
        torch.testing.assert_close(once, corrupt(images, name, severity, seed=3), rtol=0, atol=0)
        moved.append(float((once - images).abs().mean()))
    # The glass of CIFAR-10-C is not ordered by severity, and an elastic map moves a smooth image less than its texture.
    if name not in ("glass_blur", "elastic_transform"):
        assert moved[4] > moved[0] > 0.0
    torch.testing.assert_close(images, before, rtol=0, atol=0)
    torch.testing.assert_close(torch.get_rng_state(), state, rtol=0, atol=0)
    if name in ("gaussian_noise", "shot_noise", "impulse_noise", "glass_blur", "motion_blur", "snow", "frost", "fog"):
        assert not torch.equal(corrupt(images, name, 3, seed=3), corrupt(images, name, 3, seed=4))
        twins = corrupt(images[:1].repeat(2, 1, 1, 1), name, 3, seed=3)
        assert not torch.equal(twins[0], twins[1]), "every image gets its own randomness"


@pytest.mark.parametrize(
    "name", ["defocus_blur", "zoom_blur", "contrast", "pixelate", "motion_blur", "elastic_transform"]
)
def test_a_flat_image_stays_flat(name):
    flat = torch.full((2, 3, 40, 40), 0.6)
    for size in ("large", "small"):
        torch.testing.assert_close(corrupt(flat, name, 2, size=size), flat, atol=0.003, rtol=0)


def test_noise_has_the_published_spread():
    grey = torch.full((20, 1, 32, 32), 0.5)
    gaussian = corrupt(grey, "gaussian_noise", 1, size="small")
    assert float((gaussian - 0.5).std()) == pytest.approx(0.04, rel=0.03)
    shot = corrupt(grey, "shot_noise", 5, size="small")
    assert float(shot.std()) == pytest.approx(np.sqrt(0.5 / 50), rel=0.03)
    impulse = corrupt(grey, "impulse_noise", 5, size="large")
    assert float((impulse != 0.5).float().mean()) == pytest.approx(0.27, abs=0.01)
    assert float((impulse == 1.0).float().mean()) == pytest.approx(0.135, abs=0.01)


def test_an_affine_shift_of_nothing_changes_nothing():
    from auditkit.methods.robustness.corruptions.digital import elastic_transform
    from auditkit.methods.robustness.corruptions.draws import SeededDraws

    images = smooth_images(side=31)
    same = elastic_transform(images, (1e-9, 0.1, 1e-9, 1e-9), SeededDraws(0))
    torch.testing.assert_close(same, images, atol=1e-4, rtol=0)


@pytest.mark.parametrize("side", [3, 8, 17])
def test_tiny_and_odd_images_are_survived(side):
    rng = np.random.default_rng(0)
    images = torch.from_numpy(rng.random((2, 1, side, side + 1)))
    for name in NAMES:
        for size in ("small", "large"):
            out = corrupt(images, name, 5, size=size)
            assert out.dtype == torch.float64
            assert torch.isfinite(out).all()
    assert corrupt(images[:0], "fog", 1).shape == (0, 1, side, side + 1)


def test_what_is_no_image_or_corruption_is_refused():
    images = smooth_images()
    with pytest.raises(UsageError, match="AK578 there is no corruption 'fogg'"):
        corrupt(images, "fogg", 1)
    for severity in (0, 6, 2.5):
        with pytest.raises(UsageError, match="AK578 a severity is 1, 2, 3, 4 or 5"):
            corrupt(images, "fog", severity)
    for bad in (images * 255, images[:, :2], images[0], (images * 255).to(torch.uint8), images * torch.nan):
        with pytest.raises(UsageError, match="AK579 corruptions take grey or RGB images"):
            corrupt(bad, "fog", 1)


@pytest.mark.parametrize("side", [(16, 40), (64, 50), (5, 9)])
@pytest.mark.parametrize("strength", [(0.3, 0.4), (3, 0.1), (6, 0.5), (10, 0.5)])
def test_defocus_is_the_plain_sum_over_the_disk(side, strength):
    from scipy.ndimage import convolve

    from auditkit.methods.robustness.corruptions.blur import _disk, defocus_blur

    images = torch.from_numpy(np.random.default_rng(0).random((2, 3, *side)))
    kernel = _disk(*strength)
    plain = [[convolve(plane, kernel, mode="mirror") for plane in image] for image in images.numpy()]
    np.testing.assert_allclose(defocus_blur(images, strength, None), np.clip(plain, 0, 1), atol=1e-9)


@pytest.mark.parametrize(("size", "to"), [(224, 89), (224, 134), (61, 40), (33, 33), (70, 1)])
def test_products_by_bands_are_the_whole_products(size, to):
    from auditkit.methods.robustness.corruptions.linear import Banded, along, box_matrix

    images = torch.from_numpy(np.random.default_rng(0).random((2, 3, size, size + 3)))
    rows, columns = box_matrix(size, to), np.random.default_rng(1).random((to, size + 3)) * (np.arange(size + 3) > 4)
    columns[: to // 2] = 0.0
    whole = np.einsum("ah,nchw,bw->ncab", rows.matrix, images.numpy(), columns, optimize=True)
    np.testing.assert_allclose(along(images, rows, Banded(columns)), whole, atol=1e-10)


def test_a_single_wrong_pixel_is_refused():
    for value in (torch.nan, torch.inf, -torch.inf, -1e-6, 1.0 + 1e-6):
        bad = smooth_images()
        bad[2, 1, 3, 4] = value
        with pytest.raises(UsageError, match="AK579 corruptions take grey or RGB images"):
            corrupt(bad, "contrast", 1)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("shape", [(0, 3, 8, 8), (2, 3, 0, 8)])
def test_no_images_stay_none(name, shape):
    found = corrupt(torch.empty(shape, dtype=torch.float16), name, 3)
    assert found.shape == shape
    assert found.dtype == torch.float16
