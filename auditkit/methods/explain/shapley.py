"""Shapley values of any model by evaluating it: enumeration, or the estimator that measures best at the budget."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import numpy as np

from auditkit.core.attribution import Attribution
from auditkit.core.errors import UsageError
from auditkit.core.subject import FloatArray, IntArray
from auditkit.methods.explain.additivity import checked
from auditkit.methods.explain.control import Control, steadied
from auditkit.methods.explain.enumeration import enumerated_cost, shapley_weights, worths
from auditkit.methods.explain.game import CELLS_A_BATCH, Game, Predict, background_hash, background_use, make_game
from auditkit.methods.explain.leverage import leverage_least, leverage_needs, leverage_plan
from auditkit.methods.explain.permutation import permutation_needs, permutation_plan
from auditkit.methods.explain.plans import Estimate, Known, Plan, nothing
from auditkit.methods.explain.surrogate import adjusted_needs, linear_adjusted_plan, tree_adjusted_plan
from auditkit.methods.explain.triples import triples_need, triples_plan

Estimator = Literal["auto", "exact", "permutation", "leverage", "triples", "linear_adjusted", "tree_adjusted"]

MAX_EXACT_PLAYERS = 12  # found by "auto"; asked for by name, up to 20
_ASKED_EXACT_PLAYERS = 20
_TRIPLES_PLAYERS = 64  # what triples cost an evaluation grows with the square of the players
_WORTHS = 1_000_000  # of sets, kept at once
_ROUNDS = 5  # of spending, each twice the one before, where rows may stop early


def shapley_values(  # noqa: PLR0913 - each budget is named at the call
    predict: Predict,
    X: Any,
    background: Any,
    *,
    estimator: Estimator = "auto",
    budget: int,
    seed: int = 0,
    batch_size: int | None = None,
    groups: Sequence[Sequence[int]] | None = None,
    stop_at: float | None = None,
) -> Attribution:
    """Interventional Shapley values of ``predict`` at the rows of ``X``, one player a column or a group of columns.

    ``exact`` evaluates every set of players on every background row; ``permutation`` walks random orders forwards
    and backwards; ``leverage`` regresses paired coalitions, for each background row apart; ``triples`` regresses on
    triples of interacting players as well (up to three times less error, some 4 microseconds an evaluation);
    ``linear_adjusted`` and ``tree_adjusted`` fit a surrogate (a line; a line and boosted trees, near a second a row) to
    coalitions and correct it without bias. ``auto`` takes, row by row, ``exact`` for up to 12 players where the budget
    pays for it; of one background row and up to 64 players ``triples`` from ``12 * players`` on; ``leverage`` from
    ``4 * players * b`` on; else ``permutation``; ``benchmarks/explain_vs_shap.py`` measures why. With more background
    rows ``triples`` pays for models that take longer than it does. Players that equal all background rows are worth 0
    and left out.

    Args:
        predict: Matrix ``(m, f)`` float64, or DataFrame where ``X`` is one, -> ``(m, k)`` or ``(m,)`` floats.
        X: ``(n, f)`` rows to explain; a DataFrame keeps its dtypes.
        background: ``(b, f)``, ``b >= 1``; all rows are used. Fewer walks than rows: ``params["background_use"]``.
        estimator: One of the above.
        budget: Most model evaluations a row (those of the background itself, shared by all rows, come on top).
        seed: Seed of the samples; a row's sample depends on the seed and the row's position alone.
        batch_size: Most rows handed to ``predict`` at once; chosen by width when ``None``. Changes no sample.
        groups: Positions of columns that enter together (the columns of a one-hot feature, say).
        stop_at: Stop spending on a row once its largest standard error is at most this, in output units.

    Returns:
        ``values (n, players, k)`` with ``std_error``, checked against ``predict(X)``; status ``exact``,
        ``estimated`` or ``failed``.

    Raises:
        UsageError: AK500 shapes that do not fit, an empty background, a budget too small; AK461 tables that differ.
        AuditkitError: AK501, AK502 when outputs have a wrong shape or are not finite; AK463 labels instead of
            numbers; AK464 a model that refuses missing values.

    Source: Shapley (1953); Strumbelj and Kononenko (2014); Musco and Witter (ICLR 2025); Witter, Liu and Musco
    (NeurIPS 2025).

    >>> linear = lambda m: m @ np.array([[2.0], [-1.0]])
    >>> result = shapley_values(linear, np.array([[1.0, 1.0]]), np.zeros((1, 2)), budget=100)
    >>> result.values[0, :, 0].tolist(), result.status
    ([2.0, -1.0], 'exact')
    """
    game = make_game(predict, X, background, groups, batch_size)
    return explain_game(game, estimator=estimator, budget=budget, seed=seed, stop_at=stop_at)


# Row, its active players, its plan and the outputs of the plan's mixtures -> the estimate.
_Finish = Callable[[int, IntArray, Plan, FloatArray], Estimate]


@dataclass(kw_only=True)
class _Ledger:
    """What is known of each row so far; the one mutable record of a computation."""

    values: FloatArray
    variance: FloatArray
    spent: IntArray
    names: list[str]
    evaluations: int = 0

    def add(self, row: int, active: IntArray, found: Estimate, cost: int, name: str) -> None:
        """Average an estimate in, weighted by evaluations."""
        old, new = float(self.spent[row]), float(max(cost, 1))
        part = new / (old + new)
        self.values[row, active] = (1.0 - part) * self.values[row, active] + part * found.values
        self.variance[row, active] = (1.0 - part) ** 2 * self.variance[row, active] + part**2 * found.error**2
        self.spent[row] += int(new)
        self.evaluations += cost
        self.names[row] = name


def explain_game(
    game: Game,
    *,
    estimator: Estimator = "auto",
    budget: int,
    seed: int = 0,
    stop_at: float | None = None,
    control: Control | None = None,
) -> Attribution:
    """Shapley values of a game's players; see :func:`shapley_values`. A ``control`` steadies what is sampled."""
    if estimator not in get_args(Estimator):
        raise UsageError(
            "AK500", f"there is no estimator {estimator!r}", fix=f"one of {', '.join(get_args(Estimator))}"
        )
    if stop_at is not None and not stop_at > 0.0:
        raise UsageError("AK500", f"stop_at is {stop_at}", fix="give a standard error above 0, in output units")
    base, prediction = game.outputs(game.background), game.outputs(game.rows)
    n, players, k = len(prediction), len(game.groups), prediction.shape[1]
    ledger = _Ledger(
        values=np.zeros((n, players, k)),
        variance=np.zeros((n, players, k)),
        spent=np.zeros(n, dtype=np.int64),
        names=[""] * n,
    )

    def finish(row: int, active: IntArray, plan: Plan, outputs: FloatArray) -> Estimate:
        known = Known(empty=base, full=prediction[row])
        if control is None:
            return plan.finish(outputs, known)
        return steadied(plan, outputs, known, control, control.values[row, active])

    waiting = list(range(n))
    for number in range(_ROUNDS):
        jobs = _jobs(game, waiting, ledger, _Spending(estimator, budget, seed, number, stop_at is not None))
        _work(game, jobs, ledger, finish)
        _exact(game, [row for row in waiting if ledger.names[row] == ""], ledger, base, prediction)
        if stop_at is None:
            break
        waiting = [row for row in waiting if _open(ledger, row, stop_at, budget)]
        if not waiting:
            break
    return _attribution(game, ledger, base, prediction, {"budget": budget, "stop_at": stop_at, "seed": seed})


@dataclass(frozen=True)
class _Spending:
    """One round of spending; there is one round alone unless rows may stop early."""

    estimator: Estimator
    budget: int
    seed: int
    number: int
    rounds: bool

    def share(self, left: int, steady: int) -> int:
        """Evaluations of this round: all, or twice as many each time, and a last round takes the rest."""
        if not self.rounds:
            return left
        wanted = max(self.budget * 2**self.number // 2 ** (_ROUNDS - 1), steady)
        return left if left - wanted < wanted // 2 else wanted


def _open(ledger: _Ledger, row: int, stop_at: float, budget: int) -> bool:
    return bool(np.sqrt(ledger.variance[row].max(initial=0.0)) > stop_at) and int(ledger.spent[row]) < budget


def _jobs(game: Game, rows: list[int], ledger: _Ledger, spending: _Spending) -> Iterator[tuple[int, IntArray, Plan]]:
    for row in rows:
        active = game.active(row)
        plan = _plan(len(active), len(game.background), row, spending, spending.budget - int(ledger.spent[row]))
        if plan is not None:
            yield row, active, plan


def _plan(players: int, b: int, row: int, spending: _Spending, left: int) -> Plan | None:
    """The plan of a row; ``None`` where it is enumerated instead, or a later round has too little left."""
    chosen, again = spending.estimator, spending.number > 0
    if players <= 1:
        return None if again else nothing(players)
    if chosen == "exact" and players > _ASKED_EXACT_PLAYERS:
        raise UsageError("AK500", f"{players} players are too many to enumerate", fix='use estimator="auto"')
    enumerable = players <= MAX_EXACT_PLAYERS and enumerated_cost(players, b) <= spending.budget
    if chosen == "exact" or (chosen == "auto" and enumerable):
        return None
    if chosen == "auto":
        chosen = _by_measure(players, b, spending.budget)
    least, build = _ESTIMATORS[chosen]
    share = spending.share(left, least(players, b))
    if share < least(players, b):
        if again:
            return None
        raise UsageError(
            "AK500",
            f"a budget of {share} evaluations a row is too small for {players} features",
            fix=f"give at least {least(players, b)} for estimator={chosen!r}",
        )
    return build(players, b, share, np.random.default_rng([spending.seed, row, spending.number]))


def _by_measure(players: int, b: int, budget: int) -> Estimator:
    """The estimator that measures best at this size and budget."""
    if b == 1 and players <= _TRIPLES_PLAYERS and budget >= triples_need(players, b):
        return "triples"
    return "leverage" if budget >= leverage_needs(players, b) else "permutation"


_ESTIMATORS: dict[str, tuple[Callable[[int, int], int], Callable[[int, int, int, np.random.Generator], Plan]]] = {
    "permutation": (permutation_needs, permutation_plan),
    "leverage": (leverage_least, leverage_plan),
    "triples": (triples_need, triples_plan),
    "linear_adjusted": (adjusted_needs, linear_adjusted_plan),
    "tree_adjusted": (adjusted_needs, tree_adjusted_plan),
}


def _work(
    game: Game,
    jobs: Iterator[tuple[int, IntArray, Plan]],
    ledger: _Ledger,
    finish: _Finish,
) -> None:
    """Evaluate plans, several rows in one list, so that the model is called with full batches."""
    limit = max(game.batch_size, CELLS_A_BATCH // max(1, game.features))
    part: list[tuple[int, IntArray, Plan]] = []
    size = 0
    for job in jobs:
        if part and size + len(job[2].masks) > limit:
            _evaluate(game, part, ledger, finish)
            part, size = [], 0
        part.append(job)
        size += len(job[2].masks)
    if part:
        _evaluate(game, part, ledger, finish)


def _evaluate(game: Game, part: list[tuple[int, IntArray, Plan]], ledger: _Ledger, finish: _Finish) -> None:
    sizes = [len(plan.masks) for _, _, plan in part]
    masks = np.zeros((sum(sizes), len(game.groups)), dtype=np.bool_)
    ends = np.cumsum(sizes)
    for (_, active, plan), stop, length in zip(part, ends, sizes, strict=True):
        masks[stop - length : stop, active] = plan.masks
    rows = np.repeat([row for row, _, _ in part], sizes).astype(np.int64)
    sources = np.concatenate([plan.sources for _, _, plan in part])
    outputs = game.mixtures(masks, rows, sources) if len(masks) else np.zeros((0, ledger.values.shape[2]))
    for (row, active, plan), stop, length in zip(part, ends, sizes, strict=True):
        ledger.add(row, active, finish(row, active, plan, outputs[stop - length : stop]), length, plan.name)


def _exact(game: Game, rows: list[int], ledger: _Ledger, base: FloatArray, prediction: FloatArray) -> None:
    """Enumerate rows, those with equally many active players together."""
    alike: dict[int, list[tuple[int, IntArray]]] = {}
    for row in rows:
        active = game.active(row)
        alike.setdefault(len(active), []).append((row, active))
    for players, some in alike.items():
        weights, cost = shapley_weights(players), enumerated_cost(players, len(base))
        at_once = max(1, _WORTHS // (2**players * prediction.shape[1]))
        for start in range(0, len(some), at_once):
            part = some[start : start + at_once]
            chosen = np.array([row for row, _ in part], dtype=np.int64)
            active = np.stack([active for _, active in part])
            worth = worths(game, chosen, active, base.mean(axis=0), prediction[chosen])
            for row, own, values in zip(chosen.tolist(), active, weights @ worth, strict=True):
                ledger.add(row, own, Estimate(values=values, error=np.zeros_like(values)), cost, "exact")


def _attribution(
    game: Game, ledger: _Ledger, base: FloatArray, prediction: FloatArray, params: dict[str, Any]
) -> Attribution:
    n, b = len(prediction), len(base)
    used = Counter(ledger.names)
    exact = set(used) == {"exact"}
    main = used.most_common(1)[0][0]
    attribution = Attribution(
        values=ledger.values,
        prediction=prediction,
        base_values=np.repeat(base.mean(axis=0)[None, :], n, axis=0),
        method=f"shapley.{main}",
        output_space="value",
        output_names=tuple(f"output {j}" for j in range(prediction.shape[1])),
        feature_names=game.names,
        status="exact" if exact else "estimated",
        params={
            "budget": params["budget"],
            "background_rows": b,
            "background_use": _background_use(game, ledger, b),
            "estimators": dict(used),
        },
        seed=params["seed"],
        n_evals=ledger.evaluations + b + n,
        masker="background rows (interventional)",
        background_hash=background_hash(game.background),
        std_error=None if exact else np.sqrt(ledger.variance),
    )
    if params["stop_at"] is not None:
        within = np.sqrt(ledger.variance.max(axis=(1, 2), initial=0.0)) <= params["stop_at"]
        stopped = {**attribution.params, "stop_at": params["stop_at"], "rows_within": int(within.sum())}
        attribution = replace(attribution, params=stopped)
    return checked(attribution)


def _background_use(game: Game, ledger: _Ledger, b: int) -> str:
    walked = [row for row, name in enumerate(ledger.names) if name == "permutation"]
    fewest = b
    for row in walked:
        steps = max(1, len(game.active(row)) - 1)
        fewest = min(fewest, int(ledger.spent[row]) // (2 * steps))
    if fewest < b:
        return f"each row's walks start from {fewest} of {b} background rows; the base value is over all {b}"
    return background_use(b)
