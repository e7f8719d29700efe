"""What a training by noisy, clipped gradients spends: epsilon for a noise, and the noise for an epsilon.

A neighbouring data set is one with a single row added or removed. Every batch is drawn by Poisson
sampling: each row is in it independently with the same chance. The number of rows is treated as public.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from decimal import ROUND_CEILING, Decimal

from auditkit.core.errors import AuditkitError, UsageError

ACCOUNTANTS = ("prv", "pld", "rdp")
SMALLEST_TARGET = 0.05
_LARGEST_NOISE = 1e5
_EVALUATIONS = 40
# Beyond so many steps the coarse grid of the second accountant is too loose to confirm the first.
_COARSE_STEPS = 10_000
_Function = Callable[[float], float]
Point = tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class Guarantee:
    """An (epsilon, delta) guarantee with all that it rests on.

    Attributes:
        epsilon: Spent, by ``accountant``.
        second_opinion: Epsilon by the other accountant (PLD), or ``None`` where it is not installed.
        loose: Epsilon by Rényi moments, always an over-estimate; for comparison with older reports.
    """

    epsilon: float
    delta: float
    noise_multiplier: float
    sample_rate: float
    steps: int
    n: int
    accountant: str
    second_opinion: float | None
    loose: float

    def sentence(self) -> str:
        """The guarantee in words: what a neighbour is, how batches are drawn and what is public."""
        return (
            f"(epsilon {rounded_up(self.epsilon)}, delta {rounded_up(self.delta)}) for adding or removing one row, "
            f"with Poisson-sampled batches (rate {self.sample_rate:.4g}, {self.steps} steps, "
            f"noise multiplier {self.noise_multiplier:.4g}); "
            f"the number of rows ({self.n}) is treated as public."
        )


def rounded_up(value: float, digits: int = 3) -> str:
    """``value`` in ``digits`` significant digits, never less than it is: a bound must not shrink in print.

    >>> rounded_up(1.001), rounded_up(8.0), rounded_up(8.1004e-06)
    ('1.01', '8', '8.11e-06')
    """
    if value == 0.0 or not math.isfinite(value):
        return f"{value:g}"
    told = Decimal(repr(float(value)))
    step = Decimal(1).scaleb(told.adjusted() - digits + 1)
    return f"{float(told.quantize(step, rounding=ROUND_CEILING)):.{digits}g}"


def check_delta(delta: float, n: int | None = None) -> None:
    """Refuse a delta that protects nobody.

    Raises:
        UsageError: AK560 when ``delta`` is not in (0, 1), or is 1/n or more: publishing one random row
            in the clear would satisfy such a guarantee.
    """
    if not 0.0 < delta < 1.0:
        raise UsageError("AK560", f"delta must be above 0 and below 1, got {delta:g}", fix="choose delta = 1e-5")
    if n is not None and delta * n >= 1.0:
        raise UsageError(
            "AK560",
            f"delta = {delta:g} is not below 1/n = {1.0 / n:g}",
            why="publishing a random row in the clear would satisfy such a guarantee",
            fix=f"choose delta = {default_delta(n):.2g} or smaller",
        )


def default_delta(n: int) -> float:
    """``min(1e-5, 1 / (10 n))``.

    >>> default_delta(1000), default_delta(100_000)
    (1e-05, 1e-06)
    """
    return min(1e-5, 1.0 / (10.0 * n))


def epsilon(
    noise_multiplier: float, sample_rate: float, steps: int, delta: float, accountant: str = "prv", n: int | None = None
) -> float:
    """Epsilon spent by ``steps`` Poisson-sampled Gaussian steps; ``math.inf`` without noise.

    Args:
        noise_multiplier: Standard deviation of the noise over the clipping norm, 0 or more.
        sample_rate: Chance of each row to be in a batch, in (0, 1].
        steps: Number of batches, a whole number, 0 or more.
        delta: In (0, 1), and below 1/n where ``n`` is given.
        accountant: ``prv`` (default), ``pld`` or ``rdp`` (valid but loose).
        n: Number of rows, to check ``delta``.

    Raises:
        UsageError: AK560 delta, AK561 an accountant that is unknown or unsafe, AK564 other arguments.
        AuditkitError: AK563 when the accountant gives no finite number.
    """
    check_delta(delta, n)
    _check_mechanism(noise_multiplier, sample_rate, steps)
    check_accountant(accountant)
    if steps == 0:
        return 0.0
    if noise_multiplier == 0.0:
        return math.inf
    return _epsilon(float(noise_multiplier), float(sample_rate), int(steps), float(delta), accountant)


def check_accountant(accountant: str) -> None:
    """Refuse accountants that are unknown, or that report less than is spent.

    Raises:
        UsageError: AK561.
    """
    if accountant == "gdp":
        raise UsageError(
            "AK561",
            "the GDP accountant is refused",
            why="it is an approximation from the central limit theorem and reports less epsilon than is spent",
            fix='use accountant = "prv"',
        )
    if accountant not in ACCOUNTANTS:
        raise UsageError(
            "AK561", f"there is no accountant {accountant!r}", fix=f"choose one of {', '.join(ACCOUNTANTS)}"
        )


def guarantee(noise_multiplier: float, *, n: int, batch_size: float, steps: int, delta: float) -> Guarantee:
    """The guarantee of a training, from two accountants that must agree.

    Args:
        noise_multiplier: Above 0.
        n: Number of training rows.
        batch_size: Expected rows in a batch; the sample rate is ``batch_size / n``.
        steps: Number of batches.
        delta: Below 1/n.

    Raises:
        AuditkitError: AK562 when PRV and PLD differ by more than 0.02 + 2 %; AK563 no finite epsilon.
        UsageError: AK560, AK564 arguments, AK565 a batch larger than the data.
    """
    if batch_size > n:
        raise UsageError(
            "AK565",
            f"the batch size {batch_size:g} is larger than the {n} training rows",
            fix="choose a batch size of at most the number of rows",
        )
    rate = batch_size / n
    spent = epsilon(noise_multiplier, rate, steps, delta, "prv", n)
    if not math.isfinite(spent):
        raise AuditkitError("AK563", "without noise no epsilon is finite", fix="choose a noise multiplier above 0")
    second = second_opinion(spent, noise_multiplier, rate, steps, delta)
    return Guarantee(
        epsilon=spent,
        delta=delta,
        noise_multiplier=noise_multiplier,
        sample_rate=rate,
        steps=steps,
        n=n,
        accountant="prv",
        second_opinion=second,
        loose=epsilon(noise_multiplier, rate, steps, delta, "rdp"),
    )


def second_opinion(spent: float, noise_multiplier: float, sample_rate: float, steps: int, delta: float) -> float | None:
    """Epsilon by PLD where dp-accounting is installed, after checking that it agrees with ``spent``.

    Raises:
        AuditkitError: AK562 when the two differ by more than 0.02 + 2 %.
    """
    from auditkit.methods.privacy.accountants import pld_available

    if not pld_available():
        return None
    second = epsilon(noise_multiplier, sample_rate, steps, delta, "pld")
    if abs(spent - second) > 0.02 + 0.02 * max(spent, second):
        raise AuditkitError(
            "AK562",
            f"two accountants disagree on epsilon: {spent:.4g} (PRV) and {second:.4g} (PLD)",
            where=f"noise multiplier {noise_multiplier:g}, sample rate {sample_rate:g}, {steps} steps, delta {delta:g}",
            why="an epsilon that two accountants do not confirm is not reported",
        )
    return second


@functools.lru_cache(maxsize=256)
def noise_multiplier_for(
    target_epsilon: float, *, sample_rate: float, steps: int, delta: float, accountant: str = "prv"
) -> float:
    """The noise multiplier whose epsilon is at most ``target_epsilon``, and at most 0.5 % below it.

    Regula falsi on the logarithms of noise and epsilon, which are close to a straight line; never returns
    a noise whose epsilon, by the accountant, is above the target.

    Raises:
        UsageError: AK560, AK561, AK564 arguments.
        AuditkitError: AK563 a target below what the accountant can resolve, or no solution.
    """
    check_delta(delta)
    check_accountant(accountant)
    _check_mechanism(1.0, sample_rate, steps)
    if not math.isfinite(target_epsilon) or target_epsilon < SMALLEST_TARGET:
        raise AuditkitError(
            "AK563",
            f"epsilon {target_epsilon:g} is below what the accountant can resolve ({SMALLEST_TARGET:g})",
            fix=f"ask for an epsilon of {SMALLEST_TARGET:g} or more",
        )
    if steps == 0:
        raise UsageError("AK564", "there is no step to add noise to", fix="train for at least one step")

    def excess(log_noise: float) -> float:
        spent = epsilon(math.exp(log_noise), sample_rate, steps, delta, accountant)
        return math.log(spent / target_epsilon)

    start = max(0.6, sample_rate * math.sqrt(2.0 * steps * math.log(1.25 / delta)) / target_epsilon)
    if accountant != "rdp" and target_epsilon >= 0.3:
        # Moments are quick and loose by a tenth: a good place to start the slower accountants from.
        start = noise_multiplier_for(
            target_epsilon, sample_rate=sample_rate, steps=steps, delta=delta, accountant="rdp"
        )
    low, high = _bracket(excess, math.log(start), target_epsilon)
    return math.exp(_regula_falsi(excess, low, high))


@functools.lru_cache(maxsize=512)
def _epsilon(noise_multiplier: float, sample_rate: float, steps: int, delta: float, accountant: str) -> float:
    from auditkit.methods.privacy import accountants

    arguments = (noise_multiplier, sample_rate, steps, delta)
    try:
        if accountant == "rdp":
            spent = accountants.rdp_epsilon(*arguments)
        elif accountant == "pld":
            coarse = steps <= _COARSE_STEPS and accountants.rdp_epsilon(*arguments) > 1.0
            spent = accountants.pld_epsilon(*arguments, coarse=coarse)
        else:
            spent = accountants.prv_epsilon(*arguments)
    except (ValueError, RuntimeError, OverflowError, FloatingPointError, IndexError, MemoryError) as error:
        raise _unresolved(accountant, f"{type(error).__name__}: {error}") from error
    if not math.isfinite(spent) or spent < 0.0:
        raise _unresolved(accountant, f"it gave {spent}")
    return spent


def _unresolved(accountant: str, why: str) -> AuditkitError:
    return AuditkitError(
        "AK563",
        f"the {accountant.upper()} accountant gives no epsilon for this noise",
        why=why,
        fix="add noise, take fewer steps, or ask for an epsilon between 0.05 and 100",
    )


def _check_mechanism(noise_multiplier: float, sample_rate: float, steps: int) -> None:
    if not (math.isfinite(noise_multiplier) and noise_multiplier >= 0.0):
        raise UsageError("AK564", f"the noise multiplier must be 0 or more, got {noise_multiplier}")
    if not 0.0 < sample_rate <= 1.0:
        raise UsageError("AK564", f"the sample rate must be above 0 and at most 1, got {sample_rate}")
    if not math.isfinite(steps) or steps != int(steps) or steps < 0:
        raise UsageError("AK564", f"steps must be a whole number, 0 or more, got {steps}")


def _bracket(excess: _Function, start: float, target: float) -> tuple[Point, Point]:
    """Two points ``(log noise, log excess)``: the first spends too much, the second does not."""
    here = (start, excess(start))
    direction = 1.0 if here[1] > 0.0 else -1.0
    stride = 0.02 + 0.9 * abs(here[1])
    for _ in range(_EVALUATIONS):
        there_at = here[0] + direction * stride
        if abs(there_at) > math.log(_LARGEST_NOISE):
            break
        there = (there_at, excess(there_at))
        if (there[1] > 0.0) != (here[1] > 0.0):
            return (here, there) if here[1] > 0.0 else (there, here)
        here, stride = there, max(stride, 0.2) * 1.5
    raise _unresolved("prv", f"no noise multiplier spends epsilon {target:g}")


def _regula_falsi(excess: _Function, low: Point, high: Point, tolerance: float = 0.005) -> float:
    """The Illinois variant, aimed a little inside the target so that it stops early on the safe side."""
    aim = -0.4 * tolerance
    low, high = (low[0], low[1] - aim), (high[0], high[1] - aim)
    if high[1] >= -tolerance - aim:
        return high[0]
    for _ in range(_EVALUATIONS):
        at = high[0] - high[1] * (high[0] - low[0]) / (high[1] - low[1])
        value = excess(at) - aim
        if -tolerance - aim <= value <= -aim:
            return at
        if value > 0.0:
            low, high = (at, value), (high[0], high[1] / 2.0)
        else:
            low, high = (low[0], low[1] / 2.0), (at, value)
    raise _unresolved("prv", "the search for a noise multiplier did not settle")
