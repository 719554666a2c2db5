"""Mean per-sample norms against gradients found one sample at a time, in float64."""

import copy
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn

from optim import PerSampleNorms
from optim.trust import is_adapted
from trainables.models import resnet8

PRECISIONS = pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-10)])
Norms = dict[str, float]


def batch_one_loop(model: nn.Module, loss: Callable[[nn.Module, slice], Tensor], samples: int) -> Norms:
    """The mean norm at every layer when each sample goes through the model alone."""
    twin = copy.deepcopy(model).double()
    weights = {name: param for name, param in twin.named_parameters() if is_adapted(param)}
    sums = dict.fromkeys(weights, 0.0)
    for i in range(samples):
        gradients = torch.autograd.grad(loss(twin, slice(i, i + 1)), list(weights.values()))
        for name, gradient in zip(weights, gradients, strict=True):
            sums[name] += float(gradient.norm())
    return {name: total / samples for name, total in sums.items()}


def one_by_one(model: nn.Module, mean_loss: Callable[[nn.Module], Tensor], samples: int) -> Norms:
    """The mean norm at every layer where BatchNorm couples the samples: the terms of a batch taken one by one.

    Every layer calls torch once for each sample, with a copy of its weight that only this sample sees: the gradient
    of the copy is the sample's term.
    """
    twin = copy.deepcopy(model).double()
    copies: dict[str, list[Tensor]] = {}
    for path, module in twin.named_modules():
        if isinstance(module, nn.Linear | nn.Conv2d):
            own = copies[f"{path}.weight"] = [module.weight.detach().clone().requires_grad_() for _ in range(samples)]
            module.forward = _apart(module, own)
    flat = [weight for own in copies.values() for weight in own]
    gradients = iter(torch.autograd.grad(mean_loss(twin), flat))
    # a term of a mean loss is 1/B of the sample's gradient: the mean of B times its norm
    return {name: sum(float(next(gradients).norm()) for _ in own) for name, own in copies.items()}


def _apart(module: nn.Linear | nn.Conv2d, own: list[Tensor]) -> Callable[[Tensor], Tensor]:
    def alone(x: Tensor, weight: Tensor) -> Tensor:
        bias = None if module.bias is None else module.bias.to(weight.dtype)
        if isinstance(module, nn.Linear):
            return F.linear(x, weight, bias)
        return F.conv2d(x, weight, bias, module.stride, module.padding, module.dilation, module.groups)

    return lambda x: torch.cat([alone(x[i : i + 1], weight) for i, weight in enumerate(own)])


def assert_close(norms: PerSampleNorms, expected: Norms, tolerance: float) -> None:
    found = norms.mean_norms()
    assert set(found.names) == set(expected)
    assert found.standard_errors.tolist() == [0.0] * len(expected)
    for name, mean in zip(found.names, found.means.tolist(), strict=True):
        assert expected[name] > 0, name
        assert abs(mean / expected[name] - 1) <= tolerance, (name, mean / expected[name] - 1)


class Block(nn.Module):
    """A small transformer: words, places that the samples share, attention, and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.places = nn.Embedding(11, 12, padding_idx=0), nn.Embedding(9, 12)
        self.norm = nn.LayerNorm(12)
        self.qkv, self.out = nn.Linear(12, 36), nn.Linear(12, 12, bias=False)
        self.up, self.down = nn.Linear(12, 48), nn.Linear(48, 12)
        self.head = nn.Linear(12, 5)

    def forward(self, tokens: Tensor) -> Tensor:
        places = torch.arange(tokens.shape[1]).expand(len(tokens), -1)
        x = self.words(tokens) + self.places(places)
        q, k, v = (t.unflatten(-1, (3, 4)).transpose(1, 2) for t in self.qkv(self.norm(x)).chunk(3, dim=-1))
        x = x + self.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
        x = x + self.down(F.gelu(self.up(x)))
        return self.head(x.mean(dim=1))


def group_norm_net() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1, bias=False),
        nn.GroupNorm(2, 8),
        nn.ReLU(inplace=True),
        nn.Conv2d(8, 12, 3, stride=2, groups=4),
        nn.GroupNorm(3, 12),
        nn.ReLU(inplace=True),
        nn.Conv2d(12, 40, 3, padding="same", dilation=2, padding_mode="circular"),
        nn.ReLU(inplace=True),
        nn.Flatten(),
        nn.Linear(40 * 9, 5),
    )


@PRECISIONS
@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("kind", ["group_norm", "transformer"])
def test_a_batch_one_loop_finds_the_same(kind, reduction, dtype, tolerance):
    torch.manual_seed(0)
    model = (group_norm_net() if kind == "group_norm" else Block()).to(dtype)
    inputs = torch.randn(7, 3, 8, 8, dtype=dtype) if kind == "group_norm" else torch.randint(0, 11, (7, 9))
    labels = torch.randint(0, 5, (7,))
    wide = inputs.double() if inputs.is_floating_point() else inputs
    expected = batch_one_loop(model, lambda twin, i: F.cross_entropy(twin(wide[i]), labels[i]), 7)
    norms = PerSampleNorms(model, loss_reduction=reduction)
    F.cross_entropy(model(inputs), labels, reduction=reduction).backward()
    assert_close(norms, expected, tolerance)


def resnet18() -> nn.Module:
    model = torchvision.models.resnet18(num_classes=10)
    model.conv1, model.maxpool = nn.Conv2d(3, 64, 3, padding=1, bias=False), nn.Identity()
    return model


BATCH_NORM_NETS = {
    "resnet8": (lambda: resnet8(3, 10, 16), 16),
    "resnet18": (resnet18, 16),
    "mobilenet_v2": (lambda: torchvision.models.mobilenet_v2(num_classes=10, dropout=0.0), 32),
}


@pytest.mark.parametrize("name", BATCH_NORM_NETS)
def test_terms_taken_one_by_one_are_the_same_with_batch_norm(name):
    # in float64: in float32 the passes themselves differ by more than 1e-5, with a batch as small as this
    torch.manual_seed(0)
    make, size = BATCH_NORM_NETS[name]
    model = make().double()
    images, labels = torch.randn(4, 3, size, size, dtype=torch.float64), torch.randint(0, 10, (4,))
    expected = one_by_one(model, lambda twin: F.cross_entropy(twin(images), labels), 4)
    norms = PerSampleNorms(model)
    F.cross_entropy(model(images), labels).backward()
    assert_close(norms, expected, 1e-10)


@pytest.mark.parametrize("name", BATCH_NORM_NETS)
def test_float32_norms_are_those_of_the_terms_that_autograd_had(name):
    torch.manual_seed(0)
    make, size = BATCH_NORM_NETS[name]
    model = make()
    seen = {}

    def watch(path: str, module: nn.Module) -> None:
        def see(_: nn.Module, args: tuple[Tensor], output: Tensor) -> None:
            inputs = args[0].double()
            output.register_hook(lambda grads: seen.update({path: (module, inputs, grads.double())}))

        module.register_forward_hook(see)

    for path, module in model.named_modules():
        if isinstance(module, nn.Linear | nn.Conv2d):
            watch(f"{path}.weight", module)
    norms = PerSampleNorms(model)
    images, labels = torch.randn(8, 3, size, size), torch.randint(0, 10, (8,))
    F.cross_entropy(model(images), labels).backward()

    expected = dict.fromkeys(seen, 0.0)
    for path, (module, inputs, grads) in seen.items():
        weight = module.weight.detach().double().requires_grad_()
        for i in range(8):
            output = _apart(module, [weight])(inputs[i : i + 1])
            expected[path] += float(torch.autograd.grad(output, weight, grads[i : i + 1])[0].norm())
    assert_close(norms, expected, 1e-5)
