"""Networks that hide gradients or answers: each wraps an honest one and leaves its accuracy about as it was."""

import math

import torch
from torch import nn


class _Backward(torch.autograd.Function):
    """Forward as it is, backward through any function of the gradient."""

    @staticmethod
    def forward(ctx, x, back):
        ctx.back = back
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        return ctx.back(gradient), None


class Fault(nn.Module):
    """An honest network behind a fault."""

    def __init__(self, net, fault):
        super().__init__()
        self.net, self.fault = net, fault

    def forward(self, x):
        return self.fault(self.net, x)


def half_detached(net, x):
    return 0.1 * net(x) + 0.9 * net(x.detach())


def thermometer(net, x):
    levels = torch.linspace(0.05, 0.95, 10)
    return net(sum((x > level).to(x.dtype) for level in levels) / 10)


def winners(net, x):
    """Keep the largest tenth of a wide random code of the input, then read the input back from it."""
    generator = torch.Generator().manual_seed(5)
    flat = x.flatten(1)
    code = torch.randn(flat.shape[1], 40 * flat.shape[1], generator=generator)
    wide = flat @ code
    kept = wide * (wide >= wide.topk(wide.shape[1] // 10, dim=1).values[:, -1:])
    back = kept @ torch.linalg.pinv(code) * 2.6
    return net(back.reshape(x.shape).clamp(0, 1))


def blocky(net, x):
    """Lossy compression: whole steps of a cosine transform."""
    n = x.flatten(1).shape[1]
    k = torch.arange(n)
    basis = torch.cos(math.pi / n * (k[:, None] + 0.5) * k[None, :]) * math.sqrt(2.0 / n)
    basis[:, 0] /= math.sqrt(2.0)
    step = 0.15
    return net((torch.round(x.flatten(1) @ basis / step) * step @ basis.T).reshape(x.shape))


def straight_through(net, x):
    """Rounded forward; the gradient of another point's order of features backward."""
    rounded = torch.round(x * 12) / 12
    passed = _Backward.apply(x, lambda g: g.flatten(1).flip(1).reshape(g.shape))
    return net(passed + (rounded - x).detach())


def shattered(net, x):
    return net(x + 0.02 * torch.sin(4000.0 * x))


def resized(net, x):
    grow = 1.0 + 0.2 * float(torch.rand(()))
    return net((x * grow).clamp(0, 1))


def pruned(net, x):
    keep = torch.rand(x.shape) < 0.8
    return net(x * keep / 0.8)


FAULTS = {
    "logits times 500": lambda net, x: net(x) * 500.0,
    "logits over a million": lambda net, x: net(x) / 1e6,
    "detached input": lambda net, x: net(x.detach()),
    "input of 16 levels": lambda net, x: net(torch.round(x * 15) / 15),
    "noise on the input": lambda net, x: net(x + 0.05 * torch.randn_like(x)),
    "noise on the logits": lambda net, x: net(x) + 0.3 * torch.randn_like(net(x)),
    "probabilities for logits": lambda net, x: torch.softmax(net(x), dim=1),
    "sharp probabilities": lambda net, x: torch.softmax(50.0 * net(x), dim=1),
    "saturated tanh": lambda net, x: 20.0 * torch.tanh(50.0 * net(x)),
    "lossy compression": blocky,
    "dropout when used": lambda net, x: net(nn.functional.dropout(x, 0.2, training=True)),
    "random resizing": resized,
    "gradient turned round": lambda net, x: net(_Backward.apply(x, lambda g: -g)),
    "gradient shuffled": lambda net, x: net(_Backward.apply(x, lambda g: g.flatten(1).roll(5, 1).reshape(g.shape))),
    "gradient of noise": lambda net, x: net(_Backward.apply(x, lambda g: torch.sin(1e6 * g))),
    "low temperature": lambda net, x: net(x) / 0.003,
    "winners take all": winners,
    "thermometer code": thermometer,
    "rounded logits": lambda net, x: torch.round(net(x)),
    "ripples on the input": shattered,
    "random pruning": pruned,
    "half precision underflow": lambda net, x: torch.log_softmax((net(x) * 40.0).half(), dim=1).exp().float(),
    "wrong straight-through": straight_through,
    "dead zone": lambda net, x: net(x.clamp(0.45, 0.55) * 4 - 1.5),
    "detached member": half_detached,
    "labels alone": lambda net, x: nn.functional.one_hot(net(x).argmax(1), net(x).shape[1]).to(x.dtype) * 5.0,
    "steps in the logits": lambda net, x: (
        net(x) - torch.frac(net(x) * 4.0) / 4.0 + torch.frac(net(x) * 4.0).detach() / 4
    ),
}


def voted(net, x):
    """The majority of nine roundings of the input, each to a grid shifted a little."""
    votes = [net(torch.round(x * 8 + shift) / 8).argmax(1) for shift in torch.linspace(-0.4, 0.4, 9)]
    return nn.functional.one_hot(torch.stack(votes), 10).sum(0).to(x.dtype)


def prototypes(net, x):
    """The blurred input's nearest of 200 fixed points, decided in its place."""
    generator = torch.Generator().manual_seed(3)
    anchors = torch.rand(200, *x.shape[1:], generator=generator)
    near = torch.cdist(x.flatten(1), anchors.flatten(1)).argmin(1)
    return net(x.detach()) + 0.0 * net(anchors[near]) + 0.0 * x.flatten(1).sum(1, keepdim=True)


def confident_rows_cut(net, x):
    """Rows that the network is sure of send no gradient back."""
    sure = (torch.softmax(net(x.detach()), 1).amax(1) > 0.6).reshape(-1, *[1] * (x.ndim - 1))
    return net(torch.where(sure, x.detach(), x))


def rounded_probabilities(net, x):
    return torch.log(torch.round(torch.softmax(net(x), 1) * 1000) / 1000 + 1e-4)


def batch_statistics(net, x):
    spread = x.std(dim=0, keepdim=True) if len(x) > 1 else torch.ones_like(x[:1])
    return net(x * (1 + 0.2 * (spread - spread.mean())))


def few_pixels(net, x):
    keep = (torch.arange(x[0].numel()) % 16 == 0).reshape(x.shape[1:]).to(x.dtype)
    return net(_Backward.apply(x, lambda g: g * keep))


def noise_of_the_bits(net, x):
    """Noise that looks random and follows from the input, so that two passes agree."""
    return net(x + 0.06 * torch.frac(torch.sin(x * 12345.678) * 43758.5453))


def offset_logits(net, x):
    return net(x) + 4e6


def broken_root(net, x):
    return net(x + 0.0 * torch.sqrt(x * 0.0))


def other_gradient(net, x):
    generator = torch.Generator().manual_seed(9)
    other = x.flatten(1) @ torch.randn(x[0].numel(), 10, generator=generator)
    return net(x.detach()) + other - other.detach()


def sign_code(net, x):
    """A one-bit code of many random projections, decoded linearly."""
    generator = torch.Generator().manual_seed(4)
    code = torch.randn(x[0].numel(), 2000, generator=generator)
    bits = torch.sign((x.flatten(1) - 0.3) @ code)
    return net((bits @ torch.linalg.pinv(code) * 2.2 + 0.3).reshape(x.shape))


def fixed_draws(net, x):
    """Random thresholds drawn anew from the same seed at each call."""
    return net((x > torch.rand(x.shape, generator=torch.Generator().manual_seed(1)) * 0.6 + 0.2).to(x.dtype))


def purified(net, x):
    """Three rounds of pulling each pixel to the mean of its neighbours' levels, without a graph."""
    with torch.no_grad():
        clean = x
        for _ in range(3):
            clean = 0.9 * clean + 0.1 * torch.round(clean * 4) / 4
    return net(clean)


def squashed_lead(net, x):
    return 1e-4 * torch.tanh(net(x))


# Written after the checks were settled, and never used to adjust them.
LATER_FAULTS = {
    "votes over roundings": voted,
    "nearest prototype beside": prototypes,
    "confident rows cut off": confident_rows_cut,
    "rounded probabilities": rounded_probabilities,
    "statistics of the batch": batch_statistics,
    "gradient of a few pixels": few_pixels,
    "noise of the input's bits": noise_of_the_bits,
    "logits with a huge offset": offset_logits,
    "root with an endless slope": broken_root,
    "gradient of another function": other_gradient,
    "one-bit code": sign_code,
    "thresholds from one seed": fixed_draws,
    "purified without a graph": purified,
    "squashed lead": squashed_lead,
}
