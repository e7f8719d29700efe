"""Images of the test data as a batch in [0, 1], channels first, and back into what the model takes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from auditkit.analyzers.robustness.arena import pixel_range
from auditkit.core.errors import NotApplicable
from auditkit.core.subject import Dataset, channels_last


def as_batch(whole: Dataset, inputs: Any, device: str) -> tuple[Any, Callable[[Any], npt.NDArray[Any]]]:
    """The tensor ``(n, c, h, w)`` in [0, 1] of ``inputs``, and its inverse with the inputs' own shape and dtype.

    Args:
        whole: The data set, for the range of its pixels.
        inputs: Grey or RGB images ``(n, h, w)``, ``(n, c, h, w)`` or ``(n, h, w, c)``.
        device: Where the tensor is.

    Raises:
        NotApplicable: AK580 images that are neither grey nor RGB.
    """
    import torch

    low, high = pixel_range(whole)
    raw = np.asarray(inputs)
    last = channels_last(raw.shape)
    first = raw[:, None] if raw.ndim == 3 else (np.moveaxis(raw, -1, 1) if last else raw)
    if first.shape[1] not in (1, 3):
        raise NotApplicable(
            "AK580", f"the images have {first.shape[1]} channels", why="these shifts are for grey or RGB images"
        )
    scaled = np.clip((first.astype(np.float32) - low) / (high - low), 0.0, 1.0)
    batch = torch.from_numpy(np.ascontiguousarray(scaled)).to(device)

    def back(changed: Any) -> npt.NDArray[Any]:
        values = changed.cpu().numpy() * (high - low) + low
        values = values[:, 0] if raw.ndim == 3 else (np.moveaxis(values, 1, -1) if last else values)
        return np.asarray((np.rint(values) if raw.dtype.kind in "iub" else values).astype(raw.dtype))

    return batch, back
