"""What is known of a table's features: kinds, bounds, units, which way each may move, and rules that tie them together.

One record serves everything that changes rows: attacks, noise and counterfactuals.
"""

from __future__ import annotations

import functools
import math
import re
from dataclasses import dataclass
from typing import Literal

from auditkit.core.errors import UsageError

FeatureKind = Literal["numeric", "integer", "categorical", "boolean", "onehot", "datetime", "pixel", "token", "text"]
Moves = Literal["any", "up", "down"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Feature:
    """One feature.

    Attributes:
        name: Its column.
        kind: What its values are.
        low: Smallest value possible, observed or declared.
        high: Largest value possible.
        categories: The values that a category may take.
        group: One-hot group that the column belongs to.
        immutable: Nothing may change it.
        moves: Which way it may change: ``any``, ``up`` (an age) or ``down``.
        scale: Size of one unit of cost; for a category the cost of a change. ``None``: a standard deviation, and 1.
        unit: What its values are counted in, for people: ``years``, ``EUR``.
    """

    name: str
    kind: FeatureKind
    low: float | None = None
    high: float | None = None
    categories: tuple[str, ...] = ()
    group: str | None = None
    immutable: bool = False
    moves: Moves = "any"
    scale: float | None = None
    unit: str = ""

    def __post_init__(self) -> None:
        if self.moves not in ("any", "up", "down"):
            raise UsageError(
                "AK575", f"feature {self.name!r} moves {self.moves!r}", where="schema", fix="any, up or down"
            )
        if self.scale is not None and not (math.isfinite(self.scale) and self.scale > 0):
            raise UsageError(
                "AK575",
                f"the scale of feature {self.name!r} must be above 0, got {self.scale}",
                where="schema",
                fix="immutable = true keeps a feature where it is",
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Constraint:
    """A linear rule that every row keeps: ``sum(coefficient * feature) <= bound``.

    Attributes:
        terms: (feature name, coefficient), each feature once.
        bound: The right-hand side.
        text: The rule as it was written.
    """

    terms: tuple[tuple[str, float], ...]
    bound: float
    text: str


@dataclass(frozen=True, slots=True)
class Schema:
    """The features, in the order of the model's input columns, and the rules between them."""

    features: tuple[Feature, ...] = ()
    constraints: tuple[Constraint, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """Feature names in order."""
        return tuple(feature.name for feature in self.features)

    def __getitem__(self, name: str) -> Feature:
        for feature in self.features:
            if feature.name == name:
                return feature
        raise KeyError(name)


_NUMBER = r"(?>(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)"
_NAME = r"(?:`[^`]+`|[^\W\d]\w*)"


@functools.cache
def _term() -> re.Pattern[str]:
    """A signed term of a sum: a feature with or without a factor, or a number."""
    return re.compile(
        rf"(?P<signs>[-+\s]*)(?:(?:(?P<before>{_NUMBER})\s*\*?\s*)?(?P<name>{_NAME})(?:\s*\*\s*(?P<after>{_NUMBER}))?"
        rf"|(?P<constant>{_NUMBER}))\s*"
    )


def parse_constraint(text: str) -> tuple[Constraint, ...]:
    """The rule or rules that a line says; ``==`` gives two.

    Args:
        text: Sums of features with numbers before them and one of ``<=``, ``>=``, ``==``; names that are not one word
            stand in backticks.

    Raises:
        UsageError: AK576 the line cannot be read.

    >>> [(c.terms, c.bound) for c in parse_constraint("debt <= 0.5*income - 2")]
    [((('debt', 1.0), ('income', -0.5)), -2.0)]
    >>> len(parse_constraint("`part a` + `part b` == 1"))
    2
    """
    parts = re.split(r"(<=|>=|==)", text)
    if len(parts) != 3:
        raise _unreadable(text, "one of <=, >= and == is expected, once")
    (left, left_number), (right, right_number) = _linear(parts[0], text), _linear(parts[2], text)
    terms = dict(left)
    for name, coefficient in right.items():
        terms[name] = terms.get(name, 0.0) - coefficient
    terms = {name: coefficient for name, coefficient in terms.items() if coefficient != 0.0}
    if not terms:
        raise _unreadable(text, "it names no feature")
    bound = right_number - left_number
    below = Constraint(terms=tuple(terms.items()), bound=bound, text=text.strip())
    above = Constraint(terms=tuple((n, -c) for n, c in terms.items()), bound=-bound, text=text.strip())
    return {"<=": (below,), ">=": (above,), "==": (below, above)}[parts[1]]


def _linear(side: str, text: str) -> tuple[dict[str, float], float]:
    """Feature -> coefficient and the constant of one side."""
    terms: dict[str, float] = {}
    constant, place = 0.0, 0
    while place < len(side) or not side.strip():
        found = _term().match(side, place)
        if found is None:
            raise _unreadable(text, f"{side[place:].strip()[:20] or 'nothing'!r} is not a sum of features and numbers")
        signs = found["signs"]
        if place and "+" not in signs and "-" not in signs:
            raise _unreadable(text, f"a sign is missing before {side[place:].strip()[:20]!r}")
        sign = -1.0 if signs.count("-") % 2 else 1.0
        if found["name"] is None:
            constant += sign * float(found["constant"])
        else:
            name = found["name"].strip("`")
            factor = float(found["before"] or 1.0) * float(found["after"] or 1.0)
            terms[name] = terms.get(name, 0.0) + sign * factor
        place = found.end()
    return terms, constant


def _unreadable(text: str, why: str) -> UsageError:
    return UsageError(
        "AK576",
        f"the constraint {text[:80]!r} cannot be read",
        where="constraints",
        why=why,
        fix='write it as "debt <= 0.5*income - 2"; names that are not one word in backticks',
    )
