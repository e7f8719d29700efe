"""Checkpoint and resume: a finished analyzer is never run twice for the same question."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass, fields
from pathlib import Path

from auditkit.core.evidence import SCHEMA_ID, Interval, Measurement, Outcome
from auditkit.core.plan import Step
from auditkit.core.schema import canonical_json, outcome_document, outcome_from, sha256_of, write_text
from auditkit.core.subject import Subject

LOG = logging.getLogger("auditkit")
FOLDER = ".auditkit"


def resume_key(subject: Subject, step: Step, seed: int, device: str) -> str | None:
    """What a finished outcome is filed under, or ``None`` when the model or recipe has no fingerprint.

    The key covers the analyzer and its version, its parameters, the fingerprints of model, data and
    (where the analyzer trains) recipe, the task, the seed, the device, the schema of the evidence and the fields of a
    measurement: what was filed before it had them all is measured afresh.
    """
    analyzer = step.analyzer
    if analyzer is None or subject.model.fingerprint is None:
        return None
    recipe = None
    if analyzer.needs & {"retrain", "torch_recipe"} and subject.recipe is not None:
        recipe = getattr(subject.recipe, "fingerprint", None)
        if recipe is None:
            return None
    return sha256_of(
        {
            "schema": SCHEMA_ID,
            "fields": [field.name for record in (Measurement, Interval) for field in fields(record)],
            "analyzer": analyzer.name,
            "version": analyzer.version,
            "params": step.params.model_dump(mode="json"),
            "model": subject.model.fingerprint,
            "test": subject.test.fingerprint,
            "train": None if subject.train is None else subject.train.fingerprint,
            "recipe": recipe,
            "task": subject.task,
            "positive": subject.positive,
            "seed": seed,
            "device": device,
        }
    )


@dataclass(frozen=True)
class Checkpoints:
    """Finished outcomes in a folder, one file each."""

    folder: Path

    def load(self, key: str | None) -> Outcome | None:
        """The outcome filed under ``key``; a damaged file counts as absent."""
        if key is None:
            return None
        path = self._path(key)
        try:
            document = json.loads(path.read_text(encoding="utf-8"))
            if document["key"] != key:
                raise ValueError("key differs")
            return outcome_from(document["outcome"])
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError, OSError) as error:
            LOG.warning("checkpoint %s is damaged and ignored: %s", path.name, error)
            return None

    def save(self, key: str | None, outcome: Outcome) -> None:
        """File a finished outcome; one that failed or was skipped is left to be tried again."""
        if key is not None and outcome.status in ("measured", "not_applicable"):
            write_text(self._path(key), canonical_json({"key": key, "outcome": outcome_document(outcome)}))

    def clear(self) -> None:
        """Forget everything (``--fresh``)."""
        for path in self.folder.glob("*.json"):
            path.unlink(missing_ok=True)

    def _path(self, key: str) -> Path:
        return self.folder / f"{key.removeprefix('sha256:')[:40]}.json"
