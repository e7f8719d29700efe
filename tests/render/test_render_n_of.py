"""Numbers that rest on few training runs or draws are not about small groups, and are shown."""

import dataclasses

from sample import evidence

from auditkit.core.evidence import Measurement
from auditkit.render.numerals import sentence
from auditkit.render.redact import redact


def _shown(measurement):
    base = evidence()
    outcome = dataclasses.replace(base.outcomes[0], measurements=(measurement,), artifacts=())
    return redact(dataclasses.replace(base, outcomes=(outcome,)), 10).outcomes[0].measurements[0]


def test_five_random_models_are_no_small_group_and_five_rows_are():
    measurement = Measurement(name="demo.x", value=0.5, n=5, n_of="random models", reason="exact: a test")
    assert _shown(measurement).value == 0.5
    assert _shown(dataclasses.replace(measurement, n_of="rows")).value is None


def test_what_is_counted_is_said():
    assert sentence(Measurement(name="a.b", value=0.5, n=5, n_of="random models")).endswith("n 5 random models")
    assert sentence(Measurement(name="a.b", value=0.5, n=5)).endswith("n 5")
