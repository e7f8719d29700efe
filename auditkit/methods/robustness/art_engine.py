"""The one place that drives the Adversarial Robustness Toolbox: decision-based and tree attacks on any model.

What ART does and this module undoes: importing it reconfigures logging (and closes the handlers that were open),
its attacks draw from the global numpy generator, know nothing of whole numbers, frozen columns or eps, may loop for
ever on a step that rounding undoes, and report success that nobody checked.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from auditkit.methods.art import load as load
from auditkit.methods.art import quiet
from auditkit.methods.robustness.feasible import BoolArray, Feasible, FloatArray
from auditkit.methods.robustness.lockstep import Search, in_lockstep
from auditkit.methods.robustness.rescore import Decide, IntArray, Rescored, rescore
from auditkit.methods.robustness.search import margin_loss


@dataclass(frozen=True, slots=True, kw_only=True)
class Nearest:
    """The nearest feasible adversarial point that a minimum-norm attack visited, for each row.

    Attributes:
        rescored: The points decided afresh on the user's model.
        started: Rows for which there was an adversarial point to start from; others were not attacked.
        n_evaluations: Rows decided by the model, in all.
        exhausted: Rows whose query budget ran out before the attack ended.
    """

    rescored: Rescored
    started: BoolArray
    n_evaluations: int
    exhausted: int


def hop_skip_jump(  # noqa: PLR0913 - each budget is named at the call
    decide: Decide,
    x: FloatArray,
    y: IntArray,
    space: Feasible,
    starts: FloatArray,
    *,
    max_iter: int = 5,
    init_eval: int = 20,
    max_eval: int = 200,
    max_queries: int = 2000,
    seed: int = 0,
    tick: Callable[[], None] | None = None,
) -> Nearest:
    """HopSkipJump in scaled units, each query made feasible before the model sees it.

    The attack walks in the mutable cells of a row, in units of ``space.scale`` with the clean row at the origin,
    so that its linf distance is the scaled distance. Every query is projected to a feasible point first, and the
    nearest one that fooled the model is kept: what is reported was seen by the model as it stands. The rows' walks
    are run in lockstep, so that the model answers all of them in one batch.

    Args:
        decide: ``(m, f)`` points -> ``(m,)`` decisions of the user's model.
        x: ``(n, f)`` clean rows that the model decides rightly.
        y: ``(n,)`` labels.
        space: What is feasible.
        starts: ``(n, f)`` an adversarial point for each row (:func:`adversarial_starts`); NaN rows have none.
        max_iter: Steps of the attack.
        init_eval: Points of the first gradient estimate; grows with the square root of the step.
        max_eval: Most points of one gradient estimate.
        max_queries: Most points decided a row.
        seed: Of the attack's own draws.
        tick: Called after each batch of queries; may raise to stop.

    Raises:
        MissingExtra: AK301 when ART is not installed.

    Source: Chen, Jordan and Wainwright (2020), algorithm 2.
    """
    settings = {"norm": np.inf, "max_iter": max_iter, "init_eval": init_eval, "max_eval": max(max_eval, init_eval)}
    return _walked(decide, x, y, space, starts, ("hop_skip_jump", "HopSkipJump", settings), max_queries, seed, tick)


# Module, class and settings, in scaled units, under which each moves rows at all.
_DECISIONS = ("boundary", "BoundaryAttack", {"targeted": False, "max_iter": 200, "delta": 0.05, "epsilon": 0.05})
_SCORES = {
    "learning_rate": 0.2,
    "variable_h": 0.1,
    "binary_search_steps": 3,
    "max_iter": 60,
    "use_importance": False,
    "use_resize": False,
    "initial_const": 1.0,
}


def boundary_attack(  # noqa: PLR0913 - as the attack above
    decide: Decide,
    x: FloatArray,
    y: IntArray,
    space: Feasible,
    starts: FloatArray,
    *,
    max_queries: int = 2000,
    seed: int = 0,
    tick: Callable[[], None] | None = None,
) -> Nearest:
    """The boundary attack in scaled units, walked as :func:`hop_skip_jump` is; it steps towards the l2-nearest point.

    Args and Raises as :func:`hop_skip_jump`.

    Source: Brendel, Rauber and Bethge (2018), algorithm 1.
    """
    return _walked(decide, x, y, space, starts, _DECISIONS, max_queries, seed, tick)


def zoo_attack(  # noqa: PLR0913 - as the attack above
    look: Callable[[FloatArray], FloatArray],
    decide: Decide,
    x: FloatArray,
    y: IntArray,
    space: Feasible,
    *,
    max_queries: int = 2000,
    seed: int = 0,
    tick: Callable[[], None] | None = None,
) -> Nearest:
    """ZOO in scaled units: descent along differences of the scores, with steps of a tenth of a unit.

    At ART's own step of 0.0001 the differences vanish on tables and trees, and the attack moves no row.

    Args:
        look: ``(m, f)`` points -> ``(m, k)`` scores.
        decide: ``(m, f)`` points -> ``(m,)`` decisions of the user's model.
        x: ``(n, f)`` clean rows that the model decides rightly.
        y: ``(n,)`` labels.
        space: What is feasible.
        max_queries: Most points asked about a row.
        seed: Of the attack's own draws.
        tick: Called after each batch of queries; may raise to stop.

    Raises:
        MissingExtra: AK301 when ART is not installed.

    Source: Chen et al. (2017), algorithm 1.
    """

    def both(points: FloatArray) -> FloatArray:
        return np.column_stack([decide(points), look(points)]).astype(np.float64)

    settings = ("zoo", "ZooAttack", _SCORES)
    return _walked(decide, x, y, space, None, settings, max_queries, seed, tick, both)


def _walked(  # noqa: PLR0913 - one private seam of the attacks above
    decide: Decide,
    x: FloatArray,
    y: IntArray,
    space: Feasible,
    starts: FloatArray | None,
    attack: tuple[str, str, dict[str, Any]],
    max_queries: int,
    seed: int,
    tick: Callable[[], None] | None,
    look: Callable[[FloatArray], FloatArray] | None = None,
) -> Nearest:
    """Walk each row by one of ART's attacks, in lockstep; from ``starts`` where the attack takes one."""
    kind = getattr(load(f"art.attacks.evasion.{attack[0]}"), attack[1])
    blackbox = load("art.estimators.classification.blackbox")
    best = x.copy()
    started: BoolArray = np.ones(len(x), dtype=np.bool_)
    if starts is not None:
        started = np.asarray(~np.isnan(np.where(np.isnan(x), 0.0, starts)).any(axis=1), dtype=np.bool_)
    rows = np.flatnonzero(started)
    walks = [_Walk(x[row], int(y[row]), space, max_queries) for row in rows]

    def searching(walk: _Walk, start: FloatArray | None) -> Search:
        def search(ask: Decide) -> None:
            walk.decide = ask
            if start is not None:
                walk.visit(start[None])
            if walk.cells.any() and (start is None or walk.nearest is not None):
                _walk(kind, blackbox, walk, attack[2], from_start=start is not None)

        return search

    searches = [searching(walk, None if starts is None else starts[row]) for walk, row in zip(walks, rows, strict=True)]
    with quiet(seed):
        in_lockstep(searches, decide if look is None else look, tick)  # type: ignore[arg-type]
    for walk, row in zip(walks, rows, strict=True):
        best[row] = x[row] if walk.nearest is None else walk.nearest
    rescored = rescore(decide, x, y, best, space)
    return Nearest(
        rescored=rescored,
        started=started,
        n_evaluations=sum(walk.spent for walk in walks) + len(x),
        exhausted=sum(walk.exhausted for walk in walks),
    )


def _walk(kind: Any, blackbox: Any, walk: _Walk, settings: dict[str, Any], *, from_start: bool) -> None:
    """Run ART on one row until it ends or its query budget does."""
    cells = int(walk.cells.sum())
    low, high = walk.clip_values()
    if not from_start:
        # ZOO holds some coordinates at a time to the bounds of all, in order; the walk holds each to its own.
        low, high = low.min(), high.max()
    estimator = blackbox.BlackBoxClassifier(walk.predict, input_shape=(cells,), nb_classes=2, clip_values=(low, high))
    origin = np.zeros((1, cells), dtype=np.float32)
    label = np.array([[1.0, 0.0]], dtype=np.float32)
    try:
        if not from_start:
            settings = {**settings, "nb_parallel": min(16, cells), "batch_size": 1}
            kind(estimator, verbose=False, **settings).generate(origin, y=label)
            return
        attack = kind(estimator, batch_size=4096, verbose=False, init_size=1, **settings)
        assert walk.nearest is not None
        begin = walk.to_unit(walk.nearest)[None].astype(np.float32)
        # Single precision may round the start back over the boundary; ART would then draw a start of its own,
        # from a generator that cannot be seeded.
        if walk.predict(begin)[0, 1] == 1.0:
            attack.generate(origin, y=label, x_adv_init=begin)
    except _BudgetSpent:
        walk.exhausted = True


class _BudgetSpent(Exception):
    """The row's queries are used up."""


# Scales outside its bounds from which single precision cannot walk a cell back.
_FAR = 1e6


def walkable(x: FloatArray, space: Feasible) -> BoolArray:
    """``(n, f)`` cells of rows ``x`` from which steps can be taken: finite, and not far outside their bounds.

    A change of another cell costs an infinite distance, or one beyond all others, so the nearest point keeps it.
    """
    far = _FAR * space.scale
    outside = (x < space.low - far) | (x > space.high + far)
    return np.asarray(np.isfinite(x) & ~outside, dtype=np.bool_)


class _Walk:
    """One row under attack: turns ART's points into feasible rows and remembers the nearest that fooled."""

    def __init__(self, x: FloatArray, y: int, space: Feasible, max_queries: int) -> None:
        self.decide: Decide | None = None
        self.x, self.y, self.space, self.left = x, y, space, max_queries
        low, high = space.box(x[None], None)
        far = 10.0 * space.scale
        self.low = np.where(np.isinf(low[0]), x - far, low[0])
        self.high = np.where(np.isinf(high[0]), x + far, high[0])
        self.cells: BoolArray = np.asarray(space.mutable & (self.low < self.high) & walkable(x, space))
        self.nearest: FloatArray | None = None
        self.margin: FloatArray | None = None
        self.reach = np.inf
        self.spent = 0
        self.exhausted = False

    def to_unit(self, point: FloatArray) -> FloatArray:
        """The mutable cells of a point, in scaled units around the clean row."""
        return np.asarray(((point - self.x) / np.where(self.space.scale > 0, self.space.scale, 1.0))[self.cells])

    def clip_values(self) -> tuple[FloatArray, FloatArray]:
        """Bounds of the mutable cells in scaled units, in the single precision that ART uses."""
        return self.to_unit(self.low).astype(np.float32), self.to_unit(self.high).astype(np.float32)

    def predict(self, unit: Any) -> Any:
        """``(m, 2)`` for ART, class 0 the clean decision, class 1 fooled: one-hot, or half the margin where scored."""
        points = np.repeat(self.x[None], len(unit), axis=0)
        points[:, self.cells] += np.asarray(unit, dtype=np.float64) * self.space.scale[self.cells]
        fooled = self.visit(points)
        if self.margin is None:
            return np.stack([~fooled, fooled], axis=1).astype(np.float32)
        return np.stack([-self.margin, self.margin], axis=1).astype(np.float32) / 2.0

    def visit(self, points: FloatArray) -> BoolArray:
        """Decide feasible versions of ``points``; keep the nearest that fools."""
        if self.decide is None or self.left < len(points):
            raise _BudgetSpent
        self.left -= len(points)
        self.spent += len(points)
        feasible = self.space.project(np.repeat(self.x[None], len(points), axis=0), points, None)
        answer = self.decide(feasible)
        if answer.ndim == 2:  # the decision, then the scores of the classes
            self.margin = margin_loss(np.asarray(answer[:, 1:], dtype=np.float64), np.full(len(answer), self.y))
            answer = answer[:, 0]
        fooled = np.asarray(answer != self.y)
        if fooled.any():
            distance = self.space.distance(self.x[None], feasible[fooled])
            nearest = int(distance.argmin())
            if distance[nearest] < self.reach:
                self.reach, self.nearest = float(distance[nearest]), feasible[fooled][nearest]
        return fooled


def adversarial_starts(
    decide: Decide,
    x: FloatArray,
    y: IntArray,
    space: Feasible,
    pool: FloatArray,
    *,
    draws: int,
    rng: np.random.Generator,
) -> tuple[FloatArray, int]:
    """An adversarial point to start from for each row: mutable cells of other rows first, uniform draws after.

    Args:
        decide: ``(m, f)`` points -> ``(m,)`` decisions.
        x: ``(n, f)`` clean rows.
        y: ``(n,)`` labels.
        space: What is feasible.
        pool: ``(p, f)`` real rows to borrow cells from.
        draws: Points tried a row, at most.
        rng: Source of the draws.

    Returns:
        ``(n, f)`` feasible adversarial points, NaN in rows that have none, and the number of evaluations. Cells that
        cannot be walked from (:func:`walkable`) stay as they are.
    """
    starts = np.full_like(x, np.nan)
    low, high = space.box(x, None)
    bounded = np.isfinite(low) & np.isfinite(high)
    still = ~walkable(x, space)
    open_rows = np.arange(len(x))
    spent = 0
    for draw in range(draws):
        if len(open_rows) == 0:
            break
        here = x[open_rows]
        if draw % 2 == 0 and len(pool):
            candidates = pool[rng.integers(len(pool), size=len(x))][open_rows]
        else:
            share = rng.random(x.shape)[open_rows]
            span = np.subtract(high, low, out=np.zeros_like(low), where=bounded)[open_rows]
            candidates = np.where(bounded, low, x)[open_rows] + share * span
        points = space.project(here, np.where(still[open_rows], here, candidates), None)
        fooled = np.asarray(decide(points) != y[open_rows])
        spent += len(points)
        # A missing cell stays missing in every feasible point, so NaN alone does not mark a row without a start.
        starts[open_rows[fooled]] = points[fooled]
        open_rows = open_rows[~fooled]
    return starts, spent


def decision_tree_points(tree: Any, x: FloatArray, offset: float = 1e-3) -> FloatArray:
    """Where ART's decision-tree attack would move each row of ``x (n, f)``; any distance, feasible or not.

    Args:
        tree: A fitted ``sklearn.tree.DecisionTreeClassifier`` with more than one leaf class.
        x: Clean rows as the tree takes them.
        offset: How far past a threshold a value is pushed.

    Source: Papernot, McDaniel and Goodfellow (2016), section 3.2.
    """
    attack = load("art.attacks.evasion.decision_tree_attack")
    wrapper = load("art.estimators.classification.scikitlearn")
    with quiet(0):
        estimator = wrapper.ScikitlearnDecisionTreeClassifier(model=tree)
        points = attack.DecisionTreeAttack(estimator, offset=offset, verbose=False).generate(x.copy())
    return np.asarray(points, dtype=np.float64)
