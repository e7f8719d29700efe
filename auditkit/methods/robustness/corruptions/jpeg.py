"""What JPEG compression leaves of images."""

from __future__ import annotations

import io
import math

import numpy as np
import torch  # noqa: TID253 - this module exists to drive torch

from auditkit.core.errors import MissingExtra
from auditkit.methods.robustness.corruptions.draws import Draws
from auditkit.methods.robustness.corruptions.severities import Strength

# Tables K.1 and K.2 of the JPEG standard (ITU-T T.81), row by row.
# fmt: off
_LUMINANCE = np.array([
    [16, 11, 10, 16, 24, 40, 51, 61], [12, 12, 14, 19, 26, 58, 60, 55],
    [14, 13, 16, 24, 40, 57, 69, 56], [14, 17, 22, 29, 51, 87, 80, 62],
    [18, 22, 37, 56, 68, 109, 103, 77], [24, 35, 55, 64, 81, 104, 113, 92],
    [49, 64, 78, 87, 103, 121, 120, 101], [72, 92, 95, 98, 112, 100, 103, 99],
], dtype=np.float64)
_CHROMINANCE = np.full((8, 8), 99.0)
_CHROMINANCE[:4, :4] = [[17, 18, 24, 47], [18, 21, 26, 66], [24, 26, 56, 99], [47, 66, 99, 99]]
# fmt: on
_WAVES = np.array(
    [
        [math.sqrt((1 if k == 0 else 2) / 8) * math.cos((2 * j + 1) * k * math.pi / 16) for j in range(8)]
        for k in range(8)
    ]
)


def jpeg_compression(x: torch.Tensor, strength: Strength, draws: Draws) -> torch.Tensor:
    """What JPEG of the quality ``strength[0]`` leaves: by Pillow on the CPU, reckoned on other devices."""
    return (coded if x.device.type == "cpu" else reckoned)(x, int(strength[0]))


def coded(x: torch.Tensor, quality: int) -> torch.Tensor:
    """Images ``(n, c, h, w)`` written as JPEG files of this ``quality`` in memory by Pillow, and read again.

    Raises:
        MissingExtra: AK301 without Pillow.
    """
    try:
        from PIL import Image
    except ImportError as error:
        raise MissingExtra.of("torch", "pillow") from error
    height, width = x.shape[-2:]
    result = torch.empty_like(x)
    for image, out in zip(x, result.numpy(), strict=True):
        planes = [
            Image.frombuffer("L", (width, height), plane, "raw", "L", 0, 1)
            for plane in (image * 255.0).add_(0.5).numpy().astype(np.uint8)
        ]
        file = io.BytesIO()
        (planes[0] if len(planes) == 1 else Image.merge("RGB", planes)).save(file, "JPEG", quality=quality)
        for band, plane in zip(Image.open(file).split(), out, strict=True):
            plane[...] = np.asarray(band)
    return result.div_(255.0)


def reckoned(x: torch.Tensor, quality: int) -> torch.Tensor:
    """What baseline JPEG leaves, without its code: colour at half the resolution, blocks of 8 x 8 rounded.

    Source: ITU-T T.81 (1992), annexes A and K; ITU-T T.871 (2011) for the colours; the scaling of the tables by quality
    is that of the Independent JPEG Group.
    """
    scale = 5000 // quality if quality < 50 else 200 - 2 * quality
    luminance, chrominance = (
        np.clip(np.floor((table * scale + 50.0) / 100.0), 1.0, 255.0) for table in (_LUMINANCE, _CHROMINANCE)
    )
    height, width = x.shape[-2:]
    whole = torch.round(x * 255.0)
    if x.shape[1] == 1:
        return _blocks_rounded(_padded(whole, 8), luminance)[..., :height, :width] / 255.0
    red, green, blue = _padded(whole, 16).unbind(1)
    light = torch.round(0.299 * red + 0.587 * green + 0.114 * blue)
    colours = [
        torch.round(-0.168735892 * red - 0.331264108 * green + 0.5 * blue + 128.0),
        torch.round(0.5 * red - 0.418687589 * green - 0.081312411 * blue + 128.0),
    ]
    light = _blocks_rounded(light[:, None], luminance)[:, 0]
    halves = torch.stack(colours, dim=1)
    halves = torch.nn.functional.avg_pool2d(halves, 2)
    # Halves are rounded down and up in turn along a row.
    bias = torch.arange(halves.shape[-1], device=x.device) % 2 * 0.25 + 0.25
    halves = _blocks_rounded(torch.floor(halves + bias), chrominance)
    halves = halves[..., : -(-height // 2), : -(-width // 2)]
    full = torch.nn.functional.interpolate(halves, scale_factor=2, mode="bilinear", align_corners=False)
    first, second = (torch.round(full)[..., :height, :width] - 128.0).unbind(1)
    light = light[..., :height, :width]
    rgb = torch.stack(
        [light + 1.402 * second, light - 0.344136286 * first - 0.714136286 * second, light + 1.772 * first], dim=1
    )
    return torch.round(rgb).clamp(0.0, 255.0) / 255.0


def _padded(x: torch.Tensor, block: int) -> torch.Tensor:
    """Edges repeated up to whole blocks."""
    height, width = x.shape[-2:]
    return torch.nn.functional.pad(x, (0, -width % block, 0, -height % block), mode="replicate")


def _blocks_rounded(planes: torch.Tensor, table: np.ndarray[tuple[int, int], np.dtype[np.float64]]) -> torch.Tensor:
    """Planes of whole blocks in [0, 255] after the cosine transform was rounded to steps of ``table``."""
    n, channels, height, width = planes.shape
    # Rows and columns of a block at once, as one product with 64 numbers.
    waves = torch.as_tensor(np.kron(_WAVES, _WAVES), dtype=planes.dtype, device=planes.device)
    steps = torch.as_tensor(table.reshape(-1), dtype=planes.dtype, device=planes.device)
    blocks = (planes - 128.0).view(n, channels, height // 8, 8, width // 8, 8).permute(0, 1, 2, 4, 3, 5)
    rounded = (blocks.reshape(-1, 64) @ waves.T).div_(steps).round_().mul_(steps)
    back = (rounded @ waves).add_(128.0).round_().clamp_(0.0, 255.0).view(blocks.shape)
    return back.permute(0, 1, 2, 4, 3, 5).reshape(n, channels, height, width)
