"""From guessed coins to bounds, a chart and sentences."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from auditkit.analyzers.privacy.audit_trainings import Claim, Released
from auditkit.core.analyzer import Note
from auditkit.core.evidence import Curve, Measurement, Scalar, Series, Table
from auditkit.core.subject import Subject

if TYPE_CHECKING:
    from auditkit.methods.privacy.probe import Effect

AT_LEAST = "exact: a one-sided bound that holds with confidence {:.5g} by itself; it is compared as it is"
_TOLD = "exact: what the training is said to spend"
_MOST_PROBES = 40
_NOT_NORMAL = 1e-4
# Telling in from out better than this is reported as this.
_LARGEST_MU = 12.0
_TITLES = {
    "inputs": "canary rows, final model",
    "weights": "gradient canaries, final weights",
    "gradients": "gradient canaries, one released step",
}


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """Lower bounds on epsilon by name of what they assume, the guesses behind them, and the noise seen, if any."""

    epsilons: dict[str, float]
    made: int
    canaries: int
    correct: int
    noise: tuple[float, float, float] | None = None
    doubt: str | None = None


def step_mu(claim: Claim) -> float:
    """Distance, in noise deviations, that the claim allows a single step to put between in and out."""
    from auditkit.methods.privacy.tradeoff import gaussian_mu

    if claim.noise_multiplier is not None:
        return 1.0 / claim.noise_multiplier
    return gaussian_mu(claim.epsilon, claim.delta)


def probes_needed(claim: Claim, level: float, canaries: int) -> int:
    """Released steps that see halved noise with 99 % power."""
    from auditkit.methods.privacy.probe import canaries_needed

    mu = step_mu(claim)
    return min(_MOST_PROBES, math.ceil(canaries_needed(2.0 * mu, mu, level) / canaries))


def bounds(kind: str, claim: Claim, released: Released, level: float) -> Bounds:
    """All lower bounds that this audit gives."""
    from auditkit.methods.privacy.one_run import gaussian_mu_bound, guess, guess_by_mean, one_run_epsilon
    from auditkit.methods.privacy.probe import gaussian_effect
    from auditkit.methods.privacy.tradeoff import gaussian_epsilon

    m = len(released.scores)
    guesses = (
        guess(released.scores, released.included, m // 2)
        if kind == "inputs"
        else guess_by_mean(released.scores, released.included)
    )
    mu = gaussian_mu_bound(guesses, level)
    if kind != "gradients":
        found = {"eps-delta": one_run_epsilon(guesses, claim.delta, level)}
        if _gaussian_errs_low(claim):
            found["f-dp"] = gaussian_epsilon(mu, claim.delta)
        return Bounds(epsilons=found, made=guesses.made, canaries=m, correct=guesses.correct)
    effect = gaussian_effect(released.scores, released.included, level)
    found = {"f-dp": _composed(mu, claim)}
    doubt = None
    if effect.normal < _NOT_NORMAL:
        doubt = f"the noise is not normal (p = {effect.normal:.1g}), so that the Gaussian bound does not hold"
    else:
        found["gaussian"] = _composed(effect.low, claim)
    return Bounds(
        epsilons=found, made=guesses.made, canaries=m, correct=guesses.correct, noise=_noise_seen(effect), doubt=doubt
    )


def _noise_seen(effect: Effect) -> tuple[float, float, float] | None:
    """Noise over clipping norm: estimate, low, high; ``None`` where the data sets no limit to it."""
    if effect.infinite:
        return 0.0, 0.0, 0.0
    if effect.low <= 0.0:
        return None
    return 1.0 / effect.mu, 1.0 / effect.high, 1.0 / effect.low


def _gaussian_errs_low(claim: Claim) -> bool:
    """Whether the Gaussian mechanism of the same (epsilon, delta) is nowhere more private than the claimed one."""
    from auditkit.methods.privacy.tradeoff import dp_sgd_profile, gaussian_mu, gaussian_tradeoff, profile_tradeoff

    if claim.noise_multiplier is None:
        return True
    gaussian = gaussian_tradeoff(gaussian_mu(claim.epsilon, claim.delta))
    exact = profile_tradeoff(dp_sgd_profile(claim.noise_multiplier, claim.sample_rate, claim.steps))
    return all(exact(alarms) >= gaussian(alarms) - 1e-3 for alarms in np.geomspace(1e-3, 0.999, 60))


def _composed(mu: float, claim: Claim) -> float:
    """Epsilon of all steps when each tells in from out by ``mu`` at least; noise below a quarter of the claim counts
    as that quarter, which errs low."""
    from auditkit.methods.privacy.accounting import epsilon
    from auditkit.methods.privacy.tradeoff import gaussian_epsilon

    if claim.noise_multiplier is None:
        return gaussian_epsilon(min(mu, _LARGEST_MU), claim.delta)
    if mu * claim.noise_multiplier <= 0.1:
        return 0.0
    noise = max(1.0 / mu, claim.noise_multiplier / 4.0)
    return epsilon(noise, claim.sample_rate, claim.steps, claim.delta, "pld")


def measure(
    kind: str, claim: Claim, released: Released, control: Released | None, level: float
) -> Iterator[Measurement]:
    """Bounds, how well the guesses did, and what the audit could have seen."""
    found = bounds(kind, claim, released, level)
    params = _params(kind, claim)
    for assumption, value in found.epsilons.items():
        yield Measurement(
            name="privacy.epsilon_lower_bound",
            value=value,
            n=found.made,
            n_of="guesses",
            params={**params, "holds_for": assumption},
            direction="lower",
            bounds=(0.0, None),
            reason=AT_LEAST.format(level),
        )
    yield _accuracy(found, params, level)
    power = _power(kind, claim, control, level, found.canaries)
    if power is not None:
        yield power
    if kind == "gradients":
        yield _seen(found, params, level)


def verdicts(claims: Sequence[Claim], measured: Sequence[Measurement], failed: str | None) -> Iterator[Measurement]:
    """Every claim and how far the largest lower bound lies above it."""
    for claim in claims:
        params: dict[str, Scalar] = {"epsilon": claim.named}
        mine = [m for m in measured if m.params.get("epsilon") == claim.named and m.value is not None]
        found = [m for m in mine if m.name == "privacy.epsilon_lower_bound"]
        seen = [m for m in mine if m.name == "privacy.audit_power" and (m.value or 0.0) >= 0.5]
        told = [m for m in mine if m.name == "privacy.audit_power"]
        yield Measurement(
            name="privacy.epsilon_claimed",
            value=claim.epsilon,
            n=claim.n,
            params=params,
            bounds=(0.0, None),
            reason=_TOLD,
        )
        best = max(found, key=lambda m: m.value or 0.0, default=None)
        if best is None or best.value is None:
            yield Measurement(
                name="privacy.epsilon_excess",
                value=None,
                params=params,
                direction="lower",
                reason=failed or "no audit was made",
            )
            continue
        blind = best.value <= claim.epsilon and bool(told) and not seen
        yield Measurement(
            name="privacy.epsilon_excess",
            value=best.value - claim.epsilon,
            n=best.n,
            n_of="guesses",
            params=params,
            direction="lower",
            reason=best.reason,
            unreliable="no audit here would have seen even a training without noise" if blind else None,
        )


def _accuracy(found: Bounds, params: dict[str, Scalar], level: float) -> Measurement:
    from auditkit.stats.intervals import exact_share

    share = found.correct / found.made
    return Measurement(
        name="privacy.audit_accuracy",
        value=share,
        n=found.made,
        n_of="guesses",
        interval=exact_share(share, found.made, level),
        params=params,
        direction="lower",
        bounds=(0.0, 1.0),
    )


def _power(kind: str, claim: Claim, control: Released | None, level: float, canaries: int) -> Measurement | None:
    """What the audit can see: by calculation, or whether it caught a training without noise."""
    params = _params(kind, claim)
    if kind == "gradients":
        from auditkit.methods.privacy.probe import effect_power

        mu = step_mu(claim)
        value, fault, reason = effect_power(canaries, 2.0 * mu, mu, level), "half the noise", "exact: computed"
    elif control is None:
        return None
    else:
        caught = max(bounds(kind, claim, control, level).epsilons.values()) > claim.epsilon
        value, fault, reason = float(caught), "no noise", "exact: one training without noise, caught or not"
    return Measurement(
        name="privacy.audit_power",
        value=value,
        n=canaries,
        n_of="canaries",
        params={**params, "fault": fault},
        direction="higher",
        bounds=(0.0, 1.0),
        reason=reason,
    )


def _seen(found: Bounds, params: dict[str, Scalar], level: float) -> Measurement:
    from auditkit.core.evidence import Interval

    noise = found.noise
    interval = None if noise is None else Interval(low=noise[1], high=noise[2], level=2 * level - 1, method="nct")
    return Measurement(
        name="privacy.noise_multiplier_seen",
        value=None if noise is None else noise[0],
        n=found.canaries,
        n_of="canaries",
        interval=interval,
        params=params,
        direction="neutral",
        bounds=(0.0, None),
        reason="the canaries do not show, whatever the noise" if noise is None else None,
        unreliable=found.doubt,
    )


def _params(kind: str, claim: Claim) -> dict[str, Scalar]:
    return {"audit": kind, "epsilon": claim.named}


def chart(measured: Sequence[Measurement]) -> Iterator[Curve]:
    """Claims and lower bounds on one chart."""
    claimed = {float(m.params["epsilon"] or 0): m.value for m in measured if m.name == "privacy.epsilon_claimed"}
    names = tuple(sorted(claimed))
    lines = [Series(name="claimed: at most", x=names, y=tuple(claimed[name] for name in names))]
    for kind, title in _TITLES.items():
        best = [_best(measured, kind, name) for name in names]
        if any(value is not None for value in best):
            lines.append(Series(name=f"at least: {title}", x=names, y=tuple(best)))
    if len(lines) > 1:
        yield Curve(
            name="privacy.audit",
            title="Epsilon claimed and epsilon shown",
            x_label="claimed epsilon",
            y_label="epsilon",
            series=tuple(lines),
            note="A lower bound above the claim refutes it. One below it does not prove it.",
        )


def _best(measured: Sequence[Measurement], kind: str, epsilon: float) -> float | None:
    found = [
        m.value
        for m in measured
        if m.name == "privacy.epsilon_lower_bound"
        and (m.params["audit"], m.params["epsilon"]) == (kind, epsilon)
        and m.value is not None
    ]
    return max(found, default=None)


def table(measured: Sequence[Measurement], claims: Sequence[Claim]) -> Table:
    """Every claim and audit: the bounds, the guesses, what could have been seen."""
    rows: list[tuple[Scalar, ...]] = []
    for claim in claims:
        for kind, title in _TITLES.items():
            same = [m for m in measured if m.params.get("audit") == kind and m.params["epsilon"] == claim.named]
            bound = {str(m.params["holds_for"]): m.value for m in same if m.name == "privacy.epsilon_lower_bound"}
            right = next((m for m in same if m.name == "privacy.audit_accuracy"), None)
            power = next((m for m in same if m.name == "privacy.audit_power"), None)
            best = _best(measured, kind, claim.named)
            verdict = "not measured" if best is None else "REFUTED" if best > claim.epsilon else "not refuted"
            guesses = (right.value, right.n) if right else (None, None)
            faults = (power.params["fault"], power.value) if power else (None, None)
            kinds = (bound.get("eps-delta"), bound.get("f-dp"), bound.get("gaussian"))
            rows.append((claim.epsilon, title, *kinds, *guesses, *faults, verdict))
    return Table(
        name="privacy.audit",
        title="The claim and what refutes it",
        columns=(
            "claimed epsilon",
            "canaries",
            "at least (any mechanism)",
            "at least (f-DP)",
            "at least (Gaussian noise)",
            "guessed right",
            "guesses",
            "fault",
            "chance to see it",
            "verdict",
        ),
        rows=tuple(rows),
        note="Lower bounds hold for: any (epsilon, delta) mechanism; noisy SGD with the privacy curve that the claim "
        "implies; independent Gaussian noise.",
    )


def statements(subject: Subject, claims: Sequence[Claim], own: bool, level: float) -> Iterator[Note]:
    """What is audited, and what no audit can show."""
    recipe = subject.recipe
    assert recipe is not None
    what = "auditkit's private training by" if own else "the training of"
    smaller = ""
    if claims[0].noise_multiplier is not None or own:
        smaller = f", at the same sampling rate ({claims[0].sample_rate:.3g}) and number of steps ({claims[0].steps})"
    yield Note(
        f"Audited is {what} the recipe {recipe.name!r}, on canaries in place of the training rows{smaller}: a claim is "
        "about the training whatever its rows, and few rows show its faults best. No number here is about the model."
    )
    yield Note(
        f"All bounds hold together with confidence {level:g}. An audit refutes a claim or fails to; it never proves "
        "one. It cannot see: batches that are not Poisson-sampled, division by the realised batch size, preparation "
        "and settings chosen by looking at the rows, noise that can be guessed from its seed, and faults on rows "
        "unlike the canaries."
    )


def findings(measured: Sequence[Measurement], claims: Sequence[Claim]) -> Iterator[Note]:
    """One sentence a refuted claim; one for what was too weak to refute anything."""
    for claim in claims:
        found = {kind: _best(measured, kind, claim.named) for kind in _TITLES}
        for kind, best in found.items():
            if best is not None and best > claim.epsilon:
                yield Note(
                    f"REFUTED: the training spends an epsilon of at least {best:.3g}, not {claim.epsilon:.3g} as "
                    f"claimed ({_TITLES[kind]})."
                )
    for m in measured:
        if m.name == "privacy.audit_power" and m.value is not None and m.value < 0.5:
            yield Note(
                f"Too weak at epsilon {m.params['epsilon']}: the audit by {_TITLES[str(m.params['audit'])]} would "
                f"probably not have seen {m.params['fault']}."
            )
