"""Games of 30 features whose Shapley values are known: five groups of six that do not interact with each other."""

from math import comb

import numpy as np

GROUPS, WIDTH, HIDDEN = 5, 6, 16
FEATURES = GROUPS * WIDTH
_SCALE = {"near-additive": (0.35, 1.0), "moderate": (1.0, 0.3), "strong": (2.2, 0.0)}


class GroupedGame:
    """A sum of five small tanh networks and a linear part; values by enumeration of each group's 64 sets."""

    def __init__(self, kind, seed=0):
        rng = np.random.default_rng(seed)
        bend, line = _SCALE[kind]
        self.weights = np.zeros((FEATURES, GROUPS * HIDDEN))
        for g in range(GROUPS):
            rows, columns = self._place(g)
            self.weights[rows, columns] = rng.normal(size=(WIDTH, HIDDEN)) * bend * 1.5 / np.sqrt(WIDTH)
        self.bias = rng.normal(size=GROUPS * HIDDEN) * 0.5
        self.out = rng.normal(size=GROUPS * HIDDEN) / np.sqrt(HIDDEN)
        self.line = rng.normal(size=FEATURES) * line

    def __call__(self, matrix):
        return np.tanh(matrix @ self.weights + self.bias) @ self.out + matrix @ self.line

    @staticmethod
    def _place(g):
        return slice(g * WIDTH, (g + 1) * WIDTH), slice(g * HIDDEN, (g + 1) * HIDDEN)

    def exact(self, x, background):
        """``(n, 30)`` Shapley values against the whole background."""
        sets = np.arange(2**WIDTH)
        inside = ((sets[:, None] >> np.arange(WIDTH)) & 1).astype(bool)
        size = inside.sum(axis=1)
        weight = np.array([1 / (WIDTH * comb(WIDTH - 1, s)) for s in range(WIDTH)])
        read = np.where(inside.T, weight[np.clip(size - 1, 0, None)], -weight[np.clip(size, None, WIDTH - 1)])
        values = np.zeros((len(x), FEATURES))
        for g in range(GROUPS):
            f, h = self._place(g)
            for i, row in enumerate(x):
                mixed = np.where(inside[:, None, :], row[f], background[None, :, f])
                worth = np.tanh(mixed @ self.weights[f, h] + self.bias[h]) @ self.out[h] + mixed @ self.line[f]
                values[i, f] = read @ worth.mean(axis=1)
        return values


def relative_error(values, truth):
    return float(np.sqrt(((values - truth) ** 2).mean() / (truth**2).mean()))


def rows_and_background(n, b, seed=7):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, FEATURES)), rng.normal(size=(b, FEATURES))
