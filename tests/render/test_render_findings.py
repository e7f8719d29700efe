"""What a chart says of values that are all alike, or of which a line has one."""

import dataclasses
import re

import sample

from auditkit.core.evidence import Outcome
from auditkit.render.html.card import render_card
from auditkit.render.html.figures import figures


def titles(*measurements):
    return [figure.draw().title for figure in figures(measurements)]


def of(name, value, **params):
    return sample.rate(name, value, 400, params=params)


def test_no_feature_is_called_the_highest_where_all_are_alike():
    assert titles(*(of("data.missing_share", 0.0, feature=f"x{i}") for i in range(4))) == []
    assert titles(of("data.missing_share", 0.1, feature="x"), of("data.missing_share", 0.0, feature="y")) == [
        "x has the highest missing values: 0.100."
    ]


def test_settings_that_give_one_value_are_said_to():
    same = [of("data.duplicate_share", 0.0, split=split) for split in ("test", "train")]
    (told,) = titles(*same)
    assert told.endswith("is 0 under each of 2 settings.")
    (told,) = titles(same[0], of("data.duplicate_share", 0.25, split="train"))
    assert "runs from 0 (split test) to 0.250 (split train)" in told


def test_values_at_one_step_each_are_dots_and_no_lines():
    lone = [of("privacy.membership_tpr", 0.01 * i, attack=f"a{i}", fpr=0.01) for i in (1, 2, 3)]
    lone += [dataclasses.replace(m, value=None, reason="too few rows", params={**m.params, "fpr": 0.001}) for m in lone]
    (figure,) = figures(lone)
    assert figure.kind == "settings"
    assert "runs from 0.010" in figure.draw().title
    known = [dataclasses.replace(m, value=0.002) if m.value is None else m for m in lone]
    assert "against" not in " ".join(titles(*known))
    assert figures(known)[0].kind != "settings"


def test_a_reason_that_many_analyzers_do_not_apply_for_is_told_once():
    idle = tuple(
        Outcome(
            analyzer=f"fairness.{name}", version="1", status="not_applicable", reason="needs sensitive: none given."
        )
        for name in ("groups", "missing", "outcomes")
    )
    page = render_card(sample.evidence(outcomes=idle))
    (told,) = re.findall(r"Does not apply here.</b>([^<]*)<", page)
    assert told.count("needs sensitive") == 1
    assert told.count(",") == 2
