"""Coded errors: what went wrong, where, why, and the edit or command that mends it."""

from __future__ import annotations


class AuditkitError(Exception):
    """A fault that auditkit can explain.

    Args:
        code: Stable code such as ``AK101``; documented in ``docs/errors.md``.
        what: One sentence: what went wrong.
        where: File and line, column name or argument, when there is one.
        why: Why it matters or how it came about.
        fix: The edit or command that mends it.
    """

    exit_code = 3

    def __init__(
        self,
        code: str,
        what: str,
        *,
        where: str | None = None,
        why: str | None = None,
        fix: str | None = None,
    ) -> None:
        self.code = code
        self.what = what
        self.where = where
        self.why = why
        self.fix = fix
        super().__init__(self.text())

    def text(self) -> str:
        """The whole message, one labelled line for each part that is known."""
        lines = [f"{self.code} {self.what}"]
        for label, part in (("where", self.where), ("why", self.why), ("fix", self.fix)):
            if part:
                lines.append(f"  {label}: {part}")
        return "\n".join(lines)

    def sentence(self) -> str:
        """The message on one line, for outcomes and tables.

        >>> AuditkitError("AK300", "no rows", where="X", why="the file is empty", fix="give rows").sentence()
        'AK300 no rows (X): the file is empty. Fix: give rows'
        """
        told = f"{self.code} {self.what}"
        if self.where:
            told += f" ({self.where})"
        if self.why:
            told += f": {self.why}"
        if self.fix:
            told += ("" if told.endswith((".", "!", "?")) else ".") + f" Fix: {self.fix}"
        return told

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return (_rebuild, (type(self), self.code, self.what, self.where, self.why, self.fix))


def _rebuild(
    kind: type[AuditkitError],
    code: str,
    what: str,
    where: str | None,
    why: str | None,
    fix: str | None,
) -> AuditkitError:
    return kind(code, what, where=where, why=why, fix=fix)


class UsageError(AuditkitError):
    """Bad arguments, data or configuration: exit code 2."""

    exit_code = 2


class PolicyError(UsageError):
    """A policy file that cannot be read as one."""


class LoadError(UsageError):
    """A model or data file that is refused or cannot be read."""


class EvidenceError(UsageError):
    """An evidence file that is not one, or whose schema is newer than this release."""


class NotApplicable(AuditkitError):
    """The analyzer does not apply to this subject; becomes a ``not_applicable`` outcome."""

    exit_code = 0


class MissingExtra(AuditkitError):
    """A package of an optional extra is absent; carries the exact pip line."""

    exit_code = 3

    @classmethod
    def of(cls, extra: str, package: str) -> MissingExtra:
        """The error for a missing ``package`` that the extra ``extra`` brings."""
        return cls(
            "AK301",
            f"{package} is not installed",
            why=f"it belongs to the optional extra [{extra}]",
            fix=f'pip install "auditkit[{extra}]"',
        )


class DeadlineReached(AuditkitError):
    """The wall-clock deadline passed; becomes a ``skipped`` outcome."""
