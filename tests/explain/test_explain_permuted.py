"""Intervals of permutation importance: a row is judged, and lends its feature to others; both are error."""

import numpy as np
import pytest

from auditkit.analyzers.explain.shuffled import loss_of
from auditkit.core.subject import Dataset
from auditkit.methods.explain.permuted import Shuffled, permutation_losses
from auditkit.stats.linearised import Design


def rare(n, rng):
    """One feature decides of a class of a tenth, and the model is always right."""
    x = rng.normal(size=(n, 2))
    y = (x[:, 0] > 1.2815515655446004).astype(np.int64)
    return x, y, lambda many: ((many[:, 0] > 1.2815515655446004) != np.tile(y, len(many) // n)).astype(float)


def line(n, rng):
    x = rng.normal(size=(n, 3))
    y = x @ SLOPES + rng.normal(size=n)
    return x, y, lambda many: (many @ SLOPES - np.tile(y, len(many) // n)) ** 2


SLOPES = np.array([1.0, 0.5, 0.2])
CASES = {"accuracy": (rare, 2 * 0.1 * 0.9), "r2": (line, 2.0 / 2.29)}


@pytest.mark.parametrize("metric", CASES)
@pytest.mark.parametrize(("n", "repeats"), [(150, 1), (400, 3), (400, 10)])
def test_intervals_hold_the_importance_in_the_population(metric, n, repeats):
    make, truth = CASES[metric]
    inside, without = [], []
    for seed in range(250):
        rng = np.random.default_rng([seed, n])
        x, y, losses = make(n, rng)
        lost = permutation_losses(losses, x, [(0,)], rng, repeats)
        data = Dataset(inputs=x, y=y, modality="tabular")
        judged = Shuffled(losses=lost.losses, parts=lost.losses, noise=np.zeros(1))
        for told, into in ((lost, inside), (judged, without)):
            found = loss_of("a", told, 0, data, metric).interval
            into.append(found.low <= truth <= found.high)
    assert 0.92 < np.mean(inside) < 0.995
    if repeats == 10:
        assert np.mean(without) < 0.91  # what a row loses alone


@pytest.mark.parametrize("repeats", [1, 3])
def test_whole_clusters_of_equal_rows_are_as_many_units(repeats):
    """Eighty clusters of five equal rows know what eighty rows do, and not what four hundred do."""
    widths = []
    for seed in range(60):
        rng = np.random.default_rng([seed, 4])
        x, y, _ = line(80, rng)
        each = []
        for times in (1, 5):
            many, labels, clusters = np.repeat(x, times, axis=0), np.repeat(y, times), np.repeat(np.arange(80), times)
            data = Dataset(inputs=many, y=labels, modality="tabular", clusters=clusters)

            def losses(asked, labels=labels):
                return (asked @ SLOPES - np.tile(labels, len(asked) // len(labels))) ** 2

            lost = permutation_losses(losses, many, [(0,)], rng, repeats, Design(None, clusters))
            found = loss_of("a", lost, 0, data, "r2").interval
            each.append(found.high - found.low)
        widths.append(each)
    once, copied = np.mean(widths, axis=0)
    # Five rows of a cluster are lent five features: a little of the noise of the draws is averaged away.
    assert 0.67 < copied / once < 1.02


def test_parts_have_the_mean_of_the_losses_also_with_weights_and_none_where_nothing_moves():
    rng = np.random.default_rng(1)
    x, _, losses = line(60, rng)
    weights = rng.uniform(0.2, 4.0, 60)
    lost = permutation_losses(losses, x, [(0,), (1,)], rng, 3, Design(weights, None))
    assert np.allclose(
        np.average(lost.parts, weights=weights, axis=1), np.average(lost.losses, weights=weights, axis=1)
    )
    still = permutation_losses(lambda many: np.zeros(len(many)), x, [(0,)], rng, 3)
    assert not still.parts.any()
