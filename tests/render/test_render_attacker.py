"""An attacker puts every shared number of an audit into one linear programme, and asks what a small cell can be."""

import dataclasses
import itertools
import re

import numpy as np
import pandas as pd
import pytest
import sample
from scipy.optimize import linprog

import auditkit
from auditkit.core.evidence import Counts, Outcome
from auditkit.core.schema import to_document
from auditkit.render.cells import small_cells
from auditkit.render.shared import shared_copy

POLICY = """
[[rule]]
id = "rates"
metric = "fairness.selection_rate"
compare = "difference"
over = ["g"]
max = 0.2
[[rule]]
id = "hits"
metric = "fairness.true_positive_rate"
compare = "ratio"
over = ["g"]
min = 0.8
[[rule]]
id = "share"
metric = "data.group_share"
compare = "value"
over = ["g"]
min = 0.1
[[rule]]
id = "crossed"
metric = "fairness.selection_rate"
compare = "difference"
over = ["g", "sex"]
max = 0.2
[[rule]]
id = "within"
metric = "fairness.selection_rate"
compare = "difference"
over = ["sex"]
where = { g = "B" }
max = 0.2
"""
# quantity -> (label, decision) of the rows it rests on, and of those it counts; None is any
RATES = {
    "fairness.selection_rate": ((None, None), (None, 1)),
    "fairness.base_rate": ((None, None), (1, None)),
    "data.base_rate": ((None, None), (1, None)),
    "fairness.true_positive_rate": ((1, None), (1, 1)),
    "fairness.false_positive_rate": ((0, None), (0, 1)),
    "fairness.true_negative_rate": ((0, None), (0, 0)),
    "fairness.false_negative_rate": ((1, None), (1, 0)),
    "fairness.positive_predictive_value": ((None, 1), (1, 1)),
    "fairness.negative_predictive_value": ((None, 0), (0, 0)),
    "fairness.false_discovery_rate": ((None, 1), (0, 1)),
    "fairness.false_omission_rate": ((None, 0), (1, 0)),
}
STEPS = (0.01, 0.02, 0.05, 0.1)


def people(seed):
    """Rows in up to three groups by sex, the last group tiny for even seeds."""
    rng = np.random.default_rng(seed)
    n, few = int(rng.integers(150, 900)), int(rng.integers(1, 10))
    names = ["A", "B", "X"][: int(rng.integers(2, 4))]
    group = rng.choice(names, n, p=rng.dirichlet([3] * len(names)))
    if seed % 2 == 0:
        group[:] = rng.choice(names[:-1], n)
        group[:few] = names[-1]
    sex = rng.choice(["F", "M"], n, p=[0.4, 0.6])
    y = (rng.random(n) < rng.uniform(0.2, 0.8)).astype(int)
    decided = np.where(rng.random(n) < rng.uniform(0.6, 0.99), y, 1 - y)
    return pd.DataFrame({"g": group, "sex": sex, "y": y, "p": decided})


class Attacker:
    """What is known of the cells ``g x sex x y x p``: sums, and rates that were rounded."""

    def __init__(self, table):
        self.names = {"g": sorted(set(table.g)), "sex": ["F", "M"], "y": [0, 1], "p": [0, 1]}
        self.shape = tuple(map(len, self.names.values()))
        self.true = np.zeros(self.shape)
        for row in table.itertuples(index=False):
            self.true[self.names["g"].index(row.g), self.names["sex"].index(row.sex), row.y, row.p] += 1
        self.equal, self.below, self.offsets, self.rounded = [], [], [], {}

    def cells(self, group=(), y=None, p=None):
        """The 0/1 vector of the cells that a count adds up."""
        wanted = dict(group) | ({} if y is None else {"y": y}) | ({} if p is None else {"p": p})
        chosen = np.zeros(self.shape)
        chosen[tuple(self.names[c].index(wanted[c]) if c in wanted else slice(None) for c in self.names)] = 1
        return chosen.ravel()

    def count(self, cells, value):
        assert cells @ self.true.ravel() == pytest.approx(value, abs=0.02), "the attacker must read numbers rightly"
        self.equal.append((cells, round(value)))

    def rate(self, metric, group, value, n):
        if metric in ("fairness.accuracy", "performance.accuracy"):
            rows, hits = self.cells(group), self.cells(group, 0, 0) + self.cells(group, 1, 1)
        elif metric in RATES:
            rows, hits = (self.cells(group, *which) for which in RATES[metric])
        else:
            return
        if n is not None:
            self.count(rows, n)
        if value is None:
            return
        size = rows @ self.true.ravel()
        if n is None and tuple(sorted(dict(group).items())) in self.rounded:
            return  # it follows from the rounded cells, which the attacker has
        if n is not None and abs(hits @ self.true.ravel() / max(size, 1) - value) < 1e-5:
            self.count(hits, value * n)
        else:  # rounded: the attacker even knows the step
            half = next(step for step in STEPS if step * size >= 10) / 2
            low, high = value - half, value + half
            if value == pytest.approx(half):
                low, high = 0.0, half
            elif value == pytest.approx(1 - half):
                low, high = 1 - half, 1.0
            self.bound(hits - (high + 1e-9) * rows)
            self.bound((low - 1e-9) * rows - hits)

    def bound(self, cells, most=0.0):
        """A sum of cells is at most ``most``."""
        self.below.append(cells)
        self.offsets.append(most)

    def know(self, rounded):
        """What is rounded to the same ten as the missed positives, though what is shown are rates of that."""
        self.rounded = dict(rounded.shown)
        for group in self.rounded:
            missed, ten = self.cells(dict(group), 1, 0), 10 * ((rounded.true[group][2] + 4) // 10)
            self.bound(missed, ten + 5)
            self.bound(-missed, 4 - ten)

    def read(self, document, verdict, rounded):
        """Everything shared that counts rows, and the rounded cells that rates were made of."""
        self.know(rounded)
        facts = document["subject"]["test"]
        self.count(self.cells(), facts["n_rows"])
        for column, groups in {**facts["sensitive"], "y": facts["label_counts"]}.items():
            for words, n in groups.items():
                parts = re.sub(r" \(shown together.*", "", words).split(" + ")
                self.count(sum(self.cells({column: int(p) if column == "y" else p}) for p in parts), n)
        for outcome in document["outcomes"]:
            for m in outcome.get("measurements", []):
                if not m.get("over") and not m.get("params"):
                    self.measurement(m["name"], m.get("slice", {}), m.get("value"), m.get("n"), facts["n_rows"])
            for artifact in outcome.get("artifacts", []):
                self.artifact(artifact)
        for result in verdict.results:
            for comparison in result.comparisons:
                scope = comparison.label.split(":")[0]
                over, _, where = scope.partition(" where ")
                for side in comparison.sides:
                    group = dict(zip(over.split(" x "), side.group.split(" x "), strict=True))
                    group |= dict([where.split("=")] if where else [])
                    self.measurement(result.metric, group, side.value, side.n, facts["n_rows"])

    def measurement(self, name, group, value, n, rows):
        if name in ("data.group_count", "data.group_share"):
            if value is not None and n is not None:
                self.count(self.cells(group), value * (rows if name.endswith("share") else 1))
        else:
            self.rate(name, group, value, n)

    def artifact(self, artifact):
        if artifact["kind"] == "counts":
            for group, block in zip(artifact["groups"], artifact["n"], strict=True):
                for y, p in itertools.product((0, 1), repeat=2):
                    label, decision = int(artifact["classes"][y]), int(artifact["classes"][p])
                    where = dict(zip(artifact.get("over", ()), group, strict=True))
                    self.count(self.cells(where, label, decision), block[y][p])
        elif artifact["name"].endswith(".shared"):
            for *group, label, decision, n in artifact["rows"]:
                if n is not None:
                    where = dict(zip(artifact["columns"][:-3], group, strict=True))
                    self.count(self.cells(where, int(label), int(decision)), n)

    def solved(self):
        """Small counts of groups that can have only one value."""
        sums, values = np.array([c for c, _ in self.equal]), np.array([v for _, v in self.equal])
        less = np.array(self.below) if self.below else None
        zeros = None if less is None else np.array(self.offsets)
        found = []
        for columns in (("g",), ("sex",), ("g", "sex")):
            for chosen in itertools.product(*(self.names[c] for c in columns)):
                for y, p in itertools.product((None, 0, 1), repeat=2):
                    group = dict(zip(columns, chosen, strict=True))
                    goal = self.cells(group, y, p)
                    if not 0 < goal @ self.true.ravel() < 10:
                        continue
                    ends = [linprog(s * goal, less, zeros, sums, values, bounds=(0, None)) for s in (1, -1)]
                    assert all(end.status == 0 for end in ends), "the true cells fit all that is shown"
                    if -ends[1].fun - ends[0].fun < 0.999:
                        found.append((group, y, p))
        return found


def shared(table, tmp_path):
    (tmp_path / "audit.toml").write_text(POLICY)
    report = auditkit.audit_predictions(
        table.y.to_numpy(), table.p.to_numpy(), sensitive=table[["g", "sex"]], policy=tmp_path / "audit.toml",
        analyzers=["data.quality", "performance", "fairness.groups"], progress=False,
    )  # fmt: skip
    evidence, verdict = shared_copy(report.evidence, report.gate())
    return to_document(evidence), verdict, small_cells(report.evidence, 10).rounded


@pytest.mark.parametrize("seed", [0, 9, 13, 19])
def test_no_small_count_of_a_group_follows_from_all_that_is_shared(seed, tmp_path):
    attacker = Attacker(table := people(seed))
    attacker.read(*shared(table, tmp_path))
    assert attacker.equal
    assert attacker.solved() == []


def test_the_attacker_solves_a_small_group_from_the_size_of_the_one_withheld_with_it(tmp_path):
    attacker = Attacker(table := people(0))
    attacker.read(*shared(table, tmp_path))
    withheld = min(("A", "B"), key=lambda name: (table.g == name).sum())
    attacker.count(attacker.cells({"g": withheld}), (table.g == withheld).sum())
    assert ({"g": "X"}, None, None) in attacker.solved()


def test_the_attacker_solves_what_a_rate_of_the_true_cells_would_tell(tmp_path):
    attacker = Attacker(table := people(13))
    document, verdict, rounded = shared(table, tmp_path)
    attacker.read(document, verdict, rounded)
    (group, (_, _, fn, _)) = min(rounded.true.items(), key=lambda item: item[1][2])
    assert fn < 10
    attacker.count(attacker.cells(dict(group), 1, 0), fn)
    assert attacker.solved()


def evidence_of(*tables, facts=None):
    outcome = Outcome(analyzer="acme.x", version="1", status="measured", artifacts=tables)
    subject = dataclasses.replace(sample.evidence().subject, test=facts or sample.facts(), train=None)
    return sample.evidence(subject=subject, outcomes=(outcome,))


def three(name, cells):
    return Counts(name=name, over=("g",), groups=(("A",), ("B",)), classes=("a", "b", "c"), n=cells)


def test_of_three_classes_a_few_wrong_decisions_hide_their_cells_and_no_rate():
    a = ((90, 6, 7), (40, 90, 40), (40, 40, 90))
    b = ((90, 40, 40), (40, 90, 40), (40, 40, 90))
    table = three("decisions", (a, b))
    facts = dataclasses.replace(sample.facts(), n_rows=953, sensitive={})
    found = small_cells(evidence_of(table, facts=facts), 10)
    assert {0 * 9 + 1, 0 * 9 + 2} <= found.hidden_in(table)
    assert found.groups == {}, "labels, decisions and right answers are all shown"


def test_a_label_of_few_rows_takes_the_rates_that_count_it_along():
    few = ((900, 40), (3, 2))
    table = Counts(name="confusion", over=(), groups=((),), classes=("no", "yes"), n=(few,))
    facts = dataclasses.replace(sample.facts(), n_rows=945, sensitive={})
    found = small_cells(evidence_of(table, facts=facts), 10)
    told = {
        "data.base_rate": sample.rate("data.base_rate", 5 / 945, 945),
        "fairness.false_positive_rate": sample.rate("fairness.false_positive_rate", 40 / 940, 940),
        "performance.accuracy": sample.rate("performance.accuracy", 902 / 945, 945),
    }
    assert [found.tells(m) for m in told.values()] == [True, True, False]
