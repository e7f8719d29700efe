"""One result type for every explanation method."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from auditkit.core.printable import printable
from auditkit.core.subject import FloatArray

AttributionStatus = Literal["exact", "estimated", "unverified", "failed"]


@dataclass(frozen=True, kw_only=True)
class Attribution:
    """Attributions of ``n`` rows over features for ``k`` outputs.

    Attributes:
        values: ``(n, *features, k)`` float64.
        prediction: ``(n, k)`` outputs of the *user's* model in ``output_space`` for the same rows.
        base_values: ``(n, k)`` for additive methods, else ``None``.
        output_space: ``probability``, ``logit``, ``margin`` or ``value``.
        output_names: Names of the ``k`` outputs.
        feature_names: Names along the feature axis (tabular); empty for images.
        std_error: Same shape as ``values`` for sampled methods; of few samples wider: 1.96 of them hold some 95 %.
        diagnostics: ``additivity_residual``, ``completeness_delta`` ... (largest absolute, in ``output_space``).
        status: ``exact`` (verified to rounding), ``estimated`` (verified within its error),
            ``unverified`` (the method has no such check) or ``failed`` (the check failed).
        reason: Why the status is ``failed`` or ``unverified``.
    """

    values: FloatArray
    prediction: FloatArray
    method: str
    output_space: str
    output_names: tuple[str, ...]
    status: AttributionStatus
    base_values: FloatArray | None = None
    feature_names: tuple[str, ...] = ()
    feature_groups: tuple[str, ...] = ()
    params: Mapping[str, object] = field(default_factory=dict)
    seed: int | None = None
    n_evals: int | None = None
    masker: str | None = None
    background_hash: str | None = None
    std_error: FloatArray | None = None
    diagnostics: Mapping[str, float] = field(default_factory=dict)
    reason: str | None = None

    def __repr__(self) -> str:
        size = f"values {' x '.join(map(str, self.values.shape))}"
        checks = "".join(f", {name} {value:.3g}" for name, value in self.diagnostics.items() if value is not None)
        why = f"; {self.reason}" if self.reason else ""
        return printable(f"<Attribution by {self.method}: {size} ({self.output_space}); {self.status}{checks}{why}>")

    def _repr_html_(self) -> str:
        from auditkit.core.notebook import html_of

        return html_of(self)
