"""The verdict as Markdown for the summary page of a CI step, kept within the size that such pages take."""

from __future__ import annotations

from auditkit.core.verdict import Verdict
from auditkit.render.markdown import verdict_lines

# GitHub drops a step summary whole when it is larger than 1 MiB; several steps may share one page.
MOST_BYTES = 256 * 1024


def render_summary(verdict: Verdict, most: int = MOST_BYTES) -> str:
    """The verdict with every rule and comparison, at most ``most`` bytes of UTF-8: whole lines are left out at the
    end, and the last line says how many.

    Args:
        verdict: What the policy says.
        most: Largest size in bytes, at least 200.
    """
    lines = ["# Audit", "", *verdict_lines(verdict)]
    while lines and not lines[-1]:
        lines.pop()
    sizes = [len(line.encode("utf-8")) + 1 for line in lines]
    if sum(sizes) <= most:
        return "\n".join(lines) + "\n"
    room, kept = most - 100, 0
    while room >= sizes[kept]:
        room -= sizes[kept]
        kept += 1
    told = f"*{len(lines) - kept:,} more lines: see the model card.*"
    return "\n".join([*lines[:kept], "", told]) + "\n"
