"""When norms are recorded, kept and dropped: passes, micro-batches, loss scales, copies, and what goes wrong."""

import copy
import gc
import pickle

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils.checkpoint import checkpoint

from optim import PerSampleNorms

B = 12


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("sizes", [(B,), (6, 6), (5, 4, 3)])
def test_micro_batches_add_up_to_the_batch(model, batch, reduction, sizes):
    expected = batch.expected_means(model)
    norms = PerSampleNorms(model, loss_reduction=reduction)
    start = 0
    for size in sizes:
        share = size / B if reduction == "mean" else 1
        (batch.loss(model, slice(start, start + size), reduction=reduction) * share).backward()
        start += size
    assert norms.mean_norms().means.tolist() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("scale", [2.0**16, 3.0])
def test_a_loss_scale_is_taken_out(model, batch, scale):
    scaler = torch.amp.GradScaler("cpu", init_scale=scale)
    norms = PerSampleNorms(model, grad_scaler=scaler)
    expected = batch.expected_means(model)
    scaler.scale(batch.loss(model)).backward()
    assert norms.mean_norms().means.tolist() == pytest.approx(expected, rel=1e-6)  # the scale has float32
    assert PerSampleNorms(model, grad_scaler=torch.amp.GradScaler("cpu", enabled=False)).grad_scaler is not None


def test_autocast_is_close_and_float32(model, batch):
    model.float()
    inputs = batch.images.float()
    norms = PerSampleNorms(model)
    with torch.autocast("cpu", torch.bfloat16):
        loss = F.cross_entropy(model(inputs), batch.labels)
    loss.backward()
    found = norms.mean_norms().means
    assert found.dtype == torch.float32
    assert found.tolist() == pytest.approx(batch.expected_means(model.double()), rel=0.02)


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
    batch.loss(model)
    model.train()
    with torch.no_grad():
        batch.loss(model)
    batch.loss(model)  # nor is one without a backward pass
    with pytest.raises(RuntimeError, match=r"backward pass .* before every step, but there was none"):
        norms.mean_norms()
    batch.loss(model).backward()
    assert norms.mean_norms().means.tolist() == pytest.approx(batch.expected_means(model), rel=1e-12)


def test_a_gradient_from_an_unrecorded_pass_is_refused_by_name(model, batch):
    norms = PerSampleNorms(model)
    batch.loss(model).backward()
    model[4].eval()
    batch.loss(model).backward()
    with pytest.raises(RuntimeError, match=r"no per-sample norms were recorded for the gradient of 4\.weight: .*eval"):
        norms.mean_norms()
    model.zero_grad()
    model.train()
    batch.loss(model).backward()  # a new step, since the gradients are gone
    assert norms.mean_norms().means.tolist() == pytest.approx(batch.expected_means(model), rel=1e-12)


def test_gradients_without_any_pass_are_refused(model, batch):
    norms = PerSampleNorms(model)
    model[0].requires_grad_(False)
    batch.loss(model).backward()
    model[0].weight.grad = torch.ones_like(model[0].weight)
    with pytest.raises(RuntimeError, match=r"gradient of 0\.weight"):
        norms.mean_norms()


def test_dropped_gradients_take_their_norms_along(model, batch):
    norms = PerSampleNorms(model)
    batch.loss(model).mul(100).backward()
    model.zero_grad()  # as after a loss that was not finite
    batch.loss(model).backward()
    assert norms.mean_norms().means.tolist() == pytest.approx(batch.expected_means(model), rel=1e-12)
    norms.clear()
    with pytest.raises(RuntimeError, match="there was none"):
        norms.mean_norms()


def test_gradients_by_autograd_grad_do_not_count(model, batch):
    norms = PerSampleNorms(model)
    loss = batch.loss(model)
    for _ in range(2):
        torch.autograd.grad(loss, list(model.parameters()), retain_graph=True)
    torch.autograd.grad(loss, model[0].weight, create_graph=True)
    loss.backward()
    assert norms.mean_norms().means.tolist() == pytest.approx(batch.expected_means(model), rel=1e-12)


def test_functional_transforms_of_the_model_are_left_alone(model, batch):
    norms = PerSampleNorms(model)
    params = {name: param.detach() for name, param in model.named_parameters()}
    torch.func.grad(lambda p: F.cross_entropy(torch.func.functional_call(model, p, batch.images), batch.labels))(params)
    torch.func.grad(lambda x: F.cross_entropy(model(x), batch.labels))(batch.images)
    with pytest.raises(RuntimeError, match="there was none"):
        norms.mean_norms()


def test_a_second_backward_over_one_graph_is_refused(model, batch):
    PerSampleNorms(model)
    loss = batch.loss(model)
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
    assert norms.mean_norms().means.tolist() == pytest.approx([3.0])


def test_a_pass_by_autograd_grad_leaves_nothing_behind(model, batch):
    PerSampleNorms(model)
    seen = []
    model[3].register_forward_hook(lambda module, args, output: seen.append(StorageWeakRef(output.untyped_storage())))
    torch.autograd.grad(batch.loss(model), list(model.parameters()))
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
        return norms.mean_norms().means.tolist(), kept

    found, kept = run(block)
    with PerSampleNorms(block) as norms:
        block.zero_grad()
        block(inputs).square().sum(1).mean().backward()
        assert found == pytest.approx(norms.mean_norms().means.tolist(), rel=1e-12)
    assert kept == 0  # the input of the second layer is computed anew


def test_inputs_are_let_go_with_the_backward_pass(model, batch):
    PerSampleNorms(model)
    seen = []
    model[3].register_forward_hook(lambda module, args, output: seen.append(StorageWeakRef(output.untyped_storage())))
    loss = batch.loss(model)
    assert not seen[0].expired()
    loss.backward()
    gc.collect()
    assert seen[0].expired()  # though the loss is still there


def test_an_input_changed_in_place_is_not_used(model, batch):
    PerSampleNorms(model)
    loss = batch.loss(model)
    batch.images.mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_remove_takes_all_hooks_off(model, batch):
    hooks = lambda: [len(m._forward_hooks) for m in model.modules()]  # noqa: E731
    with PerSampleNorms(model, "micro_batch", loss_reduction="sum") as norms:
        assert sum(hooks()) == 2
        batch.loss(model).backward()
        norms.mean_norms()
    assert sum(hooks()) == 0
    assert len(norms.latest.names) == 2
    batch.loss(model).backward()
    with pytest.raises(RuntimeError, match="there was none"):
        norms.mean_norms()


def test_two_recorders_do_not_disturb_each_other(model, batch):
    first, second = PerSampleNorms(model), PerSampleNorms(model, loss_reduction="sum")
    batch.loss(model).backward()
    torch.testing.assert_close(first.mean_norms().means, B * second.mean_norms().means, rtol=1e-12, atol=0)


def test_a_copied_model_takes_no_hooks_along(model, batch):
    norms = PerSampleNorms(model)
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        batch.loss(twin).backward()
    with pytest.raises(RuntimeError, match="there was none"):
        norms.mean_norms()


def test_a_copied_recorder_watches_the_copied_model(model, batch):
    norms = PerSampleNorms(model, "subset", subset_size=3, loss_reduction="sum")
    batch.loss(model).backward()
    twin, twin_norms = copy.deepcopy((model, norms))
    model.zero_grad()
    norms.clear()
    for one in (model, twin):
        batch.loss(one).backward()
    assert norms.mean_norms().means.tolist() == twin_norms.mean_norms().means.tolist()  # the same samples, too


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mode": "all"}, r"mode must be one of exact, subset, micro_batch, but got \(mode='all'\)"),
        ({"loss_reduction": "none"}, r"loss_reduction must be one of mean, sum, but got"),
        ({"subset_size": 1}, r"2 <= subset_size .*\(subset_size=1\)"),
        ({"subset_size": 16.0}, r"subset_size=16\.0"),
        ({"subset_size": True}, r"subset_size=True"),
        ({"seed": -1}, r"0 <= seed .*\(seed=-1\)"),
    ],
)
def test_illegal_settings_are_refused(model, options, message):
    with pytest.raises(ValueError, match=message):
        PerSampleNorms(model, **options)


def test_whole_numbers_of_numpy_are_taken(model, batch):
    of_numpy = PerSampleNorms(model, "subset", subset_size=np.int64(3), seed=np.int32(5))
    plain = PerSampleNorms(model, "subset", subset_size=3, seed=5)
    batch.loss(model).backward()
    assert torch.equal(of_numpy.mean_norms().means, plain.mean_norms().means)
    assert type(of_numpy.subset_size) is int


def test_a_sample_that_skips_a_layer_counts_as_zero_there(batch):
    torch.manual_seed(0)
    model = nn.ModuleList([nn.Linear(108, 5), nn.Linear(108, 5)]).double()
    images = batch.images.flatten(1)

    def means(reduction: str) -> list[float]:
        with PerSampleNorms(model, loss_reduction=reduction) as norms:
            share = 0.5 if reduction == "mean" else 1
            (F.cross_entropy(model[0](images[:6]), batch.labels[:6], reduction=reduction) * share).backward()
            both = model[0](images[6:]) + model[1](images[6:])
            (F.cross_entropy(both, batch.labels[6:], reduction=reduction) * share).backward()
            return norms.mean_norms().means.tolist()

    assert means("sum") == pytest.approx(means("mean"), rel=1e-12)
