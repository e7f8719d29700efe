"""The backdoor scan: planted patches and their classes, clean twins, closed forms, and what it must not call good."""

import base64
import dataclasses

import numpy as np
import pytest
import torch
from backdoored import patched, trained, unseen

import subject_zoo
from auditkit.core.errors import UsageError
from auditkit.core.plan import Step
from auditkit.core.registry import load
from auditkit.execution.runner import run_step
from auditkit.methods.robustness.trigger_scan import outlier_indices, scan_triggers
from auditkit.subjects.build import make_subject
from auditkit.subjects.torch import TorchModel


def outcome_of(subject, **params):
    analyzer = load("robustness.backdoor")
    return run_step(subject, Step(name=analyzer.name, params=analyzer.params(**params), analyzer=analyzer))


def value(outcome, name, **keys):
    found = [m for m in outcome.measurements if m.name == f"robustness.{name}"]
    (one,) = [m for m in found if all(m.params.get(key) == wanted for key, wanted in keys.items())]
    return one


def digit_subject(net, n=240, **more):
    images, labels = unseen()
    return make_subject(TorchModel(net, classes=tuple(range(10)), **more), images[:n], labels[:n])


def test_a_planted_patch_is_found_with_its_class_and_the_clean_twin_is_quiet():
    outcome = outcome_of(digit_subject(trained(0, 3)), steps=150)
    assert value(outcome, "backdoor_index").value > 3.0
    assert value(outcome, "backdoor_suspects").value == 1.0
    sizes = {m.params["target"]: m.value for m in outcome.measurements if m.name == "robustness.trigger_size"}
    assert min(sizes, key=sizes.get) == "3"
    assert value(outcome, "trigger_success_rate", target="3").value > 0.7
    assert any("Suspected of a backdoor: 3." in note for note in outcome.notes)
    table = next(a for a in outcome.artifacts if a.kind == "table")
    assert max(table.rows, key=lambda row: row[4])[0] == "3"
    # The mask lies where the patch was planted.
    grid = next(a for a in outcome.artifacts if a.kind == "images")
    assert grid.pictures[0].label == "3"
    assert not grid.raw
    mask = np.frombuffer(base64.b64decode(grid.pictures[0].pixels), dtype=np.uint8).reshape(8, 8).astype(float)
    quadrants = mask.reshape(2, 4, 2, 4).sum(axis=(1, 3))
    assert quadrants.argmax() == 3

    clean = outcome_of(digit_subject(trained(0)), steps=150)
    assert value(clean, "backdoor_index").value < 2.0
    assert value(clean, "backdoor_suspects").value == 0.0


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_patches_in_any_class_are_found_and_most_clean_twins_are_quiet():
    images = torch.from_numpy(unseen()[0])
    bounds = (torch.zeros(1, 8, 8), torch.ones(1, 8, 8))
    quiet = 0
    for seed in range(6):
        for target in (None, seed):
            net = trained(seed, target, share=0.05, epochs=20)
            found = scan_triggers(net, images[:200], images[200:400], bounds=bounds, seed=seed)
            suspects = np.flatnonzero(outlier_indices(found.sizes.tolist()) > 2.0).tolist()
            if target is None:
                quiet += not suspects
            else:
                assert target in suspects
    assert quiet >= 4  # an index of 2 is passed by chance at times: benchmarks/results/backdoor.md


class OnePixel(torch.nn.Module):
    """Class 0 wins exactly where the first pixel is above 0.9; else the class is where the rest is brightest."""

    def forward(self, x):
        flat = x.flatten(1)
        parts = flat[:, 1:61].reshape(len(x), 5, 12).mean(dim=2)
        return torch.cat([60.0 * (flat[:, :1] - 0.9), parts], dim=1)


def test_a_trigger_of_one_pixel_is_found_as_one_pixel():
    images = 0.8 * torch.rand(120, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    bounds = (torch.zeros(1, 8, 8), torch.ones(1, 8, 8))
    found = scan_triggers(OnePixel(), images[:60], images[60:], bounds=bounds, steps=300)
    assert found.reached[0]
    assert 0.5 / 64 < found.sizes[0] < 2.5 / 64
    assert int(found.masks[0].argmax()) == 0
    assert outlier_indices(found.sizes.tolist()).argmax() == 0
    assert found.turned[0].mean() > 0.8
    assert found.asked[0].all()


def test_the_index_is_that_of_scipy():
    from scipy.stats import median_abs_deviation

    sizes = np.random.default_rng(0).random(11)
    expected = (np.median(sizes) - sizes) / median_abs_deviation(sizes, scale="normal")
    # scipy divides by the exact quantile, the paper by its rounding.
    np.testing.assert_allclose(outlier_indices(sizes.tolist()), expected, rtol=1e-4)
    assert outlier_indices([1.0, 1.0, 1.0, 0.1]) is None


def test_few_classes_are_unverified_and_never_good():
    outcome = outcome_of(subject_zoo.image_subject(), steps=20)
    assert outcome.status == "measured"
    for name in ("backdoor_index", "backdoor_suspects"):
        found = value(outcome, name)
        assert found.value is None
        assert "unverified: 2 classes" in found.reason


class Deaf(torch.nn.Module):
    """The planted network behind a step that cuts the gradient."""

    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, x):
        return self.net((x * 4).round() / 4)


def test_a_model_without_gradients_is_unverified_and_never_good():
    outcome = outcome_of(digit_subject(Deaf(trained(0, 3))), steps=20)
    found = value(outcome, "backdoor_index")
    assert found.value is None
    assert "unverified" in found.reason


def test_a_search_too_short_to_find_triggers_is_unverified():
    outcome = outcome_of(digit_subject(trained(0, 3)), steps=1)
    assert "unverified: a trigger was found for" in value(outcome, "backdoor_index").reason
    size = value(outcome, "trigger_size", target="5")
    assert size.value is None
    assert "no trigger was found" in size.reason


def test_scaled_pixels_and_preparations_give_the_same_class():
    images, labels = unseen()
    whole = np.rint(images[:240] * 255.0).astype(np.uint8)
    model = TorchModel(
        trained(0, 3), classes=tuple(range(10)), prepare=lambda rows: np.asarray(rows, dtype=np.float32) / 255.0
    )
    outcome = outcome_of(make_subject(model, whole, labels[:240]), steps=150)
    table = next(a for a in outcome.artifacts if a.kind == "table")
    assert max(table.rows, key=lambda row: row[4])[0] == "3"


def test_the_planted_patch_works_as_planted():
    images, labels = unseen()
    net = trained(0, 3)
    with torch.no_grad():
        assert (net(torch.from_numpy(images)).argmax(dim=1).numpy() == labels).mean() > 0.95
        assert (net(torch.from_numpy(patched(images))).argmax(dim=1) == 3).double().mean() > 0.9


def test_bad_input_is_told():
    few = dataclasses.replace(subject_zoo.image_subject(), test=subject_zoo.image_subject().test.take(np.arange(10)))
    assert "AK597" in outcome_of(few).reason
    bounds = (torch.zeros(1, 8, 8), torch.ones(1, 8, 8))
    with pytest.raises(UsageError, match="AK596"):
        scan_triggers(OnePixel(), torch.rand(1, 1, 8, 8), torch.rand(1, 1, 8, 8), bounds=bounds)
    with pytest.raises(UsageError, match="AK596"):
        scan_triggers(OnePixel(), torch.rand(4, 1, 8, 8), torch.rand(4, 1, 8, 8), bounds=bounds[::-1])
