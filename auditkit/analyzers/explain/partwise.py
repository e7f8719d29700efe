"""What the faithfulness checks look at: amounts of the parts of rows, and a model asked without some of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from auditkit.analyzers.explain.attributions import AttributedRows, AttributionParams, attributed_rows, least_budget
from auditkit.analyzers.explain.explained import (
    Explained,
    encoded_background,
    explained_outputs,
    few_rows,
    whole_columns,
)
from auditkit.core.analyzer import Context
from auditkit.core.errors import NotApplicable
from auditkit.core.subject import Dataset, FloatArray, IntArray, Subject

BoolArray = npt.NDArray[np.bool_]
Ask = Callable[[IntArray, BoolArray], FloatArray]
SHAPLEY, LIME = "Shapley values", "LIME"
_MISSING = "Rows with a missing value are left out, so that LIME can be compared on the same rows."

Moved = Callable[[np.random.Generator, IntArray, int, float], Mapping[str, tuple[FloatArray, FloatArray]]]


@dataclass(frozen=True, kw_only=True)
class Partwise:
    """Rows by their parts.

    Attributes:
        data: The ``n`` rows.
        amounts: Method -> ``(n, p)`` signed amounts of the parts.
        failed: Method -> why its attributions must not be relied on.
        ask: The output explained with parts removed, by the first masker.
        other: The same by another masker, where there is one.
        maskers: Words for both.
        present: ``(n, p)`` the parts that a row has; ``None`` for all.
        unit: Of the output explained.
        parts: Word for the parts.
        moved: ``(rng, rows (m,), draws, radius)`` -> method -> amounts ``(m, p)`` and those of moved copies
            ``(m, draws, p)``; ``None`` where inputs cannot be moved a little.
        unmoved: Why not.
        notes: How it was made.
    """

    data: Dataset
    amounts: Mapping[str, FloatArray]
    failed: Mapping[str, str | None]
    ask: Ask
    other: Ask | None
    maskers: tuple[str, str]
    present: BoolArray | None
    unit: str
    parts: str
    moved: Moved | None
    unmoved: str
    notes: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class PartedTable:
    """A table being explained: the model on encoded rows, and how its columns join into parts."""

    explained: Explained
    codec: Any
    background: FloatArray
    players: tuple[tuple[int, ...], ...]
    model: Any
    params: AttributionParams
    seed: int

    def joined(self, values: FloatArray) -> FloatArray:
        """Amounts of columns ``(..., f)`` summed over the columns of each part."""
        return np.stack([values[..., list(player)].sum(axis=-1) for player in self.players], axis=-1)

    def shapley(self, matrix: FloatArray, targets: IntArray) -> tuple[FloatArray, str | None]:
        """Shapley values ``(n, p)`` of each row's target output, and why they failed their check, if they did."""
        from auditkit.methods.explain.game import make_game
        from auditkit.methods.explain.shap_engine import explain_scores

        columns = [(j,) for j in range(matrix.shape[1])]
        game = make_game(self.explained.predict, matrix, self.background, columns, inputs=self.codec.decode)
        attribution = explain_scores(
            game,
            model=self.model,
            space=self.explained.space,
            column=self.explained.column,
            budget=max(self.params.budget, least_budget(matrix.shape[1])),
            seed=self.seed,
            engine=self.params.engine,
        )
        failed = attribution.reason if attribution.status == "failed" else None
        return self.joined(at_targets(attribution.values, targets)), failed

    def lime(self, matrix: FloatArray, targets: IntArray, samples: int) -> FloatArray | None:
        """Weights ``(n, p)`` of LIME; ``None`` where it cannot give them, see :func:`without_lime`."""
        from auditkit.methods.explain.lime_batched import batched_lime
        from auditkit.methods.explain.lime_table import LimeTable

        if without_lime(matrix, self.background) is not None:
            return None
        reference = LimeTable(
            reference=self.background,
            names=tuple(self.codec.names),
            categorical=tuple(int(j) for j in np.flatnonzero(_coded(self))),
            whole=whole_columns(self.codec),
        )
        chosen = [int(target) for target in targets]
        result = batched_lime(
            self.explained.predict, matrix, reference, samples=samples, seed=self.seed, targets=chosen
        )
        return self.joined(result.weights)


def without_lime(matrix: FloatArray, background: FloatArray) -> str | None:
    """Why LIME cannot explain all rows ``(n, f)`` beside a ``background (b, f)``, as a note; ``None`` where it can."""
    from auditkit.methods.explain.lime_table import unusable

    why = unusable(background)
    if why is not None:
        return f"LIME is left out: {why.what}."
    if np.isfinite(matrix).all():
        return None
    return "LIME is left out: most rows hold a missing value, which it cannot sample around."


def partwise_table(
    subject: Subject, context: Context, params: AttributionParams, limit: int, baseline_rows: int, samples: int
) -> Partwise:
    """The rows that Shapley values were computed for, at most ``limit``, with LIME beside them.

    Raises:
        NotApplicable: AK465 a table of one feature.
    """
    from auditkit.methods.explain.lime_table import unusable
    from auditkit.subjects.codec import make_codec

    found = attributed_rows(subject, context, params)
    players = joined_columns(found.names, found.groups)
    if len(players) < 2:
        raise NotApplicable("AK465", "a single feature has no order in which features could be removed")
    codec = make_codec(subject.test, *([] if subject.train is None else [subject.train]))
    background, _ = encoded_background(subject, context, codec, params.max_background)
    used = min(baseline_rows, len(background))
    sources = "one background row" if used == 1 else f"{used} background rows"
    notes = [found.background, f"A feature that is removed takes the values of {sources}, drawn anew for each row."]
    chosen, complete = _rows(found, context, limit, compared=unusable(background) is None)
    if complete and not np.isfinite(found.matrix).all():
        notes.append(_MISSING)
    silent = dataclasses.replace(context, progress=lambda done, total: None)
    table = PartedTable(
        explained=explained_outputs(subject, silent, codec, params.space, 1),
        codec=codec,
        background=background,
        players=players,
        model=getattr(subject.model, "estimator", None),
        params=params,
        seed=context.seed % 2**31,
    )
    matrix, targets = found.matrix[chosen], decided_targets(subject, context, found.rows[chosen])
    amounts = {SHAPLEY: table.joined(at_targets(found.attribution.values[chosen], targets))}
    failed: dict[str, str | None] = {SHAPLEY: found.unreliable}
    lime, without = table.lime(matrix, targets, samples), without_lime(matrix, background)
    if lime is not None:
        amounts[LIME], failed[LIME] = lime, None
    notes += [] if without is None else [without]
    rng = np.random.default_rng([context.seed, 3])
    # Each row has its own, so that intervals over rows hold for what was drawn, too.
    drawn = rng.random((len(matrix), len(background))).argsort(axis=1)[:, :used]

    def moved(
        rng: np.random.Generator, rows: IntArray, draws: int, radius: float
    ) -> dict[str, tuple[FloatArray, FloatArray]]:
        return _moved(table, matrix[rows], targets[rows], draws, (rng, radius, samples))

    return Partwise(
        data=found.data.take(chosen),
        amounts=amounts,
        failed=failed,
        ask=_asker(table, matrix, targets, background, drawn),
        other=_asker(table, matrix, targets, _middle(table), np.zeros((len(matrix), 1), dtype=np.int64)),
        maskers=("rows of the background", "the middle of the background"),
        present=None,
        unit=found.space,
        parts="features",
        moved=moved,
        unmoved="",
        notes=tuple(notes),
    )


def _rows(found: AttributedRows, context: Context, limit: int, *, compared: bool) -> tuple[IntArray, bool]:
    """At most ``limit`` rows without a missing value, where LIME is ``compared`` and there are enough; else of all.

    Whether they are such comes with them.
    """
    complete = np.flatnonzero(np.isfinite(found.matrix).all(axis=1)).astype(np.int64)
    enough = compared and len(complete) >= min(limit, len(found.rows)) / 2
    usable = complete if enough else np.arange(len(found.rows), dtype=np.int64)
    return usable[few_rows(context, len(usable), limit)], enough


def joined_columns(names: tuple[str, ...], groups: tuple[str | None, ...]) -> tuple[tuple[int, ...], ...]:
    """Columns that are removed together: those of a one-hot group, or one."""
    together: dict[tuple[str, str], list[int]] = {}
    for j, (name, group) in enumerate(zip(names, groups, strict=True)):
        together.setdefault(("group", group) if group else ("column", name), []).append(j)
    return tuple(tuple(columns) for columns in together.values())


def decided_targets(subject: Subject, context: Context, rows: IntArray) -> IntArray:
    """``(n,)`` the output explained of each row: of several classes the one decided, else the only one."""
    if subject.task != "multiclass":
        return np.zeros(len(rows), dtype=np.int64)
    return np.asarray(context.decisions()[rows], dtype=np.int64)


def at_targets(values: FloatArray, targets: IntArray) -> FloatArray:
    """``(n, f)`` of ``(n, f, k)`` at each row's target."""
    return np.asarray(np.take_along_axis(values, targets[:, None, None], axis=2)[:, :, 0], dtype=np.float64)


def _asker(table: PartedTable, matrix: FloatArray, targets: IntArray, baseline: FloatArray, drawn: IntArray) -> Ask:
    """Mean outputs over the rows of ``baseline`` that are ``drawn (n, size)`` to stand in for each row's parts."""
    from auditkit.methods.explain.game import make_game

    game = make_game(table.explained.predict, matrix, baseline, table.players)
    size = drawn.shape[1]

    def ask(rows: IntArray, removed: BoolArray) -> FloatArray:
        sources = drawn[rows].ravel()
        outputs = game.mixtures(np.repeat(~removed, size, axis=0), np.repeat(rows, size), sources)
        column = outputs[np.arange(len(outputs)), np.repeat(targets[rows], size)]
        return np.asarray(column.reshape(len(rows), size).mean(axis=1), dtype=np.float64)

    return ask


def _middle(table: PartedTable) -> FloatArray:
    """One row: the mean of numbers, the most frequent category (one-hot groups as a whole), in the table's dtypes."""
    middle = np.full(table.background.shape[1], np.nan)
    coded = _coded(table)
    for player in table.players:
        columns = list(player)
        part = table.background[:, columns]
        known = part[np.isfinite(part).all(axis=1)]
        if len(known) and coded[columns].any():
            values, counts = np.unique(known, axis=0, return_counts=True)
            middle[columns] = values[counts.argmax()]
        elif len(known):
            middle[columns] = known.mean(axis=0)
    return np.asarray(table.codec.encode(table.codec.decode(middle[None, :])), dtype=np.float64)


def _coded(table: PartedTable) -> BoolArray:
    from auditkit.analyzers.explain.lime import CODED

    kinds = zip(table.codec.categorical, table.codec.kinds, strict=True)
    return np.array([bool(codes) or kind in CODED for codes, kind in kinds], dtype=np.bool_)


def _moved(
    table: PartedTable, matrix: FloatArray, targets: IntArray, draws: int, how: tuple[np.random.Generator, float, int]
) -> dict[str, tuple[FloatArray, FloatArray]]:
    """Explanations of copies whose numbers moved by up to ``radius`` standard deviations; codes stay as they are."""
    rng, radius, samples = how
    spread = np.where(_coded(table), 0.0, np.nan_to_num(np.nanstd(table.background, axis=0)))
    noise = rng.uniform(-radius, radius, (len(matrix), draws, matrix.shape[1])) * spread
    copies = np.concatenate([matrix[:, None, :], matrix[:, None, :] + noise], axis=1).reshape(-1, matrix.shape[1])
    copies = np.asarray(table.codec.encode(table.codec.decode(copies)), dtype=np.float64)
    aims = np.repeat(targets, draws + 1)
    found = {SHAPLEY: table.shapley(copies, aims)[0]}
    lime = table.lime(copies, aims, samples)
    if lime is not None:
        found[LIME] = lime
    shape = (len(matrix), draws + 1, len(table.players))
    split = {method: values.reshape(shape) for method, values in found.items()}
    return {method: (values[:, 0], values[:, 1:]) for method, values in split.items()}
