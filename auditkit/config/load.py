"""Finding and reading a configuration: every fault at once, each with its line and the nearest key."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from auditkit.config.model import POLICY_KEYS, CardSection, Config, DataSection
from auditkit.core.errors import PolicyError, UsageError
from auditkit.core.registry import nearest
from auditkit.core.toml_file import PYPROJECT, TomlFile, UnreadableTomlError, read_toml
from auditkit.core.toml_lines import line_of

NAMES = ("auditkit.toml", "audit.toml")


def load_config(path: str | Path | None = None, *, start: Path | None = None) -> Config:
    """Read a configuration.

    Args:
        path: The file (``--config``), a folder that holds one, or ``None`` to look for one from ``start`` upwards.
        start: Where the search begins; the working folder by default.

    Raises:
        UsageError: AK130 there is none, AK131 not TOML, AK132 wrong keys or values (all of them, with lines).
    """
    file = find_config(start or Path.cwd()) if path is None else _given(Path(path))
    found = _read(file)
    return parse_config(found, path=file)


def find_config(start: Path) -> Path:
    """The nearest ``auditkit.toml``, ``audit.toml`` or ``pyproject.toml`` with ``[tool.auditkit]``.

    The search climbs from ``start`` and ends at the folder that holds ``.git``.

    Raises:
        UsageError: AK130.
    """
    start = start.resolve()
    for folder in (start, *start.parents):
        found = _config_in(folder)
        if found is not None:
            return found
        if (folder / ".git").exists():
            break
    raise UsageError(
        "AK130",
        "there is no configuration here",
        where=start.name or str(start),
        why="looked for auditkit.toml, audit.toml and [tool.auditkit] in pyproject.toml, here and above",
        fix="auditkit init, or name the file with --config FILE",
    )


def parse_config(file: TomlFile, *, path: Path) -> Config:
    """A checked configuration from the file ``path`` as it was read.

    Raises:
        UsageError: AK132 with one line for each fault.
    """
    document, text, prefix = file.document or {}, file.text, file.prefix
    faults: list[tuple[int | None, str]] = []
    config: Config | None = None
    try:
        config = Config.model_validate(dict(document))
    except ValidationError as error:
        for key, message in _faults(document, error.errors()):
            faults.append((line_of(text, (*prefix, *key)), message))
    else:
        for names, message in _contradictions(config):
            faults.append((line_of(text, (*prefix, *names)), message))
    policy_faults = _policy_faults(file, path.name)
    if faults or policy_faults or config is None:
        lines = [f"{path.name}:{line or 1}: {message}" for line, message in sorted(faults, key=lambda f: f[0] or 1)]
        raise UsageError(
            "AK132",
            f"the configuration {path.name} is wrong",
            why="\n       ".join([*lines, *policy_faults]),
            fix="edit the lines named above; `auditkit schema config` lists every key",
        )
    config._path, config._text, config._prefix = path.resolve(), text, prefix
    return config


def checked_card(card: Mapping[str, Any], *, where: str = "card") -> dict[str, Any]:
    """What a ``[card]`` says that comes as a mapping, without what it leaves out.

    Raises:
        UsageError: AK132 with one line for each fault.
    """
    try:
        return CardSection.model_validate(dict(card)).model_dump(mode="json", exclude_none=True)
    except ValidationError as error:
        inside = [{**fault, "loc": ("card", *fault["loc"])} for fault in error.errors()]
        raise UsageError(
            "AK132",
            "what the card should say is wrong",
            where=where,
            why="\n       ".join(message for _, message in _faults({"card": dict(card)}, inside)),
            fix="give the keys of [card]; `auditkit schema config` lists them",
        ) from error


def project_root(config_path: Path) -> Path:
    """The folder that files named by a configuration must stay under.

    It is the nearest folder above the file that holds ``.git`` or ``pyproject.toml``, else the file's own folder.
    """
    folder = config_path.resolve().parent
    for candidate in (folder, *folder.parents):
        if (candidate / ".git").exists() or (candidate / PYPROJECT).exists():
            return candidate
    return folder


def _given(path: Path) -> Path:
    if path.is_dir():
        found = _config_in(path)
        if found is not None:
            return found
    if not path.is_file():
        raise UsageError(
            "AK130",
            f"there is no configuration file {str(path)!r}",
            fix="auditkit init writes one; or name another with --config FILE",
        )
    return path


def _config_in(folder: Path) -> Path | None:
    for name in NAMES:
        if (folder / name).is_file():
            return folder / name
    pyproject = folder / PYPROJECT
    try:
        found = read_toml(pyproject)
    except UnreadableTomlError:
        return None
    return pyproject if found.document is not None else None


def _read(path: Path) -> TomlFile:
    try:
        found = read_toml(path)
    except UnreadableTomlError as error:
        if not error.syntax:
            raise UsageError(
                "AK131", f"cannot read {path.name!r}", why=error.why, fix="check the file and its encoding"
            ) from None
        raise UsageError(
            "AK131",
            "the configuration is not valid TOML",
            where=f"{path.name}:{error.line}" if error.line else path.name,
            why=error.why,
            fix="mend that line",
        ) from error
    if found.document is None:
        raise UsageError(
            "AK130",
            "pyproject.toml has no [tool.auditkit] table",
            where=path.name,
            fix="auditkit init, or --config FILE",
        )
    return found


def _policy_faults(file: TomlFile, name: str) -> list[str]:
    """The policy's own faults, as the policy room words them."""
    document = file.document or {}
    tables = {key: document[key] for key in POLICY_KEYS if key in document}
    if not tables:
        return []
    from auditkit.policy.model import parse_policy

    try:
        parse_policy(tables, text=file.own_text, where=name)
    except PolicyError as error:
        return [line.strip() for line in (error.why or error.what).splitlines() if line.strip()]
    return []


def _faults(
    document: Mapping[str, Any], errors: Iterable[Mapping[str, Any]]
) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """One ``(key path, message)`` for each key at fault; the branches of a union are joined."""
    seen: dict[tuple[str | int, ...], list[str]] = {}
    for fault in errors:
        key = _key_of(document, fault["loc"], fault["type"])
        if key and key[0] in POLICY_KEYS:
            continue  # the policy room says it better
        words = seen.setdefault(key, [])
        message = _message(key, fault)
        if words:  # another branch of the same union: the subject of the sentence is there already
            message = message.partition(": ")[2] or message
        if message not in words:
            words.append(message)
    for key, words in seen.items():
        yield key, ", or ".join(words)


def _key_of(document: object, loc: tuple[str | int, ...], kind: str) -> tuple[str | int, ...]:
    """``loc`` without the names of union branches that pydantic puts between keys."""
    key: list[str | int] = []
    here: Any = document
    for part in loc:
        if _holds(here, part):
            here = here[part]
        elif kind == "missing" and isinstance(here, Mapping):
            here = None
        else:
            continue
        key.append(part)
    return tuple(key)


def _holds(here: Any, part: str | int) -> bool:
    if isinstance(here, Mapping):
        return part in here
    return isinstance(here, list) and isinstance(part, int) and part < len(here)


def _message(key: tuple[str | int, ...], fault: Any) -> str:
    *parents, name = key if key else ("",)
    table = f"[{'.'.join(str(part) for part in parents)}]" if parents else "the top level"
    if fault["type"] == "extra_forbidden":
        return f"{table} has no key {str(name)!r}{_hint(tuple(parents), str(name))}"
    if fault["type"] == "missing":
        return f"{table} needs the key {str(name)!r}"
    text = fault["msg"].removeprefix("Value error, ")
    return f"{table} {name}: {text[:1].lower()}{text[1:]}, got {_short(fault['input'])}"


def _hint(parents: tuple[str | int, ...], name: str) -> str:
    """The nearest key of the same table, or the table where this key belongs."""
    homes = dict(_tables(Config, ()))
    here = homes.get(tuple(str(part) for part in parents), ())
    if not here and len(parents) == 3 and parents[:2] == ("data", "schema"):
        here = homes[("data", "schema", "*")]
    for table, keys in homes.items():
        if table and name in keys and "*" not in table:
            return f"; it belongs in [{'.'.join(table)}]"
    close = nearest(name, here)
    return f", {close}" if close else f"; it has {', '.join(here)}" if here else ""


def _tables(model: type[BaseModel], path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], tuple[str, ...]]]:
    """Every table of the configuration with the keys that it may hold."""
    yield path, tuple(field.alias or name for name, field in model.model_fields.items())
    for name, field in model.model_fields.items():
        for kind in (field.annotation, *get_args(field.annotation)):
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                nested = (field.alias or name, "*") if kind is not field.annotation and _is_mapping(field) else (name,)
                yield from _tables(kind, (*path, *nested))


def _is_mapping(field: Any) -> bool:
    return getattr(field.annotation, "__origin__", None) is dict


def _short(value: object, limit: int = 60) -> str:
    text = repr(value)
    return text if len(text) <= limit else text[: limit - 3] + "..."


def _contradictions(config: Config) -> Iterator[tuple[tuple[str, ...], str]]:
    """Keys that are each right but do not go together."""
    model, data = config.model, config.data
    if model is None:
        if data.prediction is None and data.score is None:
            yield ("data",), "without [model], [data] needs 'prediction' or 'score' (saved predictions)"
        if config.training is not None:
            yield ("training",), "[training] needs a [model]"
    else:
        if model.path is None and model.factory is None:
            yield ("model",), "[model] needs 'path' or 'factory'; leave [model] out for saved predictions"
        if model.allow_pickle and model.sha256 is None:
            yield ("model", "allow_pickle"), "[model] allow_pickle needs 'sha256', which pins the file that is run"
        for key in ("prediction", "score"):
            if getattr(data, key) is not None:
                yield ("data", key), f"[data] {key} is for saved predictions: leave [model] out, or drop this key"
    yield from _contradictions_of_data(data)


def _contradictions_of_data(data: DataSection) -> Iterator[tuple[tuple[str, ...], str]]:
    if data.score_space != "probability" and data.score is None:
        yield ("data", "score_space"), "[data] score_space says what a saved 'score' is, and there is none"
    if data.threshold is not None and (data.score is None or data.prediction is not None):
        yield ("data", "threshold"), "[data] threshold decides by a saved 'score', where there is no 'prediction'"
    if data.text is not None and data.features:
        yield ("data", "schema"), "[data] schema does not apply to a text column"
    for key in ("keep", "bins"):
        for name in getattr(data, key):
            if name not in data.sensitive:
                yield ("data", key), f"[data] {key} names {name!r}, which is not one of the sensitive columns"
