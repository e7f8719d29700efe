"""The published strengths of the fifteen corruptions: five severities each, for large and for small images.

``large`` holds those of ImageNet-C, made for 224 x 224 pixels, and ``small`` those of CIFAR-10-C, made for 32 x 32.

Source: Hendrycks and Dietterich (2019), appendix B; their public scripts for both data sets.
"""

from __future__ import annotations

from typing import Literal

Strength = tuple[float, ...]
Size = Literal["large", "small"]

# From this length of the shorter side on, the strengths of ImageNet-C are used.
LARGE_FROM = 64

FAMILIES: dict[str, tuple[str, ...]] = {
    "noise": ("gaussian_noise", "shot_noise", "impulse_noise"),
    "blur": ("defocus_blur", "glass_blur", "motion_blur", "zoom_blur"),
    "weather": ("snow", "frost", "fog", "brightness"),
    "digital": ("contrast", "elastic_transform", "pixelate", "jpeg_compression"),
}
NAMES: tuple[str, ...] = tuple(name for names in FAMILIES.values() for name in names)


def _singles(*values: float) -> tuple[Strength, ...]:
    return tuple((value,) for value in values)


STRENGTHS: dict[Size, dict[str, tuple[Strength, ...]]] = {
    "large": {
        "gaussian_noise": _singles(0.08, 0.12, 0.18, 0.26, 0.38),
        "shot_noise": _singles(60, 25, 12, 5, 3),
        "impulse_noise": _singles(0.03, 0.06, 0.09, 0.17, 0.27),
        "defocus_blur": ((3, 0.1), (4, 0.5), (6, 0.5), (8, 0.5), (10, 0.5)),
        "glass_blur": ((0.7, 1, 2), (0.9, 2, 1), (1, 2, 3), (1.1, 3, 2), (1.5, 4, 2)),
        "motion_blur": ((10, 3), (15, 5), (15, 8), (15, 12), (20, 15)),
        "zoom_blur": ((1.11, 0.01), (1.16, 0.01), (1.21, 0.02), (1.26, 0.02), (1.31, 0.03)),
        "snow": (
            (0.1, 0.3, 3, 0.5, 10, 4, 0.8),
            (0.2, 0.3, 2, 0.5, 12, 4, 0.7),
            (0.55, 0.3, 4, 0.9, 12, 8, 0.7),
            (0.55, 0.3, 4.5, 0.85, 12, 8, 0.65),
            (0.55, 0.3, 2.5, 0.85, 12, 12, 0.55),
        ),
        "frost": ((1, 0.4), (0.8, 0.6), (0.7, 0.7), (0.65, 0.7), (0.6, 0.75)),
        "fog": ((1.5, 2), (2, 2), (2.5, 1.7), (2.5, 1.5), (3, 1.4)),
        "brightness": _singles(0.1, 0.2, 0.3, 0.4, 0.5),
        "contrast": _singles(0.4, 0.3, 0.2, 0.1, 0.05),
        # (displacement; smoothing, bound, random affine shift as shares of the height). The authors counted in 244ths.
        "elastic_transform": tuple(
            (244 * size, 244 / 224 * smooth, 1 / 224, 244 / 224 * shift)
            for size, smooth, shift in (
                (2, 0.7, 0.1),
                (2, 0.08, 0.2),
                (0.05, 0.01, 0.02),
                (0.07, 0.01, 0.02),
                (0.12, 0.01, 0.02),
            )
        ),
        "pixelate": _singles(0.6, 0.5, 0.4, 0.3, 0.25),
        "jpeg_compression": _singles(25, 18, 15, 10, 7),
    },
    "small": {
        "gaussian_noise": _singles(0.04, 0.06, 0.08, 0.09, 0.10),
        "shot_noise": _singles(500, 250, 100, 75, 50),
        "impulse_noise": _singles(0.01, 0.02, 0.03, 0.05, 0.07),
        "defocus_blur": ((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1, 0.2), (1.5, 0.1)),
        "glass_blur": ((0.05, 1, 1), (0.25, 1, 1), (0.4, 1, 1), (0.25, 1, 2), (0.4, 1, 2)),
        "motion_blur": ((6, 1), (6, 1.5), (6, 2), (8, 2), (9, 2.5)),
        "zoom_blur": ((1.06, 0.01), (1.11, 0.01), (1.16, 0.01), (1.21, 0.01), (1.26, 0.01)),
        "snow": (
            (0.1, 0.2, 1, 0.6, 8, 3, 0.95),
            (0.1, 0.2, 1, 0.5, 10, 4, 0.9),
            (0.15, 0.3, 1.75, 0.55, 10, 4, 0.9),
            (0.25, 0.3, 2.25, 0.6, 12, 6, 0.85),
            (0.3, 0.3, 1.25, 0.65, 14, 12, 0.8),
        ),
        "frost": ((1, 0.2), (1, 0.3), (0.9, 0.4), (0.85, 0.4), (0.75, 0.45)),
        "fog": ((0.2, 3), (0.5, 3), (0.75, 2.5), (1, 2), (1.5, 1.75)),
        "brightness": _singles(0.05, 0.1, 0.15, 0.2, 0.3),
        "contrast": _singles(0.75, 0.5, 0.4, 0.3, 0.15),
        "elastic_transform": (
            (0.0, 0.0, 1 / 32, 0.08),
            (1.6, 0.2, 1 / 32, 0.07),
            (2.56, 0.06, 1 / 32, 0.06),
            (3.2, 0.04, 1 / 32, 0.05),
            (3.2, 0.03, 1 / 32, 0.03),
        ),
        "pixelate": _singles(0.95, 0.9, 0.85, 0.75, 0.65),
        "jpeg_compression": _singles(80, 65, 58, 50, 40),
    },
}
