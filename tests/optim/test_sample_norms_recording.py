"""When norms are recorded, kept and dropped: passes, micro-batches, loss scales, copies, and what goes wrong."""

import copy
import gc
import pickle

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils.checkpoint import checkpoint

from optim import PerSampleNorms

B = 12


@pytest.fixture
def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.GroupNorm(2, 4), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(64, 5)
    ).double()


@pytest.fixture
def batch() -> tuple[Tensor, Tensor]:
    return torch.randn(B, 3, 6, 6, dtype=torch.float64), torch.randint(0, 5, (B,))


def loss_of(model: nn.Module, batch: tuple[Tensor, Tensor], rows: slice = slice(None), **options: str) -> Tensor:
    return F.cross_entropy(model(batch[0][rows]), batch[1][rows], **options)


def means_of(norms: PerSampleNorms) -> list[float]:
    return norms.mean_norms().means.tolist()


def expected_means(model: nn.Module, batch: tuple[Tensor, Tensor]) -> list[float]:
    weights = [param for param in model.parameters() if param.ndim > 1]
    rows = [torch.autograd.grad(loss_of(model, batch, slice(i, i + 1)), weights) for i in range(B)]
    return [float(torch.stack([g.norm() for g in of_layer]).mean()) for of_layer in zip(*rows, strict=True)]


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("sizes", [(B,), (6, 6), (5, 4, 3)])
def test_micro_batches_add_up_to_the_batch(model, batch, reduction, sizes):
    expected = expected_means(model, batch)
    norms = PerSampleNorms(model, loss_reduction=reduction)
    start = 0
    for size in sizes:
        share = size / B if reduction == "mean" else 1
        (loss_of(model, batch, slice(start, start + size), reduction=reduction) * share).backward()
        start += size
    assert means_of(norms) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("scale", [2.0**16, 3.0])
def test_a_loss_scale_is_taken_out(model, batch, scale):
    scaler = torch.amp.GradScaler("cpu", init_scale=scale)
    norms = PerSampleNorms(model, grad_scaler=scaler)
    expected = expected_means(model, batch)
    scaler.scale(loss_of(model, batch)).backward()
    assert means_of(norms) == pytest.approx(expected, rel=1e-6)  # the scale has float32
    assert PerSampleNorms(model, grad_scaler=torch.amp.GradScaler("cpu", enabled=False)).grad_scaler is not None


def test_autocast_is_close_and_float32(model, batch):
    model.float()
    inputs = batch[0].float()
    norms = PerSampleNorms(model)
    with torch.autocast("cpu", torch.bfloat16):
        loss = F.cross_entropy(model(inputs), batch[1])
    loss.backward()
    found = norms.mean_norms().means
    assert found.dtype == torch.float32
    assert found.tolist() == pytest.approx(expected_means(model.double(), batch), rel=0.02)


def test_16_bit_weights_have_32_bit_norms():
    torch.manual_seed(0)
    layer = nn.Linear(40, 30, dtype=torch.bfloat16)
    inputs = torch.randn(4, 9, 40, dtype=torch.bfloat16)
    norms = PerSampleNorms(layer)
    layer(inputs).sum(dtype=torch.float32).div(4).backward()
    terms = torch.ones(4, 30, 9) @ inputs.float()
    torch.testing.assert_close(norms.mean_norms().means[0], terms.flatten(1).norm(dim=1).mean(), rtol=1e-6, atol=0)


def test_eval_and_no_grad_passes_are_not_recorded(model, batch):
    norms = PerSampleNorms(model)
    model.eval()
    loss_of(model, batch)
    model.train()
    with torch.no_grad():
        loss_of(model, batch)
    loss_of(model, batch)  # nor is one without a backward pass
    with pytest.raises(RuntimeError, match=r"backward pass .* before every step, but there was none"):
        norms.mean_norms()
    loss_of(model, batch).backward()
    assert means_of(norms) == pytest.approx(expected_means(model, batch), rel=1e-12)


def test_a_gradient_from_an_unrecorded_pass_is_refused_by_name(model, batch):
    norms = PerSampleNorms(model)
    loss_of(model, batch).backward()
    model[4].eval()
    loss_of(model, batch).backward()
    with pytest.raises(RuntimeError, match=r"no per-sample norms were recorded for the gradient of 4\.weight: .*eval"):
        norms.mean_norms()
    model.zero_grad()
    model.train()
    loss_of(model, batch).backward()  # a new step, since the gradients are gone
    assert means_of(norms) == pytest.approx(expected_means(model, batch), rel=1e-12)


def test_gradients_without_any_pass_are_refused(model, batch):
    norms = PerSampleNorms(model)
    model[0].requires_grad_(False)
    loss_of(model, batch).backward()
    model[0].weight.grad = torch.ones_like(model[0].weight)
    with pytest.raises(RuntimeError, match=r"gradient of 0\.weight"):
        norms.mean_norms()


def test_dropped_gradients_take_their_norms_along(model, batch):
    norms = PerSampleNorms(model)
    loss_of(model, batch).mul(100).backward()
    model.zero_grad()  # as after a loss that was not finite
    loss_of(model, batch).backward()
    assert means_of(norms) == pytest.approx(expected_means(model, batch), rel=1e-12)
    norms.clear()
    with pytest.raises(RuntimeError, match="there was none"):
        norms.mean_norms()


def test_gradients_by_autograd_grad_do_not_count(model, batch):
    norms = PerSampleNorms(model)
    loss = loss_of(model, batch)
    for _ in range(2):
        torch.autograd.grad(loss, list(model.parameters()), retain_graph=True)
    torch.autograd.grad(loss, model[0].weight, create_graph=True)
    loss.backward()
    assert means_of(norms) == pytest.approx(expected_means(model, batch), rel=1e-12)


def test_functional_transforms_of_the_model_are_left_alone(model, batch):
    norms = PerSampleNorms(model)
    params = {name: param.detach() for name, param in model.named_parameters()}
    torch.func.grad(lambda p: F.cross_entropy(torch.func.functional_call(model, p, batch[0]), batch[1]))(params)
    torch.func.grad(lambda x: F.cross_entropy(model(x), batch[1]))(batch[0])
    with pytest.raises(RuntimeError, match="there was none"):
        norms.mean_norms()


def test_a_second_backward_over_one_graph_is_refused(model, batch):
    PerSampleNorms(model)
    loss = loss_of(model, batch)
    loss.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match=r"walked twice .*Add the losses up"):
        loss.backward()


def test_an_error_in_a_backward_pass_leaves_nothing_behind():
    layer = nn.Linear(3, 3)
    norms = PerSampleNorms(layer)
    hidden = layer(torch.ones(2, 3)).tanh()
    hidden.register_hook(lambda grads: 1 / 0)
    seen = StorageWeakRef(hidden.untyped_storage())
    with pytest.raises(ZeroDivisionError):
        layer(hidden).sum().backward()  # after one use of the layer, before the other
    del hidden
    norms.clear()
    gc.collect()
    assert seen.expired()
    layer(torch.ones(2, 3)).sum().div(2).backward()
    assert means_of(norms) == pytest.approx([3.0])


def test_a_pass_by_autograd_grad_leaves_nothing_behind(model, batch):
    PerSampleNorms(model)
    seen = []
    model[3].register_forward_hook(lambda module, args, output: seen.append(StorageWeakRef(output.untyped_storage())))
    torch.autograd.grad(loss_of(model, batch), list(model.parameters()))
    gc.collect()
    assert seen[0].expired()


def test_activation_checkpointing_keeps_its_savings():
    torch.manual_seed(0)
    block = nn.Sequential(nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, 6), nn.Tanh()).double()
    inputs = torch.randn(B, 6, dtype=torch.float64)

    def run(twin: nn.Module) -> tuple[list[float], int]:
        norms, alive = PerSampleNorms(twin), []
        twin[1].register_forward_hook(
            lambda module, args, output: alive.append(StorageWeakRef(output.untyped_storage()))
        )
        loss = checkpoint(twin, inputs, use_reentrant=False).square().sum(1).mean()
        gc.collect()
        kept = sum(not ref.expired() for ref in alive)
        loss.backward()
        return means_of(norms), kept

    found, kept = run(block)
    with PerSampleNorms(block) as norms:
        block.zero_grad()
        block(inputs).square().sum(1).mean().backward()
        assert found == pytest.approx(means_of(norms), rel=1e-12)
    assert kept == 0  # the input of the second layer is computed anew


def test_inputs_are_let_go_with_the_backward_pass(model, batch):
    PerSampleNorms(model)
    seen = []
    model[3].register_forward_hook(lambda module, args, output: seen.append(StorageWeakRef(output.untyped_storage())))
    loss = loss_of(model, batch)
    assert not seen[0].expired()
    loss.backward()
    gc.collect()
    assert seen[0].expired()  # though the loss is still there


def test_an_input_changed_in_place_is_not_used(model, batch):
    PerSampleNorms(model)
    loss = loss_of(model, batch)
    batch[0].mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_remove_takes_all_hooks_off(model, batch):
    hooks = lambda: [len(m._forward_hooks) for m in model.modules()]  # noqa: E731
    with PerSampleNorms(model, "micro_batch", loss_reduction="sum") as norms:
        assert sum(hooks()) == 2
        loss_of(model, batch).backward()
        norms.mean_norms()
    assert sum(hooks()) == 0
    assert len(norms.latest.names) == 2
    loss_of(model, batch).backward()
    with pytest.raises(RuntimeError, match="there was none"):
        norms.mean_norms()


def test_two_recorders_do_not_disturb_each_other(model, batch):
    first, second = PerSampleNorms(model), PerSampleNorms(model, loss_reduction="sum")
    loss_of(model, batch).backward()
    assert means_of(first) == pytest.approx([B * mean for mean in means_of(second)], rel=1e-12)


def test_a_copied_model_takes_no_hooks_along(model, batch):
    norms = PerSampleNorms(model)
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        loss_of(twin, batch).backward()
    with pytest.raises(RuntimeError, match="there was none"):
        norms.mean_norms()


def test_a_copied_recorder_watches_the_copied_model(model, batch):
    norms = PerSampleNorms(model, "subset", subset_size=3, loss_reduction="sum")
    loss_of(model, batch).backward()
    twin, twin_norms = copy.deepcopy((model, norms))
    model.zero_grad()
    norms.clear()
    for one in (model, twin):
        loss_of(one, batch).backward()
    assert means_of(norms) == means_of(twin_norms)  # the same samples, too


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mode": "all"}, r"mode must be one of exact, subset, micro_batch, but got \(mode='all'\)"),
        ({"loss_reduction": "none"}, r"loss_reduction must be one of mean, sum, but got"),
        ({"subset_size": 1}, r"2 <= subset_size .*\(subset_size=1\)"),
        ({"subset_size": 16.0}, r"subset_size=16\.0"),
        ({"subset_size": True}, r"subset_size=True"),
    ],
)
def test_illegal_settings_are_refused(model, options, message):
    with pytest.raises(ValueError, match=message):
        PerSampleNorms(model, **options)


def test_a_sample_that_skips_a_layer_counts_as_zero_there(batch):
    torch.manual_seed(0)
    model = nn.ModuleList([nn.Linear(108, 5), nn.Linear(108, 5)]).double()
    images = batch[0].flatten(1)

    def means(reduction: str) -> list[float]:
        with PerSampleNorms(model, loss_reduction=reduction) as norms:
            share = 0.5 if reduction == "mean" else 1
            (F.cross_entropy(model[0](images[:6]), batch[1][:6], reduction=reduction) * share).backward()
            both = model[0](images[6:]) + model[1](images[6:])
            (F.cross_entropy(both, batch[1][6:], reduction=reduction) * share).backward()
            return means_of(norms)

    assert means("sum") == pytest.approx(means("mean"), rel=1e-12)
