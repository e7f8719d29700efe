"""Large tables of saved predictions are counted as they are read, in little memory, instead of being kept."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from auditkit.config.factories import is_reference
from auditkit.config.source import Source, resolve_path
from auditkit.core.errors import UsageError

if TYPE_CHECKING:
    from auditkit.config.model import Config
    from auditkit.core.subject import Subject
    from auditkit.subjects.counting import ParquetFacts

# With more rows than this a table of saved predictions is counted rather than kept.
MANY_ROWS = 2_000_000


def counted_subject(config: Config, allowed: tuple[Path, ...] = ()) -> Subject | None:
    """The subject of a large Parquet file of predictions, or ``None`` when its rows are to be kept.

    Raises:
        UsageError: AK253 ``rows = "count"`` where that cannot be done; and the errors of ``subjects.counting``.
    """
    data = config.data
    if data.rows == "keep" or (is_reference(data.test) and not (config.root / data.test).exists()):
        return None
    forced = data.rows == "count"
    where = config.where("data", "rows" if forced else "test")
    if not data.test.lower().endswith((".parquet", ".pq")):
        _refuse_if(forced, "the rows are not in a Parquet file", where)
        return None
    from auditkit.subjects.counting import Columns, count_predictions, parquet_facts

    path = resolve_path(config, data.test, where=config.where("data", "test"), allowed=allowed)
    facts = parquet_facts(path)
    if not forced and facts.n_rows <= MANY_ROWS:
        return None
    reason = _unfit(config, facts)
    if reason is not None:
        _refuse_if(forced, reason, where)
        return None
    _check_present(config, facts, path.name)
    columns = Columns(
        target=data.target,
        prediction=data.prediction,
        score=data.score if isinstance(data.score, str) else None,
        sensitive=data.sensitive,
        threshold=data.threshold,
    )
    return count_predictions(
        path,
        columns,
        positive=data.positive,
        classes=data.classes,
        name=config.card.title or "saved predictions",
    )


def _refuse_if(forced: bool, reason: str, where: str) -> None:
    if forced:
        raise UsageError(
            "AK253", "these rows cannot be counted as they are read", where=where, why=reason, fix='set rows = "auto"'
        )


def _unfit(config: Config, facts: ParquetFacts) -> str | None:
    """Why the rows must be kept, if so."""
    data = config.data
    if data.weight is not None or data.cluster is not None:
        return "weights and clusters need every row"
    if data.score is not None and not isinstance(data.score, str):
        return "several score columns need every row"
    if data.score is not None and data.score_space != "probability":
        return "scores that are no probabilities need every row"
    labels = (data.target, *(() if data.prediction is None else (data.prediction,)))
    kinds = {facts.kinds.get(name, "") for name in labels}
    if data.task == "regression" or any(kind.startswith(("FLOAT", "DOUBLE", "DECIMAL")) for kind in kinds):
        return "values of a regression need every row"
    return None


def _check_present(config: Config, facts: ParquetFacts, file: str) -> None:
    from auditkit.config.subject import check_columns

    check_columns(config, Source(dict.fromkeys(facts.kinds), file))
