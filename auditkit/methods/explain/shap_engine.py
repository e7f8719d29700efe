"""Shapley values by the engine that proves right on the user's model: its own structure, shap, or evaluating it.

shap's own additivity check compares with its own copy of the trees; here every answer is compared with the
outputs of the *user's* model (sum, base value over the whole background, and a sampled spot check), and an
engine that misses is dropped. This is the one module that imports shap.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, Literal

import numpy as np

from auditkit.core.attribution import Attribution
from auditkit.core.errors import AuditkitError
from auditkit.core.subject import FloatArray
from auditkit.methods.explain.additivity import additivity_limits, checked
from auditkit.methods.explain.control import Control
from auditkit.methods.explain.game import Game, background_hash, make_game
from auditkit.methods.explain.quiet import quiet
from auditkit.methods.explain.shapley import explain_game
from auditkit.methods.explain.structure_engine import explain_structure, structures_of
from auditkit.methods.explain.tree_cells import cell_centres
from auditkit.methods.explain.tree_table import UnreadError

Engine = Literal["auto", "shap", "shapley", "structure"]
Space = Literal["probability", "logit", "margin", "value"]

_STRUCTURE = "structure"
_SPOT_ROWS = 2
_SPOT_PAIRS = 64
_SPOT_SIGMA = 6.0
_ODDS_SLACK = 1e-4  # of the spread of log-odds: those of a single-precision probability are known no better
_SPOT_SLACK = 0.01  # of the largest value: a sampled standard error can be zero for a rare effect


def explain_scores(
    game: Game,
    *,
    model: Any = None,
    space: Space,
    column: int | None,
    budget: int,
    seed: int = 0,
    engine: Engine = "auto",
) -> Attribution:
    """Shapley values of ``game.predict`` by the cheapest engine that proves right on the user's model.

    Args:
        game: What is explained; ``predict`` is the user's model in ``space``.
        model: The user's own estimator when there is one: tree ensembles and linear models have exact engines.
        space: The space of ``predict``'s outputs.
        column: The output that is explained when ``predict`` gives one of two classes, else ``None``.
        budget: Model evaluations a row for the sampling engine.
        seed: Seed of sampling engines.
        engine: ``auto`` reads the model's own structure (trees, a line), tries shap where it cannot, and evaluates the
            model where both miss; ``structure`` and ``shap`` try one alone, ``shap`` returning a ``failed`` attribution
            when it misses; ``shapley`` evaluates the model only.

    Returns:
        The attribution; ``params["engine"]`` names the engine, ``params["tried"]`` says why others were dropped, and
        ``params["control"]``, where there is one, what steadied the sampled values.

    Raises:
        AuditkitError: AK503 when ``engine="shap"`` and shap has no engine for the model or refuses it; AK465 when
            ``engine="structure"`` and the model's outputs are no sum over trees or a line that can be read.
    """
    tried: list[str] = []
    for name, build in _candidates(game, model, space, engine):
        try:
            attribution = build(game, model, space, column)
            if name != _STRUCTURE:
                attribution = _verified(game, attribution, seed)
        except AuditkitError:
            raise
        except Exception as error:
            why = str(error) if isinstance(error, UnreadError) else type(error).__name__
            tried.append(f"{name}: refused ({why})")
            continue
        if attribution.status != "failed" or engine == "shap":
            return _signed(attribution, name if name != _STRUCTURE else attribution.method, tried, space, seed)
        tried.append(f"{name}: dropped, {attribution.reason}")
    if engine == "structure":
        raise AuditkitError(
            "AK465",
            "no structure of this model gives its outputs",
            why="; ".join(tried) or "there is no estimator to read",
            fix='set engine = "auto"',
        )
    if engine == "shap":
        raise AuditkitError(
            "AK503",
            "shap has no engine for this model",
            why="; ".join(tried) or "it is neither a tree ensemble nor a linear model in this output space",
            fix='set engine = "auto"',
        )
    odds = _log_odds_of(game, model) if space == "probability" and column is not None and engine == "auto" else None
    control = None if odds is None else Control(of=_log_odds, values=odds.values)
    own = explain_game(game, budget=budget, seed=seed, control=control)
    if odds is not None and own.std_error is not None:
        told = {**own.params, "control": f"log-odds, {odds.method}"}
        own = dataclasses.replace(own, params=told, n_evals=(own.n_evals or 0) + (odds.n_evals or 0))
    return _signed(own, own.method, tried, space, seed)


def _log_odds_of(game: Game, model: Any) -> Attribution | None:
    """Exact Shapley values of the log-odds of a probability; ``None`` where the model's structure does not give them.

    Boosted trees add up in log-odds, as do logistic regressions whose exact values would take too long. Log-odds move
    with the probability on every mixture, and knowing their values tells what the sampled walks miss. Where
    probabilities are 0 or 1 to rounding, log-odds are lost. The model's decision function still has them, but is not
    asked: such a probability is nearly a step, which no sum follows (errors 2 to 5 % smaller, for twice the passes).
    A control may be known less sharply than values that are shown: it only has to cost less than sampling leaves.
    """
    if model is None or not _known(model):
        return None
    try:
        with quiet():
            inside = dataclasses.replace(game, predict=lambda x: _log_odds(game.predict(x)))
            found = explain_structure(inside, model, slack=_ODDS_SLACK)
    except Exception:  # as with every engine that is tried: without it the values are still right
        return None
    # What rounding leaves is shared out, so that sums stay those of the model.
    assert found.base_values is not None
    left = found.prediction - found.base_values - found.values.sum(axis=1)
    size = np.abs(found.values)
    part = size / np.maximum(size.sum(axis=1, keepdims=True), np.finfo(np.float64).tiny)
    return dataclasses.replace(found, values=found.values + left[:, None] * part)


def _log_odds(probability: Any) -> FloatArray:
    p = np.asarray(probability, dtype=np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.log(p) - np.log1p(-p))


def _signed(attribution: Attribution, engine: str, tried: list[str], space: Space, seed: int) -> Attribution:
    params = {**attribution.params, "engine": engine, "tried": "; ".join(tried)}
    return dataclasses.replace(attribution, params=params, output_space=space, seed=seed)


_Build = Callable[[Game, Any, Space, int | None], Attribution]


def _candidates(game: Game, model: Any, space: Space, engine: Engine) -> list[tuple[str, _Build]]:
    """The engines worth trying on ``model``, by what it holds."""
    if model is None or engine == "shapley":
        return []
    own: list[tuple[str, _Build]] = [(_STRUCTURE, _structure)]
    if engine == "structure":
        return own
    known = engine == "auto" and _known(model)
    plain = game.inputs is None and not hasattr(game.rows, "columns") and not hasattr(model, "steps")
    trees = ("tree_", "estimators_", "_predictors", "get_booster", "booster_")
    theirs: list[tuple[str, _Build]] = []
    if (plain or engine == "shap") and not known and not hasattr(model, "steps"):
        if any(_has(model, name) for name in trees):
            theirs = [("shap.TreeExplainer", _tree)]
        elif _has(model, "coef_") and space != "probability":
            theirs = [("shap.LinearExplainer", _linear)]
    return theirs if engine == "shap" else own + theirs


def _known(model: Any) -> bool:
    """Whether the structure can be read; where it then misses, shap's copy of the same structure would miss too."""
    try:
        return structures_of(model) is not None
    except Exception:
        return False


def _structure(game: Game, model: Any, space: Space, column: int | None) -> Attribution:
    with quiet():
        return explain_structure(game, model)


def _has(model: Any, name: str) -> bool:
    try:
        return hasattr(model, name)
    except Exception:
        return False


def _tree(game: Game, model: Any, space: Space, column: int | None) -> Attribution:
    """Interventional tree SHAP of what the trees themselves add up to.

    Never shap's ``model_output="probability"``: behind a link function it rescales margin attributions, which
    add up to the probability but are not its Shapley values. Rows are moved to the middle of the trees' cells where
    these can be read: shap's own rounding sends rows next to a threshold down the wrong branch.
    """
    rows, background = cell_centres(model, game.rows), cell_centres(model, game.background)
    if rows is None or background is None:
        rows, background = game.rows, game.background
    with quiet(seed=0):
        import shap

        masker = shap.maskers.Independent(background, max_samples=len(background))
        explainer = shap.TreeExplainer(model, masker, feature_perturbation="interventional", model_output="raw")
        values = np.asarray(explainer.shap_values(rows, check_additivity=False), dtype=np.float64)
        base = np.asarray(explainer.expected_value, dtype=np.float64)
    return _arranged(game, values, base, column, space, "shap.tree")


def _linear(game: Game, model: Any, space: Space, column: int | None) -> Attribution:
    with quiet(seed=0):
        import shap

        masker = shap.maskers.Independent(game.background, max_samples=len(game.background))
        explainer = shap.LinearExplainer(model, masker)
        values = np.asarray(explainer.shap_values(game.rows), dtype=np.float64)
        base = np.asarray(explainer.expected_value, dtype=np.float64)
    return _arranged(game, values, base, column, space, "shap.linear")


def _arranged(
    game: Game, values: FloatArray, base: FloatArray, column: int | None, space: Space, method: str
) -> Attribution:
    """What shap gives, ``(n, f)`` or ``(n, f, k)`` as one ``(n, f, k)`` that lines up with ``game.predict``."""
    prediction = game.outputs(game.rows)
    if values.ndim == 2:
        values = values[:, :, None]
    base = base.reshape(-1)
    wanted = prediction.shape[1]
    if wanted == 1 and values.shape[2] == 2 and column is not None:
        values, base = values[:, :, [column]], base[[column]]
    elif wanted == 1 and values.shape[2] == 1 and column == 0:
        # One column speaks of the second class; the first class is its mirror image.
        values, base = -values, (1.0 - base if space == "probability" else -base)
    if values.shape != (len(prediction), game.rows.shape[1], wanted) or len(base) != wanted:
        raise ValueError(f"values {values.shape} and base {base.shape} do not fit outputs {prediction.shape}")
    return Attribution(
        values=values,
        prediction=prediction,
        base_values=np.repeat(base[None, :], len(prediction), axis=0),
        method=method,
        output_space=space,
        output_names=tuple(f"output {j}" for j in range(wanted)),
        feature_names=tuple(f"x{j}" for j in range(game.rows.shape[1])),
        status="exact",
        params={
            "background_rows": len(game.background),
            "background_use": "every background row, inside the engine",
        },
        n_evals=0,
        masker="background rows (interventional)",
        background_hash=background_hash(game.background),
    )


def _verified(game: Game, attribution: Attribution, seed: int) -> Attribution:
    """Sum, base value and a sampled spot check, all against the user's model."""
    attribution = checked(attribution, game.outputs(game.background).mean(axis=0))
    if attribution.status == "failed" or game.rows.shape[1] < 2:
        return attribution
    probe = make_game(game.predict, game.rows[:_SPOT_ROWS], game.background, game.groups, game.batch_size)
    budget = 2 * _SPOT_PAIRS * (len(game.groups) - 1)
    sampled = explain_game(probe, estimator="permutation", budget=budget, seed=seed)
    ours = attribution.values[:_SPOT_ROWS]
    assert sampled.std_error is not None
    assert attribution.base_values is not None
    limits = additivity_limits(attribution.values, attribution.base_values, attribution.prediction)[: len(ours)]
    slack = limits[:, None, :] + _SPOT_SLACK * np.abs(ours).max(axis=1, keepdims=True)
    excess = np.abs(ours - sampled.values) - _SPOT_SIGMA * sampled.std_error - slack
    gap = float(excess.max())
    diagnostics = {**attribution.diagnostics, "spot_check_excess": max(gap, 0.0)}
    if gap > 0.0:
        reason = f"a feature's value is off by {gap:.3g} beyond sampling error from direct evaluation of the model"
        return dataclasses.replace(attribution, status="failed", reason=reason, diagnostics=diagnostics)
    return dataclasses.replace(attribution, diagnostics=diagnostics)
