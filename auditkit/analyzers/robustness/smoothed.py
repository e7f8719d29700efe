"""The rows to certify as the module takes them, and what smoothing by noise proves of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from auditkit.analyzers.robustness.estimates import Rows
from auditkit.core.analyzer import Context
from auditkit.core.errors import NotApplicable
from auditkit.core.subject import DecidesFromScores, Differentiable, FloatArray, IntArray, Subject, take_rows

if TYPE_CHECKING:
    from auditkit.analyzers.robustness.arena import Grid
    from auditkit.analyzers.robustness.certificates import CertificateParams
    from auditkit.analyzers.robustness.lens import Lens
    from auditkit.analyzers.robustness.strikes import BoolArray


@dataclass(frozen=True, kw_only=True)
class Scene:
    """The rows looked at, as the module takes them.

    Attributes:
        positions: Of the rows in the test data; ``rows`` are their weights and clusters, ``y`` their labels.
        own: ``(n,)`` the audited model's decisions.
        tensor: ``(n, *features)``.
        unit: ``(n, *features)`` size of one unit of sigma in each coordinate, 0 where there is no noise.
    """

    grid: Grid
    model: Any
    positions: IntArray
    rows: Rows
    y: IntArray
    own: IntArray
    tensor: Any
    unit: Any
    groups: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Proved:
    """The radius of each row at which its label is certified, -1 where it is not, and what these radii rest on."""

    radii: FloatArray
    abstained: BoolArray
    largest: float
    undecided: float
    evaluations: int
    unreliable: str | None

    def at(self, radius: float) -> BoolArray:
        """Rows whose label is certified within ``radius``."""
        return np.asarray(self.radii >= radius)


def make_scene(subject: Subject, context: Context, params: CertificateParams) -> Scene:
    """A sample of the test rows, with what one unit of noise is in each coordinate of the module's tensor.

    Raises:
        NotApplicable: AK540 texts, AK541 nothing may move, AK599 a preparation that cannot be followed.
    """
    from auditkit.analyzers.robustness.arena import make_grid
    from auditkit.analyzers.robustness.attacked import rows_at_most
    from auditkit.analyzers.robustness.lens import find_lens

    model = subject.model
    assert isinstance(model, Differentiable)
    grid = make_grid(subject.test, freeze_sensitive=params.freeze_sensitive)
    positions = context.sample_rows(subject.test.n, rows_at_most(grid, params.max_rows))
    x = grid.encode(take_rows(subject.test.inputs, positions))
    lens = find_lens(grid, x, model.tensor)
    if lens is None:
        raise NotApplicable(
            "AK599",
            "noise on the rows has no counterpart in what the module takes",
            why="its preparation mixes columns that may change, or bends them",
            fix="give a preparation that scales each number by itself",
        )
    return Scene(
        grid=grid,
        model=model,
        positions=positions,
        rows=Rows.of(subject.test, positions),
        y=np.asarray(subject.test.y[positions], dtype=np.int64),
        own=np.asarray(context.decisions(), dtype=np.int64)[positions],
        tensor=lens.tensor,
        unit=_unit(grid, lens, x),
        groups={name: values[positions] for name, values in subject.test.sensitive.items()},
    )


def _unit(grid: Grid, lens: Lens, x: FloatArray) -> Any:
    import torch

    units = np.where(np.isnan(x), 0.0, grid.space.scale)
    flat = lens.per_coordinate(units, 0.0) * np.abs(lens.gain)
    like = lens.tensor
    return torch.as_tensor(flat.copy(), dtype=like.dtype, device=like.device).reshape(like.shape)


def prove(scene: Scene, context: Context, params: CertificateParams) -> Proved:
    """Certify every row of the scene, and check that decisions are the audited model's and each row's own."""
    from auditkit.methods.robustness.smoothing import certify, largest_radius

    decide = _decider(scene.model)
    total = len(scene.y) + min(params.clever_rows, len(scene.y))

    def tick(done: int) -> None:
        context.check_deadline()
        context.progress(done, total)

    fresh = np.concatenate([decide(part).cpu().numpy() for part in scene.tensor.split(1024)])
    found = certify(
        decide,
        scene.tensor,
        sigma=params.sigma,
        draws=params.draws,
        alpha=params.alpha,
        scale=scene.unit,
        model=scene.model.logits,
        seed=context.seed % 2**31,
        tick=tick,
    )
    classes = found.classes.numpy()
    unreliable = None
    if not (fresh == scene.own).all():
        unreliable = "the rows are decided otherwise through the module's tensor than by the audited model"
    elif not found.alone:
        unreliable = "the model decides a row otherwise when other rows stand beside it, so that no radius holds"
    return Proved(
        radii=np.where(classes == scene.y, found.radii.numpy(), -1.0),
        abstained=np.asarray(classes < 0),
        largest=largest_radius(params.sigma, params.draws, params.alpha),
        undecided=found.undecided,
        evaluations=found.n_evaluations,
        unreliable=unreliable,
    )


def _decider(model: Any) -> Any:
    """Points of the tensor -> the audited model's own decisions; -1 where its logits are not finite."""
    import torch

    def decide(points: Any) -> Any:
        with torch.no_grad():
            logits = model.logits(points).double()
        finite = torch.isfinite(logits).all(dim=1)
        scores = torch.softmax(logits, dim=1) if model.score_space == "probability" else logits
        if isinstance(model, DecidesFromScores):
            safe = torch.where(finite[:, None], scores, torch.ones_like(scores) / scores.shape[1])
            codes = torch.as_tensor(np.asarray(model.decide(safe.cpu().numpy()), dtype=np.int64), device=points.device)
        else:
            codes = scores.argmax(dim=1)
        return torch.where(finite, codes, -1)

    return decide
