"""The accountants of opacus and dp-accounting, each behind one function from numbers to a number."""

from __future__ import annotations

import importlib.util
import warnings

import numpy as np
import numpy.typing as npt

# This module's job is to drive the accountants of these two libraries.
from opacus.accountants import PRVAccountant, RDPAccountant  # noqa: TID253

FloatArray = npt.NDArray[np.float64]


def prv_epsilon(noise_multiplier: float, sample_rate: float, steps: int, delta: float) -> float:
    """Upper bound on epsilon by numerical composition of privacy loss variables; about 0.01 above the truth.

    Source: Gopi, Lee and Wutschitz (2021), Numerical composition of differential privacy.
    """
    accountant = PRVAccountant()
    accountant.history = [(noise_multiplier, sample_rate, steps)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return float(accountant.get_epsilon(delta))


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
        coarse: Round privacy losses up to multiples of 1e-3 instead of 1e-4: ten times faster, and at
            most a few 1e-3 too large.

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
