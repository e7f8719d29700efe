from __future__ import annotations

import random

import numpy as np
import pandas as pd
import pytest

pytest.importorskip("torch")

import torch
from torch import nn

from auditkit.core.errors import AuditkitError, UsageError
from auditkit.core.subject import DecidesFromScores, Differentiable, Model
from auditkit.subjects import device
from auditkit.subjects.build import make_subject
from auditkit.subjects.device import has_driver, resolve_device
from auditkit.subjects.torch import TorchModel

RNG = np.random.default_rng(0)
X = RNG.normal(size=(50, 4)).astype(np.float32)
Y = RNG.integers(0, 3, 50)


def seeded(build):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return build()


def mlp(k: int = 3):
    return seeded(
        lambda: nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.ReLU(), nn.Linear(8, k))
    )


class Texts(nn.Module):
    """A recurrent classifier on token ids."""

    def __init__(self, cell=nn.LSTM) -> None:
        super().__init__()
        self.embed = nn.Embedding(20, 6)
        self.cell = cell(6, 5, batch_first=True)
        self.out = nn.Linear(5, 2)

    def forward(self, ids):
        assert ids.dtype == torch.long
        return self.out(self.cell(self.embed(ids))[0][:, -1])


class Attention(nn.Module):
    """A transformer classifier on token ids."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(20, 8)
        self.layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        self.out = nn.Linear(8, 3)

    def forward(self, ids):
        return self.out(self.layer(self.embed(ids)).mean(dim=1))


def everything(module):
    return {
        "state": {name: value.clone() for name, value in module.state_dict().items()},
        "grads": {name: None if p.grad is None else p.grad.clone() for name, p in module.named_parameters()},
        "needs": {name: p.requires_grad for name, p in module.named_parameters()},
        "modes": [part.training for part in module.modules()],
        "torch": torch.get_rng_state().clone(),
        "numpy": np.random.get_state()[1].copy(),  # noqa: NPY002 - the state that must not move
        "random": random.getstate(),
    }


def assert_same(before, after) -> None:
    assert before["modes"] == after["modes"]
    assert before["needs"] == after["needs"]
    assert before["random"] == after["random"]
    assert np.array_equal(before["numpy"], after["numpy"])
    assert torch.equal(before["torch"], after["torch"])
    for part in ("state", "grads"):
        assert before[part].keys() == after[part].keys()
        for name, value in before[part].items():
            other = after[part][name]
            assert (value is None and other is None) or torch.equal(value, other)


def test_scores_are_those_of_the_module_in_eval_mode() -> None:
    module = mlp()
    module.train()
    model = TorchModel(module, classes=(0, 1, 2), batch_size=7)
    scores = model.predict_scores(X)
    with torch.no_grad():
        reference = module.eval()(torch.from_numpy(X)).double().numpy()
    assert scores.dtype == np.float64
    assert np.allclose(scores, reference, atol=1e-6)
    assert np.array_equal(model.predict(X), reference.argmax(axis=1))
    assert np.array_equal(model.decide(scores), model.predict(X))
    assert isinstance(model, Model)
    assert isinstance(model, DecidesFromScores)
    assert isinstance(model, Differentiable)
    assert model.module is module


def test_the_module_and_the_global_generators_are_bitwise_as_before() -> None:
    module = mlp()
    module.train()
    module[1].eval()  # one submodule frozen by the user: its own flag must survive
    module[0].weight.requires_grad_(False)
    module(torch.from_numpy(X)).sum().backward()
    model = TorchModel(module, classes=(0, 1, 2))
    before = everything(module)
    model.predict_scores(X)
    model.predict(X[:3])
    tensor = model.tensor(X).requires_grad_(True)
    torch.autograd.grad(model.logits(tensor).sum(), tensor)
    assert_same(before, everything(module))


def test_the_state_survives_a_module_that_raises_and_one_that_writes_and_draws() -> None:
    class Rude(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.line = nn.Linear(4, 2)
            self.register_buffer("calls", torch.zeros(1))

        def forward(self, x):
            self.calls += 1
            torch.rand(3)
            x += 1000.0
            if len(x) == 3:
                raise ValueError("three rows")
            return self.line(x)

    module = Rude()
    model = TorchModel(module, classes=(0, 1))
    before, inputs = everything(module), X.copy()
    model.predict_scores(inputs)
    with pytest.raises(AuditkitError, match=r"AK210(.|\n)*ValueError: three rows"):
        model.predict_scores(inputs[:3])
    assert_same(before, everything(module))
    assert np.array_equal(inputs, X)


def test_logits_carry_the_gradient_of_the_users_module() -> None:
    module = mlp()
    module.train()
    model = TorchModel(module, classes=(0, 1, 2))
    tensor = model.tensor(X).requires_grad_(True)
    (gradient,) = torch.autograd.grad(model.logits(tensor)[:, 1].sum(), tensor)
    step = 1e-2
    double = module.double().eval()
    base = torch.from_numpy(X).double()
    for place in range(4):
        move = torch.zeros(4, dtype=torch.double)
        move[place] = step
        with torch.no_grad():
            slope = (double(base + move)[:, 1] - double(base - move)[:, 1]) / (2 * step)
        close = np.isclose(slope.numpy(), gradient[:, place].numpy(), atol=1e-3)
        assert close.mean() > 0.9  # ReLU kinks inside the step


def test_a_single_logit_becomes_two_columns() -> None:
    module = seeded(lambda: nn.Linear(4, 1))
    with torch.no_grad():
        z = module(torch.from_numpy(X)).numpy()[:, 0].astype(float)
    model = TorchModel(module, classes=("no", "yes"))
    assert np.array_equal(model.predict_scores(X), np.stack([np.zeros(50), z], axis=1))
    assert np.array_equal(model.predict(X), (z > 0).astype(int))
    logits = model.logits(model.tensor(X)).detach().numpy()
    assert np.allclose(logits, model.predict_scores(X), atol=1e-6)
    flat = seeded(lambda: nn.Sequential(nn.Linear(4, 1), nn.Flatten(0)))
    assert np.allclose(TorchModel(flat, classes=(0, 1)).predict_scores(X), model.predict_scores(X))


def test_probabilities_are_never_taken_for_logits() -> None:
    soft = seeded(lambda: nn.Sequential(nn.Linear(4, 3), nn.Softmax(dim=1)))
    single = seeded(lambda: nn.Sequential(nn.Linear(4, 1), nn.Sigmoid()))
    for module, y in ((soft, Y), (single, Y % 2)):
        with pytest.raises(
            UsageError, match='AK221 the module.s outputs look like probabilities(.|\n)*output="probability"'
        ):
            make_subject(module, X, y)
        with pytest.raises(UsageError, match="AK221"):
            TorchModel(module, classes=range(3) if y is Y else (0, 1)).predict_scores(X)
    model = TorchModel(soft, classes=range(3), output="probability")
    scores = model.predict_scores(X)
    assert model.score_space == "probability"
    assert np.allclose(scores.sum(axis=1), 1)
    again = torch.softmax(model.logits(model.tensor(X)), dim=1).detach().numpy()
    assert np.allclose(again, scores, atol=1e-6)
    pair = TorchModel(single, classes=(0, 1), output="probability").predict_scores(X)
    assert np.allclose(pair[:, 0], 1 - pair[:, 1])
    assert TorchModel(soft, classes=range(3), output="logit").score_space == "logit"


def test_tables_of_numbers_of_any_dtype() -> None:
    frame = pd.DataFrame(X, columns=list("abcd"))
    frame["b"] = (frame["b"] > 0).astype("boolean")
    frame["c"] = frame["c"].round().astype("Int64")
    model = TorchModel(mlp(), classes=(0, 1, 2))
    assert np.allclose(model.predict_scores(frame), model.predict_scores(frame.astype(float).to_numpy()), atol=1e-6)
    with pytest.raises(UsageError, match="AK222 .*these columns are not: 'a'"):
        model.predict_scores(frame.assign(a="x"))
    double = mlp().double()
    assert TorchModel(double, classes=(0, 1, 2)).tensor(X).dtype == torch.float64
    subject = make_subject(mlp(), frame, Y)
    assert [feature.kind for feature in subject.test.schema.features] == ["numeric", "boolean", "integer", "numeric"]


def test_images_pass_as_they_are() -> None:
    cnn = seeded(
        lambda: nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 4))
    )
    images = RNG.integers(0, 256, (20, 1, 8, 8)).astype(np.uint8)
    subject = make_subject(cnn, images, RNG.integers(0, 4, 20))
    assert subject.test.modality == "image"
    assert (subject.test.schema["pixel"].low, subject.test.schema["pixel"].high) == (0.0, 255.0)
    with torch.no_grad():
        reference = cnn(torch.from_numpy(images.astype(np.float32))).numpy()
    assert np.allclose(subject.model.predict_scores(images), reference, atol=1e-4)
    flat = seeded(lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 2)))
    grey = make_subject(flat, images[:, 0], np.arange(20) % 2)
    assert grey.test.modality == "image"


@pytest.mark.parametrize("build", [Texts, lambda: Texts(nn.GRU), Attention])
def test_token_ids_go_in_as_long_and_gradients_come_back(build) -> None:
    module = seeded(build)
    ids = RNG.integers(0, 20, (12, 6)).astype(np.int32)
    k = module.out.out_features
    subject = make_subject(module, ids, np.arange(12) % k, task=None)
    assert subject.test.modality == "sequence"
    assert subject.test.schema["token"].high <= 19
    assert subject.model.tensor(ids).dtype == torch.long
    before = everything(module)
    logits = subject.model.logits(subject.model.tensor(ids))
    gradients = torch.autograd.grad(logits.sum(), [module.embed.weight])
    assert gradients[0].abs().sum() > 0
    assert_same(before, everything(module))


def test_texts_need_a_tokenizer() -> None:
    texts = ["a b", "c d", "b c", "d a"]
    with pytest.raises(UsageError, match="AK223 a torch module does not take text"):
        make_subject(seeded(Texts), texts, [0, 1, 0, 1])

    def tokenizer(rows):
        return np.array([[ord(word) - 96 for word in row.split()] for row in rows])

    subject = make_subject(seeded(Texts), texts, [0, 1, 0, 1], tokenizer=tokenizer)
    assert subject.test.modality == "text"
    assert subject.model.predict_scores(texts).shape == (4, 2)
    mapping = TorchModel(seeded(Texts), classes=(0, 1), prepare=lambda rows: {"input_ids": 1, "attention_mask": 1})
    with pytest.raises(UsageError, match="AK223 the preparation returned several tensors"):
        mapping.tensor(texts)


def test_outputs_of_other_shapes() -> None:
    class Wrapped(nn.Module):
        def __init__(self, wrap) -> None:
            super().__init__()
            self.line, self.wrap = nn.Linear(4, 3), wrap

        def forward(self, x):
            return self.wrap(self.line(x))

    class Output:
        def __init__(self, logits) -> None:
            self.logits = logits

    expected = TorchModel(seeded(lambda: Wrapped(lambda z: z)), classes=range(3)).predict_scores(X)
    for wrap in (lambda z: (z, None), lambda z: {"logits": z}, Output):
        model = TorchModel(seeded(lambda wrap=wrap: Wrapped(wrap)), classes=range(3))
        assert np.array_equal(model.predict_scores(X), expected)
    with pytest.raises(UsageError, match="AK223 the module returned str, not a tensor"):
        TorchModel(Wrapped(lambda z: "no"), classes=range(3)).predict_scores(X)
    with pytest.raises(AuditkitError, match=r"AK211 the module returned shape \(3,\) for a batch of 50 rows"):
        TorchModel(Wrapped(lambda z: z[0]), classes=range(3)).predict_scores(X)
    with pytest.raises(AuditkitError, match="AK211 the model returned scores of shape"):
        TorchModel(Wrapped(lambda z: z), classes=range(4)).predict_scores(X)
    with pytest.raises(AuditkitError, match="AK213 the model returned NaN or infinity for 50 of 50 rows"):
        TorchModel(Wrapped(lambda z: z / 0), classes=range(3)).predict_scores(X)
    with pytest.raises(AuditkitError, match="AK211 .*one vector is expected"):
        make_subject(Wrapped(lambda z: z[:, None].repeat(1, 5, 1)), X, Y)


def test_batches_halve_until_they_fit() -> None:
    sizes: list[int] = []

    class Small(nn.Module):
        def __init__(self, room: int) -> None:
            super().__init__()
            self.line, self.room = nn.Linear(4, 3), room

        def forward(self, x):
            sizes.append(len(x))
            if len(x) > self.room:
                raise torch.OutOfMemoryError("no room")
            return self.line(x)

    module = seeded(lambda: Small(7))
    scores = TorchModel(module, classes=range(3), batch_size=50).predict_scores(X)
    assert sizes == [50, 25, 12, 6, 6, 6, 6, 6, 6, 6, 6, 2]
    module.room = 100
    assert np.allclose(TorchModel(module, classes=range(3)).predict_scores(X), scores, atol=1e-6)
    module.room = 0
    with pytest.raises(AuditkitError, match="AK224 memory ran out on a batch of one row"):
        TorchModel(module, classes=range(3)).predict_scores(X)


def test_regression_and_classes_read_off_the_data() -> None:
    line = seeded(lambda: nn.Linear(4, 1))
    subject = make_subject(line, X, X[:, 0] * 1.5)
    assert subject.task == "regression"
    assert subject.model.predict(X).shape == (50,)
    assert subject.model.predict_scores(X).shape == (50, 1)
    assert make_subject(line, X, Y % 2).classes == ("0", "1")
    assert make_subject(line, X, Y % 2 == 1).classes == ("False", "True")
    assert make_subject(line, X, np.where(Y % 2, 1, -1)).classes == ("-1", "1")
    assert make_subject(line, X, Y, task="regression").task == "regression"
    assert make_subject(mlp(5), X, Y).classes == ("0", "1", "2", "3", "4")
    with pytest.raises(
        UsageError, match=r"AK217 which of the module's 3 outputs stands for which label(.|\n)*TorchModel"
    ):
        make_subject(mlp(), X, np.array(["a", "b", "c"])[Y])
    named = make_subject(TorchModel(mlp(), classes=("c", "b", "a")), X, np.array(["a", "b", "c"])[Y])
    assert np.array_equal(named.test.y, 2 - Y)
    with pytest.raises(UsageError, match="AK217 the classes of a torch module must be given"):
        TorchModel(mlp())
    with pytest.raises(UsageError, match="AK217 a regression module has no classes"):
        TorchModel(line, classes=(0, 1), task="regression")


def test_the_fingerprint_follows_weights_and_structure() -> None:
    prints = [TorchModel(module, classes=range(3)).fingerprint for module in (mlp(), mlp(), mlp().double(), mlp(4))]
    changed = mlp()
    with torch.no_grad():
        changed[0].bias[0] += 1e-6
    assert prints[0] == prints[1]
    assert len({*prints, TorchModel(changed, classes=range(3)).fingerprint}) == 4
    relu, tanh = (nn.Sequential(nn.Linear(4, 3), kind()) for kind in (nn.ReLU, nn.Tanh))
    tanh.load_state_dict(relu.state_dict())
    assert TorchModel(relu, classes=range(3)).fingerprint != TorchModel(tanh, classes=range(3)).fingerprint


def test_devices() -> None:
    module = mlp()
    assert TorchModel(module, classes=range(3), device="cpu").module is module
    if not torch.cuda.is_available():
        with pytest.raises(UsageError, match="AK229 torch sees no CUDA device"):
            TorchModel(module, classes=range(3), device="cuda")


@pytest.mark.gpu
def test_a_machine_without_a_driver_is_not_asked_for_a_device_through_torch(monkeypatch) -> None:
    assert has_driver() or not torch.cuda.is_available()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(device, "has_driver", lambda: False)
    assert resolve_device("auto") == "cpu"
    monkeypatch.setattr(device, "has_driver", lambda: True)
    assert resolve_device("auto") == "cuda"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_recurrent_module_on_cuda_gives_gradients_in_eval_mode() -> None:
    module = seeded(Texts)
    model = TorchModel(module, classes=(0, 1), device="cuda")
    ids = RNG.integers(0, 20, (12, 6))
    assert model.module is not module
    logits = model.logits(model.tensor(ids))
    assert torch.autograd.grad(logits.sum(), [model.module.embed.weight])[0].abs().sum() > 0
    assert np.allclose(model.predict_scores(ids), TorchModel(module, classes=(0, 1)).predict_scores(ids), atol=1e-4)


def test_the_fingerprint_sees_settings_that_are_no_tensor_and_the_code_of_forward() -> None:
    class Scaled(nn.Module):
        def __init__(self, scale) -> None:
            super().__init__()
            self.line, self.scale = nn.Linear(4, 3), scale

        def forward(self, x):
            return self.line(x) * self.scale

    one, same, two = (seeded(lambda scale=scale: Scaled(scale)) for scale in (1.0, 1.0, 2.0))
    prints = [TorchModel(module, classes=range(3)).fingerprint for module in (one, same, two)]
    assert prints[0] == prints[1] != prints[2]
    one.train(not one.training)
    assert TorchModel(one, classes=range(3)).fingerprint == prints[0]
    Scaled.forward = lambda self, x: self.line(x) + self.scale
    assert TorchModel(same, classes=range(3)).fingerprint != prints[0]


def test_a_threshold_is_the_users_own_decision() -> None:
    module = seeded(lambda: nn.Linear(4, 1))
    for output, wrap in (("logit", module), ("probability", nn.Sequential(module, nn.Sigmoid()))):
        model = TorchModel(wrap, classes=(0, 1), output=output, threshold=0.3)
        p = TorchModel(nn.Sequential(module, nn.Sigmoid()), classes=(0, 1), output="probability").predict_scores(X)[
            :, 1
        ]
        assert np.array_equal(model.predict(X), (p >= 0.3).astype(int))
        assert np.array_equal(model.decide(model.predict_scores(X)), model.predict(X))
    for classes, threshold in (((0, 1), 1.5), ((0, 1), 0.0), ((0, 1, 2), 0.5)):
        with pytest.raises(UsageError, match="AK215 threshold="):
            TorchModel(module, classes=classes, threshold=threshold)


def test_a_regression_module_decides_for_its_value() -> None:
    model = TorchModel(seeded(lambda: nn.Linear(4, 1)), task="regression")
    scores = model.predict_scores(X)
    assert np.array_equal(model.decide(scores), scores[:, 0])
    assert np.array_equal(model.predict(X), scores[:, 0])
