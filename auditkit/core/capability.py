"""What a subject can do, and the sentence for what is missing."""

from __future__ import annotations

from collections.abc import Iterable

from auditkit.core.subject import Subject, TorchTrainingRecipe

# Word -> why an analyzer that needs it does not apply when it is absent, and what would help.
WORDS: dict[str, str] = {
    "labels": "the model gives no decisions",
    "scores": "the model gives labels only; a model with predict_proba, decision_function or logits would do",
    "probabilities": "the model's scores are not probabilities or logits",
    "gradients": "the model is not differentiable; a torch module would do",
    "embeddings": "the model has no embedding layer that auditkit knows",
    "trees": "the model is not a tree ensemble that auditkit knows",
    "model": "there is no model here, only saved predictions",
    "retrain": "there is no recipe to train the model afresh; pass recipe=auditkit.SklearnRecipe(...) or "
    "auditkit.TorchRecipe(...), or name a factory of one under [training] in audit.toml",
    "torch_recipe": "there is no torch training recipe; pass recipe=auditkit.TorchRecipe(...)",
    "private_recipe": "there is no recipe that private training can follow; pass recipe=auditkit.TorchRecipe(...) or a "
    "scikit-learn logistic regression",
    "train": "there is no training data; pass train=(X_train, y_train)",
    "sensitive": "there are no sensitive columns; pass sensitive=",
    "train_sensitive": "the training rows have no sensitive columns; pass train=(X_train, y_train, sensitive_train)",
    "tabular": "the data is not a table",
    "image": "the data is not images",
    "text": "the data is not text",
    "sequence": "the data is not token ids",
    "texts": "the data is neither texts nor token ids",
    "classification": "the task is regression",
    "binary": "the task is not binary classification",
    "regression": "the task is not regression",
    "inputs": "there are no model inputs here, only saved predictions",
}


def capabilities(subject: Subject) -> frozenset[str]:
    """The words of :data:`WORDS` that hold for ``subject``."""
    words = {word for word in subject.model.capabilities if word in WORDS}
    words.add(subject.test.modality)
    if subject.test.modality in ("text", "sequence"):
        words.add("texts")
    words.add("regression" if subject.task == "regression" else "classification")
    if subject.task == "binary":
        words.add("binary")
    if subject.model.score_space in ("probability", "logit"):
        words.add("probabilities")
    if subject.train is not None:
        words.add("train")
    if subject.test.sensitive:
        words.add("sensitive")
    if subject.train is not None:
        known = {*subject.train.sensitive, *(str(name) for name in getattr(subject.train.inputs, "columns", ()))}
        if known & set(subject.test.sensitive):
            words.add("train_sensitive")
    if subject.recipe is not None:
        words.add("retrain")
        if isinstance(subject.recipe, TorchTrainingRecipe):
            words |= {"torch_recipe", "private_recipe"}
        elif getattr(subject.recipe, "is_linear", False):
            words.add("private_recipe")
    return frozenset(words)


def missing(needs: Iterable[str], subject: Subject) -> str | None:
    """A sentence on what ``subject`` lacks of ``needs``, or ``None`` when it has all."""
    have = capabilities(subject)
    lacking = sorted(word for word in needs if word not in have)
    if not lacking:
        return None
    return "; ".join(f"needs {word}: {WORDS.get(word, 'unknown capability')}" for word in lacking)
