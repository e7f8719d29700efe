"""Broken tables of predictions: one change each to a table that passes every rule. Shared by the tests and the
comparison of libraries in benchmarks/bad_inputs.py, so nothing here imports auditkit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd

GROUP = 120  # rows of each sex


def good_rows() -> pd.DataFrame:
    """Rows on which both sexes fare alike: selection rate 0.5, TPR 0.8, FPR 0.2."""
    place = np.arange(GROUP)
    label = place % 2
    right = (place // 2) % 5 != 0
    decision = np.where(right, label, 1 - label)
    one = pd.DataFrame({"label": label, "decision": decision, "score": np.where(decision == 1, 0.8, 0.2)})
    both = pd.concat([one.assign(sex="F"), one.assign(sex="M")], ignore_index=True)
    words = {0: "no", 1: "yes"}
    return both.assign(label=both.label.map(words), decision=both.decision.map(words))


@dataclass(frozen=True)
class BadRows:
    """One broken table.

    Attributes:
        name: What is wrong, for people.
        change: The good table -> the broken one.
        code: The auditkit code that must be shown.
        words: A part of what must be said.
        exits: The exit code.
        rule: The metric and comparison that the gate looks at.
        peers: Whether other libraries can be given the same table.
        raw: Whether they get the labels as they are, and not as 0 and 1.
        positive: What the configuration names as the positive class.
    """

    name: str
    change: Callable[[pd.DataFrame], pd.DataFrame]
    code: str
    words: str
    exits: int = 2
    rule: tuple[str, str] = ("selection_rate", "ratio")
    peers: bool = True
    raw: bool = False
    positive: str | int = "yes"


def put(column: str, value: object, rows: object = slice(0, 1)) -> Callable[[pd.DataFrame], pd.DataFrame]:
    """A change that writes ``value`` into some rows of a column."""

    def change(table: pd.DataFrame) -> pd.DataFrame:
        table = table.astype({column: object})
        table.loc[table.index[rows], column] = value
        return table

    return change


def of_group(sex: str, column: str, value: object) -> Callable[[pd.DataFrame], pd.DataFrame]:
    """A change that writes ``value`` into a column of one group."""
    return lambda table: table.assign(**{column: table[column].where(table.sex != sex, value)})


TPR, FPR, PPV, NPV = (
    (name, "difference")
    for name in (
        "true_positive_rate",
        "false_positive_rate",
        "positive_predictive_value",
        "negative_predictive_value",
    )
)
ODDS = ("equalized_odds", "difference")

BAD_ROWS = (
    # Missing values
    BadRows("one label is missing", put("label", None), "AK203", "1 of 240 labels are missing", rule=ODDS),
    BadRows("half the labels are missing", put("label", None, slice(0, 120)), "AK203", "120 of 240", rule=ODDS),
    BadRows("all labels are missing", put("label", None, slice(None)), "AK203", "240 of 240", rule=ODDS),
    BadRows("one decision is missing", put("decision", None), "AK203", "1 of 240"),
    BadRows("all decisions are missing", put("decision", None, slice(None)), "AK203", "240 of 240"),
    BadRows("one score is missing", put("score", None), "AK248", "1 of 240 scores are missing", peers=False),
    # Labels that do not fit
    BadRows("one decision in capitals", put("decision", "YES"), "AK247", "only among the decisions: 'YES'"),
    BadRows("one label with a blank", put("label", "yes "), "AK247", "'yes', 'yes ' differ in blanks", rule=ODDS),
    BadRows("a third decision", put("decision", "maybe"), "AK247", "only among the decisions: 'maybe'"),
    BadRows("a total line at the end", put("label", "total", slice(-1, None)), "AK247", "'total'", rule=ODDS),
    BadRows(
        "labels 0/1, decisions no/yes",
        lambda t: t.assign(label=(t.label == "yes").astype(int)),
        "AK246",
        "share no value",
        rule=ODDS,
        raw=True,
    ),
    BadRows(
        "labels no/yes, decisions 0/1",
        lambda t: t.assign(decision=(t.decision == "yes").astype(int)),
        "AK246",
        "share no value",
        rule=ODDS,
        raw=True,
    ),
    BadRows(
        "labels 1/2, decisions 0/1",
        lambda t: t.assign(label=(t.label == "yes").astype(int) + 1, decision=(t.decision == "yes").astype(int)),
        "AK247",
        "only among the decisions: '0'",
        positive=1,
        rule=ODDS,
    ),
    BadRows("the positive class is misspelt", lambda t: t, "AK209", "'yes'", peers=False, positive="yse"),
    BadRows(
        "scores in the place of decisions",
        lambda t: t.assign(decision=t.score),
        "AK246",
        "share no value",
    ),
    BadRows(
        "dates in the place of labels", lambda t: t.assign(label="2026-01-05"), "AK246", "share no value", rule=ODDS
    ),
    # Scores
    BadRows("a score above 1", put("score", 1.7), "AK248", "0.2 to 1.7", peers=False),
    BadRows("a score below 0", put("score", -0.2), "AK248", "-0.2 to 0.8", peers=False),
    BadRows(
        "scores in percent", lambda t: t.assign(score=t.score * 100), "AK248", "divide percentages by 100", peers=False
    ),
    BadRows("an infinite score", put("score", np.inf), "AK248", "missing or infinite", peers=False),
    BadRows(
        "scores with a decimal comma",
        lambda t: t.assign(score=t.score.map("{:.1f}".format).str.replace(".", ",")),
        "AK138",
        "not numeric",
        peers=False,
    ),
    BadRows("scores with a percent sign", lambda t: t.assign(score="80%"), "AK138", "not numeric", peers=False),
    # Groups
    BadRows("every group is missing", put("sex", None, slice(None)), "ERROR", "there is only one group", exits=3),
    BadRows("one group only", lambda t: t[t.sex == "F"], "ERROR", "there is only one group", exits=3),
    BadRows("a group of one row", put("sex", "X"), "INCONCLUSIVE", "rows in each group would settle it", exits=4),
    BadRows("every row its own group", lambda t: t.assign(sex=[f"id{i}" for i in range(len(t))]), "AK218", "240"),
    BadRows(
        "ages in the place of groups", lambda t: t.assign(sex=np.linspace(18, 90, len(t)).round(3)), "AK218", "bin"
    ),
    # Rows
    BadRows("no rows", lambda t: t.iloc[:0], "AK200", "no rows"),
    BadRows("one row", lambda t: t.iloc[:1], "ERROR", "there is only one group", exits=3),
    BadRows("one row a group", lambda t: t.groupby("sex").tail(1), "AK249", "only 'yes' occurs"),
    BadRows("two rows a group", lambda t: t.groupby("sex").tail(2), "INCONCLUSIVE", "would settle it", exits=4),
    # Undefined rates
    BadRows("a group without positive labels", of_group("F", "label", "no"), "ERROR", "undefined", 3, TPR),
    BadRows(
        "a group without positive labels, perfect decisions",
        lambda t: of_group("F", "label", "no")(t).assign(decision=of_group("F", "label", "no")(t).label),
        "ERROR",
        "undefined",
        3,
        ODDS,
    ),
    BadRows("a group without negative labels", of_group("M", "label", "yes"), "ERROR", "undefined", 3, FPR),
    BadRows("a group without positive labels, odds", of_group("F", "label", "no"), "ERROR", "undefined", 3, ODDS),
    BadRows("nobody of one group is selected", of_group("F", "decision", "no"), "ERROR", "undefined", 3, PPV),
    BadRows("everybody of one group is selected", of_group("F", "decision", "yes"), "ERROR", "undefined", 3, NPV),
    BadRows("nobody is selected", lambda t: t.assign(decision="no"), "ERROR", "undefined", 3),
    BadRows("nobody is selected, precision", lambda t: t.assign(decision="no"), "ERROR", "undefined", 3, PPV),
    BadRows("all labels are negative", lambda t: t.assign(label="no"), "ERROR", "undefined", 3, TPR),
    BadRows("all labels are positive", lambda t: t.assign(label="yes"), "ERROR", "undefined", 3, FPR),
    BadRows(
        "labels and decisions all negative", lambda t: t.assign(label="no", decision="no"), "AK249", "only 'no' occurs"
    ),
    BadRows(
        "labels and decisions all positive",
        lambda t: t.assign(label="yes", decision="yes"),
        "AK249",
        "only 'yes' occurs",
    ),
    # A gap that the table does have
    BadRows(
        "nobody of one group is selected, ratio",
        of_group("F", "decision", "no"),
        "FAIL",
        "the whole interval lies beyond the limit",
        1,
    ),
    BadRows(
        "labels as strings hide a gap of 0.5",
        of_group("F", "decision", "no"),
        "INCONCLUSIVE",  # 0.397 to 0.593 against a limit of 0.4
        "would settle it",
        4,
        ("selection_rate", "difference"),
        raw=True,
    ),
    BadRows("few rows and a lucky tie", lambda t: t.groupby("sex").head(6), "INCONCLUSIVE", "would settle it", 4, ODDS),
)
