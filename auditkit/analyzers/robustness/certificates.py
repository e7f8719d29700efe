"""What can be proved of the model smoothed by noise: accuracy certified within l2 radii; and CLEVER, an estimate."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field, field_validator

from auditkit.analyzers.robustness.estimates import (
    Estimate,
    Rows,
    groups_of_enough,
    levelled_proportion,
    median,
    proportion,
)
from auditkit.core.analyzer import Analyzer, Context, Note, Params, Produced
from auditkit.core.errors import MissingExtra, NotApplicable
from auditkit.core.evidence import Curve, Direction, Measurement, Scalar, Series, Table
from auditkit.core.subject import FloatArray, Subject

if TYPE_CHECKING:
    from auditkit.analyzers.robustness.smoothed import Proved, Scene
    from auditkit.analyzers.robustness.strikes import BoolArray

# Radii looked at when none are asked for, in units of sigma.
USUAL_RADII = (0.5, 1.0, 2.0)
# Points of the chart between 0 and the largest radius that these draws can certify.
CHART_POINTS = 25
# CLEVER looks for changes up to this many sigma when no radius is given.
CLEVER_SIGMAS = 4.0


class CertificateParams(Params):
    """Settings of ``robustness.certificates``.

    Attributes:
        sigma: Standard deviation of the noise: fractions of the pixel range (images), standard deviations of each
            number (tables).
        radii: l2 radii at which accuracy is told, in the same units; 0.5, 1 and 2 times sigma when left out. 0 is
            always among them.
        draws: Noisy copies of a row from which its radius is worked out; more allow larger radii.
        alpha: Chance that the certificate of a row is wrong.
        max_rows: Test rows looked at.
        clever_rows: Of these, rows with a CLEVER score; 0 leaves it out.
        clever_radius: Largest CLEVER score that is looked for; 4 times sigma when left out.
        min_group_rows: Groups with fewer rows among those looked at are left out.
        freeze_sensitive: Columns named as sensitive get no noise.
    """

    sigma: float = Field(default=0.25, gt=0.0, allow_inf_nan=False)
    radii: tuple[float, ...] | None = None
    draws: int = Field(default=1000, ge=10)
    alpha: float = Field(default=0.001, gt=0.0, lt=0.5)
    max_rows: int = Field(default=200, ge=1)
    clever_rows: int = Field(default=10, ge=0)
    clever_radius: float | None = Field(default=None, gt=0.0, allow_inf_nan=False)
    min_group_rows: int = Field(default=5, ge=1)
    freeze_sensitive: bool = True

    @field_validator("radii")
    @classmethod
    def _radii(cls, value: tuple[float, ...] | None) -> tuple[float, ...] | None:
        if value is not None and (not value or any(not np.isfinite(radius) or radius < 0 for radius in value)):
            raise ValueError("radii must be one or more finite numbers of 0 or more")
        return value

    @property
    def asked(self) -> tuple[float, ...]:
        """The radii that are told, 0 first."""
        chosen = self.radii or tuple(self.sigma * times for times in USUAL_RADII)
        return tuple(sorted({0.0, *map(float, chosen)}))


def run(subject: Subject, context: Context, params: CertificateParams) -> Iterator[Produced]:
    """Certify a sample of the test rows; yield certified accuracy by radius and group, a chart, and CLEVER."""
    from auditkit.analyzers.robustness.smoothed import make_scene, prove

    context.check_deadline()
    if len(subject.classes) < 2:
        raise NotApplicable("AK542", "the model knows fewer than two classes", why="no decision can be changed")
    scene = make_scene(subject, context, params)
    proved = prove(scene, context, params)
    yield from _overall(scene, proved, params)
    for radius in params.asked:
        yield from _at(scene, proved, params, radius)
    yield _curve(scene, proved, params)
    yield _table(scene, proved, params)
    if params.clever_rows:
        yield from _clever(subject, scene, context, params)
    yield from _notes(subject, scene, proved, params)


def _base(params: CertificateParams) -> dict[str, Scalar]:
    return {"norm": "l2", "sigma": float(params.sigma)}


def _share(  # noqa: PLR0913 - the fields of one record
    name: str,
    hits: BoolArray,
    rows: Rows,
    params: Mapping[str, Scalar],
    *,
    direction: Direction = "higher",
    group: Mapping[str, str] | None = None,
    unreliable: str | None = None,
    impossible: str | None = None,
) -> Measurement:
    found = Estimate(value=None, interval=None, reason=impossible) if impossible else proportion(hits, rows)
    return Measurement(
        name=name,
        value=found.value,
        n=len(hits),
        interval=found.interval,
        slice=group or {},
        params=params,
        direction=direction,
        bounds=(0.0, 1.0),
        reason=found.reason,
        unreliable=None if impossible else unreliable,
    )


def _overall(scene: Scene, proved: Proved, params: CertificateParams) -> Iterator[Measurement]:
    base, name = _base(params), "robustness.unsmoothed_accuracy"
    yield _share(name, np.asarray(scene.own == scene.y), scene.rows, {})
    name, why = "robustness.abstention_rate", proved.unreliable
    yield _share(name, proved.abstained, scene.rows, base, direction="lower", unreliable=why)
    mean = _mean_radius(scene, proved, params)
    yield Measurement(
        name="robustness.average_certified_radius",
        value=mean.value,
        n=len(scene.y),
        interval=mean.interval,
        params=base,
        unit=scene.grid.unit,
        direction="higher",
        bounds=(0.0, None),
        reason=mean.reason,
        unreliable=None if mean.value is None else why,
    )


def _mean_radius(scene: Scene, proved: Proved, params: CertificateParams) -> Estimate:
    """Mean certified radius; its limits are those of a share of the largest radius that these draws can certify."""
    from auditkit.analyzers.robustness.shifted import share_estimate

    impossible = _impossible(proved, params, 0.0)
    if impossible:
        return Estimate(value=None, interval=None, reason=impossible)
    share = share_estimate(np.clip(proved.radii / proved.largest, 0.0, 1.0), scene.rows)
    if share.value is None or share.interval is None:
        value = None if share.value is None else share.value * proved.largest
        return Estimate(value=value, interval=None, reason=share.reason)
    low, high = (limit * proved.largest for limit in (share.interval.low, share.interval.high))
    interval = replace(share.interval, low=low, high=high)
    return Estimate(value=share.value * proved.largest, interval=interval)


def _impossible(proved: Proved, params: CertificateParams, radius: float) -> str | None:
    """Why these settings could certify no model at ``radius``."""
    if radius <= proved.largest and proved.largest > 0.0:
        return None
    return (
        f"{params.draws} draws certify no radius above {proved.largest:.3g}, however robust the model: "
        "more draws or a larger sigma would"
    )


def _at(scene: Scene, proved: Proved, params: CertificateParams, radius: float) -> Iterator[Measurement]:
    """Certified accuracy at one radius, overall and by group."""
    from auditkit.stats.gaps import largest_gap

    tags = {**_base(params), "radius": radius}
    hits, impossible = proved.at(radius), _impossible(proved, params, radius)
    name = "robustness.certified_accuracy"
    yield _share(name, hits, scene.rows, tags, unreliable=proved.unreliable, impossible=impossible)
    for column, members in groups_of_enough(scene.groups, params.min_group_rows):
        for group, here in members.items():
            yield _share(
                name,
                hits[here],
                scene.rows.where(here),
                tags,
                group={column: group},
                unreliable=proved.unreliable,
                impossible=impossible,
            )
        if len(members) < 2:
            continue
        bounded = {group: levelled_proportion(hits[here], scene.rows.where(here)) for group, here in members.items()}
        gap = largest_gap(bounded, span=1.0)
        yield Measurement(
            name=f"{name}.difference",
            value=None if impossible else gap.value,
            n=gap.n,
            interval=None if impossible else gap.interval,
            over=(column,),
            params=tags,
            direction="lower",
            bounds=(0.0, 1.0),
            reason=impossible or gap.reason,
            unreliable=None if impossible else proved.unreliable,
        )


def _curve(scene: Scene, proved: Proved, params: CertificateParams) -> Curve:
    """Certified accuracy against radius, up to the largest that the draws allow, overall and by group."""
    everyone = np.ones(len(scene.y), dtype=np.bool_)
    lines = [("all rows", everyone)]
    for column, members in groups_of_enough(scene.groups, params.min_group_rows):
        lines += [(f"{column}: {group}", here) for group, here in members.items()]
    radii = tuple(float(r) for r in np.linspace(0.0, proved.largest, CHART_POINTS)) if proved.largest > 0 else (0.0,)
    series = tuple(
        Series.of(name, radii, [proportion(proved.at(radius)[here], scene.rows.where(here)) for radius in radii])
        for name, here in lines
    )
    return Curve(
        name="robustness.certified_accuracy_by_radius",
        title="Certified accuracy of the smoothed model",
        x_label=f"l2 radius ({scene.grid.unit})",
        y_label="certified accuracy",
        series=series,
        note=proved.unreliable or "Of the model smoothed by noise, not of the audited model itself.",
    )


def _table(scene: Scene, proved: Proved, params: CertificateParams) -> Table:
    rows = []
    for radius in params.asked:
        impossible = _impossible(proved, params, radius)
        hits = proved.at(radius)
        rows.append((radius, None if impossible else int(hits.sum()), len(hits), impossible or ""))
    return Table(
        name="robustness.certificates",
        title="Rows certified by radius",
        columns=("l2 radius", "rows certified", "of", "remark"),
        rows=tuple(rows),
        note=proved.unreliable
        or f"{int(proved.abstained.sum())} rows on which the smoothed model abstains count as not certified. No radius "
        f"above {proved.largest:.3g} can be certified with {params.draws} draws.",
    )


def _clever(subject: Subject, scene: Scene, context: Context, params: CertificateParams) -> Iterator[Produced]:
    """The median CLEVER score of some rows."""
    import torch

    from auditkit.analyzers.robustness.arena import deciding_logits
    from auditkit.methods.robustness.art_torch import clever_scores

    radius = params.clever_radius or CLEVER_SIGMAS * params.sigma
    chosen = context.sample_rows(len(scene.y), params.clever_rows)
    place = torch.as_tensor(chosen, device=scene.tensor.device)

    def tick(done: int) -> None:
        context.check_deadline()
        context.progress(len(scene.y) + done, len(scene.y) + len(chosen))

    try:
        scores = clever_scores(
            deciding_logits(scene.model),
            scene.tensor[place],
            radius=radius,
            bounds=(-float("inf"), float("inf")),
            scale=scene.unit[place],
            batch_size=16,
            seed=context.seed % 2**31,
            tick=tick,
        ).numpy()
        found = _median_score(scores, Rows.of(subject.test, scene.positions[chosen]), radius)
    except MissingExtra as error:
        found = Estimate(value=None, interval=None, reason=error.sentence())
    yield Measurement(
        name="robustness.clever_score",
        value=found.value,
        n=len(chosen),
        interval=found.interval,
        params={"norm": "l2", "largest": float(radius)},
        unit=scene.grid.unit,
        direction="higher",
        bounds=(0.0, None),
        reason=found.reason,
    )
    yield Note(
        f"CLEVER scores of {len(chosen)} rows are estimates from sampled gradients of the audited model, not "
        "certificates: masked gradients raise them, and an attack may find smaller changes."
    )


def _median_score(scores: FloatArray, rows: Rows, radius: float) -> Estimate:
    """Median of CLEVER scores; one at the largest that was looked for may be anything above it."""
    from auditkit.methods.robustness.checks import ZERO_GRADIENT_LIMIT

    told = np.isfinite(scores)
    flat = 1.0 - float(told.mean())
    if flat > ZERO_GRADIENT_LIMIT:
        return Estimate(value=None, interval=None, reason=f"unverified: no gradient on {flat:.0%} of the rows")
    found = median(np.where(scores >= radius * (1.0 - 1e-6), np.inf, scores)[told], rows.where(told))
    if found.reason and "never fooled" in found.reason:
        reason = f"half of the scores, or its interval's limit, reach {radius:g}, the largest looked for"
        return Estimate(value=found.value, interval=found.interval, reason=reason)
    return found


def _notes(subject: Subject, scene: Scene, proved: Proved, params: CertificateParams) -> Iterator[Note]:
    yield Note(
        f"Radii are in {scene.grid.unit}, as the l2 norm over all of them; {len(scene.y)} of {subject.test.n:,} rows "
        f"were looked at, with {proved.evaluations} model evaluations."
    )
    yield Note(
        f"The certificate of a row is wrong with chance {params.alpha:g} at most, on top of the interval over rows. It "
        "is of the model that answers by the majority of noisy copies; the audited model answers on the row alone and "
        "is not certified by it."
    )
    if proved.undecided:
        yield Note(f"{proved.undecided:.2%} of the noisy copies got no finite answer; they count against every class.")
    if scene.grid.frozen:
        shown = ", ".join(scene.grid.frozen[:12]) + (" ..." if len(scene.grid.frozen) > 12 else "")
        yield Note(f"Without noise, and so taken as never changed: {shown}.")


ANALYZER = Analyzer(
    name="robustness.certificates",
    version="4",
    title="Certificates by randomized smoothing",
    summary="Share of rows on which the model, smoothed by noise, provably keeps the right decision within l2 radii.",
    reference="Cohen, Rosenfeld and Kolter (2019); Weng et al. (2018), CLEVER",
    needs=frozenset({"model", "labels", "inputs", "gradients", "classification"}),
    measures={
        "robustness.certified_accuracy": "Share of rows that the smoothed model provably decides rightly within the "
        "radius; abstentions are not certified.",
        "robustness.certified_accuracy.difference": "Largest gap in that share between two groups.",
        "robustness.abstention_rate": "Share of rows on which the smoothed model does not decide.",
        "robustness.average_certified_radius": "Mean certified radius, 0 where the smoothed model is wrong or "
        "abstains.",
        "robustness.unsmoothed_accuracy": "Share of the same rows that the audited model decides rightly.",
        "robustness.clever_score": "Median CLEVER score: an estimate of the smallest l2 change that turns a decision "
        "of the audited model. Not a certificate.",
    },
    params=CertificateParams,
    run=run,
    extra="torch",
    packages=("torch",),
    default=False,
    limits="The certificate is of the smoothed model, in l2 only, and each row's may be wrong with chance alpha; the "
    "audited model is not certified. CLEVER is an estimate, which masked gradients raise.",
)
