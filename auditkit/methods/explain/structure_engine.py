"""Exact Shapley values from what a model is made of: trees that add up, a line, or the probability of a line.

The structure is read from the fitted model and believed only after it has given the model's own outputs, to rounding,
on the rows and on mixtures with the background, and values that sum to each row's distance from the background's mean.
Pipelines are followed through steps that keep features apart (scalers, encoders, imputers); which column came from
which feature is found by exchanging features between rows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from auditkit.core.attribution import Attribution
from auditkit.core.subject import FloatArray, IntArray
from auditkit.methods.explain.additivity import checked
from auditkit.methods.explain.column_owners import column_owners
from auditkit.methods.explain.game import BoolArray, Game, background_hash, background_use
from auditkit.methods.explain.logistic import Logistic
from auditkit.methods.explain.tree_models import read_trees
from auditkit.methods.explain.tree_shap import tree_shapley
from auditkit.methods.explain.tree_table import Ensemble, UnreadError

DOUBLE, SINGLE = 1e-9, 1e-6  # of the largest output
_SUMS = 1e-12  # rounding of sums in double precision, of the largest output
_MIXTURES = 256


class Structure(Protocol):
    """Outputs that are sums over parts whose Shapley values are known."""

    @property
    def single(self) -> bool:
        """Whether the model itself adds up in single precision."""
        ...

    def evaluate(self, matrix: FloatArray) -> FloatArray:
        """``(m, k)`` outputs."""
        ...

    def shapley(self, rows: FloatArray, background: FloatArray, player_of: IntArray, players: int) -> FloatArray:
        """``(n, players, k)`` values."""
        ...


@dataclass(frozen=True, kw_only=True)
class Trees:
    """An ensemble of trees."""

    ensemble: Ensemble

    @property
    def single(self) -> bool:
        """Whether the library adds up in single precision."""
        return self.ensemble.single

    def evaluate(self, matrix: FloatArray) -> FloatArray:
        """``(m, k)`` sums over the trees."""
        return self.ensemble.evaluate(matrix)

    def shapley(self, rows: FloatArray, background: FloatArray, player_of: IntArray, players: int) -> FloatArray:
        """``(n, players, k)``; see :func:`tree_shapley`."""
        return tree_shapley(self.ensemble, rows, background, player_of, players)


@dataclass(frozen=True, kw_only=True)
class Line:
    """A linear model ``coefficients (k, f)``."""

    coefficients: FloatArray
    single: bool = False

    def evaluate(self, matrix: FloatArray) -> FloatArray:
        """``(m, k)`` weighted sums."""
        return matrix @ self.coefficients.T

    def shapley(self, rows: FloatArray, background: FloatArray, player_of: IntArray, players: int) -> FloatArray:
        """``(n, players, k)``: coefficient times distance from the background's mean, in closed form."""
        parts = (rows - background.mean(axis=0))[:, :, None] * self.coefficients.T[None]
        values = np.zeros((len(rows), players, len(self.coefficients)))
        for column, player in enumerate(player_of):
            values[:, player] += parts[:, column]
        return values


def structures_of(model: Any) -> tuple[dict[str, Structure], Callable[[Any], FloatArray]] | None:
    """What a fitted model may be made of, by name, and the encoder of its inputs; ``None`` when unknown."""
    read = read_trees(model)
    if read is not None:
        return {"trees": Trees(ensemble=read[0])}, read[1]
    encoders: list[Any] = []
    while hasattr(model, "steps"):
        encoders.extend(step for _, step in model.steps[:-1] if step not in (None, "passthrough"))
        model = model.steps[-1][1]
    if getattr(model, "coef_", None) is None or np.ndim(model.coef_) > 2 or hasattr(model.coef_, "toarray"):
        return None
    line = Line(coefficients=np.atleast_2d(np.asarray(model.coef_, dtype=np.float64)))
    found: dict[str, Structure] = {"linear": line}
    if len(line.coefficients) == 1 and hasattr(model, "classes_"):
        intercept = float(np.ravel(getattr(model, "intercept_", 0.0))[0])
        found["logistic"] = Logistic(coefficients=line.coefficients, intercept=intercept)

    def encode(inputs: Any) -> FloatArray:
        for step in encoders:
            inputs = step.transform(inputs)
        return np.asarray(inputs.toarray() if hasattr(inputs, "toarray") else inputs, dtype=np.float64)

    return found, encode


def explain_structure(game: Game, model: Any, seed: int = 0, slack: float = 0.0) -> Attribution:
    """Exact Shapley values of ``game`` from the structure of ``model``.

    Args:
        game: What is explained.
        model: The user's own estimator.
        seed: Of the mixtures on which the structure is compared with the model.
        slack: Share of how far outputs lie apart that may be missed: for outputs that are known to few digits.

    Returns:
        Status ``exact``; ``params["precision"]`` is ``double`` (checked to 1e-9 of the largest output) or ``single``
        (1e-6), and ``diagnostics["structure_gap"]`` the largest gap to the model found.

    Raises:
        UnreadError: The structure is unknown, features are mixed before it, or it does not give the model's outputs.
    """
    found = structures_of(model)
    if found is None:
        raise UnreadError("the model is neither made of trees that can be read nor linear")
    structures, encode = found
    rows, background = encode(game.to_model(game.rows)), encode(game.to_model(game.background))
    if len(rows) != len(game.rows) or rows.ndim != 2 or rows.shape[1] != background.shape[1]:
        raise UnreadError("the steps before the model change the rows")
    player_of = column_owners(game, encode, rows, background, seed)
    masks, ours, theirs = _drawn(game, seed)
    # One pass of the model: the background, the rows, mixtures of both.
    asked = game.mixtures(masks, ours, theirs)
    base, prediction = asked[: len(background)], asked[len(background) :][: len(rows)]
    mixed = np.where(masks[:, player_of], rows[ours], background[theirs])[len(background) :]
    name, structure, link, gap = _fitting(structures, mixed, asked[len(background) :], slack)
    values = structure.shapley(rows, background, player_of, len(game.groups)) @ link
    missed = values.sum(axis=1) - (prediction - base.mean(axis=0))
    gaps = _within(missed, asked, (name, structure), slack)
    return checked(
        Attribution(
            values=values,
            prediction=prediction,
            base_values=np.repeat(base.mean(axis=0)[None, :], len(prediction), axis=0),
            method=f"shapley.{name}",
            output_space="value",
            output_names=tuple(f"output {j}" for j in range(prediction.shape[1])),
            feature_names=game.names,
            status="exact",
            params={
                "background_rows": len(base),
                "background_use": background_use(len(base)),
                "precision": "single" if structure.single else "double",
            },
            n_evals=len(asked),
            masker="background rows (interventional)",
            background_hash=background_hash(game.background),
            diagnostics={"structure_gap": max(gap, gaps)},
        ),
        base.mean(axis=0),
    )


def _fitting(
    structures: dict[str, Structure], matrix: FloatArray, asked: FloatArray, slack: float
) -> tuple[str, Structure, FloatArray, float]:
    """The first structure that gives what was asked, before more is spent on it; see :func:`_link`.

    Raises:
        UnreadError: None does; the sentence is on the first.
    """
    refusals = []
    for name, structure in structures.items():
        try:
            return name, structure, *_link(structure.evaluate(matrix), asked, (name, structure), slack)
        except UnreadError as error:
            refusals.append(error)
    raise refusals[0]


def _drawn(game: Game, seed: int) -> tuple[BoolArray, IntArray, IntArray]:
    """The background rows, the rows, and random mixtures of as many different ones as they have room for."""
    rng = np.random.default_rng(seed)
    n, b, players = len(game.rows), len(game.background), len(game.groups)
    mixed = rng.random((_MIXTURES, players)) < rng.random((_MIXTURES, 1))
    ours, theirs = (np.resize(rng.permutation(size), _MIXTURES) for size in (n, b))
    masks = np.concatenate([np.zeros((b, players), dtype=np.bool_), np.ones((n, players), dtype=np.bool_), mixed])
    ours = np.concatenate([np.zeros(b), np.arange(n), ours]).astype(np.int64)
    return masks, ours, np.concatenate([np.arange(b), np.zeros(n), theirs]).astype(np.int64)


def _limits(asked: FloatArray, single: bool, slack: float) -> FloatArray:
    """``(k,)`` what may be rounding: of the largest output, or, where it carries more, of how far outputs lie apart."""
    size, spread = np.abs(asked).max(axis=0), np.ptp(asked, axis=0)
    limits = SINGLE * size if single else np.minimum(DOUBLE * size, DOUBLE * spread + _SUMS * size)
    return np.asarray(np.maximum(limits, slack * spread))


def _link(raw: FloatArray, asked: FloatArray, named: tuple[str, Structure], slack: float) -> tuple[FloatArray, float]:
    """Matrix ``(k of the structure, k asked)`` of the affine map between outputs, and its largest gap.

    Raises:
        UnreadError: The gap is more than rounding.
    """
    from scipy import linalg

    centre = raw.mean(axis=0)
    scale = np.abs(raw - centre).max(axis=0)
    scale[scale <= 1e-13 * np.abs(raw).max(axis=0)] = np.inf  # the same for all rows: nothing but rounding
    wanted = asked - asked.mean(axis=0)
    link = linalg.lstsq((raw - centre) / scale, wanted, cond=1e-10)[0] / scale[:, None]
    return np.asarray(link), _within((raw - centre) @ link - wanted, asked, named, slack)


def _within(missed: FloatArray, asked: FloatArray, named: tuple[str, Structure], slack: float) -> float:
    """The largest distance ``missed (m, k)`` from what it should be.

    Raises:
        UnreadError: It is more than rounding.
    """
    gaps = np.abs(missed).max(axis=0)
    limits = _limits(asked, named[1].single, slack)
    if not (gaps <= limits).all():
        worst = int(np.argmax(gaps / np.maximum(limits, np.finfo(np.float64).tiny)))
        gap, limit = gaps[worst], limits[worst]
        raise UnreadError(f"the output is not a sum over the {named[0]}: it is off by {gap:.3g} (limit {limit:.3g})")
    return float(gaps.max())
