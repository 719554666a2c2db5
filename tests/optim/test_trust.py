import pytest
import torch

from optim import trust


def test_only_tensors_with_several_dimensions_are_adapted():
    shapes = [(), (3,), (1, 1), (2, 3), (2, 3, 4), (1, 2, 3, 3)]
    assert [trust.is_adapted(torch.zeros(shape)) for shape in shapes] == [
        False,
        False,
        True,
        True,
        True,
        True,
    ]


def test_ratio_and_its_exceptions():
    weights = torch.tensor([6.0, 0.0, 6.0, 0.0, float("inf")])
    directions = torch.tensor([3.0, 3.0, 0.0, 0.0, 3.0])
    ratio = trust.trust_ratio(weights, directions, 0.5)
    assert ratio.tolist() == [1.0, 1.0, 1.0, 1.0, float("inf")]
    assert trust.trust_ratio(torch.tensor([6.0]), torch.tensor([3.0]), 0.25).tolist() == [0.5]


@pytest.mark.parametrize(
    ("dtype", "state"),
    [
        (torch.float64, torch.float64),
        (torch.float32, torch.float32),
        (torch.bfloat16, torch.float32),
        (torch.float16, torch.float32),
    ],
)
def test_state_has_at_least_32_bits(dtype, state):
    assert trust.state_dtype(torch.zeros(2, dtype=dtype)) is state


def test_buckets_split_by_dtype_and_kind_and_skip_missing_gradients():
    shapes = [
        ((2, 2), torch.float32),
        ((2,), torch.float32),
        ((2, 2), torch.float64),
        ((3, 3), torch.float32),
    ]
    params = [torch.zeros(shape, dtype=dtype) for shape, dtype in shapes]
    for param in params:
        param.grad = torch.ones_like(param)
    idle = torch.zeros(2, 2)
    states = {param: {} for param in [*params, idle]}
    found = trust.buckets([*params, idle], states, ("momentum_buffer",))
    assert [[p.shape for p in bucket.params] for bucket in found] == [
        [torch.Size([2, 2]), torch.Size([3, 3])],
        [torch.Size([2])],
        [torch.Size([2, 2])],
    ]
    assert [bucket.adapted for bucket in found] == [True, False, True]
    assert states[idle] == {}
