"""The accountants of opacus and dp-accounting, each behind one function from numbers to a number."""

from __future__ import annotations

import importlib.util
import math
import warnings

import numpy as np
import numpy.typing as npt

# This module's job is to drive the accountants of these two libraries.
from opacus.accountants import PRVAccountant, RDPAccountant  # noqa: TID253

FloatArray = npt.NDArray[np.float64]

# The defaults of the library, and the largest grid of losses: about 170 bytes and 2 microseconds a point.
_PRV_ERROR, _PRV_DELTA_SHARE, _PRV_POINTS = 0.01, 1e-3, 2e7


def prv_epsilon(noise_multiplier: float, sample_rate: float, steps: int, delta: float) -> float:
    """Upper bound on epsilon by numerical composition of privacy loss variables; about 0.01 above the truth.

    Raises:
        OverflowError: The grid of privacy losses would take gigabytes (epsilon in the hundreds, or millions of steps).

    Source: Gopi, Lee and Wutschitz (2021), Numerical composition of differential privacy.
    """
    points = prv_points(noise_multiplier, sample_rate, steps, delta)
    if not points <= _PRV_POINTS:
        raise OverflowError(f"its grid of privacy losses would have {points:.2g} points")
    accountant = PRVAccountant()
    accountant.history = [(noise_multiplier, sample_rate, steps)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return float(accountant.get_epsilon(delta))


def prv_points(noise_multiplier: float, sample_rate: float, steps: int, delta: float) -> float:
    """Size of the grid that :func:`prv_epsilon` works on.

    Source: Gopi, Lee and Wutschitz (2021), remark 5.6, with the reach of the grid by Renyi moments.
    """
    slack = delta * _PRV_DELTA_SHARE
    width = _PRV_ERROR / math.sqrt(steps * math.log(12.0 / slack) / 2.0)
    whole = rdp_epsilon(noise_multiplier, sample_rate, steps, slack / 4.0)
    single = rdp_epsilon(noise_multiplier, sample_rate, 1, slack / (8.0 * steps))
    return 2.0 * (max(whole, single) + 3.0) / width


def rdp_epsilon(noise_multiplier: float, sample_rate: float, steps: int, delta: float) -> float:
    """Upper bound on epsilon by Rényi moments: valid but loose (8 to 25 % too large, more at small epsilon).

    Source: Mironov, Talwar and Zhang (2019), Rényi differential privacy of the sampled Gaussian mechanism.
    """
    accountant = RDPAccountant()
    accountant.history = [(noise_multiplier, sample_rate, steps)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return float(accountant.get_epsilon(delta))


def pld_available() -> bool:
    """Whether dp-accounting is installed."""
    return importlib.util.find_spec("dp_accounting") is not None


def pld_epsilon(noise_multiplier: float, sample_rate: float, steps: int, delta: float, coarse: bool = False) -> float:
    """Upper bound on epsilon by Google's privacy loss distributions, for adding or removing one row.

    Args:
        noise_multiplier: Standard deviation of the noise over the clipping norm.
        sample_rate: Chance of each row to be in a batch (Poisson sampling).
        steps: Number of batches.
        delta: The delta of the guarantee.
        coarse: Round privacy losses up to multiples of 1e-3 instead of 1e-4: ten times faster, and a few 1e-3 too
            large for 10,000 steps (0.1 for 100,000).

    Source: Doroshenko, Ghazi, Kamath, Kumar and Manurangsi (2022), Connect the dots.
    """
    import dp_accounting
    from dp_accounting.pld import PLDAccountant

    accountant = PLDAccountant(
        neighboring_relation=dp_accounting.NeighboringRelation.ADD_OR_REMOVE_ONE,
        value_discretization_interval=1e-3 if coarse else 1e-4,
    )
    event = dp_accounting.PoissonSampledDpEvent(sample_rate, dp_accounting.GaussianDpEvent(noise_multiplier))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        accountant.compose(event, steps)
        return float(accountant.get_epsilon(delta))


def pld_deltas(noise_multiplier: float, sample_rate: float, steps: int, epsilons: FloatArray) -> FloatArray:
    """Upper bounds of delta ``(k,)`` at ``epsilons (k,)``, for adding or removing one row, by the PLD of Google.

    Source: as :func:`pld_epsilon`.
    """
    from dp_accounting.pld import privacy_loss_distribution

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        step = privacy_loss_distribution.from_gaussian_mechanism(
            standard_deviation=noise_multiplier,
            sampling_prob=sample_rate,
            value_discretization_interval=1e-3,
        )
        deltas = step.self_compose(steps).get_delta_for_epsilon(epsilons)
    return np.clip(np.asarray(deltas, dtype=np.float64), 0.0, 1.0)
