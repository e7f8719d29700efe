"""An outsider who copies a model: what may be asked about, what is held out, and how a copy is trained on answers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from auditkit.core.errors import NotApplicable, UsageError
from auditkit.core.subject import Dataset, Differentiable, FloatArray, IntArray, Subject, TrainingRecipe, take_rows

FEWEST_HELD_OUT = 20
MOST_POOL = 20_000
AttackName = Literal["auto", "copycat", "knockoff", "surrogate"]


@dataclass(frozen=True, kw_only=True)
class Trained:
    """What a copy decides on the held-out rows ``(n,)``, and what kind of model it is."""

    decisions: IntArray
    kind: str


@dataclass(frozen=True, kw_only=True)
class Outsider:
    """How an outsider makes a copy.

    Attributes:
        attack: ``copycat``, ``knockoff``, ``surrogate`` or ``recipe``.
        told: A sentence on what the copy is.
        probabilities: Whether the outsider learns from probabilities, not from decisions.
        train: ``(positions in the pool, answers (q, k), seed)`` -> the copy.
    """

    attack: str
    told: str
    probabilities: bool
    train: Callable[[IntArray, FloatArray, int], Trained]


def split_test(data: Dataset, rng: np.random.Generator, max_held_out: int) -> tuple[IntArray, IntArray]:
    """Positions of test rows that may be asked about, and of those that are held out: halves, clusters kept whole.

    Raises:
        NotApplicable: AK591 too few rows or clusters for two halves.
    """
    if data.clusters is None:
        order = rng.permutation(data.n)
        asked, held = order[: data.n // 2], order[data.n // 2 :]
    else:
        names = rng.permutation(np.unique(data.clusters))
        mine = np.isin(data.clusters, names[: len(names) // 2])
        asked, held = rng.permutation(np.flatnonzero(mine)), rng.permutation(np.flatnonzero(~mine))
    if min(len(asked), len(held)) < FEWEST_HELD_OUT:
        raise NotApplicable(
            "AK591",
            f"{data.n} test rows are too few to ask about one half and hold out the other",
            why=f"each half needs {FEWEST_HELD_OUT} rows, with all rows of a cluster in the same half",
            fix="give more test rows",
        )
    return asked.astype(np.int64), np.sort(held[:max_held_out]).astype(np.int64)


def columns_apart(inputs: Any, rng: np.random.Generator) -> Any:
    """The same rows with every column (or pixel) shuffled by itself: ranges are known, no whole row is.

    Raises:
        NotApplicable: AK592 for texts, which have no columns.
    """
    if isinstance(inputs, list):
        raise NotApplicable("AK592", "texts have no columns to shuffle", fix='set source = "test"')
    n = len(inputs)
    if hasattr(inputs, "iloc"):
        mixed = inputs.copy()
        for place in range(inputs.shape[1]):
            mixed.isetitem(place, inputs.iloc[rng.permutation(n), place].set_axis(inputs.index))
        return mixed
    flat = np.asarray(inputs).reshape(n, -1)
    return rng.permuted(flat, axis=0).reshape(np.shape(inputs))


def make_outsider(
    subject: Subject, pool: Any, held_out: Any, *, attack: AttackName, knows_recipe: bool, steps: int
) -> Outsider:
    """The outsider that the settings ask for.

    Args:
        subject: Model and recipe.
        pool: Inputs that may be asked about.
        held_out: Inputs on which copy and model are compared.
        attack: ``auto`` is CopycatCNN for torch models and a scikit-learn surrogate for all others.
        knows_recipe: The outsider trains by the subject's own recipe.
        steps: Steps of a network's training.

    Raises:
        UsageError: AK592 a recipe that is not there, AK593 an attack that this model does not allow.
    """
    if knows_recipe:
        if subject.recipe is None:
            raise UsageError(
                "AK592", "the outsider cannot know a recipe that is not given", where="knows_recipe", fix="pass recipe="
            )
        return _by_recipe(subject.recipe, pool, held_out)
    model = subject.model
    networks = isinstance(model, Differentiable) and "gradients" in model.capabilities
    if attack == "auto":
        attack = "copycat" if networks else "surrogate"
    if attack == "surrogate":
        return _by_surrogate(pool, held_out, subject.test.modality)
    if not networks:
        raise UsageError(
            "AK593",
            f"{attack} trains a torch network, and the model does not take tensors",
            where="attack",
            fix='set attack = "surrogate"',
        )
    if attack == "knockoff" and model.score_space not in ("probability", "logit"):
        raise UsageError("AK593", "knockoff learns from probabilities, and the model gives none", where="attack")
    return _by_network(model, pool, held_out, attack, len(subject.classes), steps)


def _by_recipe(recipe: TrainingRecipe, pool: Any, held_out: Any) -> Outsider:
    def train(positions: IntArray, answers: FloatArray, seed: int) -> Trained:
        model = recipe.fit(take_rows(pool, positions), answers.argmax(axis=1).astype(np.int64), seed % 2**31)
        return Trained(decisions=np.asarray(model.predict(held_out), dtype=np.int64), kind=recipe.name)

    told = f"The outsider knows how the model was trained and trains {recipe.name!r} on the model's decisions."
    return Outsider(attack="recipe", told=told, probabilities=False, train=train)


def _by_surrogate(pool: Any, held_out: Any, modality: str) -> Outsider:
    from auditkit.methods.robustness.extraction import copy_table, copy_texts

    texts = modality in ("text", "sequence")
    ready, unseen = (_words(pool), _words(held_out)) if texts else _matrices(pool, held_out)

    def train(positions: IntArray, answers: FloatArray, seed: int) -> Trained:
        codes = answers.argmax(axis=1).astype(np.int64)
        copied = (copy_texts if texts else copy_table)(take_rows(ready, positions), codes, seed=seed)
        return Trained(decisions=copied.decide(unseen), kind=copied.kind)

    told = (
        "The outsider trains a logistic regression on words."
        if texts
        else "The outsider trains a logistic regression, a random forest or (two classes) gradient-boosted trees, "
        "whichever agrees best with the answers in cross-validation."
    )
    return Outsider(attack="surrogate", told=told, probabilities=False, train=train)


def _by_network(
    model: Any, pool: Any, held_out: Any, attack: Literal["copycat", "knockoff"], n_classes: int, steps: int
) -> Outsider:
    import torch

    from auditkit.methods.robustness.art_extraction import copy_network

    rows, unseen = (model.tensor(part).detach() for part in (pool, held_out))
    vocabulary = None
    if rows.is_floating_point():
        rows, unseen = rows.float(), unseen.float()
        if not bool(torch.isfinite(rows).all() and torch.isfinite(unseen).all()):
            raise UsageError("AK593", "rows with missing values cannot teach a network", fix='attack = "surrogate"')
    else:
        vocabulary = int(max(rows.max(), unseen.max())) + 1

    def train(positions: IntArray, answers: FloatArray, seed: int) -> Trained:
        chosen = rows[torch.as_tensor(positions, device=rows.device)]
        copied = copy_network(
            lambda at: answers[at],
            chosen,
            n_classes=n_classes,
            attack=attack,
            steps=steps,
            vocabulary=vocabulary,
            seed=seed % 2**31,
        )
        return Trained(decisions=copied.decide(unseen), kind="network")

    what = "probabilities" if attack == "knockoff" else "decisions"
    name = "KnockoffNets" if attack == "knockoff" else "CopycatCNN"
    told = f"The outsider trains a small network of its own on the model's {what} ({name} of ART)."
    return Outsider(attack=attack, told=told, probabilities=attack == "knockoff", train=train)


def _words(inputs: Any) -> list[str]:
    """Texts as they are; token ids as words."""
    return [row if isinstance(row, str) else " ".join(str(token) for token in np.ravel(row)) for row in inputs]


def _matrices(pool: Any, held_out: Any) -> tuple[FloatArray, FloatArray]:
    """Both as complete matrices of numbers, prepared by what the pool shows."""
    if hasattr(pool, "columns"):
        from auditkit.subjects.preparation import fit_table_preparation

        ready = fit_table_preparation(pool)
        return ready.matrix(pool).astype(np.float64), ready.matrix(held_out).astype(np.float64)
    first, second = (np.asarray(part, dtype=np.float64).reshape(len(part), -1) for part in (pool, held_out))
    seen = np.isfinite(first)
    mean = np.where(seen, first, 0.0).sum(axis=0) / np.maximum(seen.sum(axis=0), 1)
    return tuple(np.where(np.isfinite(part), part, mean) for part in (first, second))  # type: ignore[return-value]
