"""Build the generated pages of the documentation: errors.md from the source, analyzers.md from the descriptors.

Usage: python docs/build.py [--check]      (--check exits 1 when a page is not what would be built)
"""

from __future__ import annotations

import ast
import sys
from collections import defaultdict
from pathlib import Path

HERE = Path(__file__).parent
PACKAGE = HERE.parent / "auditkit"


def errors_page() -> str:
    """Every error code with its sentences and what mends them, collected from the calls that make them."""
    found: dict[str, list[tuple[str, str, str]]] = defaultdict(list)
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                _collect(node, path.relative_to(PACKAGE.parent).as_posix(), found)
    lines = [
        "# Error codes",
        "",
        "Every message of auditkit has a code, what went wrong, where, why, and the edit or command that mends it.",
        "Words in braces are filled in. This page is built from the source by `python docs/build.py`.",
        "",
        "| code | what | what mends it | raised in |",
        "| --- | --- | --- | --- |",
    ]
    for code in sorted(found):
        for what, fix, where in sorted(set(found[code])):
            lines.append(f"| {code} | {_cell(what)} | {_cell(fix)} | `{where}` |")
    return "\n".join(lines) + "\n"


def _collect(node: ast.Call, where: str, found: dict[str, list[tuple[str, str, str]]]) -> None:
    for index, argument in enumerate(node.args[:-1]):
        if isinstance(argument, ast.Constant) and isinstance(argument.value, str) and _is_code(argument.value):
            fix = next((word.value for word in node.keywords if word.arg == "fix"), None)
            found[argument.value].append((_text(node.args[index + 1]), _text(fix), where))


def _is_code(value: str) -> bool:
    return len(value) == 5 and value.startswith("AK") and value[2:].isdigit()


def _text(node: ast.expr | None) -> str:
    """The words of a string expression; anything computed becomes a name in braces."""
    if node is None:
        return ""
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(
            part.value if isinstance(part, ast.Constant) else "{" + _name(part) + "}"
            for part in node.values
            if isinstance(part, ast.Constant | ast.FormattedValue)
        )
    if isinstance(node, ast.BinOp):
        return _text(node.left) + _text(node.right)
    if isinstance(node, ast.BoolOp):
        return _text(node.values[-1])
    return "{" + ast.unparse(node)[:30] + "}"


def _name(part: ast.FormattedValue) -> str:
    names = [n.attr if isinstance(n, ast.Attribute) else n.id for n in ast.walk(part.value) if _named(n)]
    return names[0] if names else "value"


def _named(node: ast.AST) -> bool:
    return isinstance(node, ast.Attribute | ast.Name)


def analyzers_page() -> str:
    """A section for each registered analyzer: what it measures, by which paper, with which settings."""
    sys.path.insert(0, str(PACKAGE.parent))
    from auditkit.core.registry import discover, load

    lines = ["# Analyzers", "", "Built from the analyzers' own descriptors by `python docs/build.py`.", ""]
    for name, point in discover().items():
        if not point.value.startswith("auditkit."):
            continue
        analyzer = load(name)
        needs = ", ".join(sorted(analyzer.needs)) or "nothing"
        extra = f' Install with `pip install "auditkit[{analyzer.extra}]"`.' if analyzer.extra else ""
        off = "" if analyzer.default else " Off by default: runs when named or given settings."
        lines += [
            f"## {name}",
            "",
            f"{analyzer.summary} Needs: {needs}.{off}{extra}",
            "",
            f"Source: {analyzer.reference}",
            "",
        ]
        if analyzer.limits:
            lines += [f"Limits: {analyzer.limits}", ""]
        lines += ["| measurement | what it is |", "| --- | --- |"]
        lines += [f"| `{key}` | {_cell(sentence)} |" for key, sentence in sorted(analyzer.measures.items())]
        lines += ["", "| setting | default | what it does |", "| --- | --- | --- |"]
        for key, field in analyzer.params.model_fields.items():
            lines.append(f"| `{key}` | `{_cell(str(field.default))}` | {_cell(field.description or '')} |")
        lines.append("")
    return "\n".join(lines)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def main(words: list[str]) -> int:
    """Build or check both pages."""
    stale = []
    for name, text in (("errors.md", errors_page()), ("analyzers.md", analyzers_page())):
        path = HERE / name
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            stale.append(name)
            if "--check" not in words:
                path.write_text(text, encoding="utf-8")
    print("up to date" if not stale else ("stale: " if "--check" in words else "built: ") + ", ".join(stale))
    return 1 if stale and "--check" in words else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
