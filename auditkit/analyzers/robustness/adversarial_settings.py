"""Settings of ``robustness.adversarial``."""

from __future__ import annotations

from typing import Literal

import numpy as np
from pydantic import Field, field_validator, model_validator

from auditkit.core.analyzer import Params

AttackName = Literal[
    "pgd",
    "autoattack-fast",
    "autoattack",
    "deepfool",
    "carlini-l2",
    "carlini-linf",
    "boundary",
    "zoo",
    "decision-tree",
]


class AdversarialParams(Params):
    """Settings of ``robustness.adversarial``."""

    eps: tuple[float, ...] | None = Field(
        default=None,
        description="Radii: standard deviations of each numeric column (tables), fractions of the pixel range "
        "(images); [0.05, 0.1, 0.25] and [0.01, 0.03, 0.1] when left out, which norms other than linf do not allow.",
    )
    norm: Literal["linf", "l2", "l1"] = Field(
        default="linf",
        description="Norm of a change over all features of a row; l2 and l1 need a torch model, and l1 is PGD alone.",
    )
    attack: AttackName = Field(
        default="pgd",
        description="What is run beyond the usual. Torch models: autoattack, autoattack-fast or one of ART's deepfool, "
        "carlini-l2, carlini-linf, boundary, zoo follows PGD on the rows that still stand. Others: ART's boundary, zoo "
        "or decision-tree joins search and HopSkipJump on hopskipjump_rows.",
    )
    max_rows: int = Field(default=200, ge=1, description="Test rows looked at.")
    steps: int = Field(default=40, ge=1, description="Gradient steps (torch models).")
    restarts: int = Field(default=1, ge=1, description="Random starts of the gradient attack.")
    check_rows: int = Field(
        default=100,
        ge=0,
        description="Rows on which attacks that should agree are compared, as a check of the gradients "
        "(torch models); 0 leaves these checks out.",
    )
    search_rounds: int = Field(default=25, ge=1, description="Rounds of the guided search (other models).")
    hopskipjump_rows: int = Field(
        default=60, ge=0, description="Rows that HopSkipJump also attacks (other models); 0 leaves it out."
    )
    hopskipjump_steps: int = Field(default=5, ge=1, description="Steps of HopSkipJump.")
    hopskipjump_queries: int = Field(
        default=2000, ge=50, description="Most points that HopSkipJump may ask the model about, a row."
    )
    noise_draws: int = Field(
        default=20, ge=2, description="Draws of blind noise a row, the control that an attack must beat."
    )
    min_group_rows: int = Field(
        default=5, ge=1, description="Groups with fewer rows among those looked at are left out."
    )
    freeze_sensitive: bool = Field(default=True, description="Keep columns named as sensitive where they are.")

    @field_validator("eps")
    @classmethod
    def _radii(cls, value: tuple[float, ...] | None) -> tuple[float, ...] | None:
        if value is None:
            return None
        if not value or any(not np.isfinite(eps) or eps < 0 for eps in value):
            raise ValueError("eps must be one or more finite numbers of 0 or more")
        return tuple(sorted(set(value)))

    @model_validator(mode="after")
    def _norm_and_attack(self) -> AdversarialParams:
        if self.norm != "linf" and self.eps is None:
            raise ValueError(f"give eps with norm {self.norm}: a radius of one norm means nothing in another")
        if self.norm == "l1" and self.attack.startswith("autoattack"):
            raise ValueError("AutoAttack knows the norms linf and l2; use pgd with l1")
        return self
