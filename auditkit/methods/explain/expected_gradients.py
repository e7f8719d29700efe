"""Expected gradients: integrated gradients averaged over the paths from every background row."""

from __future__ import annotations

import dataclasses

import numpy as np
import torch  # noqa: TID253 - this module drives torch

from auditkit.core.attribution import Attribution
from auditkit.core.errors import NotApplicable, UsageError
from auditkit.core.subject import FloatArray
from auditkit.methods.explain.captum_engine import path_integral
from auditkit.methods.explain.differentiable import (
    Differentiated,
    all_outputs,
    attribution_of,
    completeness,
    completeness_limits,
    not_differentiable,
    summing,
    to_numpy,
    untouched,
)
from auditkit.methods.explain.game import background_use

_FEWEST_STEPS = 4


def expected_gradients(
    subject: Differentiated,
    inputs: torch.Tensor,
    background: torch.Tensor,
    *,
    tolerance: float = 0.01,
    max_steps: int = 128,
    batch_size: int = 1024,
) -> Attribution:
    """Mean over all rows ``b`` of the background of integrated gradients from ``b``: the Aumann-Shapley values.

    The whole background is walked and each path is integrated by Gauss-Legendre, so nothing is sampled: at equal
    gradients the error is a fraction of that of random points on random paths. Steps double, for the rows that need
    it, until the values add up to the change of the output.

    Args:
        subject: What is differentiated; not for token ids.
        inputs: ``(n, ...)`` float tensor.
        background: ``(b, ...)`` of the same kind; every row counts the same.
        tolerance: Largest completeness gap accepted, as a share of the change explained; each row's limit is given by
            :func:`auditkit.methods.explain.differentiable.completeness_limits`.
        max_steps: Most steps of a path; doubling starts at 4.
        batch_size: Most points a pass.

    Returns:
        ``values (n, *features, 1)``; ``base_values`` the mean output over the background; diagnostics
        ``completeness_delta``, ``completeness_limit``, ``steps``; status ``exact`` (gap at rounding), ``estimated`` or
        ``failed``.

    Raises:
        NotApplicable: AK487 for token ids; AK510 when the outputs do not depend differentiably on the inputs.
        UsageError: AK488 a background that is empty or of another shape.

    Source: Erion, Janizek, Sturmfels, Lundberg and Lee (2021), section 2; Sundararajan, Taly and Yan (2017) for a path.
    """
    if subject.embedding is not None or not inputs.is_floating_point():
        raise NotApplicable("AK487", "token ids have no values between them", fix="use integrated gradients")
    if len(background) == 0 or background.shape[1:] != inputs.shape[1:]:
        raise UsageError(
            "AK488",
            f"a background of shape {tuple(background.shape)} does not fit inputs of shape {tuple(inputs.shape)}",
            fix="give one background row or more, each of the shape of an input",
        )
    with untouched(subject.module):
        prediction = all_outputs(subject, inputs, batch_size)
        base = _base(subject, background, batch_size)
        change = prediction - base
        limits = completeness_limits(prediction, base, tolerance)
        values = np.zeros(tuple(inputs.shape))
        rough, steps, evaluations = np.arange(len(inputs)), min(_FEWEST_STEPS, max_steps), 0
        while True:
            some = dataclasses.replace(subject, targets=subject.targets[rough])
            place = torch.from_numpy(rough).to(inputs.device)
            values[rough] = _averaged(some, inputs[place], background, steps, batch_size)
            evaluations += len(rough) * len(background) * steps
            gap = np.abs(values.reshape(len(values), -1).sum(axis=1) - change)
            rough = np.flatnonzero(~(gap <= limits + summing(values)))
            if len(rough) == 0 or steps >= max_steps:
                break
            steps = min(2 * steps, max_steps)
    status, reason, diagnostics = completeness(values, gap, limits, prediction)
    attribution = attribution_of(
        subject, "expected_gradients", values, prediction, status=status, reason=reason, n_evals=evaluations
    )
    return dataclasses.replace(
        attribution,
        base_values=base[:, None],
        params={"background_rows": len(background), "background_use": background_use(len(background), "")},
        masker="background rows (straight paths)",
        diagnostics={**diagnostics, "steps": float(steps)},
    )


def _base(subject: Differentiated, background: torch.Tensor, batch_size: int) -> FloatArray:
    """Mean output over the background at each row's target ``(n,)``."""
    means = {}
    for target in np.unique(subject.targets):
        same = dataclasses.replace(subject, targets=np.full(len(background), target, dtype=np.int64))
        means[int(target)] = float(all_outputs(same, background, batch_size).mean())
    return np.array([means[int(target)] for target in subject.targets])


def _averaged(
    subject: Differentiated, inputs: torch.Tensor, background: torch.Tensor, steps: int, batch_size: int
) -> FloatArray:
    """Path integrals of all pairs of a row and a background row, averaged over the latter: ``(n, *features)``."""
    n, b = len(inputs), len(background)
    total = torch.zeros((n, *inputs.shape[1:]), dtype=torch.float64)
    pairs = max(1, batch_size // steps)
    targets = torch.as_tensor(subject.targets, device=inputs.device)
    for start in range(0, n * b, pairs):
        pair = torch.arange(start, min(start + pairs, n * b), device=inputs.device)
        row = torch.div(pair, b, rounding_mode="floor")
        try:
            found = path_integral(subject.forward, inputs[row], background[pair % b], targets[row], steps)
        except (RuntimeError, AssertionError, TypeError, ValueError) as error:
            raise not_differentiable(error) from error
        total.index_add_(0, row.cpu(), found.detach().to("cpu", torch.float64))
    return to_numpy(total / b)
