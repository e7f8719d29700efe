"""The pytest plug-in: a test marked ``auditkit`` passes only when the gate does; the fixture ``audit`` is its audit.

    @pytest.mark.auditkit(evidence="out/evidence.json", policy="audit.toml")
    def test_the_model_may_be_released(audit):
        assert audit.report.select("performance.accuracy")[0].value > 0.8

Nothing of auditkit is imported before a marked test runs.
"""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from auditkit.api import Report
    from auditkit.core.verdict import Verdict

MARK = "auditkit"
_KEYS = ("evidence", "policy", "as_of", "gate")


@dataclass(frozen=True)
class Audit:
    """The evidence that a test is marked with, and what the policy says of it."""

    report: Report
    verdict: Verdict | None

    def check(self) -> None:
        """Fail the test unless the gate passes; also when there is no policy to judge by."""
        __tracebackhide__ = True
        if self.verdict is None:
            pytest.fail("auditkit: there is no policy to judge by: give policy= or embed one", pytrace=False)
        if self.verdict.exit_code:
            pytest.fail(_told(self.verdict), pytrace=False)


def pytest_configure(config: pytest.Config) -> None:
    """Register the mark."""
    config.addinivalue_line(
        "markers",
        f"{MARK}(evidence, policy=None, as_of=None, gate=True): fail unless the auditkit gate passes on this evidence; "
        "paths are relative to the root folder of pytest",
    )


@pytest.fixture
def audit(request: pytest.FixtureRequest) -> Audit:
    """The audit that the test is marked with: ``.report``, ``.verdict`` and ``.check()``."""
    marker = request.node.get_closest_marker(MARK)
    if marker is None:
        pytest.fail(f"auditkit: the fixture `audit` needs @pytest.mark.{MARK}(evidence=...)", pytrace=False)
    return _audit(marker, request.config.rootpath)


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> None:
    """Judge a marked test's evidence before its body runs; ``gate=False`` leaves that to the body."""
    __tracebackhide__ = True
    marker = pyfuncitem.get_closest_marker(MARK)
    if marker is None or marker.kwargs.get("gate", True) is False:
        return
    ready = pyfuncitem.funcargs.get("audit")
    (ready if isinstance(ready, Audit) else _audit(marker, pyfuncitem.config.rootpath)).check()


def _audit(marker: pytest.Mark, root: Path) -> Audit:
    """Read and judge what the mark names; a fault in it fails the test, it never skips it."""
    from auditkit.api import load_report
    from auditkit.core.errors import AuditkitError

    __tracebackhide__ = True
    unknown = sorted(set(marker.kwargs) - set(_KEYS))
    if marker.args or unknown or "evidence" not in marker.kwargs:
        pytest.fail(
            f"auditkit: @pytest.mark.{MARK} takes evidence= (needed), {', '.join(f'{key}=' for key in _KEYS[1:])}"
            + (f"; not {', '.join(unknown)}" if unknown else ""),
            pytrace=False,
        )
    policy: Any = marker.kwargs.get("policy")
    try:
        report = load_report(root / marker.kwargs["evidence"])
        judged = policy is not None or bool(report.evidence.policy)
        source = root / policy if isinstance(policy, str | Path) else policy
        day = marker.kwargs.get("as_of") or datetime.date.today()
        return Audit(report, report.gate(source, as_of=day) if judged else None)
    except AuditkitError as error:
        pytest.fail(f"auditkit: {error.text()}", pytrace=False)


def _told(verdict: Verdict) -> str:
    lines = [f"auditkit gate: {verdict.state} (exit code {verdict.exit_code})"]
    lines += [f"  {result.id} {result.state}: {result.message}" for result in verdict.results if result.state != "pass"]
    lines += [f"  not measured: {each}" for each in verdict.unmeasured]
    return "\n".join(lines if len(lines) > 1 else [*lines, f"  {verdict.summary}"])
