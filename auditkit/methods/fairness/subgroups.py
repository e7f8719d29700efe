"""Search of the subgroups that fare worst, with an error rate that knows how many were looked at."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]
# z, conditions, rows, hits
_Held = tuple[float, tuple[tuple[str, str], ...], int, float]


@dataclass(frozen=True, slots=True)
class Binned:
    """A feature cut into bins: the name of each bin and the code of each row."""

    name: str
    bins: tuple[str, ...]
    code: IntArray


@dataclass(frozen=True, slots=True)
class Subgroup:
    """One subgroup: its conditions, rows, rate, the rate of the rest, and how sure the gap is.

    ``low`` and ``high`` bound ``rate - rest`` for all subgroups at once; ``p_value`` is adjusted for all of them.
    """

    conditions: tuple[tuple[str, str], ...]
    n: int
    rate: float
    rest: float
    z: float
    p_value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Settings:
    """How far to look: conditions, rows of a subgroup (and of its rest), permutations, confidence, subgroups kept."""

    depth: int = 2
    min_rows: int = 50
    permutations: int = 199
    level: float = 0.95
    top: int = 20


@dataclass(frozen=True, slots=True)
class Search:
    """The subgroups by falling ``|z|``, how many were looked at, and the critical value of ``|z|``."""

    found: tuple[Subgroup, ...]
    looked_at: int
    critical: float


def bin_numbers(name: str, values: FloatArray, bins: int) -> Binned:
    """A numeric feature in about equally full bins; a missing value has a bin of its own.

    >>> bin_numbers("age", np.array([1.0, 2.0, 3.0, 4.0]), 2).bins
    ('at most 2', 'above 2', 'missing')
    """
    missing = np.isnan(values)
    known = values[~missing]
    edges: list[float] = []
    if len(known):
        cuts = np.unique(np.quantile(known, np.arange(1, bins) / bins, method="inverted_cdf"))
        edges = [float(cut) for cut in cuts if cut < known.max()]
    code = np.searchsorted(np.array(edges), values, side="left").astype(np.int64)
    code[missing] = len(edges) + 1
    if edges:
        names = [f"at most {edges[0]:.4g}"]
        names += [f"above {a:.4g}, at most {b:.4g}" for a, b in itertools.pairwise(edges)]
        names.append(f"above {edges[-1]:.4g}")
    else:
        names = ["any"]
    return Binned(name, (*names, "missing"), code)


def search(
    features: Sequence[Binned],
    hits: BoolArray,
    rng: np.random.Generator,
    settings: Settings,
    check: Callable[[], None] = lambda: None,
) -> Search:
    """Conjunctions of bins of different features with enough rows, the worst first.

    Each subgroup is compared with the rest of the rows by a two-proportion z. The outcomes are permuted over the rows
    and the largest ``|z|`` over all subgroups is taken each time: a subgroup's adjusted p-value is the share of
    permutations whose largest is at least its own, so the chance of any false finding is at most ``1 - level``
    when outcomes have nothing to do with the features.

    Args:
        features: The features, each ``(n,)``.
        hits: ``(n,)`` the outcome whose rate is compared.
        rng: Seeded generator.
        settings: How far to look.
        check: Called between sets of features, to stop at a deadline.

    Source: Westfall and Young (1993), single-step max-T; Chung et al. (2019), Slice Finder, for the search.
    """
    n, total = len(hits), float(hits.sum())
    drawn = np.empty((n, settings.permutations + 1), dtype=np.float32)
    drawn[:, 0] = hits
    for column in range(1, settings.permutations + 1):
        drawn[:, column] = rng.permutation(hits)
    largest = np.zeros(settings.permutations + 1)
    held: list[_Held] = []
    looked_at = 0
    for size in range(1, settings.depth + 1) if 0 < total < n else ():
        for chosen in itertools.combinations(features, size):
            check()
            found, extreme = _scores(chosen, drawn, total, settings.min_rows)
            if found:
                looked_at += len(found)
                largest = np.maximum(largest, extreme)
                held = sorted([*held, *found], key=lambda item: (-abs(item[0]), item[1]))[: settings.top]
    if looked_at == 0:
        return Search((), 0, 0.0)
    rank = min(int(np.ceil(settings.level * (settings.permutations + 1))), settings.permutations)
    critical = float(np.sort(largest[1:])[rank - 1])
    return Search(tuple(_subgroup(item, n, total, largest, critical) for item in held), looked_at, critical)


def _scores(
    chosen: Sequence[Binned], drawn: npt.NDArray[np.float32], total: float, min_rows: int
) -> tuple[list[_Held], FloatArray]:
    """Every subgroup of one set of features, and the largest ``|z|`` of each column of ``drawn (n, b)``."""
    from scipy.sparse import csr_array

    n, spread = len(drawn), total / len(drawn) * (1.0 - total / len(drawn))
    shape = tuple(len(feature.bins) for feature in chosen)
    code = np.ravel_multi_index(tuple(feature.code for feature in chosen), shape)
    rows = np.bincount(code, minlength=math.prod(shape))
    kept = np.flatnonzero((rows >= min_rows) & (n - rows >= min_rows))
    if len(kept) == 0:
        return [], np.zeros(drawn.shape[1])
    member = csr_array((np.ones(n, dtype=np.float32), (code, np.arange(n))), shape=(len(rows), n))
    sums = np.asarray(member @ drawn, dtype=np.float64)[kept]
    m = rows[kept].astype(np.float64)[:, None]
    z = (sums / m - (total - sums) / (n - m)) / np.sqrt(spread * (1 / m + 1 / (n - m)))
    found: list[_Held] = []
    for place, cell in enumerate(kept.tolist()):
        at = np.unravel_index(cell, shape)
        names = tuple((feature.name, feature.bins[int(i)]) for feature, i in zip(chosen, at, strict=True))
        found.append((float(z[place, 0]), names, int(rows[cell]), float(sums[place, 0])))
    return found, np.abs(z).max(axis=0)


def _subgroup(
    item: _Held,
    n: int,
    total: float,
    largest: FloatArray,
    critical: float,
) -> Subgroup:
    z, conditions, m, own = item
    rate, rest = own / m, (total - own) / (n - m)
    # Rates of 0 or 1 have no observed variance: half a row is added to each side (Agresti and Caffo 2000).
    a, b = (own + 0.5) / (m + 1.0), (total - own + 0.5) / (n - m + 1.0)
    error = critical * float(np.sqrt(a * (1 - a) / m + b * (1 - b) / (n - m)))
    p_value = float((largest >= abs(z) - 1e-6).mean())  # the data count as one permutation: never 0
    return Subgroup(
        conditions, m, rate, rest, z, p_value, max(rate - rest - error, -1.0), min(rate - rest + error, 1.0)
    )
