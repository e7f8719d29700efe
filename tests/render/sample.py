"""A rich synthetic evidence: every artifact kind, status and verdict state."""

from __future__ import annotations

import base64
import math

from auditkit.core.evidence import (
    Counts,
    Curve,
    DataFacts,
    Density,
    Evidence,
    FeatureFacts,
    ImageGrid,
    Interval,
    Measurement,
    Outcome,
    Picture,
    PlanFacts,
    PlannedAnalyzer,
    RunFacts,
    Series,
    SubjectFacts,
    Table,
)
from auditkit.core.schema import seal
from auditkit.core.verdict import Comparison, RuleResult, Side, Verdict, Waived

SIZES = {"F": 812, "M": 1043, "(missing)": 145}
AGES = {"under 25": 301, "25 to 54": 1204, "55 and over": 495}
FEATURES = ("income", "debt_ratio", "employment_years", "store_card", "age", "savings_account", "housing", "purpose")


def wilson(value: float, n: int, level: float = 0.95) -> Interval:
    z = 1.959963984540054
    middle = (value + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(value * (1 - value) / n + z * z / (4 * n * n))
    return Interval(low=max(0.0, middle - half), high=min(1.0, middle + half), level=level, method="wilson")


def rate(name: str, value: float, n: int, direction="higher", **more) -> Measurement:
    return Measurement(
        name=name, value=value, n=n, interval=wilson(value, n), direction=direction, bounds=(0.0, 1.0), **more
    )


def performance() -> Outcome:
    x = tuple(i / 40 for i in range(41))
    y = tuple(min(1.0, value**0.32) for value in x)
    roc = Curve(
        name="performance.roc",
        title="The model ranks most positive rows above negative ones: the area under the curve is 0.842.",
        x_label="false positive rate",
        y_label="true positive rate",
        series=(
            Series(
                name="approved",
                x=x,
                y=y,
                low=tuple(max(0.0, v - 0.04) for v in y),
                high=tuple(min(1.0, v + 0.03) for v in y),
            ),
        ),
    )
    bins = tuple((i + 0.5) / 10 for i in range(10))
    seen = tuple(min(1.0, max(0.0, b + 0.09 * math.sin(6 * b))) for b in bins)
    reliability = Curve(
        name="performance.reliability",
        title="Scores above 0.5 are a little too confident.",
        x_label="predicted probability",
        y_label="observed share",
        series=(
            Series(
                name="approved",
                x=bins,
                y=seen,
                low=tuple(max(0, s - 0.06) for s in seen),
                high=tuple(min(1, s + 0.06) for s in seen),
            ),
        ),
    )
    counts = Counts(
        name="performance.counts",
        over=(),
        groups=((),),
        classes=("refused", "approved"),
        n=(((741, 159), (202, 898)),),
        positive=1,
    )
    numbers = [
        rate("performance.accuracy", 0.8195, 2000),
        rate("performance.balanced_accuracy", 0.8198, 2000),
        rate("performance.precision", 0.8496, 1057),
        rate("performance.recall", 0.8164, 1100),
        rate("performance.f1", 0.8327, 2000),
        rate("performance.roc_auc", 0.8422, 2000),
        Measurement(
            name="performance.log_loss",
            value=0.4311,
            n=2000,
            direction="lower",
            bounds=(0.0, None),
            interval=Interval(low=0.41, high=0.452, level=0.95, method="bootstrap"),
        ),
        Measurement(
            name="performance.expected_calibration_error",
            value=0.0412,
            n=2000,
            direction="lower",
            bounds=(0.0, 1.0),
            reason="no interval: the estimate is biased upward",
        ),
    ]
    numbers += [
        rate("performance.accuracy", v, n, slice={"sex": g})
        for (g, n), v in zip(SIZES.items(), (0.791, 0.842, 0.807), strict=True)
    ]
    return Outcome(
        analyzer="performance",
        version="1.0",
        status="measured",
        title="Performance metrics",
        reference="Fawcett (2006)",
        measurements=tuple(numbers),
        artifacts=(roc, reliability, counts),
        params={"level": 0.95},
        seed=11,
    )


def fairness() -> Outcome:
    rates = {
        "selection_rate": ((0.382, 0.633, 0.517), (0.44, 0.545, 0.551)),
        "true_positive_rate": ((0.702, 0.871, 0.79), (0.78, 0.82, 0.83)),
        "false_positive_rate": ((0.121, 0.214, 0.18), (0.15, 0.18, 0.19)),
        "accuracy": ((0.791, 0.842, 0.807), (0.80, 0.82, 0.83)),
    }
    numbers = []
    for name, (by_sex, by_age) in rates.items():
        full = f"fairness.{name}"
        numbers.append(rate(full, sum(by_sex) / 3, 2000, direction="neutral"))
        numbers += [
            rate(full, v, n, direction="neutral", slice={"sex": g})
            for (g, n), v in zip(SIZES.items(), by_sex, strict=True)
        ]
        numbers += [
            rate(full, v, n, direction="neutral", slice={"age_band": g})
            for (g, n), v in zip(AGES.items(), by_age, strict=True)
        ]
        for over, gap in ((("sex",), max(by_sex) - min(by_sex)), (("age_band",), max(by_age) - min(by_age))):
            numbers.append(
                Measurement(
                    name=f"{full}.difference",
                    value=round(gap, 4),
                    n=2000,
                    over=over,
                    direction="lower",
                    bounds=(0.0, 1.0),
                    interval=Interval(low=max(0.0, gap - 0.04), high=gap + 0.04, level=0.95, method="simultaneous"),
                )
            )
        for s, (sex, n) in enumerate(SIZES.items()):
            for a, age in enumerate(AGES):
                cell = max(12, round(n * (0.15, 0.6, 0.25)[a]))
                numbers.append(
                    rate(
                        full,
                        by_sex[s] * (0.9, 1.0, 1.05)[a],
                        cell,
                        direction="neutral",
                        slice={"sex": sex, "age_band": age},
                    )
                )
    counts = Counts(
        name="fairness.counts.sex",
        over=("sex",),
        groups=tuple((g,) for g in SIZES),
        classes=("refused", "approved"),
        n=(((391, 54), (111, 256)), ((287, 78), (88, 590)), ((51, 19), (19, 56))),
        positive=1,
    )
    return Outcome(
        analyzer="fairness.groups",
        version="1.2",
        status="measured",
        title="Rates by group",
        reference="Barocas, Hardt, Narayanan: Fairness and Machine Learning, chapter 3",
        measurements=tuple(numbers),
        artifacts=(counts,),
        params={"level": 0.95, "intersections": 2},
        seed=12,
        notes=("Differences are the largest gap between two groups, with simultaneous intervals.",),
    )


def explain() -> Outcome:
    weights = (0.214, 0.131, 0.092, 0.088, 0.051, 0.03, 0.021, 0.008)
    numbers = [
        Measurement(
            name="explain.mean_absolute_attribution",
            value=w,
            n=400,
            params={"feature": f, "method": "tree_shap"},
            unit="probability",
            interval=Interval(low=w * 0.93, high=w * 1.07, level=0.95, method="bootstrap"),
        )
        for f, w in zip(FEATURES, weights, strict=True)
    ]
    numbers.append(
        Measurement(
            name="explain.additivity_residual",
            value=3.1e-9,
            n=400,
            unit="probability",
            direction="lower",
            params={"method": "tree_shap"},
            reason="no interval: a maximum over rows",
        )
    )
    edges = tuple(-0.4 + 0.02 * i for i in range(41))
    strips, colors = [], []
    for k, w in enumerate(weights):
        row = []
        shade = []
        for i in range(40):
            at = edges[i] + 0.01
            count = round(400 * math.exp(-((at - 0.3 * w) ** 2) / (2 * (w * 0.8 + 0.01) ** 2)) * 0.1)
            row.append(count)
            shade.append(None if not count else min(1.0, max(0.0, 0.5 + at / (2.2 * w + 0.02) * (-1) ** k)))
        strips.append(tuple(row))
        colors.append(tuple(shade))
    density = Density(
        name="explain.attributions",
        title="income pushes decisions furthest, in both directions.",
        x_label="attribution (probability of approved)",
        rows=FEATURES,
        edges=edges,
        counts=tuple(strips),
        color=tuple(colors),
    )
    return Outcome(
        analyzer="explain.shap",
        version="2.0",
        status="measured",
        title="Shapley values",
        reference="Lundberg and Lee (2017)",
        measurements=tuple(numbers),
        artifacts=(density,),
        params={"max_rows": 400, "background": 200},
        seed=13,
        notes=("Attributions add up to the model's own output to 3e-9.",),
    )


def saliency() -> Outcome:
    def pixels(phase: float) -> str:
        raw = bytes(int(128 + 127 * math.sin(phase + (i % 8) / 2) * math.cos((i // 8) / 2)) for i in range(64))
        return base64.b64encode(raw).decode()

    grid = ImageGrid(
        name="explain.saliency",
        title="Where the evidence lies, on average over all rows of a class.",
        pictures=tuple(
            Picture(label=f"class {k}", height=8, width=8, pixels=pixels(k), palette="signed") for k in range(6)
        ),
    )
    raw = ImageGrid(
        name="explain.examples",
        title="Four rows of the data",
        raw=True,
        pictures=(Picture(label="row", height=8, width=8, pixels=pixels(2.0)),),
    )
    return Outcome(
        analyzer="explain.saliency",
        version="1.0",
        status="measured",
        title="Saliency maps",
        measurements=(
            Measurement(
                name="explain.completeness_delta",
                value=0.0021,
                n=64,
                direction="lower",
                unreliable="the gradient is zero for half of the rows",
                reason="no interval: a maximum over rows",
            ),
        ),
        artifacts=(grid, raw),
    )


def robustness() -> Outcome:
    numbers = []
    for attack, drop in (("pgd", 1.0), ("square", 0.55)):
        for eps in (0.0, 0.01, 0.02, 0.05, 0.1):
            value = max(0.05, 0.8195 - drop * 5.2 * eps)
            numbers.append(
                rate("robustness.accuracy", value, 500, params={"attack": attack, "norm": "linf", "eps": eps})
            )
    for kind, v in (("numeric noise", 0.781), ("missing values", 0.744), ("category swaps", 0.69)):
        numbers.append(rate("robustness.corrupted_accuracy", v, 2000, params={"corruption": kind}))
    numbers.append(
        Measurement(
            name="robustness.median_distance",
            value=None,
            n=500,
            params={"norm": "l2"},
            reason="fewer than half of the rows could be changed",
        )
    )
    return Outcome(
        analyzer="robustness.adversarial",
        version="1.1",
        status="measured",
        title="Attacks",
        reference="Madry et al. (2018); Andriushchenko et al. (2020)",
        measurements=tuple(numbers),
        params={"eps": [0.01, 0.02, 0.05, 0.1]},
        seed=14,
    )


def privacy() -> tuple[Outcome, ...]:
    numbers = [
        rate("privacy.membership_auc", 0.561, 4000, direction="lower", params={"attack": "threshold"}),
        rate("privacy.membership_tpr", 0.023, 2000, direction="lower", params={"attack": "threshold", "fpr": 0.01}),
        rate("privacy.membership_tpr", 0.004, 2000, direction="lower", params={"attack": "threshold", "fpr": 0.001}),
    ]
    dp = []
    for epsilon, value in ((1.0, 0.741), (4.0, 0.79), (8.0, 0.803)):
        dp.append(rate("privacy.dp_accuracy", value, 2000, params={"epsilon": epsilon}))
        for group, shift in (("F", -0.05), ("M", 0.02)):
            dp.append(
                rate(
                    "privacy.dp_accuracy",
                    value + shift,
                    SIZES[group],
                    params={"epsilon": epsilon},
                    slice={"sex": group},
                )
            )
    return (
        Outcome(
            analyzer="privacy.membership",
            version="1.0",
            status="measured",
            title="Membership inference",
            reference="Carlini et al. (2022)",
            measurements=tuple(numbers),
            seed=15,
        ),
        Outcome(
            analyzer="privacy.dp_training",
            version="1.0",
            status="failed",
            reason="ValueError: the recipe raised in epoch 3 (what was measured before is kept)",
            title="Differentially private training",
            measurements=tuple(dp),
            seed=16,
        ),
    )


def data() -> Outcome:
    sizes = [
        Measurement(
            name="data.group_count",
            value=float(n),
            n=2000,
            slice={"sex": g},
            unit="rows",
            reason="a count, not an estimate",
        )
        for g, n in SIZES.items()
    ]
    proxies = [
        rate("data.proxy_auc", v, 2000, direction="lower", params={"feature": f}, over=("sex",))
        for f, v in (("store_card", 0.898), ("income", 0.61), ("age", 0.52))
    ]
    table = Table(
        name="data.columns",
        title="Missing values by column",
        columns=("column", "kind", "missing share", "n"),
        rows=(
            ("income", "numeric", 0.0135, 2000),
            ("housing", "categorical", 0.0, 2000),
            ("purpose", "text", None, 2000),
        ),
        note="A dash means that the share could not be taken.",
    )
    return Outcome(
        analyzer="data.quality",
        version="1.0",
        status="measured",
        title="Data quality",
        measurements=(
            rate("data.missing_share", 0.0045, 28000, direction="lower"),
            rate("data.duplicate_share", 0.001, 2000, direction="lower"),
            rate("data.train_test_overlap", 0.0, 2000, direction="lower"),
            *sizes,
            *proxies,
        ),
        artifacts=(table,),
        seed=17,
    )


def other() -> tuple[Outcome, ...]:
    return (
        Outcome(
            analyzer="explain.lime",
            version="1.0",
            status="not_applicable",
            reason="needs tabular: the data is not a table",
            title="LIME",
        ),
        Outcome(
            analyzer="robustness.noise",
            version="1.0",
            status="skipped",
            reason="AK320 the deadline of the run passed Fix: raise [run] deadline_seconds",
            title="Noise and missing values",
        ),
        Outcome(
            analyzer="acme.flip_test",
            version="0.3",
            status="measured",
            title="Flip test",
            measurements=(
                rate("acme.flip_rate", 0.083, 812, direction="lower", slice={"sex": "F"}),
                rate("acme.flip_rate", 0.021, 1043, direction="lower", slice={"sex": "M"}),
                rate("acme.flip_rate", 0.048, 2000, direction="lower"),
            ),
            notes=("Changes the word for sex and asks again.",),
        ),
    )


def facts(n: int = 2000) -> DataFacts:
    return DataFacts(
        fingerprint="sha256:" + "4c" * 32,
        n_rows=n,
        modality="tabular",
        features=tuple(FeatureFacts(name=name, kind="numeric") for name in FEATURES),
        sensitive={"sex": dict(SIZES), "age_band": dict(AGES)},
        label_counts={"refused": 900, "approved": 1100},
    )


def evidence(**changes) -> Evidence:
    outcomes = (data(), performance(), fairness(), explain(), saliency(), robustness(), *privacy(), *other())
    fields = {
        "subject": SubjectFacts(
            name="loan approval",
            task="binary",
            model_kind="sklearn.pipeline.Pipeline (HistGradientBoostingClassifier)",
            model_fingerprint="sha256:" + "ab" * 32,
            classes=("refused", "approved"),
            positive="approved",
            score_space="probability",
            capabilities=("labels", "scores"),
            test=facts(),
            train=facts(),
            versions={"auditkit": "0.1.0", "numpy": "2.4.6", "scikit-learn": "1.9.1"},
        ),
        "plan": PlanFacts(
            seed=7,
            analyzers=tuple(PlannedAnalyzer(name=outcome.analyzer) for outcome in outcomes),
            reduced="400 rows are explained and privacy is trained with three budgets; the full plan is larger.",
        ),
        "outcomes": outcomes,
        "policy": {"rule": [{"id": "selection-by-sex"}]},
        "as_of": "2026-11-21",
        "card": {
            "title": "Loan approval, model 3",
            "summary": "Decides whether a loan application goes straight to approval or to a person.",
            "intended_use": "First pass over private loans.\n\nEvery refusal is looked at by a person.",
            "limitations": "Trained on applications of one country.",
            "owner": "Credit risk team",
        },
        "run": RunFacts(started="2026-11-21T10:00:00Z", platform="Linux host7", python="3.11"),
    }
    return seal(Evidence(**{**fields, **changes}))


def verdict(**changes) -> Verdict:
    def side(group: str, value: float, n: int) -> Side:
        return Side(group=group, value=value, n=n, interval=wilson(value, n))

    selection = RuleResult(
        id="selection-by-sex",
        metric="fairness.selection_rate",
        compare="difference",
        limit="<= 0.1",
        state="fail",
        line=12,
        reason="Equal treatment of women and men.",
        message="selection rate of M is 0.633 and of F is 0.382: 0.251 apart, limit 0.1",
        comparisons=(
            Comparison(
                label="sex: F vs M",
                state="fail",
                value=0.251,
                interval=Interval(low=0.205, high=0.297, level=0.95, method="newcombe"),
                sides=(side("F", 0.382, 812), side("M", 0.633, 1043)),
                n=1855,
                message="0.251 apart; even the low end of the interval, 0.205, is above 0.1",
            ),
            Comparison(
                label="sex: F vs (missing)",
                state="inconclusive",
                value=0.135,
                interval=Interval(low=0.046, high=0.222, level=0.95, method="newcombe"),
                sides=(side("F", 0.382, 812), side("(missing)", 0.517, 145)),
                n=957,
                n_needed=1210,
                message="0.135 apart; the interval crosses 0.1",
            ),
            Comparison(
                label="sex: M vs (missing)",
                state="inconclusive",
                value=0.116,
                interval=Interval(low=0.03, high=0.203, level=0.95, method="newcombe"),
                sides=(side("M", 0.633, 1043), side("(missing)", 0.517, 145)),
                n=1188,
                n_needed=5400,
                message="0.116 apart; the interval crosses 0.1",
            ),
        ),
    )
    results = (
        selection,
        RuleResult(
            id="accurate-enough",
            metric="performance.balanced_accuracy",
            compare="value",
            limit=">= 0.75",
            state="pass",
            line=20,
            message="0.820, limit 0.75",
            comparisons=(
                Comparison(
                    label="all rows",
                    state="pass",
                    value=0.8198,
                    n=2000,
                    interval=wilson(0.8198, 2000),
                    message="inside",
                ),
            ),
        ),
        RuleResult(
            id="errors-by-age",
            metric="fairness.true_positive_rate",
            compare="difference",
            limit="<= 0.05",
            state="inconclusive",
            line=25,
            message="the largest gap is 0.05 and its interval crosses the limit",
            comparisons=(
                Comparison(
                    label="age_band: under 25 vs 55 and over",
                    state="inconclusive",
                    value=0.05,
                    n=420,
                    n_needed=3900,
                    interval=Interval(low=0.0, high=0.11, level=0.95, method="newcombe"),
                    sides=(side("under 25", 0.78, 160), side("55 and over", 0.83, 260)),
                    message="0.05 apart; the interval crosses 0.05",
                ),
            ),
        ),
        RuleResult(
            id="no-leak",
            metric="data.target_leakage_auc",
            compare="value",
            limit="<= 0.9",
            state="error",
            message="data.target_leakage_auc was not measured; run data.quality with leakage = true",
        ),
        RuleResult(
            id="membership",
            metric="privacy.membership_auc",
            compare="value",
            limit="<= 0.55",
            state="waived",
            level="error",
            message="0.561 is above 0.55",
            waiver=Waived(owner="A. Lind", reason="retrained next month", ticket="RISK-118", expires="2027-01-15"),
            comparisons=(
                Comparison(
                    label="all rows", state="waived", value=0.561, n=4000, interval=wilson(0.561, 4000), message="above"
                ),
            ),
        ),
        RuleResult(
            id="robust",
            metric="robustness.accuracy",
            compare="value",
            limit=">= 0.5",
            state="fail",
            level="warning",
            message="0.300 at eps 0.1, limit 0.5",
            comparisons=(
                Comparison(
                    label="attack pgd, eps 0.1",
                    state="fail",
                    value=0.3,
                    n=500,
                    interval=wilson(0.3, 500),
                    message="below",
                ),
            ),
        ),
    )
    fields = {
        "state": "error",
        "exit_code": 3,
        "results": results,
        "summary": "One rule could not be judged and one is broken: women are approved 25 points less often than men.",
        "as_of": "2026-11-21",
        "policy": "audit.toml",
        "unmeasured": ("privacy.dp_training",),
    }
    return Verdict(**{**fields, **changes})


def failing() -> Verdict:
    results = tuple(result for result in verdict().results if result.state != "error")
    return verdict(
        state="fail",
        exit_code=1,
        results=results,
        unmeasured=(),
        summary="One rule is broken: women are approved 25 points less often than men.",
    )


def passing() -> Verdict:
    results = tuple(result for result in verdict().results if result.state == "pass")
    return verdict(state="pass", exit_code=0, results=results, unmeasured=(), summary="The only rule holds.")
