"""Agreement of every shared group metric with fairlearn, AIF360 and aequitas on random and adversarial cases.

Each library is asked in an environment of its own (they pin different packages), which is given as an argument:

    python -m venv PEERS && PEERS/bin/pip install fairlearn aif360 aequitas
    python benchmarks/fairness_agreement.py --peers PEERS/bin/python [--cases 10800] [--answers FOLDER] [--write]

Asking takes about ten minutes of CPU; with --answers the answers are kept in FOLDER and taken from there the next time.

Two defined numbers must agree within 1e-12. Where a rate has no rows to divide by (counted here from the rows, not
taken from auditkit) the libraries differ by convention; each such class is named and counted. Where weights differ so
much that rounding exceeds the tolerance, exact arithmetic on the rows decides who is right, and that is counted too.
Any other disagreement is printed and the exit code is 1.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from fractions import Fraction
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from auditkit.methods.fairness import count_groups, disparity, group_metrics
from auditkit.methods.fairness.individual import benefits, inequality

LIBRARIES = ("fairlearn", "aif360", "aequitas")
TOLERANCE = 1e-12
RESULT = Path(__file__).parent / "results" / "fairness_agreement.md"
AEQUITAS = {
    "tpr": "true_positive_rate",
    "tnr": "true_negative_rate",
    "for": "false_omission_rate",
    "fdr": "false_discovery_rate",
    "fpr": "false_positive_rate",
    "fnr": "false_negative_rate",
    "npv": "negative_predictive_value",
    "precision": "positive_predictive_value",
    "pprev": "selection_rate",
    "prev": "base_rate",
}
# Which of the cells tp, fp, fn, tn a rate divides by; two sets for a mean of two rates.
BELOW: dict[str, tuple[str, ...]] = {
    "selection_rate": ("tp fp fn tn",),
    "base_rate": ("tp fp fn tn",),
    "accuracy": ("tp fp fn tn",),
    "error_rate": ("tp fp fn tn",),
    "true_positive_rate": ("tp fn",),
    "false_negative_rate": ("tp fn",),
    "false_positive_rate": ("fp tn",),
    "true_negative_rate": ("fp tn",),
    "positive_predictive_value": ("tp fp",),
    "false_discovery_rate": ("tp fp",),
    "negative_predictive_value": ("fn tn",),
    "false_omission_rate": ("fn tn",),
    "f1": ("tp fp fn",),
    "threat_score": ("tp fp fn",),
    "balanced_accuracy": ("tp fn", "fp tn"),
    "equalized_odds": ("tp fn", "fp tn"),
    "average_odds": ("tp fn", "fp tn"),
}
ABOVE = {
    "selection_rate": "tp fp",
    "true_positive_rate": "tp",
    "false_positive_rate": "fp",
    "true_negative_rate": "tn",
    "false_negative_rate": "fn",
    "positive_predictive_value": "tp",
    "false_discovery_rate": "fp",
    "false_omission_rate": "fn",
    "accuracy": "tp tn",
    "error_rate": "fp fn",
    "f1": "tp",
    "threat_score": "tp",
    "balanced_accuracy": "tp tn",
}
KINDS = (
    "random",
    "perfect",
    "inverted",
    "constant 0",
    "constant 1",
    "one-sided group",
    "tiny groups",
    "rare",
    "unequal",
)


def draw(rng: np.random.Generator, kind: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels, decisions and group codes of one case; groups 0 and 1 always have rows."""
    k = int(rng.integers(2, 8))
    n = int(rng.integers(2, 12) if kind == "tiny groups" else rng.integers(10, 200))
    g = rng.integers(0, k, n)
    if kind == "unequal":
        g = np.where(rng.random(n) < 0.9, 0, g)
    g[:2] = (0, 1)
    base = rng.choice([0.002, 0.03]) if kind == "rare" else rng.uniform(0.1, 0.9)
    y = (rng.random(n) < base).astype(np.int64)
    p = np.where(rng.random(n) < rng.uniform(0.3, 1.0), y, 1 - y)
    if kind == "perfect":
        p = y.copy()
    elif kind == "inverted":
        p = 1 - y
    elif kind.startswith("constant"):
        p = np.full(n, int(kind[-1]))
    elif kind == "one-sided group":
        column = y if rng.random() < 0.5 else p
        column[g == rng.integers(0, k)] = rng.integers(0, 2)
    return y, p, g


def generate(count: int, seed: int = 0) -> list[dict[str, Any]]:
    rng = np.random.default_rng(seed)
    made = []
    for index in range(count):
        kind = KINDS[index % len(KINDS)]
        y, p, g = draw(rng, kind)
        spread = (0.0, 1.0, 6.0)[int(rng.integers(0, 3))]
        w = np.exp(rng.normal(0, spread, len(y))) if index % 3 == 0 and spread else None
        made.append({"kind": kind, "y": y, "p": p, "g": g, "w": w})
    return made


def save(path: Path, made: list[dict[str, Any]]) -> None:
    joined = {key: np.concatenate([case[key] for case in made]) for key in ("y", "p", "g")}
    weights = np.concatenate([np.ones(len(case["y"])) if case["w"] is None else case["w"] for case in made])
    ends = np.cumsum([len(case["y"]) for case in made])
    np.savez(path, **joined, w=weights, ends=ends, weighted=np.array([case["w"] is not None for case in made]))


def ask(python: str, library: str, folder: Path) -> list[dict[str, Any]]:
    """What a library answers to the cases, by two processes."""
    answers = folder / f"{library}.jsonl"
    if not answers.exists():
        script = Path(__file__).with_name("fairness_agreement_peers.py")

        def part(place: int) -> str:
            command = [python, str(script), str(folder / "cases.npz"), library, str(place), "2"]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                raise SystemExit(f"{library} could not be asked:\n{done.stderr[-2000:]}")
            return done.stdout

        with ThreadPoolExecutor(2) as pool:
            answers.write_text("".join(pool.map(part, range(2))), encoding="utf-8")
    return [json.loads(line) for line in answers.read_text(encoding="utf-8").splitlines()]


class Case:
    """One case: our numbers, and from the rows alone which groups have nothing to divide by."""

    def __init__(self, case: dict[str, Any], two: bool) -> None:
        kept = case["g"] < 2 if two else np.ones(len(case["g"]), dtype=bool)
        y, p, g = (case[key][kept] for key in ("y", "p", "g"))
        w = None if case["w"] is None else case["w"][kept]
        self.counts = count_groups(y, p, {"g": np.array([f"g{code}" for code in g])}, weights=w)
        self.table = group_metrics(self.counts)
        kinds = {"tp": (y == 1) & (p == 1), "fp": (y == 0) & (p == 1), "fn": (y == 1) & (p == 0)}
        kinds["tn"] = (y == 0) & (p == 0)
        mass = np.ones(len(y)) if w is None else w
        self.weights = {
            f"g{c}": {name: sum(map(Fraction, mass[mask & (g == c)].tolist())) for name, mask in kinds.items()}
            for c in np.unique(g)
        }
        self.rows = {f"g{c}": {name: int(mask[g == c].sum()) for name, mask in kinds.items()} for c in np.unique(g)}

    def value(self, metric: str, group: str) -> float | None:
        return self.table.values(metric)[(group,)]

    def exact(self, metric: str, group: str) -> Fraction:
        """The rate in rational arithmetic, for metrics that are one rate other than f1."""
        above, below = (sum(self.weights[group][c] for c in part.split()) for part in (ABOVE[metric], BELOW[metric][0]))
        return Fraction(above) / Fraction(below)

    def empty(self, metric: str, group: str) -> bool:
        """Whether ``metric`` has no rows to divide by in ``group``."""
        return any(sum(self.rows[group][cell] for cell in below.split()) == 0 for below in BELOW[metric])

    def any_empty(self, metric: str) -> bool:
        return any(self.empty(metric, group) for group in self.rows)


Outcome = tuple[str, str, float]  # ("agree" | "differ" | name of a known class, details, what the library said)


def numbers(ours: float | None, theirs: float, known: str | None, said: float) -> Outcome:
    """``known``: the class of divergence that the rows themselves explain, if any; ``said``: theirs before folding."""
    if known is not None:
        if ours is None:
            return known, "", said
        return "differ", f"ours is {ours!r} although there is nothing to divide by; theirs {said!r}", said
    if ours is not None and math.isfinite(theirs) and abs(ours - theirs) <= TOLERANCE:
        return "agree", f"{abs(ours - theirs):.1e}", said
    return "differ", f"ours {ours!r}, theirs {theirs!r}", said


def word(value: float) -> str:
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else "infinity"
    return f"{value:g}" if value in (0, 1, 10) else "another number"


def group_values(
    case: Case, library: str, answer: dict[str, Any], names: dict[str, str]
) -> Iterator[tuple[str, Outcome]]:
    for theirs_name, name in names.items():
        for group, theirs in answer["groups"][theirs_name].items():
            ours = case.value(name, group)
            known = None
            if case.empty(name, group):
                known = "a rate without rows to divide by"
            yield f"{name} of a group", numbers(ours, theirs, known, theirs)


def folded(name: str, theirs: float, library: str) -> float:
    """Signed differences as gaps, and ratios the smaller way round, where the library does not do so itself."""
    if library == "fairlearn" or not math.isfinite(theirs):
        return theirs
    if name.endswith(".difference"):
        return abs(theirs)
    return min(theirs, 1 / theirs) if theirs > 0 else theirs


def gaps(case: Case, raw: dict[str, Any], library: str, answer: dict[str, Any]) -> Iterator[tuple[str, Outcome]]:
    for label, value in answer["gaps"].items():
        name = label.partition(" ")[0]
        if name == "generalized_entropy":
            benefit = benefits(raw["y"] == 1, raw["p"] == 1)
            zero = benefit.sum() == 0
            codes = np.unique(raw["g"], return_inverse=True)[1]
            found = None if zero else inequality(benefit, codes, np.random.default_rng(0), resamples=1).total.value
            known = "generalized entropy where the mean benefit is 0" if zero else None
            yield name, numbers(found, value, known, value)
            continue
        metric, _, compare = name.partition(".")
        ours = disparity(case.counts, metric, compare, level=None).value
        theirs = folded(name, value, library)
        known = None
        if case.any_empty(metric):
            known = f"a {compare} of rates of which one has no rows to divide by"
        elif compare == "ratio" and _all_zero(case, metric):
            known = "a ratio of rates that are all 0"
        elif library == "aif360" and compare == "ratio" and math.isinf(value) and ours == 0.0:
            yield name, ("a ratio to a privileged rate of 0, which is 0 here", "", value)
            continue
        yield name, judged(case, metric, compare, numbers(ours, theirs, known, value))


def _all_zero(case: Case, metric: str) -> bool:
    """Whether the rates of all groups are exactly 0, whose ratio says nothing, by the rows above the line."""
    parts = ("true_positive_rate", "false_positive_rate") if metric == "equalized_odds" else (metric,)
    return any(
        all(sum(rows[cell] for cell in ABOVE[part].split()) == 0 for rows in case.rows.values()) for part in parts
    )


def judged(case: Case, metric: str, compare: str, found: Outcome) -> Outcome:
    """A disagreement by rounding goes to exact arithmetic: counted where ours is right to the last digits."""
    if found[0] != "differ" or metric not in ABOVE or len(BELOW[metric]) > 1 or metric == "f1":
        return found
    rates = [case.exact(metric, group) for group in case.rows]
    low, high = min(rates), max(rates)
    ours = disparity(case.counts, metric, compare, level=None).value
    truth = high - low if compare == "difference" else low / high
    right = ours is not None and abs(Fraction(ours) - truth) <= Fraction(1, 10**15)
    return ("a defined number, rounded off by more than the tolerance in the library", "", found[2]) if right else found


def against_first(case: Case, answer: dict[str, Any]) -> Iterator[tuple[str, Outcome]]:
    """aequitas: every group over group 0."""
    for theirs_name, values in answer["against"].items():
        name = AEQUITAS[theirs_name]
        pairs = {pair.group: pair.value for pair in disparity(case.counts, name, "ratio", "g0", level=None).pairs}
        for group, value in values.items():
            if group not in pairs:
                continue
            theirs = folded(".ratio", value, "aequitas")
            rates = case.value(name, group), case.value(name, "g0")
            known = None
            if case.empty(name, group) or case.empty(name, "g0"):
                known = "a ratio of rates of which one has no rows to divide by"
            elif rates == (0.0, 0.0):
                known = "a ratio of rates that are all 0"
            elif rates[1] == 0.0 and value == 10:
                yield f"{name}.ratio to a group", ("a ratio to a reference rate of 0, which is 0 here", "", value)
                continue
            yield f"{name}.ratio to a group", numbers(pairs[group], theirs, known, value)


def compare(made: list[dict[str, Any]], library: str, answers: list[dict[str, Any]]):
    """Counts of agreement by metric, of known classes, and what is not explained."""
    agree: dict[str, list[float]] = {}
    classes: Counter[tuple[str, str]] = Counter()
    unexplained: list[str] = []
    for answer in answers:
        raw = made[answer["case"]]
        if "error" in answer:
            unexplained.append(f"{library}, case {answer['case']} ({raw['kind']}): it raised {answer['error']}")
            continue
        case = Case(raw, two=library == "aif360")
        names = AEQUITAS if library == "aequitas" else {name: name for name in answer["groups"]}
        found = list(group_values(case, library, answer, names))
        found += against_first(case, answer) if library == "aequitas" else gaps(case, raw, library, answer)
        for name, (outcome, details, said) in found:
            if outcome == "agree":
                agree.setdefault(name, []).append(float(details))
            elif outcome == "differ":
                unexplained.append(f"{library}, case {answer['case']} ({raw['kind']}): {name}: {details}")
            else:
                classes[outcome, word(said)] += 1
    return agree, classes, unexplained


def parts(answers: list[Any], size: int = 300) -> list[list[Any]]:
    return [answers[start : start + size] for start in range(0, len(answers), size)]


def compared(count: int, library: str, answers: list[dict[str, Any]]):
    """:func:`compare` in a process of its own, which draws the cases again."""
    return compare(known_cases(count), library, answers)


@lru_cache(maxsize=1)
def known_cases(count: int) -> list[dict[str, Any]]:
    return generate(count)


def joined(found: Iterable[Any]) -> tuple[dict[str, list[float]], Counter[tuple[str, str]], list[str]]:
    """The comparisons of all parts as one."""
    agree: dict[str, list[float]] = {}
    classes: Counter[tuple[str, str]] = Counter()
    unexplained: list[str] = []
    for same, known, differ in found:
        for name, values in same.items():
            agree.setdefault(name, []).extend(values)
        classes += known
        unexplained += differ
    return agree, classes, unexplained


def report(count: int, results: dict[str, Any], versions: str) -> str:
    lines = [
        "# Agreement with fairlearn, AIF360 and aequitas",
        "",
        f"{count:,} cases of {len(KINDS)} kinds ({', '.join(KINDS)}):",
        "2 to 199 rows, 2 to 7 groups; two ninths are weighted, half of those with log-normal weights whose logarithm",
        "has a standard deviation of 6 (aequitas takes no weights).",
        "fairlearn is asked for five rates on all cases and for everything on every fortieth.",
        f"{versions}. Two numbers agree within {TOLERANCE:g}. Made by",
        "`python benchmarks/fairness_agreement.py --peers PEERS/bin/python --write`.",
        "",
        "| library | cases asked | numbers compared | agree | largest deviation | known divergences | unexplained |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for library, (asked, agree, classes, unexplained) in results.items():
        same = sum(map(len, agree.values()))
        worst = max(max(values) for values in agree.values())
        known = sum(classes.values())
        total = same + known + len(unexplained)
        lines.append(
            f"| {library} | {asked:,} | {total:,} | {same:,} | {worst:.1e} | {known:,} | {len(unexplained):,} |"
        )
    lines += [
        "",
        "## Numbers that agree",
        "",
        "| number | " + " | ".join(results) + " |",
        "| --- |" + " --- |" * len(results),
    ]
    for name in sorted({name for _, agree, _, _ in results.values() for name in agree}):
        cells = [f"{len(agree[name]):,}" if name in agree else "-" for _, agree, _, _ in results.values()]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    lines += [
        "",
        "## Known divergences",
        "",
        "Where there is nothing to divide by; auditkit gives no number but a reason.",
        "",
    ]
    lines += ["| class | here | " + " | ".join(results) + " |", "| --- | --- |" + " --- |" * len(results)]
    for name in sorted({name for _, _, classes, _ in results.values() for name, _ in classes}):
        cells = [
            ", ".join(f"{said} ({times:,})" for (kind, said), times in classes.most_common() if kind == name) or "-"
            for _, _, classes, _ in results.values()
        ]
        here = "0" if name.endswith("0 here") else "exact" if name.startswith("a defined") else "undefined"
        lines.append(f"| {name.removesuffix(', which is 0 here')} | {here} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--peers", required=True, help="the Python of an environment with fairlearn, aif360 and aequitas"
    )
    parser.add_argument("--cases", type=int, default=10_800)
    parser.add_argument("--answers", help="a folder to keep the answers in; those that are there are used")
    parser.add_argument("--write", action="store_true", help=f"write {RESULT.name}")
    given = parser.parse_args()
    made = generate(given.cases)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(given.answers or temporary)
        folder.mkdir(parents=True, exist_ok=True)
        save(folder / "cases.npz", made)
        answers = {library: ask(given.peers, library, folder) for library in LIBRARIES}
    show = f"from importlib.metadata import version as v; print(*(n + ' ' + v(n) for n in {LIBRARIES!r}), sep=', ')"
    versions = subprocess.run([given.peers, "-c", show], capture_output=True, text=True, check=True).stdout.strip()
    with ProcessPoolExecutor() as pool:
        results = {
            name: (len(found), *joined(pool.map(partial(compared, given.cases, name), parts(found))))
            for name, found in answers.items()
        }
    text = report(given.cases, results, versions)
    print(text)
    if given.write:
        RESULT.write_text(text, encoding="utf-8")
    unexplained = [line for *_, lines in results.values() for line in lines]
    for line in unexplained[:40]:
        print(line, file=sys.stderr)
    return 1 if unexplained else 0


if __name__ == "__main__":
    sys.exit(main())
