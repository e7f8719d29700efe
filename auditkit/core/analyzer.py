"""The analyzer: a frozen descriptor that holds a plain function. No base class, no state."""

from __future__ import annotations

import importlib
import inspect
import re
import time
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict

from auditkit.core.errors import DeadlineReached
from auditkit.core.evidence import Artifact, Measurement
from auditkit.core.seeds import seed_integer
from auditkit.core.subject import FloatArray, IntArray, Subject

if TYPE_CHECKING:
    import torch


class Params(BaseModel):
    """Base of every analyzer's parameters: frozen, and unknown keys are refused.

    A setting without a ``description`` of its own takes the one under ``Attributes:`` in its class's docstring.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        """Fill descriptions from the docstring."""
        described = _attributes(cls.__doc__ or "")
        for name, setting in cls.model_fields.items():
            if setting.description is None:
                setting.description = described.get(name)


def _attributes(docstring: str) -> dict[str, str]:
    """Name -> text of the ``Attributes:`` section of a docstring.

    >>> _attributes(Params.__doc__ or "")
    {}
    """
    found: dict[str, str] = {}
    section = inspect.cleandoc(docstring).partition("Attributes:")[2]
    for line in section.splitlines():
        entry = re.fullmatch(r" {4}(\w+): (.+)", line)
        if entry:
            found[entry[1]] = entry[2].strip()
        elif line.startswith(" " * 8) and found:
            found[list(found)[-1]] += " " + line.strip()
    return found


@dataclass(frozen=True, slots=True)
class Note:
    """A sentence for the card about how a number was made; yielded beside measurements."""

    text: str


Produced = Measurement | Artifact | Note


def first_of(items: Sequence[str], most: int = 8) -> str:
    """The first of ``items`` for a sentence, and how many more there are.

    >>> first_of(["age", "sex", "home"], most=2)
    'age, sex and 1 more'
    """
    return ", ".join(items[:most]) + (f" and {len(items) - most} more" if len(items) > most else "")


def _no_progress(done: int, total: int) -> None:
    """Silent by default."""


def _each_time(key: Hashable, make: Callable[[], Any]) -> Any:
    """Nothing is kept by default."""
    return make()


@dataclass(frozen=True, kw_only=True)
class Context:
    """What an analyzer may use of the run.

    Attributes:
        sequence: Source of this analyzer's randomness; independent of every other analyzer's.
        device: ``cpu`` or ``cuda``, resolved once for the run.
        deadline: ``time.monotonic()`` value after which work stops, or ``None``.
        progress: ``progress(done, total)``; cheap to call.
        predictions: The cached pass: ``predictions(split)`` gives ``(scores | None, decisions)``.
        run_seed: The seed of the whole run, for what several analyzers share (and then with a stream of its own).
        once: ``once(key, make)`` gives ``make()``, made once in the run for all analyzers that ask with this key; the
            key must name everything that the result depends on.
    """

    sequence: np.random.SeedSequence
    predictions: Callable[[str], tuple[FloatArray | None, npt.NDArray[Any]]]
    device: str = "cpu"
    deadline: float | None = None
    progress: Callable[[int, int], None] = _no_progress
    run_seed: int = 0
    once: Callable[[Hashable, Callable[[], Any]], Any] = _each_time

    @property
    def seed(self) -> int:
        """A 63-bit integer for libraries that want one; the same at every call."""
        return seed_integer(self.sequence)

    @property
    def rng(self) -> np.random.Generator:
        """A fresh generator; every call starts the same stream, so keep it in a variable."""
        return np.random.default_rng(self.sequence)

    def torch_generator(self) -> torch.Generator:
        """A fresh CPU ``torch.Generator`` on this analyzer's seed; the global one is left alone."""
        generator: torch.Generator = importlib.import_module("torch").Generator()
        generator.manual_seed(self.seed)
        return generator

    def scores(self, split: str = "test") -> FloatArray:
        """Scores ``(n, k)`` of the cached pass over ``split``."""
        scores, _ = self.predictions(split)
        if scores is None:
            raise ValueError("this model gives no scores; declare needs={'scores'}")
        return scores

    def decisions(self, split: str = "test") -> npt.NDArray[Any]:
        """The model's own decisions ``(n,)`` of the cached pass: int64 class codes, float64 for regression."""
        return self.predictions(split)[1]

    def check_deadline(self) -> None:
        """Stop here when the deadline has passed; what was yielded before is kept.

        Raises:
            DeadlineReached: AK320.
        """
        if self.deadline is not None and time.monotonic() > self.deadline:
            raise DeadlineReached("AK320", "the deadline of the run passed", fix="raise [run] deadline_seconds")

    def sample_rows(self, n: int, limit: int | None) -> IntArray:
        """Positions of at most ``limit`` of ``n`` rows, drawn without replacement, in ascending order."""
        if limit is None or n <= limit:
            return np.arange(n, dtype=np.int64)
        return np.sort(self.rng.choice(n, size=limit, replace=False)).astype(np.int64)


@dataclass(frozen=True, kw_only=True)
class Analyzer:
    """One analyzer.

    Attributes:
        name: ``family.method``; the family is the part before the first dot.
        version: Changes whenever the numbers may change; part of the resume key.
        title: A few words for the card.
        summary: One sentence: what it measures.
        reference: The paper or text that defines the method.
        needs: Capability words (:data:`auditkit.core.capability.WORDS`).
        measures: Measurement name -> one plain sentence on what it is.
        params: A :class:`Params` model; its defaults are the default settings.
        run: Yields measurements, artifacts and notes; what is yielded before a crash is kept.
        run_counted: The same for rows that were counted as they were read (``subject.test.counted``), where possible.
        extra: The pip extra it needs, if any; ``packages`` are the import names to look for.
        default: Whether a plan that names no analyzers runs it.
    """

    name: str
    version: str
    title: str
    summary: str
    reference: str
    needs: frozenset[str]
    measures: Mapping[str, str]
    params: type[Params]
    run: Callable[[Subject, Context, Any], Iterable[Produced]]
    extra: str | None = None
    packages: tuple[str, ...] = ()
    default: bool = True
    run_counted: Callable[[Subject, Context, Any], Iterable[Produced]] | None = None
    limits: str = field(default="")

    @property
    def family(self) -> str:
        """The part of the name before the first dot."""
        return self.name.split(".", 1)[0]
