"""Occlusion: how the output changes where a window of the input is replaced. No gradients, hence any module."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch  # noqa: TID253 - this module runs torch modules

from auditkit.core.attribution import Attribution
from auditkit.core.errors import UsageError
from auditkit.core.subject import FloatArray
from auditkit.methods.explain.differentiable import (
    Differentiated,
    all_outputs,
    attribution_of,
    target_outputs,
    untouched,
)
from auditkit.methods.explain.least import need_rows

_NUMBERS_A_PASS = 2**17  # of the altered inputs; larger batches leave the cache of a core and are slower


def occlusion(
    subject: Differentiated,
    inputs: torch.Tensor,
    baseline: torch.Tensor,
    *,
    window: tuple[int, ...],
    stride: tuple[int, ...],
    numbers_a_pass: int = _NUMBERS_A_PASS,
) -> Attribution:
    """Change of each row's target output where a window takes the values of ``baseline``, averaged over the windows.

    All windows of as many rows as fit go through the model as one batch.

    Args:
        subject: What is explained; its gradients are not used.
        inputs: ``(n, *shape)``.
        baseline: ``(1, *shape)`` or ``(n, *shape)``.
        window: Size of the window along each axis of ``shape``; a window over the edge is cut off there.
        stride: Steps between windows, at most the window's size, so that nothing is left out.
        numbers_a_pass: Size of a batch, in input values.

    Returns:
        ``values (n, *shape, 1)``: the mean of output minus output without, over the windows that hold the value;
        ``unverified``.

    Raises:
        UsageError: AK483 windows or strides that do not fit.

    Source: Zeiler and Fergus (2014), section 4.2.
    """
    shape = tuple(inputs.shape[1:])
    fits = len(window) == len(stride) == len(shape)
    if not fits or any(not 1 <= step <= size for size, step in zip(window, stride, strict=True)):
        raise UsageError(
            "AK483",
            f"a window {window} moved by {stride} does not cover inputs of shape {shape}",
            fix="give one size and one stride an axis, the stride at least 1 and at most the size",
        )
    inside = occlusion_windows(shape, window, stride)
    covered = torch.from_numpy(inside).to(inputs.device)
    baseline = baseline.expand(inputs.shape)

    def alter(rows: torch.Tensor, start: torch.Tensor) -> torch.Tensor:
        return torch.where(covered, start[:, None].to(rows.dtype), rows[:, None]).reshape(-1, *shape)

    prediction, drops = _drops(subject, inputs, baseline, alter, len(inside), numbers_a_pass)
    flat = inside.reshape(len(inside), -1).astype(np.float64)
    values = (drops @ flat / flat.sum(axis=0)).reshape(len(inputs), *shape)
    return _occluded(subject, "occlusion", values, prediction, drops)


def token_occlusion(
    subject: Differentiated, ids: torch.Tensor, replacement: int, *, numbers_a_pass: int = 2**15
) -> Attribution:
    """Change of each row's target output where one token is replaced by ``replacement`` (mask, unknown, padding).

    Args:
        subject: What is explained.
        ids: ``(n, t)`` token ids.
        replacement: The id that stands for "no information".
        numbers_a_pass: Size of a batch, in tokens.

    Returns:
        ``values (n, t, 1)``, ``unverified``.

    Source: Li, Monroe and Jurafsky (2016), section 3.
    """

    def alter(rows: torch.Tensor, _start: torch.Tensor) -> torch.Tensor:
        copies = rows[:, None].repeat(1, rows.shape[1], 1)
        place = torch.arange(rows.shape[1], device=rows.device)
        copies[:, place, place] = replacement
        return copies.reshape(-1, rows.shape[1])

    prediction, drops = _drops(subject, ids, ids, alter, ids.shape[1], numbers_a_pass)
    return _occluded(subject, "token_occlusion", drops, prediction, drops)


def _drops(
    subject: Differentiated,
    inputs: torch.Tensor,
    baseline: torch.Tensor,
    alter: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    count: int,
    numbers_a_pass: int,
) -> tuple[FloatArray, FloatArray]:
    """Outputs ``(n,)`` and what each of ``count`` alterations takes away ``(n, count)``."""
    need_rows(len(inputs))
    rows_a_pass = max(1, numbers_a_pass // max(1, count * inputs[0].numel()))
    copies_a_pass = max(1, numbers_a_pass // max(1, inputs[0].numel()))
    drops = np.empty((len(inputs), count))
    with untouched(subject.module):
        prediction = all_outputs(subject, inputs, copies_a_pass)
        for start in range(0, len(inputs), rows_a_pass):
            rows = slice(start, start + rows_a_pass)
            altered = alter(inputs[rows], baseline[rows])
            targets = np.repeat(subject.targets[rows], count)
            outputs = np.concatenate(
                [
                    target_outputs(subject, altered[at : at + copies_a_pass], targets[at : at + copies_a_pass])
                    for at in range(0, len(altered), copies_a_pass)
                ]
            )
            drops[rows] = prediction[rows, None] - outputs.reshape(-1, count)
    return prediction, drops


def _occluded(
    subject: Differentiated, method: str, values: FloatArray, prediction: FloatArray, drops: FloatArray
) -> Attribution:
    return attribution_of(
        subject,
        method,
        values,
        prediction,
        status="unverified",
        reason="effects of leaving parts out one at a time need not add up to the output",
        n_evals=int(drops.size) + len(prediction),
    )


def occlusion_windows(
    shape: tuple[int, ...], window: tuple[int, ...], stride: tuple[int, ...]
) -> np.typing.NDArray[np.bool_]:
    """``(windows, *shape)`` what each covers: whole strides, and at the edge, where they do not fit, a cut one."""
    axes = []
    for extent, size, step in zip(shape, window, stride, strict=True):
        start = np.arange(1 + max(0, -(-(extent - size) // step)))[:, None] * step
        place = np.arange(extent)[None, :]
        axes.append((place >= start) & (place < start + size))
    found = axes[0]
    for axis in axes[1:]:  # windows and places of one axis more
        found = (found[:, None, ..., None] & axis.reshape(1, len(axis), *[1] * (found.ndim - 1), -1)).reshape(
            -1, *found.shape[1:], axis.shape[1]
        )
    return found
