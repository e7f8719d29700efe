"""What can be told about a model's answers and gradients before any attack: are they what an attack needs?"""

from __future__ import annotations

import math

import torch  # noqa: TID253 - this module drives torch

from auditkit.methods.robustness.checks import Check
from auditkit.methods.robustness.oracle import Oracle, input_gradient, margin
from auditkit.methods.robustness.threat import Batch, draw

Tensor = torch.Tensor

# Rounding and kinks leave an honest network's gradient this far from finite differences at most.
SLOPE_LIMIT = 0.1
# Half of the rows lead by an amount in this range in any network that was trained and not rescaled afterwards.
SMALLEST_LEAD, LARGEST_LEAD = 1e-3, 1e3
# Steps of the finite differences, as shares of the range of a feature; half precision needs a larger one.
FINE_STEP, COARSE_STEP = 2e-3, 3e-2
_HALVES = (torch.float16, torch.bfloat16)


def answer_checks(oracle: Oracle, x: Tensor, y: Tensor, decisions: Tensor | None = None) -> list[Check]:
    """Whether the answers are the same twice, the same in any batch, the user's, and logits of an ordinary size.

    Args:
        oracle: The model.
        x: ``(n, *features)`` clean rows.
        y: ``(n,)`` labels.
        decisions: ``(n,)`` what the user's own model decides on these rows, where it is known.
    """
    if len(x) == 0:
        return []
    with torch.no_grad():
        first, second = oracle.logits(x), oracle.logits(x)
        cut = (len(x) + 1) // 2
        apart = torch.cat([oracle.logits(part) for part in (x[:cut], x[cut:]) if len(part)])
    size = max(float(first.abs().max()), 1e-30)
    slack = 5e-2 if oracle.dtype in _HALVES else 1e-3
    likely = bool((first >= 0).all()) and float((first.sum(dim=1) - 1.0).abs().max()) < 1e-3
    lead = float(margin(first, y, y).abs().median())
    usual = SMALLEST_LEAD <= lead <= LARGEST_LEAD
    found = [
        limited(
            "deterministic model",
            float((first - second).abs().max()) / size,
            1e-4,
            "the model answers differently each time, so that a fooled row may be luck",
        ),
        limited(
            "answers do not depend on the batch",
            float((first - apart).abs().max()) / size,
            slack,
            "a row is decided by the rows beside it, as by batch norm outside eval mode",
        ),
        limited("outputs are logits", float(likely), 0.0, "probabilities flatten the gradients of confident rows"),
        Check(
            name="logits are of a usual size",
            passed=usual,
            observed=lead,
            limit=LARGEST_LEAD if lead > 1 else SMALLEST_LEAD,
            meaning="logits scaled up or down hide their gradients from the cross-entropy",
        ),
    ]
    if decisions is not None:
        found.append(
            limited(
                "clean decisions are the user's",
                float((first.argmax(dim=1) != decisions).double().mean()),
                0.0,
                "the model under attack decides clean rows otherwise than the audited one",
            )
        )
    return found


def slope_check(oracle: Oracle, batch: Batch, seed: int, directions: int = 6) -> Check | None:
    """How far the gradient is from finite differences of the margin, over rows and random directions.

    With ``t`` what the gradient foretells of a small step and ``s`` what the model then does, each row on its own
    scale, the distance is ``1 - 2 t.s / (t.t + s.s)``: 0 where they are equal, 1 where they have nothing to do with one
    another, 2 where they are opposite.

    Source: Athalye, Carlini and Wagner (2018), section 3.1, on gradients that are wrong or shattered.
    """
    if len(batch.rows) == 0:
        return None
    half = oracle.dtype in _HALVES or batch.dtype in _HALVES
    span = float((batch.upper - batch.lower).flatten(1).amax(dim=1).median())
    step = (COARSE_STEP if half else FINE_STEP) * (span if math.isfinite(span) and span > 0 else 1.0)
    here = batch.points(torch.zeros_like(batch.x)).detach().requires_grad_(True)
    with torch.enable_grad():
        value = margin(oracle.logits(here), batch.y, batch.y)
        gradient = input_gradient(value, here).double() * batch.scale.double()
    told, seen = [], []
    for direction in range(directions):
        sign = draw(batch.rows, batch.x.shape[1:], (seed, 91, direction), normal=False).sign().to(batch.x)
        ends = [batch.within_bounds(side * step * sign) for side in (1.0, -1.0)]
        up, down = (oracle.margins(batch.points(end), batch.y)[1] for end in ends)
        seen.append(up - down)
        told.append((gradient * (ends[0] - ends[1]).double()).flatten(1).sum(dim=1))
    foretold, true = torch.stack(told), torch.stack(seen)
    # A few steep rows must not decide for all.
    size = torch.maximum(foretold.abs().amax(dim=0), true.abs().amax(dim=0)).clamp_min(1e-300)
    foretold, true = foretold / size, true / size
    total = float((foretold**2).sum() + (true**2).sum())
    agreement = 2.0 * float((foretold * true).sum()) / total if total > 0 and math.isfinite(total) else 0.0
    return limited(
        "gradients agree with finite differences",
        1.0 - agreement,
        SLOPE_LIMIT,
        "the gradients are not those of the model, so that following them leads nowhere",
    )


def limited(name: str, observed: float, limit: float, meaning: str) -> Check:
    """A check that passes up to ``limit``."""
    return Check(name=name, passed=observed <= limit, observed=observed, limit=limit, meaning=meaning)
