"""Opening model files without running what is in them.

Safe formats are skops (types on an allowlist), torch state dicts (``weights_only``) and safetensors. A
pickle runs code when it is opened: it is refused unless the caller says ``allow_pickle`` *and* pins the
file's sha256; the very bytes that were hashed are then loaded. A ``package.module:factory`` runs the
user's own code, as importing it does.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import importlib
import io
import pickle
import re
import warnings
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from auditkit.core.errors import LoadError, MissingExtra
from auditkit.core.registry import nearest
from auditkit.subjects.files import existing_file
from auditkit.subjects.skops_types import REVIEWED_TYPES

MAX_MODEL_BYTES = 4 * 2**30
SAFE_FORMATS = {
    ".skops": "skops",
    ".pt": "torch",
    ".pth": "torch",
    ".ckpt": "torch",
    ".bin": "torch",
    ".safetensors": "safetensors",
    ".pkl": "pickle",
    ".pickle": "pickle",
    ".joblib": "joblib",
}


def load_model(
    source: str | Path | Callable[[], Any],
    *,
    factory: Any = None,
    sha256: str | None = None,
    allow_pickle: bool = False,
    trusted: tuple[str, ...] = (),
    max_bytes: int = MAX_MODEL_BYTES,
) -> Any:
    """The model in a file, or made by a factory.

    Args:
        source: A ``.skops``, ``.pt``/``.pth`` (state dict), ``.safetensors``, ``.pkl`` or ``.joblib`` file;
            ``package.module:factory``; or a callable that returns the model.
        factory: For weights: the module to put them in, a callable that builds it, or ``package.module:factory``.
        sha256: The hash that the file must have; needed for pickles.
        allow_pickle: Whether a pickle whose hash is pinned may run.
        trusted: Further type names that a skops file may hold, after you have reviewed them.
        max_bytes: Largest file (and largest unpacked archive) that is opened.

    Returns:
        The user's own estimator or module.

    Raises:
        LoadError: AK230, AK235 to AK243: refused, or unreadable; nothing in the file has run.
    """
    if callable(source):
        return _called(source, getattr(source, "__qualname__", "factory"))
    if isinstance(source, str) and is_reference(source) and not Path(source).exists():
        return _called(import_reference(source), source)
    path = existing_file(source)
    kind = SAFE_FORMATS.get(path.suffix.lower())
    if kind is None:
        raise LoadError(
            "AK235",
            f"{path.name!r} is not a kind of model file that auditkit opens",
            where=path.name,
            fix=f"give {', '.join(SAFE_FORMATS)} or package.module:factory",
        )
    if kind in ("pickle", "joblib"):
        _refuse_unpinned(path, sha256, allow_pickle)
    content = _read_once(path, max_bytes)
    _check_hash(content, sha256, path.name)
    if kind == "skops":
        return _load_skops(content, path.name, trusted, max_bytes)
    if kind in ("pickle", "joblib"):
        return _load_pickle(content, path.name, kind)
    state = _load_torch(content, path.name) if kind == "torch" else _load_safetensors(content, path.name)
    return _into_module(state, factory, path.name)


def is_reference(text: str) -> bool:
    """Whether ``text`` reads as ``package.module:function``."""
    return re.fullmatch(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*", text) is not None


def import_reference(reference: str) -> Any:
    """The object that ``package.module:name`` names; importing it runs that module.

    Raises:
        LoadError: AK241.
    """
    module_name, _, names = reference.partition(":")
    try:
        found: Any = importlib.import_module(module_name)
    except (Exception, SystemExit) as error:
        raise LoadError(
            "AK241",
            f"{module_name!r} cannot be imported",
            where=reference,
            why=f"{type(error).__name__}: {error}",
            fix="install the package, or run from the folder that holds it",
        ) from error
    for name in names.split("."):
        if not hasattr(found, name):
            raise LoadError(
                "AK241", f"{module_name!r} has no {names!r}", where=reference, fix=nearest(name, list(vars(found)))
            )
        found = getattr(found, name)
    return found


def _called(factory: Any, name: str) -> Any:
    if not callable(factory):
        return factory
    try:
        return factory()
    except (Exception, SystemExit) as error:
        raise LoadError("AK241", "the factory raised", where=name, why=f"{type(error).__name__}: {error}") from error


def _read_once(path: Path, max_bytes: int) -> bytes:
    with path.open("rb") as stream:
        content = stream.read(max_bytes + 1)
    if len(content) > max_bytes:
        raise LoadError("AK243", f"{path.name!r} is larger than {max_bytes} bytes", where=path.name)
    return content


def _check_hash(content: bytes, sha256: str | None, name: str) -> None:
    if sha256 is None:
        return
    wanted = sha256.lower().removeprefix("sha256:")
    if re.fullmatch(r"[0-9a-f]{64}", wanted) is None:
        raise LoadError("AK237", "sha256 is not 64 hexadecimal digits", where=name, fix="copy what sha256sum prints")
    found = hashlib.sha256(content).hexdigest()
    if not hmac.compare_digest(found, wanted):
        raise LoadError(
            "AK237",
            f"{name!r} is not the file that was pinned",
            where=name,
            why=f"its sha256 is {found}",
            fix="find out who changed it; pin the new hash only if you trust the new file",
        )


def _refuse_unpinned(path: Path, sha256: str | None, allow_pickle: bool) -> None:
    if allow_pickle and sha256:
        return
    lacking = "allow_pickle is off" if not allow_pickle else "no sha256 pins it"
    raise LoadError(
        "AK236",
        f"{path.name!r} is a pickle and is refused",
        where=path.name,
        why=f"opening a pickle runs whatever code is in it, and {lacking}",
        fix='save it with skops.io.dump (torch: the state_dict), or set allow_pickle = true and sha256 = "..."',
    )


def _load_skops(content: bytes, name: str, trusted: tuple[str, ...], max_bytes: int) -> Any:
    try:
        import skops.io as skops
    except ImportError as error:
        raise MissingExtra.of("sklearn", "skops") from error
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            unpacked = sum(item.file_size for item in archive.infolist())
        if unpacked > max_bytes:
            raise LoadError("AK243", f"{name!r} unpacks to {unpacked} bytes; at most {max_bytes} are read", where=name)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = set(skops.get_untrusted_types(data=content))
    except LoadError:
        raise
    except Exception as error:
        raise _unreadable(name, "a skops file", error) from error
    unknown = sorted(found - REVIEWED_TYPES - set(trusted))
    if unknown:
        raise LoadError(
            "AK238",
            f"{name!r} holds types that are not on the reviewed list: {', '.join(unknown[:8])}",
            where=name,
            why="building them could run code",
            fix="review them, then load the model in a factory of your own with skops.io.load(trusted=[...])",
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return skops.loads(content, trusted=sorted(found))
    except (Exception, SystemExit) as error:
        raise _unreadable(name, "a skops file", error) from error


def _load_pickle(content: bytes, name: str, kind: str) -> Any:
    """Unpickle bytes whose hash was pinned by the caller, who said that they may run."""
    try:
        if kind == "joblib":
            # joblib is scikit-learn's own dependency, so it is there whenever such a file makes sense
            return importlib.import_module("joblib").load(io.BytesIO(content))
        return pickle.loads(content)  # noqa: S301 - allowed and pinned by the caller
    except Exception as error:
        raise _unreadable(name, f"a {kind} file", error) from error


def _load_torch(content: bytes, name: str) -> Mapping[str, Any]:
    torch = _torch()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            loaded = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:
        raise LoadError(
            "AK239",
            f"{name!r} is not a plain state dict and is refused",
            where=name,
            why=f"{type(error).__name__}: whole modules and scripts run code when they are opened",
            fix="save model.state_dict() with torch.save, and name a factory that builds the module",
        ) from error
    for key in ("state_dict", "model_state_dict", "model"):
        if isinstance(loaded, Mapping) and isinstance(loaded.get(key), Mapping):
            loaded = loaded[key]
            break
    if not isinstance(loaded, Mapping) or not loaded or not all(torch.is_tensor(item) for item in loaded.values()):
        raise LoadError(
            "AK239", f"{name!r} holds no state dict", where=name, fix="save model.state_dict() with torch.save"
        )
    return loaded


def _load_safetensors(content: bytes, name: str) -> Mapping[str, Any]:
    _torch()
    try:
        from safetensors.torch import load
    except ImportError as error:
        raise MissingExtra.of("torch", "safetensors") from error
    try:
        state: Mapping[str, Any] = load(content)
    except Exception as error:
        raise _unreadable(name, "a safetensors file", error) from error
    return state


def _into_module(state: Mapping[str, Any], factory: Any, name: str) -> Any:
    """Put weights into the module that the factory gives; every tensor must find its place."""
    if factory is None:
        raise LoadError(
            "AK240",
            f"{name!r} holds weights; the module to put them in is not known",
            where=name,
            fix='name a function that builds it: factory = "package.module:build"',
        )
    torch = _torch()
    if isinstance(factory, str):
        factory = import_reference(factory)
    module = factory if isinstance(factory, torch.nn.Module) else _called(factory, "factory")
    if not isinstance(module, torch.nn.Module):
        raise LoadError("AK240", f"the factory returned {type(module).__name__}, not a torch module", where=name)
    state = {key.removeprefix("module."): value for key, value in state.items()}
    try:
        module.load_state_dict(state, strict=True)
    except RuntimeError as error:
        raise LoadError(
            "AK240",
            f"the weights in {name!r} do not fit the module",
            where=name,
            why=" ".join(str(error).split())[:300],
            fix="build the module with the settings that it was trained with",
        ) from error
    return module.eval()


def _torch() -> Any:
    try:
        import torch
    except ImportError as error:
        raise MissingExtra.of("torch", "torch") from error
    return torch


def _unreadable(name: str, what: str, error: Exception | SystemExit) -> LoadError:
    text = ""
    with contextlib.suppress(Exception):
        text = " ".join(str(error).split())[:200]
    return LoadError("AK242", f"{name!r} cannot be read as {what}", where=name, why=f"{type(error).__name__}: {text}")
