"""Many trainings of one :class:`~auditkit.subjects.recipes.TorchRecipe` in one batched computation."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch  # noqa: TID253 - this module exists to drive torch

from auditkit.core.errors import AuditkitError
from auditkit.core.generators import preserved_generators
from auditkit.methods.memory import keep_freed_memory
from auditkit.subjects.stacked_embedding import with_shared_tables
from auditkit.subjects.torch import plain_output
from auditkit.subjects.torch_training import SgdSettings, diverged, train_sgd, training_loss

IntArray = npt.NDArray[np.int64]
_Data = tuple[torch.Tensor, torch.Tensor]
_State = dict[str, torch.Tensor]
# Batched over models they become grouped or looped operations: measured at 0.6 times the speed of single trainings.
_SLOW_STACKED = (torch.nn.modules.conv._ConvNd, torch.nn.MultiheadAttention)


def train_sgd_stacked(
    recipe: SgdSettings,
    data: tuple[torch.Tensor, npt.NDArray[Any]],
    subsets: IntArray,
    *,
    n_outputs: int,
    seeds: Sequence[int],
    watch: Callable[[int, int], None] | None = None,
) -> tuple[list[torch.nn.Module], str | None]:
    """Train one module on each subset of the rows: the modules that ``train_sgd`` gives, up to rounding.

    The weights of all modules lie in one tensor a layer, so that a step of all of them is a few large matrix
    products. Initial weights and the order of the rows of module ``i`` are those of ``train_sgd`` with
    ``seeds[i]``; only dropout draws other masks.

    Args:
        recipe: Settings of plain SGD.
        data: ``(n, ...)`` prepared inputs and ``(n,)`` codes or values.
        subsets: ``(models, size)`` positions of the rows of each training.
        n_outputs: Of the module.
        seeds: One a training.
        watch: ``watch(done, total)`` before every step (or training); may raise to stop.

    Returns:
        The modules in evaluation mode, and why they were trained one after another (``None`` where they were
        trained together).

    Raises:
        AuditkitError: AK245 a loss is NaN or infinite.
    """
    y = data[1]
    target = torch.from_numpy(np.array(y, dtype=np.float32 if y.dtype.kind == "f" else np.int64)).to(recipe.device)
    rows = data[0].to(recipe.device)
    modules = [_fresh(recipe, n_outputs, seed) for seed in seeds]
    reason = _unstackable(modules[0], (rows, target), recipe.name)
    if reason is None:
        keep_freed_memory()
        with preserved_generators(int(seeds[0])):
            _train_together(recipe, modules, (rows, target), subsets, seeds, watch)
        return [module.eval() for module in modules], None
    trained = []
    for place, (subset, seed) in enumerate(zip(subsets, seeds, strict=True)):
        if watch is not None:
            watch(place, len(seeds))
        trained.append(train_sgd(recipe, rows[torch.from_numpy(subset)], y[subset], n_outputs, seed))
    return trained, reason


def _fresh(recipe: SgdSettings, n_outputs: int, seed: int) -> torch.nn.Module:
    with preserved_generators(seed):
        module: torch.nn.Module = recipe.build(n_outputs).to(recipe.device)
    return module.train()


def _total_loss(module: torch.nn.Module, name: str) -> Callable[[_State, torch.Tensor, torch.Tensor], torch.Tensor]:
    """Stacked weights and ``(models, rows, ...)`` inputs -> the sum over models of their mean losses."""
    module = with_shared_tables(module)

    def one(state: _State, x: torch.Tensor) -> torch.Tensor:
        return plain_output(torch.func.functional_call(module, state, (x,)), name)

    outputs = torch.func.vmap(one, randomness="different")

    def total(state: _State, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        # All models have as many rows, so that the mean over everything is the mean of their means.
        return training_loss(outputs(state, x).flatten(0, 1), y.flatten()) * len(x)

    return total


def _stacked(modules: Sequence[torch.nn.Module]) -> _State:
    names = [dict(module.named_parameters()) for module in modules]
    return {
        key: torch.stack([own[key].detach() for own in names]).requires_grad_(value.requires_grad)
        for key, value in names[0].items()
    }


def _unstackable(module: torch.nn.Module, data: _Data, name: str) -> str | None:
    """Why this module is not trained in a stack, by trying it on two rows; ``None`` when it is."""
    x, y = (part[:2] for part in data)
    if x.device.type == "cpu" and any(isinstance(layer, _SLOW_STACKED) for layer in module.modules()):
        return "on a CPU its convolutions or attention are faster one after another"
    with preserved_generators(0):
        try:
            # Only a stack is tried with a batch axis: a module that fails on plain rows as well fails in train_sgd.
            loss = _total_loss(module, name)(_stacked([module, module]), torch.stack([x, x]), torch.stack([y, y]))
            loss.backward()  # type: ignore[no-untyped-call]
        except (RuntimeError, NotImplementedError, ValueError, TypeError, AttributeError, AuditkitError) as error:
            return f"torch cannot batch it over models ({str(error).strip().splitlines()[0][:120]})"
        tried = copy.deepcopy(module)
        with torch.no_grad():
            tried(x)
    for (_, before), (_, after) in zip(module.named_buffers(), tried.named_buffers(), strict=True):
        if not torch.equal(before, after):
            return "its training updates running statistics, which are not batched over models"
    return None


def _train_together(
    recipe: SgdSettings,
    modules: list[torch.nn.Module],
    data: _Data,
    subsets: IntArray,
    seeds: Sequence[int],
    watch: Callable[[int, int], None] | None,
) -> None:
    rows, target = data
    state = _stacked(modules)
    trained = [value for value in state.values() if value.requires_grad]
    optimizer = torch.optim.SGD(trained, lr=recipe.learning_rate, momentum=recipe.momentum)
    shufflers = [torch.Generator().manual_seed(seed) for seed in seeds]
    places = torch.from_numpy(np.ascontiguousarray(subsets, dtype=np.int64))
    loss_of = _total_loss(modules[0], recipe.name)
    steps = -(-places.shape[1] // recipe.batch_size)
    for epoch in range(recipe.epochs):
        order = torch.stack([torch.randperm(places.shape[1], generator=shuffler) for shuffler in shufflers])
        batches = torch.split(places.gather(1, order).to(rows.device), recipe.batch_size, dim=1)
        for step, batch in enumerate(batches):
            if watch is not None:
                watch(epoch * steps + step, recipe.epochs * steps)
            optimizer.zero_grad(set_to_none=True)
            loss = loss_of(state, rows[batch], target[batch])
            if not bool(torch.isfinite(loss)):
                raise diverged(recipe.name)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    with torch.no_grad():
        for at, module in enumerate(modules):
            for key, value in module.named_parameters():
                value.copy_(state[key][at])
