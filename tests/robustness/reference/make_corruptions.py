"""Makes corruptions.npz: what the imagecorruptions package gives for one image, every sixteenth pixel of it.

Run in an environment with imagecorruptions 1.1.2, numpy 1.26, scikit-image 0.20, opencv-python and pillow:

    python tests/robustness/reference/make_corruptions.py

Each call starts from a seed of its own, so that a test can repeat its random numbers; the frost photographs are
recorded as they were laid on.
"""

from pathlib import Path

import numpy as np
from picture import picture, seed_of
from PIL import Image

NOISE = ("gaussian_noise", "shot_noise", "impulse_noise")
BLUR = ("defocus_blur", "glass_blur", "motion_blur", "zoom_blur")
WEATHER = ("snow", "frost", "fog", "brightness")
DIGITAL = ("contrast", "elastic_transform", "pixelate", "jpeg_compression")
NAMES = (*NOISE, *BLUR, *WEATHER, *DIGITAL)


def main():
    from imagecorruptions import corruptions

    # scikit-image renamed an argument of its Gaussian filter since the package was released.
    smooth = corruptions.gaussian
    corruptions.gaussian = lambda *given, multichannel=False, **more: smooth(
        *given, channel_axis=-1 if multichannel else None, **more
    )
    image, kept = picture(), {}
    generator = np.random.default_rng
    for name in NAMES:
        for severity in range(1, 6):
            seed = seed_of(name, severity)
            np.random.default_rng = lambda unused=None, seed=seed: generator(seed)
            np.random.seed(seed)  # noqa: NPY002
            result = getattr(corruptions, name)(Image.fromarray(image), severity)
            kept[f"{name}_{severity}"] = np.uint8(np.asarray(result))[::4, ::4]
            if name == "frost":
                np.random.seed(seed)  # noqa: NPY002
                dark = corruptions.frost(Image.fromarray(np.zeros_like(image)), severity)
                kept[f"texture_{severity}"] = np.float32(dark / (0.4, 0.6, 0.7, 0.7, 0.75)[severity - 1])[::4, ::4]
    np.savez_compressed(Path(__file__).parent / "corruptions.npz", **kept)


main()
