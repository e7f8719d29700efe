"""Gradients through captum (saliency, input x gradient, SmoothGrad), and integrated gradients.

The path integral is our own: captum computes the quadrature nodes anew for every batch, which costs more than a small
model; its values are the reference in the tests.
"""

from __future__ import annotations

import dataclasses
from functools import cache
from typing import Literal

import numpy as np
import torch  # noqa: TID253 - this module drives torch through captum

from auditkit.core.attribution import Attribution
from auditkit.core.errors import UsageError
from auditkit.core.subject import FloatArray, IntArray
from auditkit.methods.explain.differentiable import (
    Differentiated,
    Forward,
    all_outputs,
    attribution_of,
    baseline_outputs,
    batches,
    completeness,
    completeness_limits,
    leaf,
    not_differentiable,
    summing,
    target_outputs,
    to_numpy,
    untouched,
)
from auditkit.methods.explain.least import need_rows
from auditkit.stats.intervals import student_reach

GradientMethod = Literal["saliency", "input_x_gradient"]
_FEWEST_STEPS = 16
_PIECE_STEPS = 4
_PIECE_SHARE = 1 / 64  # of what a row may miss, whatever the length of the piece: around a kink both shrink alike
_HALVINGS = 16
# Most points of a row's halved path: so many for each of the most steps, of this many steps where those are fewer.
_BUDGET, _BUDGET_STEPS = 64, 128
# A row that may take more points than this is given up once so many rounds in a row leave more than this share of what
# was missed. A few jumps and a few steep slopes cost less, and only small pieces tell them apart.
_PATIENCE, _SLOW_ROUNDS, _NEARER = 4096, 2, 0.9
_ROWS = 64  # halved at a time


def gradient_attribution(
    subject: Differentiated,
    inputs: torch.Tensor,
    method: GradientMethod,
    *,
    batch_size: int = 256,
) -> Attribution:
    """Saliency (signed gradient) or input x gradient of each row's target output.

    Args:
        subject: What is differentiated.
        inputs: ``(n, ...)`` float tensor, or token ids ``(n, t)`` where ``subject.embedding`` is set; for ids the
            gradients at the embedding are summed over its width (input x gradient) or their norm is taken (saliency).
        method: ``saliency`` or ``input_x_gradient``.
        batch_size: Rows a pass.

    Returns:
        ``values (n, *features, 1)``; status ``unverified``: neither method has a sum to check.

    Raises:
        NotApplicable: AK510 when the outputs do not depend differentiably on the inputs.

    Source: Simonyan, Vedaldi and Zisserman (2014); Shrikumar, Greenside and Kundaje (2017).
    """
    if method not in ("saliency", "input_x_gradient"):
        raise UsageError("AK511", f"no gradient method {method!r}", fix="use saliency or input_x_gradient")
    with untouched(subject.module):
        parts, outputs = [], []
        for rows in batches(len(inputs), batch_size):
            parts.append(_gradients(subject, inputs[rows], subject.targets[rows], method))
            outputs.append(target_outputs(subject, inputs[rows], subject.targets[rows]))
    return attribution_of(
        subject,
        method,
        np.concatenate(parts),
        np.concatenate(outputs),
        status="unverified",
        reason="gradients have no sum that could be compared with the model's output",
        n_evals=len(inputs),
    )


def integrated_gradients(
    subject: Differentiated,
    inputs: torch.Tensor,
    baseline: torch.Tensor,
    *,
    tolerance: float = 0.01,
    max_steps: int = 512,
    batch_size: int = 1024,
) -> Attribution:
    """Integrated gradients from ``baseline``; steps double until they add up to the change of the output.

    Args:
        subject: What is differentiated.
        inputs: ``(n, ...)`` float tensor, or token ids ``(n, t)`` where ``subject.embedding`` is set (values are
            then summed over the embedding's width, one a token).
        baseline: ``(1, ...)`` or ``(n, ...)`` of the inputs' kind.
        tolerance: Largest completeness gap accepted, as a share of the change; see :func:`completeness_limits`.
        max_steps: Most steps of the path (Gauss-Legendre); doubling starts at 16. Where that is not enough, paths of
            real-valued inputs are halved around their kinks, with at most 64 points a row for each of ``max_steps``
            (of 128 where those are fewer). Where two rounds of halving in a row leave nine tenths or more of what was
            missed, as where the gradients are not the derivative (straight-through rounding), a row that would need
            more than 4096 points is left as it is.
        batch_size: Most rows x steps a pass.

    Returns:
        ``values (n, *features, 1)``, ``base_values`` the output at the baseline, the diagnostics of
        :func:`completeness` and ``steps``; status ``exact``, ``estimated`` or ``failed``.

    Raises:
        NotApplicable: AK510 when the outputs do not depend differentiably on the inputs.

    Source: Sundararajan, Taly and Yan (2017), sections 3 and 5.
    """
    baseline = baseline.expand(inputs.shape) if baseline.shape != inputs.shape else baseline
    steps = min(_FEWEST_STEPS, max_steps)
    with untouched(subject.module):
        prediction = all_outputs(subject, inputs, batch_size)
        base = baseline_outputs(subject, inputs, baseline, batch_size)
        change = prediction - base
        limits = completeness_limits(prediction, base, tolerance)
        values = _integrate(subject, inputs, baseline, steps, batch_size)
        evaluations = len(inputs) * steps
        gap = np.abs(values.reshape(len(values), -1).sum(axis=1) - change)
        while steps < max_steps:  # only the rows that miss their change are integrated again
            rough = np.flatnonzero(gap > limits + summing(values)).astype(np.int64)
            if len(rough) == 0:
                break
            steps = min(2 * steps, max_steps)
            few = dataclasses.replace(subject, targets=subject.targets[rough])
            place = torch.from_numpy(rough).to(inputs.device)
            values[rough] = _integrate(few, inputs[place], baseline[place], steps, batch_size)
            evaluations += len(rough) * steps
            gap[rough] = np.abs(values[rough].reshape(len(rough), -1).sum(axis=1) - change[rough])
        rough = np.flatnonzero(gap > limits + summing(values)).astype(np.int64)
        if len(rough) and subject.embedding is None:
            few = dataclasses.replace(subject, targets=subject.targets[rough])
            place = torch.from_numpy(rough).to(inputs.device)
            enough = limits[rough] + summing(values[rough])
            found = _bisected(few, inputs[place], baseline[place], enough, max_steps, batch_size)
            values[rough], most, points = found
            steps, evaluations = max(steps, most), evaluations + points
            gap[rough] = np.abs(values[rough].reshape(len(rough), -1).sum(axis=1) - change[rough])
    status, reason, diagnostics = completeness(values, gap, limits, prediction)
    attribution = attribution_of(
        subject, "integrated_gradients", values, prediction, status=status, reason=reason, n_evals=evaluations
    )
    diagnostics = {**diagnostics, "steps": float(steps)}
    return dataclasses.replace(attribution, base_values=base[:, None], diagnostics=diagnostics)


def smooth_grad(
    subject: Differentiated,
    inputs: torch.Tensor,
    generator: torch.Generator,
    *,
    noise: float = 0.15,
    draws: int = 16,
    batch_size: int = 256,
) -> Attribution:
    """SmoothGrad: the mean signed gradient over noisy copies of each row.

    Args:
        subject: What is differentiated; not for token ids, which take no noise.
        inputs: ``(n, ...)`` float tensor.
        generator: CPU generator of the noise.
        noise: Standard deviation of the noise as a share of the range of each row's values.
        draws: Noisy copies a row, at least 2.
        batch_size: Copies a pass.

    Returns:
        ``values (n, *features, 1)`` with ``std_error`` over the copies, of which 1.96 reach as far as Student's
        interval; ``unverified``: gradients have no sum to check.

    Raises:
        UsageError: AK511 for token ids, or fewer than two draws.
        NotApplicable: AK510.

    Source: Smilkov, Thorat, Kim, Viegas and Wattenberg (2017), section 3.
    """
    if subject.embedding is not None or draws < 2:
        raise UsageError(
            "AK511", "SmoothGrad needs real-valued inputs and two draws or more", fix="use saliency for token ids"
        )
    need_rows(len(inputs))
    flat = inputs.reshape(len(inputs), -1)
    spread = noise * (flat.amax(dim=1) - flat.amin(dim=1)).reshape(-1, *[1] * (inputs.ndim - 1))
    rows_a_pass = max(1, batch_size // draws)
    means, errors, outputs = [], [], []
    wider = student_reach(draws - 1)
    with untouched(subject.module):
        for rows in batches(len(inputs), rows_a_pass):
            some = inputs[rows]
            drawn = torch.randn((len(some), draws, *some.shape[1:]), generator=generator, dtype=torch.float64)
            noisy = some[:, None] + spread[rows][:, None] * drawn.to(some.device, some.dtype)
            targets = np.repeat(subject.targets[rows], draws)
            gradients = _gradients(subject, noisy.reshape(-1, *some.shape[1:]), targets, "saliency")
            gradients = gradients.reshape(len(some), draws, *some.shape[1:])
            means.append(gradients.mean(axis=1))
            errors.append(wider * gradients.std(axis=1, ddof=1) / np.sqrt(draws))
            outputs.append(target_outputs(subject, some, subject.targets[rows]))
    attribution = attribution_of(
        subject,
        "smooth_grad",
        np.concatenate(means),
        np.concatenate(outputs),
        status="unverified",
        reason="gradients have no sum that could be compared with the model's output",
        n_evals=len(inputs) * draws,
    )
    params = {"noise": noise, "draws": draws}
    return dataclasses.replace(attribution, std_error=np.concatenate(errors)[..., None], params=params)


def _gradients(subject: Differentiated, inputs: torch.Tensor, targets: IntArray, method: GradientMethod) -> FloatArray:
    from captum.attr import InputXGradient, LayerGradientXActivation, Saliency

    target = torch.as_tensor(targets, device=inputs.device)
    try:
        if subject.embedding is None:
            if method == "saliency":
                values = Saliency(subject.forward).attribute(leaf(inputs), target=target, abs=False)
            else:
                values = InputXGradient(subject.forward).attribute(leaf(inputs), target=target)
        else:
            layer = LayerGradientXActivation(
                subject.forward, subject.embedding, multiply_by_inputs=method == "input_x_gradient"
            )
            values = layer.attribute(inputs, target=target)
            values = values.norm(dim=-1) if method == "saliency" else values.sum(dim=-1)
    except (RuntimeError, AssertionError, TypeError, ValueError) as error:
        raise not_differentiable(error) from error
    return to_numpy(values)


def _integrate(
    subject: Differentiated, inputs: torch.Tensor, baseline: torch.Tensor, steps: int, batch_size: int
) -> FloatArray:
    """Path integrals by Gauss-Legendre, values ``(n, *features)``; of tokens, summed over the embedding's width."""
    parts = []
    for rows in batches(len(inputs), max(1, batch_size // steps)):
        some, start = inputs[rows], baseline[rows]
        targets = torch.as_tensor(subject.targets[rows], device=inputs.device)
        try:
            if subject.embedding is None:
                values = path_integral(subject.forward, some, start, targets, steps)
            else:
                values = _embedded_path(subject, subject.embedding, some, start, targets, steps).sum(dim=-1)
        except (RuntimeError, AssertionError, TypeError, ValueError) as error:
            raise not_differentiable(error) from error
        parts.append(to_numpy(values))
    return np.concatenate(parts)


def _bisected(
    subject: Differentiated,
    inputs: torch.Tensor,
    start: torch.Tensor,
    limits: FloatArray,
    max_steps: int,
    batch_size: int,
) -> tuple[FloatArray, int, int]:
    """Path integrals ``(n, *features)`` whose pieces are halved until each adds up to the change along it.

    The sum of a piece is known from the outputs at its ends, so that only pieces around kinks and jumps are halved. A
    row is left as it is before a round that would take it beyond its budget of points, or once halving no longer brings
    its sum nearer: gradients are not the derivative there.
    Returned too: points of the row that took most, and of all.
    """
    parts, most, points = [], 0, 0
    for rows in batches(len(inputs), _ROWS):
        few = dataclasses.replace(subject, targets=subject.targets[rows])
        values, taken = _halved(few, inputs[rows], start[rows], limits[rows], max_steps, batch_size)
        parts.append(values)
        most, points = max(most, int(taken.max())), points + int(taken.sum())
    return np.concatenate(parts), most, points


def _halved(
    subject: Differentiated,
    inputs: torch.Tensor,
    start: torch.Tensor,
    limits: FloatArray,
    max_steps: int,
    batch_size: int,
) -> tuple[FloatArray, IntArray]:
    """The same of a batch of rows, and the points that each took."""
    n, budget = len(inputs), _BUDGET * max(max_steps, _BUDGET_STEPS)
    row, low, high = np.arange(n), np.zeros(n), np.ones(n)
    values, points = np.zeros(tuple(inputs.shape)), np.zeros(n, dtype=np.int64)
    before, slow = np.full(n, np.inf), np.zeros(n, dtype=np.int64)
    for halving in range(_HALVINGS + 1):
        missed, open_pieces, rest = np.zeros(len(row)), np.zeros(len(row), dtype=bool), np.zeros_like(values)
        for some in batches(len(row), max(1, batch_size // _PIECE_STEPS)):
            found, missed[some] = _pieces(subject, inputs, start, row[some], low[some], high[some], batch_size)
            enough = limits[row[some]] * np.maximum((high[some] - low[some]) / 2.0, _PIECE_SHARE)
            rough = ~(missed[some] <= enough)
            open_pieces[some] = rough
            np.add.at(values, row[some][~rough], found[~rough])
            np.add.at(rest, row[some][rough], found[rough])  # counts only where a row is halved no further
        np.add.at(points, row, _PIECE_STEPS)
        total = np.bincount(row, weights=missed, minlength=n)
        slow = np.where(total < _NEARER * before, 0, slow + 1)
        row, low, high, missed = row[open_pieces], low[open_pieces], high[open_pieces], missed[open_pieces]
        before = np.bincount(row, weights=missed, minlength=n)  # what the pieces halved next miss as a whole
        ahead = 2 * _PIECE_STEPS * np.bincount(row, minlength=n)
        stopped = (points + ahead > np.where(slow < _SLOW_ROUNDS, budget, _PATIENCE)) | (halving == _HALVINGS)
        values[stopped] += rest[stopped]
        go_on = ~stopped[row]
        row, low, high = row[go_on], low[go_on], high[go_on]
        if len(row) == 0:
            break
        middle = (low + high) / 2.0
        row, low, high = np.tile(row, 2), np.concatenate([low, middle]), np.concatenate([middle, high])
    return values, points


def _pieces(
    subject: Differentiated,
    inputs: torch.Tensor,
    start: torch.Tensor,
    row: IntArray,
    low: FloatArray,
    high: FloatArray,
    batch_size: int,
) -> tuple[FloatArray, FloatArray]:
    """Integrals along the pieces ``low`` to ``high`` of the rows' paths, and by how much each misses its change."""
    place = torch.from_numpy(row).to(inputs.device)
    origin = start[place]
    change = inputs[place] - origin
    begins, ends = (
        origin + torch.from_numpy(at).to(inputs).reshape(-1, *[1] * (inputs.ndim - 1)) * change for at in (low, high)
    )
    few = dataclasses.replace(subject, targets=subject.targets[row])
    found = _integrate(few, ends, begins, _PIECE_STEPS, batch_size)
    moved = all_outputs(few, ends, batch_size) - all_outputs(few, begins, batch_size)
    return found, np.abs(found.reshape(len(row), -1).sum(axis=1) - moved)


def path_integral(
    forward: Forward, inputs: torch.Tensor, start: torch.Tensor, targets: torch.Tensor, steps: int
) -> torch.Tensor:
    """``(input - start)`` times the mean gradient along the straight line between them: all points in one pass.

    Args:
        forward: Runs the module; outputs ``(m, k)``.
        inputs: ``(n, ...)`` ends of the lines.
        start: ``(n, ...)`` or ``(1, ...)`` where they start.
        targets: ``(n,)`` output explained.
        steps: Gauss-Legendre points a line.

    Returns:
        ``(n, ...)``.
    """
    nodes, weights = _gauss_legendre(steps)
    ones = [1] * (inputs.ndim - 1)
    change = inputs - start
    along = torch.as_tensor(nodes, device=inputs.device).to(inputs.dtype).reshape(-1, 1, *ones)
    points = (start + along * change).reshape(-1, *inputs.shape[1:]).detach().requires_grad_(True)
    outputs = forward(points)
    explained = outputs.gather(1, targets.repeat(steps)[:, None]).sum()
    (gradients,) = torch.autograd.grad(explained, points)
    share = torch.as_tensor(weights, device=inputs.device).to(gradients.dtype)
    mean: torch.Tensor = torch.tensordot(share, gradients.reshape(steps, -1), dims=1).reshape(inputs.shape)
    return change * mean


def _embedded_path(
    subject: Differentiated,
    layer: torch.nn.Module,
    ids: torch.Tensor,
    start: torch.Tensor,
    targets: torch.Tensor,
    steps: int,
) -> torch.Tensor:
    """The same at the output of the embedding; the ids themselves, and any mask made of them, stay those of the row."""
    with torch.no_grad():
        inside, outside = layer(ids), layer(start)

    def forward(points: torch.Tensor) -> torch.Tensor:
        handle = layer.register_forward_hook(lambda _module, _args, _output: points)
        try:
            return subject.forward(ids.repeat(len(points) // len(ids), 1))
        finally:
            handle.remove()

    return path_integral(forward, inside, outside, targets, steps)


@cache
def _gauss_legendre(steps: int) -> tuple[FloatArray, FloatArray]:
    """Nodes and weights on [0, 1]; costly for many steps, hence kept."""
    nodes, weights = np.polynomial.legendre.leggauss(steps)
    return (nodes + 1.0) / 2.0, weights / 2.0
