"""How the Adversarial Robustness Toolbox is imported and run without leaving traces: for the modules that drive it."""

from __future__ import annotations

import importlib
import logging
import logging.config
import os
import sys
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from auditkit.core.errors import MissingExtra
from auditkit.core.generators import preserved_generators


def load(module: str) -> Any:
    """Import a module of ART without letting it touch logging or write to the home folder.

    Raises:
        MissingExtra: AK301 with the pip line.
    """
    configure = logging.config.dictConfig
    # `import art` calls dictConfig, which shuts down every handler that the program has open; undoing that
    # afterwards is not possible, so the call is made harmless while the import runs.
    logging.config.dictConfig = lambda config: None
    try:
        with quiet(), _elsewhere():
            return importlib.import_module(module)
    except ImportError as error:
        raise MissingExtra.of("robustness", error.name or "adversarial-robustness-toolbox") from error
    finally:
        logging.config.dictConfig = configure


@contextmanager
def _elsewhere() -> Iterator[None]:
    """Let the first import of ART write its settings into a folder that is then deleted, not into the user's home."""
    if "art.config" in sys.modules:
        yield
        return
    names = ("HOME", "USERPROFILE")
    before = {name: os.environ.get(name) for name in names}
    with tempfile.TemporaryDirectory(prefix="auditkit-art-") as folder:
        os.environ.update(dict.fromkeys(names, folder))
        try:
            yield
        finally:
            for name, value in before.items():
                if value is None:
                    os.environ.pop(name, None)
                else:
                    os.environ[name] = value


@contextmanager
def quiet(seed: int | None = None) -> Iterator[None]:
    """Run ART on a seed of its own, its warnings and log lines dropped, generators and log level given back."""
    logger = logging.getLogger("art")
    level = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        with warnings.catch_warnings(), preserved_generators(seed):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
