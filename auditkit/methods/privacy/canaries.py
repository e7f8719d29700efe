"""Canaries: rows made for an audit, each put in or left out by its own coin, and scores of how present they look."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

_COORDINATES = 100_000
_RIDGE = 0.01


def canary_inputs(inputs: Any, count: int, rng: np.random.Generator) -> Any:
    """``count`` rows of the type of ``inputs`` in which every column is drawn from the rows on its own.

    Each value occurs in the data, the combinations do not, so that nothing but the canary itself teaches
    the model its label. Texts are made of words drawn from all texts.

    Args:
        inputs: DataFrame, ``(n, ...)`` array or list of str.
        count: Number of canaries.
        rng: Source of randomness.

    >>> canary_inputs(np.array([[1, 10], [2, 20]]), 3, np.random.default_rng(0)).shape
    (3, 2)
    """
    if isinstance(inputs, list):
        words = np.array(" ".join(str(text) for text in inputs).split() or ["-"])
        lengths = rng.choice([max(1, len(str(text).split())) for text in inputs], count)
        return [" ".join(rng.choice(words, length)) for length in lengths]
    if hasattr(inputs, "iloc"):
        import pandas as pd

        columns = [inputs.iloc[rng.integers(0, len(inputs), count), [at]] for at in range(inputs.shape[1])]
        return pd.concat([column.reset_index(drop=True) for column in columns], axis=1)
    flat = np.asarray(inputs).reshape(len(inputs), -1)
    drawn = rng.integers(0, len(flat), (count, flat.shape[1]))
    return flat[drawn, np.arange(flat.shape[1])].reshape(count, *np.asarray(inputs).shape[1:])


def coins(count: int, rng: np.random.Generator) -> BoolArray:
    """``(count,)`` fair, independent coins."""
    return np.asarray(rng.random(count) < 0.5)


def log_odds(logits: Any, y: Any) -> Any:
    """Log-odds ``(m,)`` of the class ``y`` from logits ``(m, k)``; tensors."""
    import torch

    own = logits.gather(1, y[:, None])[:, 0]
    others = logits.masked_fill(torch.nn.functional.one_hot(y, logits.shape[1]).bool(), -torch.inf)
    return own - torch.logsumexp(others, dim=1)


def decoded_scores(module: Any, initial: Any, x: Any, y: Any, n_classes: int) -> FloatArray:
    """How present each canary looks in the final weights, with the pull of the other canaries removed.

    The change of every canary's log-odds since the initial weights is, to first order, the Gram matrix of
    the canaries' gradients times how often each was trained on; this solves for the latter.

    Args:
        module: The final model (evaluation mode).
        initial: The same module before training; initial weights are no secret in differential privacy.
        x: ``(m, ...)`` canaries as the module takes them.
        y: ``(m,)`` int64 codes of their labels.
        n_classes: Number of classes.

    Returns:
        ``(m,)`` scores, larger for a canary that was probably in.
    """
    import torch

    from auditkit.methods.privacy.dp_gradient import trainable
    from auditkit.methods.sgd import class_logits

    with torch.no_grad():
        change = log_odds(class_logits(module(x), n_classes), y) - log_odds(class_logits(initial(x), n_classes), y)
    parameters = trainable(module)
    size = sum(parameter.numel() for parameter in parameters)
    kept = None
    if size > _COORDINATES:
        kept = torch.from_numpy(np.random.default_rng(0).choice(size, _COORDINATES, replace=False))
    rows = []
    for at in range(len(x)):
        own = log_odds(class_logits(module(x[at : at + 1]), n_classes), y[at : at + 1])[0]
        parts = torch.autograd.grad(own, parameters, allow_unused=True)
        pairs = zip(parts, parameters, strict=True)
        flat = torch.cat([(p.new_zeros(p.numel()) if g is None else g.reshape(-1)) for g, p in pairs])
        rows.append(flat if kept is None else flat[kept.to(flat.device)])
    jacobian = torch.stack(rows).double()
    gram = jacobian @ jacobian.T
    ridge = _RIDGE * float(gram.diagonal().mean()) + 1e-12
    eye = torch.eye(len(gram), dtype=gram.dtype, device=gram.device)
    return np.asarray(torch.linalg.solve(gram + ridge * eye, change.double()).cpu().numpy(), dtype=np.float64)
