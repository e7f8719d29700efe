"""Words for what auditkit itself measures; names of other analyzers are shown as they are."""

from __future__ import annotations

from collections.abc import Container, Mapping

from auditkit.core.evidence import Measurement
from auditkit.render.numerals import parameters
from auditkit.render.text import capitalised, clean, words

# Family -> heading and the question that it answers, in the order of the card.
FAMILIES: dict[str, tuple[str, str]] = {
    "data": ("Data checks", "What are the rows like, and is anything wrong with them?"),
    "performance": ("Performance", "How often is the model right, and how far can its scores be believed?"),
    "fairness": ("Fairness", "Do groups of people get different treatment or different errors?"),
    "explain": ("Explanations", "What do the model's decisions rest on?"),
    "robustness": ("Robustness", "Does the model hold up when its inputs are disturbed or attacked?"),
    "privacy": ("Privacy", "What could someone learn about the people it was trained on?"),
    "profile": ("Law and practice", "What does this audit hold of what a law, rule or framework asks to see?"),
}

# Quantity -> label and one plain sentence. The key is the part of the measurement's name after the family.
GLOSSARY: dict[str, tuple[str, str]] = {
    "accuracy": ("accuracy", "the share of rows that the model decides as labelled"),
    "robustness.accuracy": (
        "accuracy under attack",
        "the share of rows that are decided as labelled, and still so at every point that the attacks tried within eps",
    ),
    "balanced_accuracy": (
        "balanced accuracy",
        "the mean of the recalls of all classes, so that rare classes count as much",
    ),
    "precision": ("precision", "of the rows decided as positive, the share that is"),
    "recall": ("recall", "of the rows that are positive, the share that the model finds"),
    "f1": ("F1", "the harmonic mean of precision and recall"),
    "roc_auc": ("ROC AUC", "the chance that a random positive row scores above a random negative one; 0.5 is guessing"),
    "average_precision": (
        "average precision",
        "precision averaged over all recalls; the share of positives is guessing",
    ),
    "log_loss": ("log loss", "how surprised the labels are by the model's probabilities; lower is better"),
    "brier_score": ("Brier score", "the mean squared gap between probability and outcome; lower is better"),
    "expected_calibration_error": (
        "calibration error",
        "how far stated probabilities lie from what happens, on average",
    ),
    "r2": ("R²", "the share of the target's variance that the model explains"),
    "mean_absolute_error": ("mean absolute error", "how far off a prediction is on average, in the target's unit"),
    "root_mean_squared_error": (
        "root mean squared error",
        "like the mean absolute error, with large misses counting more",
    ),
    "pinball_loss": ("pinball loss", "how well a predicted quantile fits; lower is better"),
    "error_rate": ("error rate", "the share of rows that the model decides otherwise than labelled"),
    "base_rate": ("base rate", "the share of rows whose label is positive"),
    "selection_rate": ("selection rate", "the share of rows that the model decides as positive"),
    "true_positive_rate": ("true positive rate", "of the positive rows, the share decided as positive"),
    "false_positive_rate": ("false positive rate", "of the negative rows, the share wrongly decided as positive"),
    "true_negative_rate": ("true negative rate", "of the negative rows, the share decided as negative"),
    "false_negative_rate": ("false negative rate", "of the positive rows, the share wrongly decided as negative"),
    "positive_predictive_value": ("positive predictive value", "of the rows decided as positive, the share that is"),
    "negative_predictive_value": ("negative predictive value", "of the rows decided as negative, the share that is"),
    "equalized_odds": ("equalized odds", "the larger of the gaps in true and in false positive rate"),
    "mean_absolute_attribution": ("mean |attribution|", "how much a feature moves the model's output, on average"),
    "attribution_share": ("attribution share", "a feature's part of all attribution"),
    "share_at_equal_score": (
        "share at equal score",
        "a feature's part of a row's attributions, among rows of equal score",
    ),
    "attribution_at_equal_score": (
        "attribution at equal score",
        "how far a feature moves the output, up or down, among rows of equal score",
    ),
    "proxy_use": (
        "proxy in use",
        "how well a feature gives a sensitive column away, times how much the model uses it; 1 is a copy used alone",
    ),
    "group_auc_of_features": (
        "groups told by all features",
        "how well all features together give a sensitive column away; 0.5 is not at all",
    ),
    "group_auc_of_attributions": (
        "groups told by reasons",
        "how well the attributions of a row give its group away; 0.5 is equal treatment",
    ),
    "recourse_share": (
        "share with recourse",
        "of the rows decided otherwise, the share with a feasible change to the decision wanted",
    ),
    "recourse_cost": (
        "cost of recourse",
        "what the cheapest change found costs, at the median of the rows decided otherwise",
    ),
    "recourse_changes": ("changes needed", "how many features the cheapest change found touches, on average"),
    "disparity_p_value": (
        "p-value of other reasons",
        "the chance of such gaps if groups of equal score were exchangeable; small says that reasons differ",
    ),
    "method_agreement": (
        "agreement of methods",
        "how alike two methods rank the inputs of a row: 1 is the same order, 0 none in common",
    ),
    "permutation_importance": (
        "permutation importance",
        "how much accuracy (or R²) is lost when a feature is shuffled among the rows",
    ),
    "mean_signed_attribution": ("mean attribution", "whether a feature raises or lowers the output on average"),
    "interaction_strength": (
        "interaction",
        "how much of the joint effect of two features is more than the sum of their own, from 0 to 1 (Friedman's H)",
    ),
    "deletion_gain": (
        "deletion gain",
        "how much lower the output lies when parts are removed in the explanation's order than at random; 0 is no "
        "better than chance",
    ),
    "insertion_gain": (
        "insertion gain",
        "how much higher the output lies when parts are put back in the explanation's order than at random; 0 is no "
        "better than chance",
    ),
    "infidelity": (
        "infidelity",
        "how badly an explanation foretells what happens when parts are removed: 0 is faithful, 1 foretells nothing",
    ),
    "max_sensitivity": (
        "sensitivity",
        "how much an explanation changes at most when its input moves a little, as a share of its size",
    ),
    "masker_agreement": ("agreement of maskers", "how alike two ways of removing parts rank them: 1 is the same order"),
    "masker_top5_overlap": ("top-5 overlap of maskers", "the share of the five strongest parts that two maskers share"),
    "ranking_agreement": (
        "agreement of rankings",
        "how alike two methods rank the parts of a row: 1 is the same order",
    ),
    "top5_overlap": ("top-5 overlap", "the share of the five strongest parts that two methods have in common"),
    "additivity_residual": ("additivity residual", "how far the attributions fail to add up to the output; 0 is exact"),
    "completeness_delta": ("completeness delta", "how far integrated gradients fail to add up; 0 is exact"),
    "local_fidelity_r2": ("local fidelity", "how well a simple local model follows the audited one (R²)"),
    "stability_top5_overlap": (
        "top-5 stability",
        "how much of the five strongest features stays when the method is run again",
    ),
    "attack_success_rate": ("attack success", "of the rows decided rightly, the share that an attack overturns"),
    "median_distance": ("median distance", "how far an input must be moved, at the median, to change the decision"),
    "corrupted_accuracy": ("accuracy under corruption", "accuracy when the inputs are disturbed"),
    "accuracy_drop": ("accuracy lost", "how much accuracy a disturbance costs"),
    "membership_auc": ("membership AUC", "how well an attacker tells training rows from others; 0.5 is guessing"),
    "membership_tpr": ("membership hits", "the share of training rows found at a fixed share of false alarms"),
    "dp_accuracy": ("accuracy with privacy", "accuracy of the same training under differential privacy"),
    "dp_accuracy_cost": ("cost of privacy", "accuracy lost by training with differential privacy"),
    "epsilon": ("epsilon", "the bound on what training reveals about any one row; smaller is more private"),
    "noise_multiplier": ("noise multiplier", "noise added in private training, as a multiple of the clipping norm"),
    "missing_share": ("missing values", "the share of cells without a value"),
    "duplicate_share": ("duplicates", "the share of rows that repeat another"),
    "train_test_overlap": ("train/test overlap", "the share of test rows that were also trained on"),
    "group_share": ("group share", "a group's part of all rows"),
    "group_count": ("group size", "the number of rows of a group"),
    "proxy_auc": ("proxy strength", "how well a feature gives away a sensitive column; 0.5 is not at all"),
    "target_leakage_auc": ("target leakage", "how well one feature alone gives away the label; near 1 is suspicious"),
}

# Quantity -> label alone, where its name in words would not do; its analyzer says what it is.
LABELS: dict[str, str] = {
    "abroca": "ABROCA",
    "abroca_p_value": "p-value of ABROCA",
    "score_ks": "Kolmogorov-Smirnov distance of scores",
    "score_wasserstein": "Wasserstein distance of scores",
    "prediction_ks": "Kolmogorov-Smirnov distance of predictions",
    "statistical_parity_auc": "statistical parity AUC",
    "theil_index": "Theil index",
    "jain_index": "Jain index",
    "crosscheck_max_deviation": "deviation from fairlearn",
    "exposure_p_value": "p-value of exposure",
    "ranking_divergence_p_value": "p-value of ranking divergence",
    "worst_subgroup_p_value": "p-value of the worst subgroup",
    "clever_score": "CLEVER score",
    "mean_corruption_error": "mean corruption error (mCE)",
    "relative_mean_corruption_error": "relative mCE",
    "dp_robust_accuracy": "robust accuracy with privacy",
    "dp_membership_auc": "membership AUC with privacy",
    "dp_selection_rate": "selection rate with privacy",
    "k_anonymity": "k-anonymity",
    "l_diversity": "l-diversity",
    "entropy_l_diversity": "entropy l-diversity",
    "t_closeness": "t-closeness",
    "reidentification_risk": "re-identification risk",
    "train_test_overlap_count": "train/test overlap, rows",
}

_KINDS = {
    "difference": ("difference", "the largest gap between two groups"),
    "ratio": ("ratio", "the smaller group's rate over the larger's; 1 is equal"),
}

# What a family's first numbers are, best first; everything else follows in the order it was measured.
HEADLINES = (
    "balanced_accuracy",
    "accuracy",
    "roc_auc",
    "expected_calibration_error",
    "r2",
    "mean_absolute_error",
    "root_mean_squared_error",
    "selection_rate.difference",
    "selection_rate.ratio",
    "true_positive_rate.difference",
    "false_positive_rate.difference",
    "equalized_odds.difference",
    "additivity_residual",
    "local_fidelity_r2",
    "stability_top5_overlap",
    "attack_success_rate",
    "corrupted_accuracy",
    "membership_auc",
    "membership_tpr",
    "dp_accuracy",
    "epsilon",
    "duplicate_share",
    "train_test_overlap",
    "missing_share",
)


def quantity(name: str) -> str:
    """The measurement's name without its family."""
    return name.split(".", 1)[1] if "." in name else name


def label(name: str) -> str:
    """The quantity in words.

    >>> label("fairness.selection_rate.difference"), label("toy.flip_rate")
    ('selection rate difference', 'flip rate')
    >>> label("performance.accuracy"), label("robustness.accuracy.difference")
    ('accuracy', 'accuracy under attack difference')
    """
    base, kind = _parts(name)
    entry = _entry(name)
    shown = entry[0] if entry else LABELS.get(base) or words(base.replace(".", " "))
    return f"{shown} {kind}" if kind else shown


def title(name: str) -> str:
    """The quantity in words, as a heading."""
    return capitalised(label(name))


def meaning(name: str, told: Mapping[str, str]) -> str | None:
    """One plain sentence on the quantity: the card's own words, else what its analyzer has ``told``, if anything.

    >>> meaning("toy.flip_rate", {"toy.flip_rate": "Share of rows that flip."}), meaning("toy.flip_rate", {})
    ('Share of rows that flip', None)
    """
    _, kind = _parts(name)
    entry = _entry(name)
    if entry:
        sentence = entry[1]
        return f"{_KINDS[kind][1]}; the rate is {sentence}" if kind else sentence
    return clean(told.get(name, "")).strip().removesuffix(".") or None


def about(measurement: Measurement, without: Container[str] = ()) -> str:
    """What identifies a measurement besides its name: its rows, its columns and its parameters.

    Args:
        measurement: What to name.
        without: Parameters that are said elsewhere.
    """
    parts = [f"{clean(column)} {clean(group)}" for column, group in sorted(measurement.slice.items())]
    if measurement.over:
        parts.append("over " + " and ".join(clean(column) for column in measurement.over))
    varying = {name: value for name, value in measurement.params.items() if name not in without}
    if varying:
        parts.append(parameters(varying))
    return ", ".join(parts) or "all rows"


def family_title(family: str) -> str:
    """The heading of a family; a third party's name in words."""
    return FAMILIES[family][0] if family in FAMILIES else capitalised(words(family))


def _entry(name: str) -> tuple[str, str] | None:
    """Word and meaning of a quantity: its own in its family, else that which it has in all."""
    base, _ = _parts(name)
    return GLOSSARY.get(f"{name.split('.', 1)[0]}.{base}") or GLOSSARY.get(base)


def _parts(name: str) -> tuple[str, str]:
    base = quantity(name)
    for kind in _KINDS:
        if base.endswith("." + kind):
            return base[: -len(kind) - 1], kind
    return base, ""
