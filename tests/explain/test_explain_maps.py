"""SmoothGrad, GradCAM, DeepLift and occlusion against closed forms and brute force; the module as it was."""

import copy

import numpy as np
import pytest
import torch
from captum.attr import IntegratedGradients, LayerIntegratedGradients, Occlusion
from test_explain_captum_engine import Tokens, differentiated, same, state_of
from torch import nn
from torch.nn import functional

from auditkit.core.errors import NotApplicable, UsageError
from auditkit.methods.explain.captum_engine import (
    gradient_attribution,
    integrated_gradients,
    path_integral,
    smooth_grad,
)
from auditkit.methods.explain.hooked import (
    deep_lift,
    find_convolution,
    functional_rectifiers,
    grad_cam,
    guided_grad_cam,
)
from auditkit.methods.explain.occlusion import occlusion, token_occlusion


class Net(nn.Module):
    """A small CNN whose rectifier is a module, a function, in place, or one module used twice."""

    def __init__(self, rectifier="module"):
        super().__init__()
        torch.manual_seed(3)
        self.first = nn.Conv2d(2, 4, 3, padding=1)
        self.second = nn.Conv2d(4, 5, 3, padding=1, stride=2)
        self.drop = nn.Dropout(0.5)
        self.head = nn.Linear(5, 3)
        self.kind = rectifier
        if rectifier in ("module", "inplace"):
            self.a, self.b = nn.ReLU(rectifier == "inplace"), nn.ReLU(rectifier == "inplace")
        elif rectifier == "reused":
            self.a = self.b = nn.ReLU()
        elif rectifier == "gelu":
            self.a, self.b = nn.GELU(), nn.GELU()
        else:
            self.a = self.b = functional.relu
        self.double()

    def forward(self, x):
        x = self.a(self.first(x))
        x = self.b(self.second(x))
        return self.head(self.drop(x.mean(dim=(2, 3))))


@pytest.fixture
def images():
    return torch.from_numpy(np.random.default_rng(0).normal(size=(4, 2, 9, 9)))


def test_grad_cam_has_the_closed_form(images):
    """Over a global mean and a linear head the channel weights are head / (h w), whatever the image."""

    class Pooled(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(1)
            self.conv = nn.Conv2d(2, 6, 3, padding=1).double()
            self.head = nn.Linear(6, 3).double()

        def forward(self, x):
            return self.head(self.conv(x).mean(dim=(2, 3)))

    module = Pooled()
    subject = differentiated(module, 4, target=2)
    layer = find_convolution(subject, images)
    assert layer is module.conv
    found = grad_cam(subject, images, layer)
    with torch.no_grad():
        expected = (module.conv(images) * (module.head.weight[2] / 81.0)[None, :, None, None]).sum(dim=1).clamp_min(0.0)
    np.testing.assert_allclose(found.values[..., 0], expected.numpy(), atol=1e-12)
    assert found.status == "unverified"


def test_grad_cam_is_taken_where_the_last_convolution_runs(images):
    """What is registered last may run first, or never."""

    class Shuffled(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(2)
            self.last = nn.Conv2d(6, 4, 3).double()
            self.first = nn.Conv2d(2, 6, 3).double()
            self.unused = nn.Conv2d(2, 6, 3).double()
            self.head = nn.Linear(4, 3).double()

        def forward(self, x):
            return self.head(torch.tanh(self.last(torch.tanh(self.first(x)))).mean(dim=(2, 3)))

    module = Shuffled()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    assert find_convolution(differentiated(module, 4), images) is module.last
    assert module.training
    assert not module.first._forward_pre_hooks
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    assert find_convolution(differentiated(nn.Sequential(nn.Flatten(), nn.LazyLinear(3).double()), 4), images) is None


def test_grad_cam_is_enlarged_and_guided_is_its_product_with_guided_backpropagation(images):
    module = Net().eval()
    layer = find_convolution(differentiated(module, 4, target=1), images)
    assert layer is module.second
    cam = grad_cam(differentiated(module, 4, target=1), images, layer)
    assert cam.values.shape == (4, 9, 9, 1)
    # By hand: channel means of the gradients at the layer, enlarged.
    kept = {}
    handle = layer.register_forward_hook(lambda _m, _a, out: (out.retain_grad(), kept.update(out=out))[0])
    module(images.clone().requires_grad_())[:, 1].sum().backward()
    handle.remove()
    weights = kept["out"].grad.mean(dim=(2, 3), keepdim=True)
    coarse = (weights * kept["out"]).sum(dim=1, keepdim=True).clamp_min(0.0)
    expected = functional.interpolate(coarse, (9, 9), mode="bilinear").detach().numpy()[:, 0]
    np.testing.assert_allclose(cam.values[..., 0], expected, atol=1e-12)

    class Guided(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x.clamp_min(0.0)

        @staticmethod
        def backward(ctx, gradient):
            return gradient.clamp_min(0.0) * (ctx.saved_tensors[0] > 0)

    twin = copy.deepcopy(module)
    twin.a = twin.b = None
    twin.__dict__.update(a=Guided.apply, b=Guided.apply)
    del twin._modules["a"], twin._modules["b"]
    leaf = images.clone().requires_grad_()
    twin(leaf)[:, 1].sum().backward()
    guided = guided_grad_cam(differentiated(module, 4, target=1), images, layer)
    np.testing.assert_allclose(guided.values[..., 0], leaf.grad.numpy() * expected[:, None], atol=1e-12)
    assert guided.status == "unverified"


@pytest.mark.parametrize("engine", [grad_cam, guided_grad_cam])
def test_maps_lie_over_the_picture_wherever_its_channels_are(images, engine):
    """Not square, so that the last two axes of channels-last images are no picture."""
    images = images[:, :, :5]
    module = Net().eval()

    class Last(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = module

        def forward(self, x):
            return self.inner(x.movedim(3, 1))

    class Grey(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = module

        def forward(self, x):
            return self.inner(torch.stack([x, x], dim=1))

    first = engine(differentiated(module, 4, target=1), images, module.second)
    last = engine(differentiated(Last(), 4, target=1), images.movedim(1, 3), module.second, plane=(1, 2))
    plain = first.values if engine is grad_cam else np.moveaxis(first.values, 1, 3)
    np.testing.assert_allclose(last.values, plain, atol=1e-12)
    pair = engine(differentiated(module, 4, target=1), images[:, [0, 0]], module.second).values
    grey = engine(differentiated(Grey(), 4, target=1), images[:, 0], module.second, plane=(1, 2))
    np.testing.assert_allclose(grey.values, pair if engine is grad_cam else pair.sum(axis=1), atol=1e-12)


def test_guided_backpropagation_past_functional_rectifiers_is_a_failure(images):
    module = Net("function")
    subject = differentiated(module, 4)
    assert functional_rectifiers(subject, images) == 2
    found = guided_grad_cam(subject, images, find_convolution(subject, images))
    assert found.status == "failed"
    assert "2 rectifiers are called as functions" in found.reason
    assert functional_rectifiers(differentiated(Net(), 4), images) == 0
    assert grad_cam(subject, images, find_convolution(subject, images)).status == "unverified"


def test_deep_lift_has_the_closed_form_of_the_rescale_rule():
    """One rectified unit: the change of the output is shared out in proportion to the changes of its inputs."""
    module = nn.Sequential(nn.Linear(3, 1), nn.ReLU()).double()
    with torch.no_grad():
        module[0].weight[:] = torch.tensor([[2.0, -1.0, 0.5]])
        module[0].bias[:] = 0.3
    x, base = torch.tensor([[1.0, 0.5, -1.0]]).double(), torch.tensor([[-1.0, 0.0, 2.0]]).double()
    parts = np.array([2.0 * 2.0, -0.5, 0.5 * -3.0])
    before, after = max(0.0, -2.0 + 1.0 + 0.3), max(0.0, 2.0 - 0.5 - 0.5 + 0.3)
    found = deep_lift(differentiated(module, 1), x, base)
    np.testing.assert_allclose(found.values[0, :, 0], parts * (after - before) / parts.sum(), atol=1e-12)
    assert found.status == "exact"
    assert found.base_values[0, 0] == before


def test_deep_lift_through_captum_is_complete_on_modules(images):
    base = torch.zeros(1, 2, 9, 9, dtype=torch.float64)
    found = deep_lift(differentiated(Net(), 4), images, base, batch_size=3)
    assert found.status == "exact"
    assert found.params == {"engine": "captum"}
    np.testing.assert_allclose(found.values.sum(axis=(1, 2, 3)) + found.base_values, found.prediction, atol=1e-10)


@pytest.mark.parametrize("kind", ["inplace", "reused"])
def test_in_place_and_reused_rectifiers_leave_nothing_behind(images, kind):
    module = Net(kind).train()
    before, attributes = state_of(module), [set(vars(part)) for part in module.modules()]
    subject = differentiated(module, 4)
    assert deep_lift(subject, images, torch.zeros_like(images[:1])).status == "exact"
    if kind == "inplace":
        with pytest.raises(NotApplicable, match="AK481 this method needs hooks that the model's layers refuse"):
            guided_grad_cam(subject, images, find_convolution(subject, images))
    assert same(before, state_of(module))
    assert attributes == [set(vars(part)) for part in module.modules()]
    cam = grad_cam(subject, images, find_convolution(subject, images))
    twin = Net("module")
    np.testing.assert_allclose(
        cam.values,
        grad_cam(differentiated(twin, 4), images, find_convolution(differentiated(twin, 4), images)).values,
        atol=1e-12,
    )


class Squares(nn.Module):
    """Gradients are linear in the input, so that those of noisy copies are normal about the input's own."""

    def forward(self, x):
        total = (x**2).flatten(1).sum(dim=1, keepdim=True)
        return torch.cat([total, 2.0 * total, 3.0 * total], dim=1)


@pytest.mark.parametrize("draws", [2, 3, 10])
def test_two_standard_errors_of_smooth_grad_hold_the_gradient_however_few_the_copies(draws):
    images = torch.from_numpy(np.random.default_rng(1).normal(size=(4, 2, 40, 40)))
    subject = differentiated(Squares(), 4, target=1)
    found = smooth_grad(subject, images, torch.Generator().manual_seed(2), draws=draws)
    truth = gradient_attribution(subject, images, "saliency").values
    inside = np.abs(found.values - truth) <= 1.96 * found.std_error
    assert 0.94 < inside.mean() < 0.96


def test_smooth_grad_is_the_mean_of_gradients_on_noisy_copies(images):
    module = Net()
    subject = differentiated(module, 4, target=1)
    linear = nn.Sequential(nn.Flatten(), nn.Linear(162, 2)).double()
    flat = smooth_grad(differentiated(linear, 4, target=1), images, torch.Generator().manual_seed(0))
    np.testing.assert_allclose(
        flat.values.reshape(4, -1), np.tile(linear[1].weight[1].detach().numpy(), (4, 1)), atol=1e-12
    )
    np.testing.assert_allclose(flat.std_error, 0.0, atol=1e-12)
    found = smooth_grad(subject, images, torch.Generator().manual_seed(5), draws=400)
    again = smooth_grad(subject, images, torch.Generator().manual_seed(5), draws=400, batch_size=10**6)
    np.testing.assert_allclose(
        found.values, smooth_grad(subject, images, torch.Generator().manual_seed(5), draws=400).values
    )
    # Another stream of noise agrees within its standard errors (z of a maximum over 648 values).
    z = np.abs(found.values - again.values) / np.hypot(found.std_error, again.std_error).clip(1e-12)
    assert np.nanmax(z) < 6.0
    assert np.abs(found.values - gradient_attribution(subject, images, "saliency").values).max() > 1e-3
    with pytest.raises(UsageError, match="AK511 SmoothGrad needs real-valued inputs"):
        smooth_grad(subject, images, torch.Generator(), draws=1)


def test_occlusion_is_brute_force_and_captums(images):
    module = Net().eval()
    base = images.mean(dim=0, keepdim=True)
    targets = np.arange(4) % 3
    subject = differentiated(module, 4)
    subject = type(subject)(module=module, forward=module, targets=targets)
    for window, stride in (((2, 3, 3), (2, 3, 3)), ((1, 4, 3), (1, 2, 2)), ((2, 5, 5), (1, 3, 4))):
        found = occlusion(subject, images, base, window=window, stride=stride)
        with torch.no_grad():
            theirs = Occlusion(module).attribute(
                images, window, stride, base, target=torch.from_numpy(targets), perturbations_per_eval=8
            )
        np.testing.assert_allclose(found.values[..., 0], theirs.numpy(), atol=1e-10)
        parts = occlusion(subject, images, base, window=window, stride=stride, numbers_a_pass=500)
        np.testing.assert_allclose(parts.values, found.values, atol=1e-12)
    single = occlusion(differentiated(module, 1, target=2), images[:1], base, window=(2, 9, 9), stride=(2, 9, 9))
    with torch.no_grad():
        whole = (module(images[:1]) - module(base))[0, 2].item()
    np.testing.assert_allclose(single.values, whole, atol=1e-12)
    with pytest.raises(UsageError, match="AK483 a window"):
        occlusion(subject, images, base, window=(2, 3, 3), stride=(2, 4, 3))


def test_token_occlusion_of_a_bag_of_tokens_has_the_closed_form():
    class Bag(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.embedding = nn.Embedding(9, 4, padding_idx=0)
            self.head = nn.Linear(4, 2)

        def forward(self, ids):
            return self.head(self.embedding(ids).sum(dim=1))

    module = Bag().double()
    ids = torch.tensor([[3, 5, 0], [7, 7, 2]])
    found = token_occlusion(differentiated(module, 2, target=1), ids, 0)
    expected = (module.embedding(ids) @ module.head.weight[1]).detach().numpy()
    np.testing.assert_allclose(found.values[..., 0], expected, atol=1e-12)


@pytest.mark.parametrize("method", ["smooth_grad", "grad_cam", "guided_grad_cam", "deep_lift", "occlusion"])
def test_the_module_is_bitwise_as_before(images, method):
    module = Net().train()
    module(images)[:, 0].sum().backward()
    module.first.bias.requires_grad_(False)
    module.head.register_forward_hook(lambda *_: None)
    before, attributes = state_of(module), [set(vars(part)) for part in module.modules()]
    subject, layer = differentiated(module, 4), module.second
    if method == "smooth_grad":
        smooth_grad(subject, images, torch.Generator(), draws=2)
    elif method == "deep_lift":
        deep_lift(subject, images, images[:1])
    elif method == "occlusion":
        occlusion(subject, images, images[:1], window=(2, 3, 3), stride=(2, 3, 3))
    else:
        (grad_cam if method == "grad_cam" else guided_grad_cam)(subject, images, layer)
    assert same(before, state_of(module))
    assert attributes == [set(vars(part)) for part in module.modules()]
    assert images.requires_grad is False


def test_a_model_without_gradients_is_told(images):
    class Blind(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(2, 3, 3).double()

        def forward(self, x):
            return self.conv(x).detach().mean(dim=(2, 3))

    module = Blind()
    with pytest.raises(NotApplicable, match="AK510|AK481"):
        grad_cam(differentiated(module, 4), images, module.conv)
    found = occlusion(differentiated(module, 4), images, images[:1], window=(2, 3, 3), stride=(2, 3, 3))
    assert found.status == "unverified"


def test_only_incomplete_rows_take_more_steps():
    class Steep(nn.Module):
        def forward(self, x):
            return torch.sigmoid(x[:, :1] * 60.0 * (x[:, 1:] - 0.731))

    x = torch.tensor([[0.0, 1.0]] * 7 + [[1.0, 1.0]], dtype=torch.float64)
    found = integrated_gradients(differentiated(Steep(), 8), x, torch.zeros(1, 2, dtype=torch.float64), tolerance=1e-4)
    assert found.status != "failed"
    steps = found.diagnostics["steps"]
    assert steps > 16
    assert found.n_evals == 8 * 16 + sum(2**k for k in range(5, int(np.log2(steps)) + 1))


@pytest.mark.parametrize("steps", [16, 64])
def test_integrated_gradients_are_captums_with_the_same_nodes(images, steps):
    module = Net().eval()
    targets = np.arange(4) % 3
    base = images.mean(dim=0, keepdim=True)
    ours = path_integral(module, images, base, torch.from_numpy(targets), steps)
    theirs = IntegratedGradients(module).attribute(images, base, target=torch.from_numpy(targets), n_steps=steps)
    np.testing.assert_allclose(ours.numpy(), theirs.detach().numpy(), atol=1e-12)


@pytest.mark.parametrize("kind", ["lstm", "transformer"])
def test_token_paths_are_captums_layer_integrated_gradients(kind):
    torch.manual_seed(1)
    module = Tokens(kind).double().eval()
    ids = torch.randint(1, 20, (5, 7))
    ids[2, 4:] = 0
    subject = differentiated(module, 5, target=1, embedding=module.embedding)
    start = torch.zeros(1, 7, dtype=torch.long)
    ours = integrated_gradients(subject, ids, start, tolerance=1e-12, max_steps=16)
    engine = LayerIntegratedGradients(module, module.embedding)
    theirs = engine.attribute(ids, start.expand(5, 7), target=1, n_steps=16).sum(dim=-1)
    np.testing.assert_allclose(ours.values[..., 0], theirs.detach().numpy(), atol=1e-10)
