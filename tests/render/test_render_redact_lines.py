"""A group keeps its line in shared copies although one of its numbers is undefined."""

from auditkit.core.evidence import Measurement
from auditkit.render.redact_lines import hidden_lines

SENSITIVE = {"g": {"a": 50, "b": 60}}


def row(name, group, value, n):
    return Measurement(name=name, value=value, n=n, slice={"g": group}, reason=None if value else "undefined here")


def test_an_undefined_number_hides_no_line_and_a_withheld_one_does():
    before = [row("x.one", "a", 0.5, 50), row("x.one", "b", None, 60)]
    assert hidden_lines([], before, before, SENSITIVE) == frozenset()
    withheld = [before[0], Measurement(name="x.one", value=None, n=None, slice={"g": "b"}, reason="withheld")]
    assert "b" in hidden_lines([], before, withheld, SENSITIVE)
    known = [before[0], row("x.one", "b", 0.2, 60)]
    rounded = [before[0], Measurement(name="x.one", value=None, n=60, slice={"g": "b"}, reason="withheld")]
    assert "b" in hidden_lines([], known, rounded, SENSITIVE)


def test_lines_without_any_value_have_no_empty_frame():
    from auditkit.render.html.figures import figures

    def swept(value):
        return [
            Measurement(name="robustness.accuracy", value=value, n=40, slice={"sex": sex}, params={"eps": eps},
                        reason=None if value is not None else "withheld")
            for sex in ("F", "M") for eps in (0.1, 0.2)
        ]  # fmt: skip

    assert [figure.kind for figure in figures(swept(0.5))] == ["sweep by group"]
    assert not [figure for figure in figures(swept(None)) if figure.kind == "sweep by group"]
