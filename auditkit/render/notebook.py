"""What a verdict and an attribution show in a notebook: the same charts and words as the card."""

from __future__ import annotations

from auditkit.core.attribution import Attribution
from auditkit.core.verdict import RuleResult, Verdict
from auditkit.render.charts import Chart, Row, bar_chart, token_chart
from auditkit.render.charts.chart import style_sheet
from auditkit.render.charts.svg import Child, Markup, element
from auditkit.render.charts.tables import table_markup
from auditkit.render.html.plain import rule_sentence, verdict_sentence
from auditkit.render.html.view import STATES
from auditkit.render.numerals import number
from auditkit.render.text import clean

_FEATURES = 12


def html_of(shown: object) -> str:
    """HTML of a verdict or an attribution, with its style sheet.

    Raises:
        TypeError: It is neither.
    """
    if isinstance(shown, Verdict):
        body = verdict_markup(shown)
    elif isinstance(shown, Attribution):
        body = attribution_chart(shown).figure()
    else:
        raise TypeError(f"{type(shown).__name__} has no notebook view")
    return f"<style>{style_sheet()}</style>" + element("div", body, class_="ak").text


def verdict_markup(verdict: Verdict) -> Markup:
    """State, sentence, and every rule with what it found, those that did not pass first."""
    order = ("fail", "error", "inconclusive", "waived", "pass")
    ranked = sorted(verdict.results, key=lambda result: order.index(result.state))
    parts: list[Child] = [
        element("p", element("b", STATES[verdict.state][0]), f". {verdict_sentence(verdict)}", class_="ak-finding")
    ]
    if ranked:
        parts.append(table_markup("rules", ("State", "Rule", "Found"), [_rule(result) for result in ranked], 10_000))
    return element("div", *parts)


def _rule(result: RuleResult) -> tuple[str, str, str]:
    return STATES[result.state][0], clean(result.id), rule_sentence(result)


def attribution_chart(attribution: Attribution, row: int = 0, output: int | None = None) -> Chart:
    """One row's attributions of one output: tokens for text, bars for named features, a summary for pictures.

    Args:
        attribution: Attributions ``(n, *features, k)``.
        row: Which row.
        output: Which output; without one, that with the highest prediction.
    """
    k = int(attribution.prediction[row].argmax()) if output is None else output
    values = attribution.values[row][..., k]
    name = clean(attribution.output_names[k]) if k < len(attribution.output_names) else f"output {k}"
    made = f"{clean(attribution.method)}, {attribution.status}, row {row + 1} of {len(attribution.values)}"
    predicted = (
        f"The model gives {name} {number(float(attribution.prediction[row][k]))} ({clean(attribution.output_space)})."
    )
    note = f"{predicted} {made}. {clean(attribution.reason or '')}".strip()
    if values.ndim == 1 and len(attribution.feature_names) == len(values):
        if "token" in attribution.feature_groups:
            return token_chart(attribution.feature_names, [float(v) for v in values], note=note)
        order = sorted(range(len(values)), key=lambda index: (-abs(float(values[index])), index))
        rows = [_bar(attribution, row, k, index) for index in order[:_FEATURES]]
        lead = rows[0] if rows else None
        finding = (
            f"{clean(lead.label)} moves {name} most: {number(lead.value)}." if lead else f"No feature moves {name}."
        )
        chart = bar_chart(rows, finding, label=f"attribution to {name}")
        more = f" The {_FEATURES} largest of {len(values)} features are drawn." if len(values) > _FEATURES else ""
        return Chart(title=chart.title, drawing=chart.drawing, columns=chart.columns, rows=chart.rows, keys=chart.keys,
                     note=note + more, axes=chart.axes)  # fmt: skip
    flat = values.reshape(-1)
    sizes = {"smallest": flat.min(), "largest": flat.max(), "sum": flat.sum()}
    facts = [("inputs", f"{flat.size:,}"), *((name, number(float(value))) for name, value in sizes.items())]
    shape = " x ".join(str(size) for size in values.shape)
    return Chart(title=f"Attributions to {name} over {shape} inputs.",
                 drawing=table_markup("attributions", ("Of the attributions", "Value"), facts), note=note)  # fmt: skip


def _bar(attribution: Attribution, row: int, k: int, index: int) -> Row:
    value = float(attribution.values[row][index, k])
    low = high = None
    if attribution.std_error is not None:
        half = 1.959963984540054 * float(attribution.std_error[row][index, k])
        low, high = value - half, value + half
    return Row(label=attribution.feature_names[index], value=value, low=low, high=high)
