"""Trainings in a stack are the single trainings of ``train_sgd``, up to rounding."""

import numpy as np
import pytest

pytest.importorskip("torch")

import torch
from torch import nn

from auditkit.core.errors import AuditkitError
from auditkit.subjects.recipes import TorchRecipe
from auditkit.subjects.torch_stacked import train_sgd_stacked
from auditkit.subjects.torch_training import train_sgd


class Tokens(nn.Module):
    def __init__(self, outputs):
        super().__init__()
        self.embed, self.out = nn.Embedding(50, 8), nn.Linear(8, outputs)

    def forward(self, tokens):
        return {"logits": self.out(self.embed(tokens).mean(dim=1))}


class Padded(nn.Module):
    """Two tables, one with padding, one read twice and the output's weights too."""

    def __init__(self, outputs):
        super().__init__()
        self.embed, self.places = nn.Embedding(50, 8, padding_idx=3), nn.Embedding(7, 8)
        self.mix, self.out = nn.Linear(8, 8), nn.Linear(8, 7)
        self.out.weight = self.places.weight

    def forward(self, tokens):
        places = torch.arange(tokens.shape[1])
        hidden = self.embed(tokens) + self.places(places) + self.places(tokens % 7)
        return self.out(torch.tanh(self.mix(hidden)).mean(dim=1))[:, :2]


class Recurrent(nn.Module):
    def __init__(self, outputs):
        super().__init__()
        self.cells, self.out = nn.LSTM(3, 5, batch_first=True), nn.Linear(5, outputs)

    def forward(self, x):
        return self.out(self.cells(x)[0][:, -1])


def mlp(outputs):
    return nn.Sequential(nn.Linear(6, 9), nn.ReLU(), nn.LayerNorm(9), nn.Linear(9, outputs))


def frozen(outputs):
    module = mlp(outputs)
    module[0].weight.requires_grad_(False)
    return module


FLAT = torch.randn(90, 6, generator=torch.Generator().manual_seed(0))
IDS = torch.randint(0, 50, (90, 7), generator=torch.Generator().manual_seed(0))
CASES = {
    "mlp": (mlp, FLAT, 3, None),
    "single output": (mlp, FLAT, 1, None),
    "frozen layer": (frozen, FLAT, 2, None),
    "token ids": (Tokens, IDS, 2, None),
    "padding, positions and tied weights": (Padded, IDS, 2, None),
    "recurrent": (Recurrent, FLAT.reshape(90, 2, 3), 2, "cannot batch it over models"),
    "batch norm": (lambda k: nn.Sequential(nn.BatchNorm1d(6), nn.Linear(6, k)), FLAT, 2, "batch it|running statistics"),
    "convolution": (
        lambda k: nn.Sequential(nn.Conv1d(1, 2, 3), nn.Flatten(), nn.Linear(8, k)),
        FLAT[:, None],
        2,
        "faster one after another",
    ),
}


def fits(build, **changes):
    settings = {"name": "r", "build": build, "epochs": 3, "batch_size": 16, "learning_rate": 0.1, "momentum": 0.5}
    return TorchRecipe(**{**settings, **changes})


@pytest.mark.parametrize("case", CASES)
def test_a_stack_gives_the_models_of_single_trainings(case):
    build, x, outputs, reason = CASES[case]
    rng = np.random.default_rng(1)
    y = rng.integers(0, max(outputs, 2), 90)
    subsets = np.stack([rng.permutation(90)[:45] for _ in range(4)])
    before = torch.get_rng_state()
    modules, why = train_sgd_stacked(fits(build), (x, y), subsets, n_outputs=outputs, seeds=[5, 6, 7, 8])
    assert torch.equal(before, torch.get_rng_state())
    assert (why is None) if reason is None else any(part in why for part in reason.split("|"))
    for subset, seed, module in zip(subsets, [5, 6, 7, 8], modules, strict=True):
        alone = train_sgd(fits(build), x[torch.from_numpy(subset)], y[subset], outputs, seed)
        assert not module.training
        for first, second in zip(module.state_dict().values(), alone.state_dict().values(), strict=True):
            torch.testing.assert_close(first, second, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("threads", [1, 2])
def test_tables_are_added_up_alike_on_any_number_of_threads(threads):
    y = np.random.default_rng(0).integers(0, 2, 90)
    subsets = np.stack([np.arange(45), np.arange(45, 90)])
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        modules, _ = train_sgd_stacked(fits(Padded), (IDS, y), subsets, n_outputs=2, seeds=[1, 2])
    finally:
        torch.set_num_threads(before)
    alone = train_sgd(fits(Padded), IDS[45:], y[45:], 2, 2)
    torch.testing.assert_close(modules[1].embed.weight, alone.embed.weight, atol=1e-6, rtol=1e-5)
    assert torch.equal(modules[1].embed.weight[3], fits(Padded).build(2).embed.weight[3])


@pytest.mark.parametrize("token", [50, -1])
def test_a_token_that_is_not_in_the_table_is_not_read_from_the_next_models(token):
    """Only the first (the last) of the models sees the row, whose neighbour in the table is another model's."""
    x, y = IDS.clone(), np.random.default_rng(0).integers(0, 2, 90)
    at = 20 if token == 50 else 80
    x[at, 0] = token
    subsets = np.stack([np.arange(45), np.arange(45, 90)])
    with pytest.raises(IndexError, match="out of range"):
        train_sgd_stacked(fits(Tokens), (x, y), subsets, n_outputs=2, seeds=[1, 2])


def test_values_are_fitted_by_squared_error():
    y = FLAT[:, 0].numpy().astype(np.float64)
    subsets = np.stack([np.arange(45), np.arange(45, 90)])
    modules, why = train_sgd_stacked(fits(mlp), (FLAT, y), subsets, n_outputs=1, seeds=[1, 2])
    assert why is None
    alone = train_sgd(fits(mlp), FLAT[:45], y[:45], 1, 1)
    torch.testing.assert_close(modules[0](FLAT), alone(FLAT), atol=1e-5, rtol=1e-4)


def test_dropout_draws_masks_of_its_own_for_each_model():
    def dropping(outputs):
        return nn.Sequential(nn.Linear(6, 16), nn.Dropout(0.5), nn.Linear(16, outputs))

    subsets = np.stack([np.arange(90)] * 4)
    y = (FLAT[:, 0] > 0).numpy().astype(np.int64)
    modules, why = train_sgd_stacked(fits(dropping), (FLAT, y), subsets, n_outputs=2, seeds=[3, 3, 4, 4])
    assert why is None
    assert not torch.equal(modules[0][2].weight, modules[1][2].weight)
    again, _ = train_sgd_stacked(fits(dropping), (FLAT, y), subsets, n_outputs=2, seeds=[3, 3, 4, 4])
    assert torch.equal(modules[0][2].weight, again[0][2].weight)


def test_divergence_and_interruption_are_told():
    y = (FLAT[:, 0] > 0).numpy().astype(np.int64)
    subsets = np.stack([np.arange(45), np.arange(45, 90)])
    with pytest.raises(AuditkitError, match="AK245 the loss became NaN or infinite"):
        train_sgd_stacked(
            fits(lambda k: nn.Linear(6, k), learning_rate=1e38, epochs=30),
            (FLAT, y),
            subsets,
            n_outputs=2,
            seeds=[1, 2],
        )

    def stop(done, total):
        raise TimeoutError

    for build in (mlp, Recurrent):
        x = FLAT if build is mlp else FLAT.reshape(90, 2, 3)
        with pytest.raises(TimeoutError):
            train_sgd_stacked(fits(build), (x, y), subsets, n_outputs=2, seeds=[1, 2], watch=stop)
