"""The examples on shared data: models that learn, sections that show rows; skipped where the data is absent."""

import dataclasses
import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

from auditkit.core.plan import make_plan
from auditkit.execution.runner import run_step
from auditkit.subjects.build import make_subject

ROOT = Path(__file__).parents[2]


def example(name):
    spec = importlib.util.spec_from_file_location(f"example_{name}", ROOT / "examples" / name / "model.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def explained(subject, **settings):
    plan = make_plan(["explain.saliency"], {"explain.saliency": {"draws": 2, "sanity_rows": 8, **settings}})
    outcome = run_step(subject, plan.steps[0], seed=0)
    assert outcome.status == "measured", outcome.reason
    return outcome


@pytest.mark.slow
def test_chest_xrays():
    model = example("xray")
    if not model.DATA.is_file():
        pytest.skip(f"{model.DATA.name} is not there")
    test = model.test_images()
    subject = make_subject(model.build(), test["inputs"], test["finding"], task="binary", positive="pneumonia")
    decided = subject.model.predict(test["inputs"])
    assert (decided == subject.test.y).mean() > 0.8
    methods = ["saliency", "grad_cam", "guided_grad_cam", "deep_lift", "occlusion"]
    outcome = explained(subject, methods=methods, show_rows=3, max_rows=40)
    grid = next(a for a in outcome.artifacts if a.name == "explain.saliency.rows")
    assert (len(grid.pictures), grid.across) == (21, 7)
    gaps = {m.params["method"]: m for m in outcome.measurements if m.name == "explain.completeness_delta"}
    assert gaps["integrated_gradients"].unreliable is None
    # captum's rule for max pooling is not complete on this network; the one without hooks is, and that is told.
    assert gaps["deep_lift"].unreliable is None
    assert grid.pictures[5].label == "DeepLift"
    assert any(note.startswith("DeepLift is worked out without captum's hooks") for note in outcome.notes)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["lstm", "transformer"])
def test_film_reviews(kind):
    model = example("reviews")
    if not model.DATA.is_file():
        pytest.skip(f"{model.DATA.name} is not there")
    test = model.test_texts()
    subject = make_subject(
        getattr(model, f"build_{kind}")(), list(test["text"]), list(test["label"]), positive="positive"
    )
    decided = subject.model.predict(list(test["text"]))
    assert (decided == subject.test.y).mean() > 0.7
    outcome = explained(subject, show_rows=5, max_rows=60, max_steps=4096)
    (delta,) = [m for m in outcome.measurements if m.name == "explain.completeness_delta"]
    assert delta.unreliable is None
    texts = next(a for a in outcome.artifacts if a.kind == "tokens")
    assert len(texts.rows) == 5
    for row in texts.rows:
        where = int(row.label.split()[1].strip(","))
        assert list(row.tokens) == model.Words([]).tokens(test["text"][where])
    # Words of judgement have the right sign and count for more than articles: on the mean of many sentences, because
    # in a single one an article can count for much (sentences that open with "a" are more often praise).
    praise, blame = ("brilliant", "moving", "touching", "enjoyable"), ("dull", "tedious", "bland", "boring")
    probe = [f"{article} {word} film" for article in ("a", "the") for word in praise + blame]
    test = dataclasses.replace(subject.test, inputs=probe, y=np.array(([1] * 4 + [0] * 4) * 2))
    outcome = explained(dataclasses.replace(subject, test=test), show_rows=16, max_rows=16)
    rows = next(a for a in outcome.artifacts if a.kind == "tokens").rows
    value = {
        token: [v for row in rows for t, v in zip(row.tokens, row.values, strict=True) if t == token]
        for token in ("a", "the", *praise, *blame)
    }
    assert min(np.mean(value[word]) for word in praise) > 0.0 > max(np.mean(value[word]) for word in blame)
    judgement = np.mean([np.abs(value[word]).mean() for word in praise + blame])
    assert judgement > 1.5 * np.mean([np.abs(value[article]).mean() for article in ("a", "the")])
