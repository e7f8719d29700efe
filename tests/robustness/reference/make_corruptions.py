"""Makes corruptions.npz: what the scripts of ImageNet-C and CIFAR-10-C give for one image, some pixels of it.

The scripts are make_imagenet_c.py and make_cifar_c.py of https://github.com/hendrycks/robustness (ImageNet-C/create_c).
Run in an environment with imagecorruptions 1.1.2, numpy 1.26, scikit-image, opencv-python and pillow:

    python tests/robustness/reference/make_corruptions.py make_imagenet_c.py make_cifar_c.py

The functions are taken out of the scripts as they are, but for three things. Names that numpy and scikit-image have
changed since are mended. The motion blur of ImageMagick is that of imagecorruptions, which was made after it. The
script of ImageNet-C is for 224 pixels; here its lengths in pixels are those of an image of 64. The photographs of frost
come from imagecorruptions, and are recorded as they were laid on.

Each call starts from a seed of its own, so that a test can repeat its random numbers.
"""

import ast
import sys
from io import BytesIO
from pathlib import Path

import cv2
import numpy as np
import skimage
from imagecorruptions import corruptions as package
from picture import picture, seed_of
from PIL import Image
from scipy import ndimage

NAMES = (
    *("gaussian_noise", "shot_noise", "impulse_noise", "defocus_blur", "glass_blur", "motion_blur", "zoom_blur"),
    *("snow", "fog", "brightness", "contrast", "elastic_transform", "pixelate", "jpeg_compression"),
)
HELPERS = ("disk", "plasma_fractal", "clipped_zoom")
SIDES = {"large": (64, {224: 64, 256: 64, 244: 244 * 64 / 224}, 4), "small": (32, {}, 2)}
# Shares of the frost at each severity.
FROST = (0.4, 0.6, 0.7, 0.7, 0.75)


class Motion:
    """What the scripts ask of ImageMagick: an image read from a file, blurred, and written to a file again."""

    def __init__(self, blob):
        self.image = cv2.imdecode(np.frombuffer(blob, np.uint8), cv2.IMREAD_UNCHANGED)

    def motion_blur(self, radius, sigma, angle):
        moved = package._motion_blur(self.image, radius=radius, sigma=sigma, angle=angle)
        self.image = np.uint8(np.clip(np.rint(moved), 0, 255))

    def make_blob(self):
        return cv2.imencode(".png", self.image)[1].tobytes()


class Lengths(ast.NodeTransformer):
    """Other numbers in place of some."""

    def __init__(self, numbers):
        self.numbers = numbers

    def visit_Constant(self, node):
        known = type(node.value) is int and node.value in self.numbers
        return ast.copy_location(ast.Constant(self.numbers[node.value]), node) if known else node


class Mended:
    """A module, with some of its names given otherwise."""

    def __init__(self, module, **names):
        self.module = module
        self.__dict__.update(names)

    def __getattr__(self, name):
        return getattr(self.module, name)


def smooth(*given, multichannel=False, **more):
    return skimage.filters.gaussian(*given, channel_axis=-1 if multichannel else None, **more)


def functions(script, numbers):
    """The functions of a script by name."""
    tree = ast.parse(Path(script).read_text())
    tree.body = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name in NAMES + HELPERS]
    space = {
        "np": Mended(np, float_=np.float64, fromstring=np.frombuffer),
        "sk": skimage,
        "gaussian": smooth,
        "cv2": cv2,
        "scizoom": ndimage.zoom,
        "map_coordinates": ndimage.map_coordinates,
        "BytesIO": BytesIO,
        "PILImage": Image,
        "MotionImage": Motion,
    }
    code = compile(ast.fix_missing_locations(Lengths(numbers).visit(tree)), str(script), "exec")
    exec(code, space)
    return space


def main(*scripts):
    kept, generator = {}, np.random.default_rng
    for (size, (side, numbers, step)), script in zip(SIDES.items(), scripts, strict=True):
        image, found = picture(side), functions(script, numbers)
        for name in NAMES:
            for severity in range(1, 6):
                seed = seed_of(name, severity)
                np.random.default_rng = lambda unused=None, seed=seed: generator(seed)
                np.random.seed(seed)  # noqa: NPY002
                result = np.asarray(found[name](Image.fromarray(image), severity))
                kept[f"{size}_{name}_{severity}"] = np.uint8(result)[::step, ::step]
    np.random.default_rng = generator
    image = picture()
    for severity in range(1, 6):
        seed = seed_of("frost", severity)
        for key, laid_on in (("large_frost", image), ("texture", np.zeros_like(image))):
            np.random.seed(seed)  # noqa: NPY002
            result = package.frost(Image.fromarray(laid_on), severity)[::4, ::4]
            whole = key == "large_frost"
            kept[f"{key}_{severity}"] = np.uint8(result) if whole else np.float32(result / FROST[severity - 1])
    np.savez_compressed(Path(__file__).parent / "corruptions.npz", **kept)


main(*sys.argv[1:])
