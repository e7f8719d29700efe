"""``fairness.subgroups``: which subgroups of the features fare worst, marked as exploratory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from auditkit.core.analyzer import Analyzer, Context, Note, Params, Produced
from auditkit.core.errors import NotApplicable
from auditkit.core.evidence import Interval, Measurement, Table
from auditkit.core.subject import Dataset, IntArray, Subject

if TYPE_CHECKING:
    from auditkit.methods.fairness.subgroups import Binned, Search

Rate = Literal["error_rate", "selection_rate", "false_positive_rate", "false_negative_rate"]
_CATEGORIES = ("categorical", "boolean", "onehot")


class SubgroupsParams(Params):
    """Settings of ``fairness.subgroups``."""

    rates: tuple[Rate, ...] = Field(("error_rate", "selection_rate"), description="Rates whose gaps are looked for.")
    depth: int = Field(2, ge=1, le=3, description="Most conditions that make a subgroup.")
    bins: int = Field(4, ge=2, le=10, description="Bins of a numeric feature.")
    max_columns: int = Field(20, ge=1, description="Features searched, in the order of the table.")
    min_rows: int = Field(50, ge=10, description="Fewest rows of a subgroup.")
    max_rows: int = Field(20_000, ge=20, description="Rows searched.")
    permutations: int = Field(199, ge=19, description="Permutations behind the adjusted p-values.")
    level: float = Field(0.95, gt=0.5, lt=1.0, description="Simultaneous confidence level.")
    top: int = Field(20, ge=1, description="Subgroups listed.")


def run(subject: Subject, context: Context, params: SubgroupsParams) -> Iterator[Produced]:
    """A search for each rate over the features and the sensitive columns."""
    from auditkit.methods.fairness.subgroups import Settings, search

    context.check_deadline()
    test = subject.test
    if test.weights is not None or test.clusters is not None:
        raise NotApplicable(
            "AK460", "weighted or clustered rows are not exchangeable, so the permutation test behind the search fails"
        )
    features = _features(test, params)
    yield Note(
        "Subgroups were chosen from the data. They are exploratory: confirm them on rows that were not searched before "
        "acting on them."
    )
    settings = Settings(params.depth, params.min_rows, params.permutations, params.level, params.top)
    positive, decisions, rng = subject.positive, context.decisions(), context.rng
    for done, rate in enumerate(params.rates):
        context.check_deadline()
        counted, hits = _outcome(rate, test.y == positive, decisions == positive)
        rows = np.flatnonzero(counted)
        rows = rows[context.sample_rows(len(rows), params.max_rows)]
        found = search(
            [_taken(feature, rows) for feature in features],
            hits[rows],
            rng,
            settings,
            context.check_deadline,
        )
        yield from _report(rate, found, len(rows), params)
        context.progress(done + 1, len(params.rates))


def _features(test: Dataset, params: SubgroupsParams) -> list[Binned]:
    """The features of the table in bins, then the sensitive columns that are not among them."""
    from auditkit.methods.fairness.subgroups import Binned, bin_numbers
    from auditkit.stats.coding import encode_groups
    from auditkit.subjects.codec import make_codec

    codec = make_codec(test)
    matrix = codec.encode(test.inputs)
    found: list[Binned] = []
    for at, (name, kind) in enumerate(zip(codec.names, codec.kinds, strict=True)):
        if name in test.sensitive or len(found) >= params.max_columns:
            continue
        distinct = len(np.unique(matrix[:, at]))
        if kind not in _CATEGORIES and distinct > params.bins:
            found.append(bin_numbers(name, matrix[:, at], params.bins))
        elif distinct <= 20:
            names, codes = encode_groups(_labels(test, name, matrix[:, at]))
            found.append(Binned(name, names, codes.astype(np.int64)))
    for name, values in test.sensitive.items():
        names, codes = encode_groups(values)
        if len(names) <= 20:
            found.append(Binned(name, names, codes.astype(np.int64)))
    return found


def _labels(test: Dataset, name: str, column: npt.NDArray[np.float64]) -> object:
    """The column's own values where the table has them, so that a subgroup reads as the user wrote it."""
    if hasattr(test.inputs, "columns") and name in test.inputs.columns:
        return test.inputs[name].astype(object).to_numpy()
    return column


def _taken(feature: Binned, rows: IntArray) -> Binned:
    from auditkit.methods.fairness.subgroups import Binned

    return Binned(feature.name, feature.bins, feature.code[rows])


def _outcome(
    rate: Rate, y: npt.NDArray[np.bool_], decided: npt.NDArray[np.bool_]
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Which rows the rate counts, and which of them are hits."""
    if rate == "error_rate":
        return np.ones(len(y), dtype=bool), y != decided
    if rate == "selection_rate":
        return np.ones(len(y), dtype=bool), decided
    return (~y, decided) if rate == "false_positive_rate" else (y, ~decided)


def _report(rate: Rate, found: Search, n: int, params: SubgroupsParams) -> Iterator[Produced]:
    if not found.found:
        reason = f"no subgroup has {params.min_rows} rows, with as many outside it"
        yield Measurement(name="fairness.worst_subgroup_gap", value=None, n=n, params={"rate": rate}, reason=reason)
        return
    worst = found.found[0]
    gap = abs(worst.rate - worst.rest)
    low, high = sorted((abs(worst.low), abs(worst.high)))
    if worst.low <= 0.0 <= worst.high:
        low = 0.0
    yield Measurement(
        name="fairness.worst_subgroup_gap",
        value=gap,
        n=worst.n,
        interval=Interval(low=min(low, gap), high=max(high, gap), level=params.level, method="max-t-permutation"),
        params={"rate": rate, "looked_at": found.looked_at},
        direction="lower",
        bounds=(0.0, 1.0),
    )
    yield Measurement(
        name="fairness.worst_subgroup_p_value",
        value=worst.p_value,
        n=n,
        params={"rate": rate, "looked_at": found.looked_at},
        bounds=(0.0, 1.0),
        reason="a p-value has no interval",
    )
    yield Table(
        name=f"fairness.subgroups.{rate}",
        title=f"Subgroups whose {rate.replace('_', ' ')} differs most from the rest (exploratory)",
        columns=("subgroup", "rows", "rate", "rate of the rest", "difference from", "to", "adjusted p"),
        rows=tuple(
            (
                " and ".join(f"{name}: {label}" for name, label in item.conditions),
                item.n,
                item.rate,
                item.rest,
                item.low,
                item.high,
                item.p_value,
            )
            for item in found.found
        ),
        note=(
            f"{found.looked_at} subgroups were looked at; limits and p-values hold for all of them at once. "
            "Exploratory: confirm on other rows."
        ),
    )


ANALYZER = Analyzer(
    name="fairness.subgroups",
    version="1",
    title="Worst subgroups (exploratory)",
    summary="Which conjunctions of features fare worst, with an error rate that knows how many were looked at.",
    reference="Westfall and Young (1993), max-T; Chung et al. (2019), Slice Finder; Kearns et al. (2018)",
    needs=frozenset({"labels", "inputs", "tabular", "binary"}),
    measures={
        "fairness.worst_subgroup_gap": "Gap of a rate between the worst subgroup that was found and all other rows.",
        "fairness.worst_subgroup_p_value": "Chance of so large a gap anywhere if outcomes did not depend on features.",
    },
    params=SubgroupsParams,
    run=run,
    default=False,
    limits="Exploratory. Subgroups are conjunctions of bins fixed without looking at outcomes; others are not seen.",
)
