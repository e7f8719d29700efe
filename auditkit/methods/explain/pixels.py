"""Where the channels of images are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from auditkit.core.subject import FloatArray

_CHANNELS = (1, 3, 4)


@dataclass(frozen=True)
class ImageLayout:
    """The layout of an array of images, and its dtype.

    Attributes:
        order: ``hw`` (no channel axis), ``chw`` or ``hwc``.
        dtype: What the model takes.
    """

    order: Literal["hw", "chw", "hwc"]
    dtype: npt.DTypeLike

    @staticmethod
    def of(images: npt.NDArray[Any]) -> ImageLayout:
        """The layout of ``images``: 3-D has no channels; in 4-D the axis of 1, 3 or 4 holds them, the first if both.

        >>> ImageLayout.of(np.zeros((2, 3, 8, 8))).order, ImageLayout.of(np.zeros((2, 8, 8, 3))).order
        ('chw', 'hwc')
        """
        if images.ndim == 3:
            return ImageLayout("hw", images.dtype)
        return ImageLayout(
            "hwc" if images.shape[1] not in _CHANNELS and images.shape[3] in _CHANNELS else "chw", images.dtype
        )

    def plain(self, images: npt.NDArray[Any]) -> FloatArray:
        """Images as float64 ``(n, h, w, c)``."""
        array = np.asarray(images, dtype=np.float64)
        if self.order == "hw":
            return array[..., None]
        return np.ascontiguousarray(np.moveaxis(array, 1, 3)) if self.order == "chw" else array

    def back(self, images: FloatArray) -> npt.NDArray[Any]:
        """Images ``(n, h, w, c)`` in this layout and dtype; integers are rounded."""
        array = images[..., 0] if self.order == "hw" else images
        array = np.moveaxis(array, 3, 1) if self.order == "chw" else array
        whole = np.issubdtype(self.dtype, np.integer)
        return np.ascontiguousarray(np.rint(array) if whole else array).astype(self.dtype)
