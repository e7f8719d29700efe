"""The Adversarial Robustness Toolbox on torch models: minimum-norm attacks, smoothing certificates and CLEVER, mended.

What ART does and this module undoes: it feeds double precision to single-precision models, leaves gradients and modes
changed, knows nothing of eps in a minimum-norm attack, and reports as robust a row that it never moved.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch  # noqa: TID253 - this module drives torch

from auditkit.core.errors import UsageError
from auditkit.methods.art import load, quiet
from auditkit.methods.robustness.oracle import Oracle, clean_score, input_gradient, margin, oracle_of, score_all
from auditkit.methods.robustness.threat import Norm, check_inputs, make_threat

Tensor = torch.Tensor
ToolboxAttack = Literal["deepfool", "carlini-l2", "carlini-linf", "boundary", "zoo"]

_BATCH = 128
# Module, class and settings under which each moves rows at all: ART's default step of ZOO leaves them where they are.
ATTACKS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "deepfool": ("deepfool", "DeepFool", {"max_iter": 50, "epsilon": 1e-3, "batch_size": _BATCH}),
    "carlini-l2": (
        "carlini",
        "CarliniL2Method",
        {"binary_search_steps": 6, "max_iter": 50, "learning_rate": 0.05, "initial_const": 0.1, "batch_size": _BATCH},
    ),
    "carlini-linf": ("carlini", "CarliniLInfMethod", {"max_iter": 30, "learning_rate": 0.02, "batch_size": _BATCH}),
    "boundary": (
        "boundary",
        "BoundaryAttack",
        {"targeted": False, "max_iter": 200, "delta": 0.05, "epsilon": 0.05, "num_trial": 10, "batch_size": _BATCH},
    ),
    "zoo": (
        "zoo",
        "ZooAttack",
        {
            "learning_rate": 0.1,
            "variable_h": 0.05,
            "binary_search_steps": 3,
            "max_iter": 60,
            "use_importance": False,
            "use_resize": False,
            "nb_parallel": 16,
            "batch_size": 1,
        },
    ),
}
# What ART 1.20 has and is not offered, and why.
UNUSABLE: dict[str, str] = {
    "autoattack": "ART's set lacks targeted DLR and FAB-T; auditkit.methods.robustness.autoattack is the published one",
    "wasserstein": "its projection overflows on ordinary images",
    "geoda": "it fails with an index error on small images",
    "simba": "it needs probabilities and reads logits as such",
    "brendel-bethge": "it needs numba",
    "auto-conjugate-gradient": "it refuses integer labels",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolboxResult:
    """A minimum-norm attack's points, made feasible and decided afresh.

    Attributes:
        adversarial: Points of the shape, dtype and device of the clean inputs, inside the bounds, at any distance.
        fooled: ``(n,)`` bool: decided otherwise than the label on a fresh pass, at any distance.
        distance: ``(n,)`` float64 norm of the perturbation.
        success: ``(n,)`` bool: fooled within eps.
        moved: Share of the rightly decided rows whose point differs from the clean row.
        invalid: Why the attack says nothing about robustness, or ``None``.
        n_evaluations: Rows passed forward through the model.
    """

    adversarial: Tensor
    fooled: Tensor
    distance: Tensor
    success: Tensor
    moved: float
    invalid: str | None
    n_evaluations: int


def toolbox_attack(  # noqa: PLR0913 - an attack's settings, each named at the call
    model: Callable[[Tensor], Tensor],
    x: Tensor,
    y: Tensor,
    *,
    attack: ToolboxAttack,
    eps: float,
    norm: Norm = "l2",
    bounds: tuple[float, float] = (0.0, 1.0),
    seed: int = 0,
    settings: dict[str, Any] | None = None,
) -> ToolboxResult:
    """Run one of ART's minimum-norm attacks on the rows that the model decides rightly.

    The attack looks for the nearest adversarial point whatever eps is; a row counts as a success only when its point,
    brought into the bounds and decided afresh, is wrong and lies within eps. An attack that moved no row is invalid.

    Args:
        model: ``(n, *features)`` tensor -> ``(n, k)`` logits.
        x: Clean inputs inside ``bounds``.
        y: ``(n,)`` int64 labels.
        attack: ``deepfool``, ``carlini-l2``, ``carlini-linf``, ``boundary`` or ``zoo``.
        eps: Radius within which a success counts.
        norm: Norm of eps and of the distances.
        bounds: Smallest and largest value.
        seed: Of the attack's draws.
        settings: Of ART's own class, over those that are set here.

    Raises:
        UsageError: AK515 an attack that is not offered, and why; as :func:`auditkit.methods.robustness.pgd` otherwise.
        MissingExtra: AK301 when ART is not installed.

    Source: Moosavi-Dezfooli et al. (2016); Carlini and Wagner (2017); Brendel et al. (2018); Chen et al. (2017).

    >>> weight = torch.tensor([[4.0, 0.0], [-4.0, 0.0]])
    >>> found = toolbox_attack(lambda z: (z - 0.5) @ weight.T, torch.tensor([[0.75, 0.5]]), torch.tensor([0]),
    ...                        attack="deepfool", eps=0.3)
    >>> found.success.tolist(), round(float(found.distance[0]), 2)
    ([True], 0.25)
    """
    if attack not in ATTACKS:
        raise UsageError(
            "AK515",
            f"the attack {attack!r} is not offered",
            where="attack",
            why=UNUSABLE.get(attack, "it is not known"),
            fix=f"use one of {', '.join(ATTACKS)}",
        )
    threat = make_threat(x, eps, norm, bounds)
    check_inputs(x, y, threat)
    file, name, usual = ATTACKS[attack]
    with oracle_of(model, x) as oracle:
        clean, _ = clean_score(oracle, x, y, _BATCH)
        best = x.detach().clone()
        rows = (~clean.fooled).nonzero()[:, 0] if eps > 0 else torch.zeros(0, dtype=torch.int64, device=x.device)
        if len(rows):
            kind = getattr(load(f"art.attacks.evasion.{file}"), name)
            with _estimator(oracle, x, bounds, seed) as estimator:
                if attack == "zoo":
                    usual = usual | {"nb_parallel": min(usual["nb_parallel"], x[0].numel())}
                run = kind(estimator, verbose=False, **(usual | (settings or {})))
                made = run.generate(
                    _array(x[rows]), y=np.eye(oracle.n_classes, dtype=np.float32)[y[rows].cpu().numpy()]
                )
            _take(oracle, x, y, best, rows, torch.as_tensor(made, device=x.device), bounds)
        final = score_all(oracle, best, y, _BATCH)
        spent = oracle.n_evaluations
    distance = threat.distance(x, best)
    moved = float((distance[rows] > 0).double().mean()) if len(rows) else 0.0
    return ToolboxResult(
        adversarial=best,
        fooled=final.fooled,
        distance=distance,
        success=final.fooled & (distance <= eps * (1.0 + 1e-6)),
        moved=moved,
        invalid="the attack moved no row, so that no row was fooled says nothing" if len(rows) and moved == 0 else None,
        n_evaluations=spent,
    )


def _take(
    oracle: Oracle, x: Tensor, y: Tensor, best: Tensor, rows: Tensor, made: Tensor, bounds: tuple[float, float]
) -> None:
    """Put ART's points into ``best``; one that rounding left on the near side of the boundary goes a little further."""
    moved = torch.nan_to_num(made.to(x.dtype) - x[rows])
    open_rows = torch.ones(len(rows), dtype=torch.bool, device=x.device)
    for further in (1.0, 1.001, 1.01):
        here = rows[open_rows]
        if len(here) == 0:
            return
        points = torch.where(moved[open_rows] == 0, x[here], (x[here] + further * moved[open_rows]).clamp(*bounds))
        best[here] = points
        open_rows[open_rows.clone()] = ~score_all(oracle, points, y[here], _BATCH).fooled


def smoothed_radius(
    model: Callable[[Tensor], Tensor],
    x: Tensor,
    *,
    sigma: float,
    draws: int = 1000,
    alpha: float = 0.001,
    bounds: tuple[float, float] = (0.0, 1.0),
    seed: int = 0,
) -> tuple[Tensor, Tensor]:
    """Certified l2 radius of the model smoothed by Gaussian noise: a statement on that one, not on ``model``.

    Args:
        model: ``(n, *features)`` tensor -> ``(n, k)`` logits.
        x: Inputs.
        sigma: Standard deviation of the noise.
        draws: Noisy copies of each row from which the radius is estimated.
        alpha: Chance that a radius is too large.
        bounds: Smallest and largest value; the noise is not clipped to them.
        seed: Of the noise.

    Returns:
        ``(n,)`` classes, -1 where the smoothed model abstains, and ``(n,)`` float64 radii, 0 where it abstains.

    Raises:
        UsageError: AK516 settings out of range.
        MissingExtra: AK301 when ART is not installed.

    Source: Cohen, Rosenfeld and Kolter (2019), algorithm CERTIFY.
    """
    if not (sigma > 0 and draws >= 1 and 0 < alpha < 1):
        raise UsageError("AK516", "sigma must be above 0, draws 1 or more, alpha between 0 and 1", where="sigma")
    if len(x) == 0:
        return torch.zeros(0, dtype=torch.int64), torch.zeros(0, dtype=torch.float64)
    smoothing = load("art.estimators.certification.randomized_smoothing")
    with oracle_of(model, x) as oracle, quiet(seed):
        with torch.no_grad():
            oracle.logits(x[:1])
        shape = _shape_of(oracle, x, None, _Decided(oracle)) | {"nb_classes": oracle.n_classes + 1}
        estimator = smoothing.PyTorchRandomizedSmoothing(**shape, sample_size=min(draws, 100), scale=sigma, alpha=alpha)
        classes, radii = estimator.certify(_array(x), n=draws, batch_size=_BATCH)
    decided = torch.as_tensor(np.asarray(classes, dtype=np.int64))
    decided = torch.where(decided == oracle.n_classes, -1, decided)
    size = torch.as_tensor(np.asarray(radii, dtype=np.float64))
    return decided, torch.where(decided < 0, 0.0, size)


def clever_scores(  # noqa: PLR0913 - an estimate's settings, each named at the call
    model: Callable[[Tensor], Tensor],
    x: Tensor,
    *,
    radius: float,
    norm: Literal["linf", "l2", "l1"] = "l2",
    n_batches: int = 10,
    batch_size: int = 64,
    bounds: tuple[float | Tensor, float | Tensor] = (0.0, 1.0),
    scale: float | Tensor = 1.0,
    seed: int = 0,
    tick: Callable[[int], None] | None = None,
) -> Tensor:
    """CLEVER: an estimate of the smallest perturbation that changes each decision, up to ``radius``. No certificate.

    Args:
        model: ``(n, *features)`` tensor -> ``(n, k)`` logits.
        x: Inputs.
        radius: Ball in which gradients are sampled, in units of scale; the score is never larger.
        norm: Norm of the perturbation.
        n_batches: Samples of the largest gradient norm.
        batch_size: Points of each.
        bounds: Smallest and largest value.
        scale: Size of one unit in each feature, 0 where it stays as it is; broadcasts to ``x``.
        seed: Of the points.
        tick: Called after every row with the number done; may raise to stop.

    Returns:
        ``(n,)`` float64 scores; NaN where the gradient is zero, which tells no distance.

    Raises:
        UsageError: AK516 settings out of range.
        MissingExtra: AK301 when ART is not installed.

    Source: Weng et al. (2018), algorithm 1; Goodfellow (2018) on how masked gradients raise it.
    """
    if not (radius > 0 and n_batches >= 1 and batch_size >= 1):
        raise UsageError("AK516", "radius must be above 0, n_batches and batch_size 1 or more", where="radius")
    if len(x) == 0:
        return torch.zeros(0, dtype=torch.float64)
    clever = load("art.metrics.metrics").clever_u
    order = {"linf": np.inf, "l2": 2, "l1": 1}[norm]
    threat = make_threat(x, radius, norm, bounds, scale)
    found = []
    with oracle_of(model, x) as oracle:
        for row in range(len(x)):
            place = torch.tensor([row], device=x.device)
            batch = threat.batch(x, torch.zeros(len(x), dtype=torch.int64, device=x.device), place)
            offsets = _Offsets(oracle, batch.x, batch.scale)
            if _flat_at(offsets, batch.x):
                found.append(float("nan"))
            else:
                still = torch.zeros_like(batch.x)
                with _estimator(oracle, still, _room(batch.lower, batch.upper), seed, offsets) as estimator:
                    start = _array(still)[0]
                    found.append(float(clever(estimator, start, n_batches, batch_size, radius, order, verbose=False)))
            if tick is not None:
                tick(row + 1)
    return torch.as_tensor(np.array(found, dtype=np.float64))


def _room(lower: Tensor, upper: Tensor) -> tuple[Any, Any]:
    """How far each feature may go; ART wants room in every one, and where there is none the scale is 0."""
    none = upper <= lower
    return _array(torch.where(none, -1.0, lower))[0], _array(torch.where(none, 1.0, upper))[0]


def _flat_at(offsets: _Offsets, x: Tensor) -> bool:
    """Whether the margin of the decision has no slope at the row."""
    here = torch.zeros_like(x).requires_grad_(True)
    with torch.enable_grad():
        logits = offsets(here)
        decided = logits.detach().argmax(dim=1)
        return not bool(input_gradient(margin(logits, decided, decided), here).any())


class _Asked(torch.nn.Module):
    """The oracle as a module: it casts, counts, and shows ART nothing that ART could change."""

    def __init__(self, oracle: Oracle) -> None:
        super().__init__()
        self.ask = oracle.logits

    def forward(self, points: Tensor) -> Tensor:
        """Logits in single precision."""
        return self.ask(points).float()


class _Decided(torch.nn.Module):
    """The oracle's decisions, one-hot, with a class more for logits that are not finite, which ART reads as a class."""

    def __init__(self, oracle: Oracle) -> None:
        super().__init__()
        self.ask = oracle.logits

    def forward(self, points: Tensor) -> Tensor:
        """``(m, k + 1)``."""
        logits = self.ask(points)
        none = ~torch.isfinite(logits).all(dim=1)
        codes = torch.where(none, logits.shape[1], logits.argmax(dim=1))
        return torch.nn.functional.one_hot(codes, logits.shape[1] + 1).float()


class _Offsets(torch.nn.Module):
    """The oracle around one row: logits of the row moved by offsets in units of scale."""

    def __init__(self, oracle: Oracle, x: Tensor, scale: Tensor) -> None:
        super().__init__()
        self.ask, self.x, self.scale = oracle.logits, x, scale

    def forward(self, offsets: Tensor) -> Tensor:
        """Logits in single precision."""
        return self.ask(self.x + self.scale * offsets).float()


@contextmanager
def _estimator(
    oracle: Oracle, x: Tensor, bounds: tuple[Any, Any], seed: int, module: torch.nn.Module | None = None
) -> Iterator[Any]:
    toolbox = load("art.estimators.classification.pytorch")
    with quiet(seed):
        yield toolbox.PyTorchClassifier(**_shape_of(oracle, x, bounds, module))


def _shape_of(
    oracle: Oracle, x: Tensor, bounds: tuple[Any, Any] | None, module: torch.nn.Module | None = None
) -> dict[str, Any]:
    return {
        "model": _Asked(oracle) if module is None else module,
        "loss": torch.nn.CrossEntropyLoss(),
        "input_shape": tuple(x.shape[1:]),
        "nb_classes": oracle.n_classes,
        "clip_values": bounds,
        "device_type": "gpu" if x.is_cuda else "cpu",
    }


def _array(x: Tensor) -> Any:
    return x.detach().cpu().float().numpy()
