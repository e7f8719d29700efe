"""Square attack: random search over windows of the input, by scores alone."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch  # noqa: TID253 - this module drives torch

from auditkit.methods.robustness.auto_pgd import Climbed, check_budget
from auditkit.methods.robustness.oracle import AttackResult, Oracle, batches, clean_score, finished, oracle_of
from auditkit.methods.robustness.threat import Batch, check_inputs, draw, generator_of, make_threat

Tensor = torch.Tensor

# Share of the features that a window covers at first, and the queries after which it halves (of 10,000).
FIRST_SHARE = 0.8
HALVINGS = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)


def square(  # noqa: PLR0913 - an attack's settings are many, and each is named at the call
    model: Callable[[Tensor], Tensor],
    x: Tensor,
    y: Tensor,
    *,
    eps: float,
    norm: Literal["linf", "l2"] = "linf",
    queries: int = 5000,
    restarts: int = 1,
    bounds: tuple[float | Tensor, float | Tensor] = (0.0, 1.0),
    scale: float | Tensor = 1.0,
    mask: Tensor | None = None,
    seed: int = 0,
    batch_size: int = 512,
) -> AttackResult:
    """Random search that changes one window of the input at a time and keeps what raises the margin.

    Every row sees the same windows and signs. A proposal that would leave a row where it is, or that was already
    refused from the very point where the row still stands, is not asked about again: the answer is known. It counts as
    a query, so that the search is the same as one that asks each time, provided that the model is deterministic.

    Args:
        model: ``(n, *features)`` tensor -> ``(n, k)`` logits; no gradient is taken.
        x: Clean inputs inside ``bounds``: ``(n, c, h, w)`` or ``(n, h, w)`` images, or ``(n, f)`` rows, in which
            a window is a run of neighbouring features.
        y: ``(n,)`` int64 labels.
        eps: Radius in units of ``scale``.
        norm: ``linf`` or ``l2``.
        queries: Proposals a row, after a first random point.
        restarts: Independent searches.
        bounds: Smallest and largest value.
        scale: Size of one unit of eps in each feature.
        mask: True where a feature may change.
        seed: Of the windows and signs.
        batch_size: Rows in one forward pass.

    Raises:
        UsageError: as :func:`auditkit.methods.robustness.pgd`; AK513 for ``l1``.

    Source: Andriushchenko et al. (2020), algorithms 1 to 3.

    >>> found = square(lambda z: torch.cat([z, 1 - z], dim=1), torch.tensor([[0.6]]), torch.tensor([0]), eps=0.2)
    >>> found.success.tolist()
    [True]
    """
    check_budget(norm, queries=queries, restarts=restarts, batch_size=batch_size)
    threat = make_threat(x, eps, norm, bounds, scale, mask)
    check_inputs(x, y, threat)
    with oracle_of(model, x) as oracle:
        clean, _ = clean_score(oracle, x, y, batch_size)
        best, standing, worst = x.detach().clone(), ~clean.fooled, clean.margin.clone()
        for restart in range(restarts if eps > 0 else 0):
            for rows in batches(standing, batch_size):
                batch = threat.batch(x, y, rows)
                found = search(oracle, batch, queries, (seed, restart))
                better = found.fooled | (found.margin > worst[rows])
                best[rows[better]] = batch.points(found.unit)[better]
                worst[rows[better]] = found.margin[better]
                standing[rows] &= ~found.fooled
        return finished(oracle, x, y, best, threat, batch_size)


@dataclass(frozen=True, slots=True)
class _Plane:
    """How the features of a row lie: channels, height, width; and the room for windows."""

    channels: int
    height: int
    width: int

    def view(self, values: Tensor) -> Tensor:
        return values.reshape(-1, self.channels, self.height, self.width)

    def window(self, share: float, least: int = 1) -> tuple[int, int]:
        """Height and width of a window that covers ``share`` of the plane, as square as fits."""
        area = share * self.height * self.width
        side = max(round(math.sqrt(area)), least)
        if least > 1 and side % 2 == 0:
            side += 1
        short = min(side, self.height, self.width)
        long = side if short == side else max(round(area / short), least)
        tall = self.height > self.width
        return (min(long, self.height), short) if tall else (short, min(long, self.width))


def _plane(shape: torch.Size) -> _Plane:
    if len(shape) == 3:
        return _Plane(shape[0], shape[1], shape[2])
    if len(shape) == 2:
        return _Plane(1, shape[0], shape[1])
    return _Plane(1, 1, math.prod(shape))


def share_at(query: int) -> float:
    """Share of the features in the window of a query.

    >>> share_at(0), share_at(11), share_at(5000)
    (0.8, 0.4, 0.00625)
    """
    return float(FIRST_SHARE / 2.0 ** sum(query > halving for halving in HALVINGS))


class _Draws:
    """The windows and signs that every row sees, from one generator."""

    def __init__(self, seed: tuple[int, ...], channels: int) -> None:
        self.generator = generator_of((*seed, 7))
        self.channels = channels

    def below(self, bound: int) -> int:
        return int(torch.randint(bound, (1,), generator=self.generator))

    def signs(self) -> tuple[int, ...]:
        return tuple((torch.randint(2, (self.channels,), generator=self.generator) * 2 - 1).tolist())


def search(oracle: Oracle, batch: Batch, queries: int, key: tuple[int, int]) -> Climbed:
    """One search on one batch.

    Args:
        oracle: The model.
        batch: The rows.
        queries: Proposals a row, after the first point.
        key: Seed and number of the restart.
    """
    plane = _plane(batch.x.shape[1:])
    draws = _Draws(key, plane.channels)
    kind, first = (_Corners, _stripes) if batch.threat.norm == "linf" else (_Piles, _tiles)
    end = first(batch, plane, key)
    fooled, margins = oracle.margins(batch.points(end), batch.y)
    active = (~fooled).nonzero()[:, 0]
    here: _Corners | _Piles = kind(batch.keep(active), plane, end[active])
    margin, changed_at = margins[active], torch.zeros_like(active)
    refused_at: dict[tuple[object, ...], int] = {}
    for query in range(queries):
        if len(active) == 0:
            break
        move, make = here.propose(draws, share_at(query))
        rows = (changed_at >= refused_at.get(move, -1)).nonzero()[:, 0]
        refused_at[move] = query + 1
        rows, points, settle = make(rows)
        if len(rows) == 0:
            continue
        hit, gap = oracle.margins(points, here.batch.y[rows])
        better = (gap > margin[rows]) | hit
        if not bool(better.any()):
            continue
        settle(better)
        taken = rows[better]
        margin[taken], changed_at[taken] = gap[better], query + 1
        if bool(hit.any()):
            gone = rows[hit]
            end[active[gone]], margins[active[gone]], fooled[active[gone]] = here.unit[gone], margin[gone], True
            rest = torch.ones_like(active, dtype=torch.bool)
            rest[gone] = False
            here, active, margin, changed_at = here.keep(rest), active[rest], margin[rest], changed_at[rest]
    end[active], margins[active] = here.unit, margin
    return Climbed(end, fooled, margins)


# Positions of rows -> the positions of those that the proposal moves, their inputs, and how to keep what it gained.
_Make = Callable[[Tensor], tuple[Tensor, Tensor, Callable[[Tensor], None]]]
_Move = tuple[tuple[object, ...], _Make]


def _stripes(batch: Batch, plane: _Plane, key: tuple[int, int]) -> Tensor:
    """The first point under ``linf``: a random sign for each channel and column."""
    signs = draw(batch.rows, (plane.channels, 1, plane.width), (*key, 3), normal=False).sign().to(batch.x)
    spread = signs.expand(-1, -1, plane.height, -1).reshape(batch.x.shape)
    return batch.project(batch.threat.eps * spread)


class _Corners:
    """Rows under ``linf``, every feature at one of the two ends of what is feasible for it.

    The inputs at both ends are worked out once, and those at the points where the rows stand are kept, so that a
    proposal costs what its window holds and one copy of the rows that it moves.
    """

    def __init__(self, batch: Batch, plane: _Plane, unit: Tensor) -> None:
        self.batch, self.plane, self.unit, self.points = batch, plane, unit, batch.points(unit)
        eps = batch.threat.eps
        self.high, self.low = (batch.within_bounds(torch.full_like(batch.x, end)) for end in (eps, -eps))
        self.points_high, self.points_low = batch.points(self.high), batch.points(self.low)

    def keep(self, mask: Tensor) -> _Corners:
        """Only the rows marked in ``mask``."""
        kept = copy.copy(self)
        kept.batch = self.batch.keep(mask)
        for name in ("unit", "points", "high", "low", "points_high", "points_low"):
            setattr(kept, name, getattr(self, name)[mask])
        return kept

    def propose(self, draws: _Draws, share: float) -> _Move:
        """Set a window to plus or minus eps, one sign a channel."""
        plane = self.plane
        tall, wide = plane.window(share)
        top, left = draws.below(plane.height - tall + 1), draws.below(plane.width - wide + 1)
        signs = draws.signs()
        window = (slice(None), slice(top, top + tall), slice(left, left + wide))

        def make(rows: Tensor) -> tuple[Tensor, Tensor, Callable[[Tensor], None]]:
            def inside(part: Tensor) -> Tensor:
                return plane.view(part)[:, *window]

            def chosen(high: Tensor, low: Tensor) -> Tensor:
                if len(set(signs)) == 1:
                    return inside(high if signs[0] > 0 else low)
                up = torch.tensor(signs, device=rows.device).reshape(-1, 1, 1) > 0
                return torch.where(up, inside(high), inside(low))

            to = chosen(self.high, self.low)
            moves = (to != inside(self.unit)).flatten(1).any(dim=1)
            rows = rows[moves[rows]]
            points = self.points[rows]
            inside(points)[:] = chosen(self.points_high, self.points_low)[rows]

            def settle(better: Tensor) -> None:
                taken = rows[better]
                self.points[taken] = points[better]
                plane.view(self.unit)[taken, *window] = to[taken]

            return rows, points, settle

        return (tall, wide, top, left, signs), make


def bump(height: int, width: int) -> Tensor:
    """The centred pile of shrinking squares from which an ``l2`` window is made, of norm 1.

    A cell at Chebyshev distance ``d`` from the centre lies in all squares of half width ``d`` and more; the square of
    half width ``k`` weighs ``1 / (k + 1)^2``.

    Source: Andriushchenko et al. (2020), section 3.3, equation 2.
    """
    rows, columns = torch.arange(height) - height // 2, torch.arange(width) - width // 2
    reach = torch.maximum(rows.abs()[:, None], columns.abs()[None, :])
    last = max(height // 2 + 1, width // 2 + 1)
    weights = 1.0 / torch.arange(1, last + 1, dtype=torch.float64) ** 2
    tails = weights.flip(0).cumsum(0).flip(0)
    pile = tails[reach.clamp_max(last - 1)]
    size: Tensor = torch.linalg.vector_norm(pile)
    return pile / size


def two_bumps(height: int, width: int, *, upright: bool) -> Tensor:
    """A bump above and its negative below (or side by side), of norm 1."""
    if not upright:
        return two_bumps(width, height, upright=True).T
    upper = height // 2
    whole = torch.cat([bump(upper, width), -bump(height - upper, width)]) if upper else bump(height, width)
    size: Tensor = torch.linalg.vector_norm(whole)
    return whole / size


def _tiles(batch: Batch, plane: _Plane, key: tuple[int, int]) -> Tensor:
    """The first point under ``l2``: five by five tiles of two bumps, random signs, of norm eps before the bounds."""
    tall, wide = max(plane.height // 5, 1), max(plane.width // 5, 1)
    across, down = plane.width // wide, plane.height // tall
    signs = draw(batch.rows, (plane.channels, down, across), (*key, 3), normal=False).sign()
    turned = draw(torch.zeros(1, dtype=torch.int64), (down, across), (*key, 4), normal=False)[0] > 0
    tiles = torch.zeros((down, across, tall, wide), dtype=torch.float64)
    for row in range(down):
        for column in range(across):
            tiles[row, column] = two_bumps(tall, wide, upright=bool(turned[row, column]))
    pattern = signs[..., None, None].double() * tiles
    pattern = pattern.permute(0, 1, 2, 4, 3, 5).reshape(len(signs), plane.channels, down * tall, across * wide)
    unit = torch.zeros((len(signs), plane.channels, plane.height, plane.width), dtype=torch.float64)
    above, before = (plane.height - down * tall) // 2, (plane.width - across * wide) // 2
    unit[:, :, above : above + down * tall, before : before + across * wide] = pattern
    flat = unit.reshape(len(unit), -1)
    size = torch.linalg.vector_norm(flat, dim=1, keepdim=True).clamp_min(1e-12)
    return batch.project((flat / size * batch.threat.eps).reshape(batch.x.shape).to(batch.x))


class _Piles:
    """Rows under ``l2``, of norm eps before the bounds."""

    def __init__(self, batch: Batch, plane: _Plane, unit: Tensor) -> None:
        self.batch, self.plane, self.unit = batch, plane, unit

    def keep(self, mask: Tensor) -> _Piles:
        """Only the rows marked in ``mask``."""
        return _Piles(self.batch.keep(mask), self.plane, self.unit[mask])

    def propose(self, draws: _Draws, share: float) -> _Move:
        """Move the budget of a second window, and what is unspent, into a first one, under a fresh pair of bumps."""
        plane = self.plane
        tall, wide = plane.window(share, least=3)
        places = [(draws.below(plane.height - tall + 1), draws.below(plane.width - wide + 1)) for _ in range(2)]
        upright, signs = bool(draws.below(2)), draws.signs()

        def make(rows: Tensor) -> tuple[Tensor, Tensor, Callable[[Tensor], None]]:
            batch, old = self.batch, self.unit
            if len(rows) < len(old):
                batch, old = batch.keep(rows), old[rows]
            new = _piled(batch, plane, old, _Piled(tall, wide, places, upright, signs))
            moves = (new != old).flatten(1).any(dim=1)
            if not bool(moves.all()):
                rows, new, batch = rows[moves], new[moves], batch.keep(moves)

            def settle(better: Tensor) -> None:
                self.unit[rows[better]] = new[better]

            return rows, batch.points(new), settle

        return (tall, wide, *places, upright, signs), make


@dataclass(frozen=True, slots=True)
class _Piled:
    """A move under ``l2``: size and places of its windows, which way the bumps lie, and the sign of each channel."""

    tall: int
    wide: int
    places: list[tuple[int, int]]
    upright: bool
    signs: tuple[int, ...]


def _piled(batch: Batch, plane: _Plane, unit: Tensor, move: _Piled) -> Tensor:
    """Where the move takes the rows at ``unit``."""
    tall, wide, eps = move.tall, move.wide, batch.threat.eps
    first, second = (
        (slice(None), slice(None), slice(top, top + tall), slice(left, left + wide)) for top, left in move.places
    )
    old = plane.view(unit)
    both = torch.zeros((plane.height, plane.width), dtype=torch.bool, device=unit.device)
    both[first[2:]], both[second[2:]] = True, True
    spent = (old**2).sum(dim=(1, 2, 3), keepdim=True)
    there = ((old * both) ** 2).sum(dim=(2, 3), keepdim=True)
    here = old[first] / torch.linalg.vector_norm(old[first], dim=(2, 3), keepdim=True).clamp_min(1e-12)
    pattern = two_bumps(tall, wide, upright=move.upright).to(unit)
    turned = torch.tensor(move.signs, dtype=unit.dtype, device=unit.device).reshape(-1, 1, 1) * pattern + here
    turned = turned / torch.linalg.vector_norm(turned, dim=(2, 3), keepdim=True).clamp_min(1e-12)
    budget = ((eps**2 - spent).clamp_min(0.0) / plane.channels + there).sqrt()
    new = old.clone()
    new[second] = 0.0
    new[first] = turned * budget
    flat = new.reshape(unit.shape)
    size = torch.linalg.vector_norm(flat.flatten(1), dim=1).clamp_min(1e-12)
    # What the bounds cut off is handed out again at the next move: each proposal has norm eps before the bounds.
    return batch.project(flat * (eps / size).reshape(-1, *[1] * (unit.ndim - 1)))
