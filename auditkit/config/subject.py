"""From a configuration to a :class:`~auditkit.core.subject.Subject`: files and factories read, columns put in place."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from auditkit.config.factories import call_factory
from auditkit.config.source import Source, read_source, resolve_path
from auditkit.core.errors import AuditkitError, UsageError

if TYPE_CHECKING:
    from auditkit.config.model import Config, DataSection, ModelSection
    from auditkit.core.subject import Subject


def subject_from_config(config: Config, device: str = "cpu", *, allowed: tuple[Path, ...] = ()) -> Subject:
    """Read the data, load the model, and join them.

    Args:
        config: A checked configuration.
        device: ``cpu`` or ``cuda``.
        allowed: Folders outside the project that files may be in.

    Raises:
        UsageError: A file, column or factory that is not there, with file and line; see also ``subjects.build``.
    """
    if config.model is None:
        from auditkit.config.counted import counted_subject

        with _located(config):
            counted = counted_subject(config, allowed)
        if counted is not None:
            return counted
    test = read_source(config, "test", config.data.test, allowed)
    check_columns(config, test)
    if config.model is None:
        return _saved_predictions(config, test)
    from auditkit.subjects.build import make_subject

    model = _model(config, config.model, device, allowed)
    takes = _columns_of(model)
    data = config.data
    train = None
    if data.train is not None:
        source = read_source(config, "train", data.train, allowed)
        y = source.column(data.target, where=config.where("data", "target"))
        sensitive = _sensitive(config, source) if set(data.sensitive) <= set(source.names) else None
        inputs = _inputs(config, source, takes)
        train = (inputs, y) if not sensitive else (inputs, y, sensitive)
    recipe = _recipe(config)
    with _located(config):
        return make_subject(
            model,
            _inputs(config, test, takes),
            test.column(data.target, where=config.where("data", "target")),
            sensitive=_sensitive(config, test) or None,
            train=train,
            weights=_optional(config, test, "weight"),
            clusters=_optional(config, test, "cluster"),
            task=data.task,
            positive=data.positive,
            schema=_schema(data),
            constraints=data.constraints,
            recipe=recipe,
            device=device,
            name=config.model.name or config.card.title or type(model).__name__,
        )


def _saved_predictions(config: Config, test: Source) -> Subject:
    from auditkit.subjects.build import make_predictions_subject

    data = config.data
    with _located(config):
        return make_predictions_subject(
            test.column(data.target, where=config.where("data", "target")),
            _optional(config, test, "prediction"),
            _scores(config, test),
            sensitive=_sensitive(config, test) or None,
            weights=_optional(config, test, "weight"),
            clusters=_optional(config, test, "cluster"),
            task=data.task,
            positive=data.positive,
            classes=data.classes,
            score_space=data.score_space,
            threshold=data.threshold,
            name=config.card.title or "saved predictions",
        )


_ARGUMENTS = {
    "y": "target",
    "y_true": "target",
    "y_pred": "prediction",
    "scores": "score",
    "score_space": "score_space",
    "threshold": "threshold",
    "sensitive": "sensitive",
    "weights": "weight",
    "clusters": "cluster",
    "positive": "positive",
    "train": "train",
}


@contextlib.contextmanager
def _located(config: Config) -> Iterator[None]:
    """Errors about an argument are told as errors about the line of the configuration that gave it."""
    try:
        yield
    except AuditkitError as error:
        key = _ARGUMENTS.get(error.where or "")
        given = None if key is None else getattr(config.data, key)
        if key is None or given is None:
            raise
        place = f"{config.where('data', key)}, {key} = {given if isinstance(given, tuple) else repr(given)}"
        raise type(error)(error.code, error.what, where=place, why=error.why, fix=error.fix) from error


def _model(config: Config, section: ModelSection, device: str, allowed: tuple[Path, ...]) -> Any:
    """The model object: from a file, from a factory, or a file's weights put into a factory's architecture."""
    where = config.where("model", "factory")
    made = None if section.factory is None else call_factory(section.factory, config.root, where=where)
    if section.path is not None:
        from auditkit.subjects.loading import load_model

        path = resolve_path(config, section.path, where=config.where("model", "path"), allowed=allowed)
        architecture = None if made is None else (lambda: made)  # a module is callable itself
        made = load_model(path, factory=architecture, sha256=section.sha256, allow_pickle=section.allow_pickle)
    if made is None:
        raise UsageError("AK136", f"the factory {section.factory!r} returned None", where=where, fix="return the model")
    if config.data.classes is not None and _is_torch_module(made):
        from auditkit.subjects.torch import TorchModel

        return TorchModel(made, classes=config.data.classes, device=device)
    return made


def _is_torch_module(model: Any) -> bool:
    return any(kind.__module__.partition(".")[0] == "torch" for kind in type(model).__mro__)


def _recipe(config: Config) -> Any:
    if config.training is None:
        return None
    where = config.where("training", "factory")
    made = call_factory(config.training.factory, config.root, where=where)
    if hasattr(made, "fit") and hasattr(made, "get_params"):
        from auditkit.subjects.recipes import SklearnRecipe

        return SklearnRecipe(estimator=made)
    if not hasattr(made, "fit") or not hasattr(made, "name"):
        raise UsageError(
            "AK136",
            f"{config.training.factory!r} returned {type(made).__name__}, not a training recipe",
            where=where,
            fix="return auditkit.TorchRecipe(...), auditkit.SklearnRecipe(...) or an unfitted estimator",
        )
    return made


def _columns_of(model: Any) -> frozenset[str]:
    """The columns that the model itself says it takes; empty when it does not say."""
    for owner in (model, getattr(model, "estimator", None)):
        names = getattr(owner, "feature_names_in_", None)
        if names is not None:
            return frozenset(str(name) for name in names)
    return frozenset()


def _inputs(config: Config, source: Source, takes: frozenset[str]) -> Any:
    """What the model takes of a split: the text column, the array, or the table without the columns named elsewhere."""
    data = config.data
    if data.text is not None:
        values = source.column(data.text, where=config.where("data", "text"))
        return ["" if missing else str(value) for value, missing in zip(values, _missing(values), strict=True)]
    if not source.is_table:
        return source.column(data.inputs, where=config.where("data", "inputs"))
    table: Any = source.columns
    kept = set(data.keep) | (takes & set(data.sensitive))
    other = {data.target, data.prediction, data.weight, data.cluster, *data.drop, *data.sensitive, *_score_names(data)}
    return table[[name for name in table.columns if str(name) not in other or str(name) in kept]]


def _missing(values: Any) -> Any:
    return np.asarray([value is None or value != value for value in values])


def check_columns(config: Config, source: Source) -> None:
    """Every column that ``[data]`` names must be there; all that are not are told at once."""
    data = config.data
    wanted: list[tuple[str, str]] = [("target", data.target)]
    wanted += [(key, value) for key in ("prediction", "weight", "cluster", "text") if (value := getattr(data, key))]
    wanted += [("score", name) for name in _score_names(data)]
    wanted += [("sensitive", name) for name in data.sensitive]
    wanted += [("drop", name) for name in data.drop]
    faults = []
    for key, name in wanted:
        try:
            source.column(name, where=config.where("data", key))
        except UsageError as error:
            faults.append(error)
    if len(faults) == 1:
        raise faults[0]
    if faults:
        raise UsageError(
            "AK135",
            f"{len(faults)} columns that [data] names are not in {source.where}",
            where=config.where("data"),
            why="\n       ".join(f"{fault.where}: {fault.what}; {fault.fix}" for fault in faults),
            fix="edit the lines named above",
        )


def _sensitive(config: Config, source: Source) -> dict[str, Any]:
    from auditkit.subjects.bins import binned

    where = config.where("data", "sensitive")
    found = {name: source.column(name, where=where) for name in config.data.sensitive}
    for name, borders in config.data.bins.items():
        found[name] = binned(found[name], borders, where=config.where("data", "bins"))
    return found


def _optional(config: Config, source: Source, key: str) -> Any:
    name = getattr(config.data, key)
    return None if name is None else source.column(name, where=config.where("data", key))


def _score_names(data: DataSection) -> tuple[str, ...]:
    return () if data.score is None else (data.score,) if isinstance(data.score, str) else data.score


def _scores(config: Config, source: Source) -> Any:
    """Saved scores ``(n,)`` or ``(n, k)``, checked to be numbers."""
    names = _score_names(config.data)
    if not names:
        return None
    where = config.where("data", "score")
    columns = []
    for name in names:
        values = np.asarray(source.column(name, where=where))
        try:
            columns.append(values.astype(np.float64))
        except (TypeError, ValueError) as error:
            raise UsageError(
                "AK138",
                f"the score column {name!r} is not numeric",
                where=where,
                why=str(error),
                fix="write scores as plain numbers from 0 to 1, with a decimal point",
            ) from error
    return columns[0] if isinstance(config.data.score, str) else np.column_stack(columns)


def _schema(data: DataSection) -> dict[str, Any] | None:
    if not data.features:
        return None
    return {name: feature.model_dump(exclude_defaults=True) for name, feature in data.features.items()}
