"""The registry refuses duplicates and names the nearest; the plan checks every setting before anything runs."""

from __future__ import annotations

import sys
import types
from importlib.metadata import EntryPoint

import pytest

from auditkit.core import registry
from auditkit.core.analyzer import Analyzer, Params
from auditkit.core.errors import AuditkitError, UsageError
from auditkit.core.plan import make_plan
from auditkit.core.seeds import analyzer_seed, seed_integer


class Budget(Params):
    max_rows: int = 10
    norm: str = "linf"


def descriptor(name="demo.a", **changes):
    return Analyzer(
        **{
            "name": name,
            "version": "1",
            "title": "t",
            "summary": "s",
            "reference": "r",
            "needs": frozenset(),
            "measures": {},
            "params": Budget,
            "run": lambda s, c, p: (),
            **changes,
        }
    )


@pytest.fixture
def points(monkeypatch):
    """Entry points of a module made up for the test."""
    module = types.ModuleType("made_up_analyzers")
    module.A = descriptor()
    module.SLOW = descriptor("demo.slow", default=False)
    module.MISNAMED = descriptor("demo.other")
    monkeypatch.setitem(sys.modules, "made_up_analyzers", module)
    values = {"demo.a": "A", "demo.slow": "SLOW", "demo.misnamed": "MISNAMED", "demo.broken": "ABSENT"}
    made = [EntryPoint(name, f"made_up_analyzers:{value}", registry.GROUP) for name, value in values.items()]
    monkeypatch.setattr(registry, "entry_points", lambda group: made)
    return made


def test_two_analyzers_of_one_name_are_refused(points):
    points.append(EntryPoint("demo.a", "another_package:A", registry.GROUP))
    with pytest.raises(UsageError, match="AK120 two analyzers are registered as 'demo.a'"):
        registry.discover()


def test_the_same_entry_point_seen_twice_is_one_analyzer(points):
    points.append(EntryPoint("demo.a", "made_up_analyzers:A", registry.GROUP))
    assert "demo.a" in registry.discover()


def test_an_unknown_name_tells_the_nearest(points):
    with pytest.raises(UsageError, match="did you mean 'demo.slow'"):
        registry.load("demo.slwo")


@pytest.mark.parametrize(("name", "why"), [("demo.broken", "does not load"), ("demo.misnamed", "does not hold")])
def test_a_broken_entry_point_is_a_coded_error_and_a_fault_in_the_plan(points, name, why):
    with pytest.raises(AuditkitError, match=f"AK122.*{why}"):
        registry.load(name)
    (step,) = make_plan([name]).steps
    assert step.analyzer is None
    assert "AK122" in step.fault.sentence()


def test_families_and_names_select(points):
    assert registry.select(["demo"]) == ("demo.a", "demo.broken", "demo.misnamed", "demo.slow")
    assert registry.select(["demo.a"]) == ("demo.a",)
    with pytest.raises(UsageError, match="AK121"):
        registry.select(["nothing"])


def test_the_built_in_analyzers_are_all_registered():
    assert set(registry.discover()) >= {
        "data.quality",
        "performance",
        "fairness.groups",
        "explain.shap",
        "explain.lime",
        "explain.saliency",
        "robustness.adversarial",
        "robustness.noise",
        "privacy.membership",
        "privacy.dp_training",
    }


def test_slow_analyzers_run_only_when_asked(points):
    assert "demo.slow" not in [step.name for step in make_plan().steps]
    assert "demo.slow" in [step.name for step in make_plan(settings={"demo.slow": {}}).steps]
    (step,) = make_plan(["demo.slow"]).steps
    assert step.asked


def test_settings_are_checked_all_at_once_with_the_nearest_key(points):
    settings = {"demo.a": {"max_row": 5}, "demo.slow": {"max_rows": "many"}}
    with pytest.raises(UsageError, match="did you mean 'max_rows'") as caught:
        make_plan(["demo.a", "demo.slow"], settings)
    assert "valid integer" in str(caught.value)


def test_settings_of_an_analyzer_that_does_not_exist(points):
    with pytest.raises(UsageError, match="demo.ab"):
        make_plan(["demo.a"], {"demo.ab": {}})


def test_a_negative_seed_is_refused(points):
    with pytest.raises(UsageError, match="AK124"):
        make_plan(["demo.a"], seed=-1)


def test_seeds_differ_by_name_params_and_seed_and_never_by_order():
    def draw(*arguments):
        return seed_integer(analyzer_seed(*arguments))

    base = draw(0, "a", {"x": 1, "y": 2})
    assert base == draw(0, "a", {"y": 2, "x": 1})
    assert len({base, draw(1, "a", {"x": 1, "y": 2}), draw(0, "b", {"x": 1, "y": 2}), draw(0, "a", {"x": 2})}) == 4


def test_errors_keep_their_parts_through_pickle():
    import pickle

    error = UsageError("AK1", "what", where="here", why="because", fix="do this")
    again = pickle.loads(pickle.dumps(error))
    assert str(again) == str(error) == "AK1 what\n  where: here\n  why: because\n  fix: do this"
    assert again.exit_code == 2


def test_settings_are_explained_by_their_docstring():
    class Explained(Params):
        """Settings.

        Attributes:
            rows: At most this many,
                and no more.
        """

        rows: int = 3

    assert Explained.model_fields["rows"].description == "At most this many, and no more."
    assert Budget.model_fields["norm"].description is None


def test_a_family_stands_for_what_runs_by_default_or_has_settings():
    def names(wanted, settings=None):
        return {step.name for step in make_plan(wanted, settings).steps}

    family = names(["robustness"])
    assert {"robustness.adversarial", "robustness.noise"} <= family
    assert "robustness.training" not in family
    assert names(["robustness"], {"robustness.training": {}}) == family | {"robustness.training"}
    assert names(["robustness", "robustness.training"]) == family | {"robustness.training"}
    assert names(["robustness.training"]) == {"robustness.training"}
