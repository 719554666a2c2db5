import numpy as np
import pytest
import torch

from optim.lists import descend, host_norms, list_directions, norms, scale_list


@pytest.mark.parametrize("measure", [norms, host_norms])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_norms_of_each_tensor(measure, dtype):
    shapes = [(3,), (), (1,), (500,), (2, 3)]
    tensors = [torch.randn(shape, generator=torch.Generator().manual_seed(len(shape))).to(dtype) for shape in shapes]
    found = measure(tensors, torch.float32)
    expected = [np.linalg.norm(tensor.double().numpy()) for tensor in tensors]
    assert found.dtype is torch.float32
    assert found.tolist() == pytest.approx(expected, rel=1e-6)
    assert measure([torch.zeros(0), torch.ones(4)], torch.float32).tolist() == [0.0, 2.0]


def test_directions_leave_gradients_alone_and_steps_reach_the_parameters():
    params, grads = [torch.tensor([2.0, 4.0]), torch.tensor([6.0])], [torch.tensor([1.0, -1.0]), torch.tensor([3.0])]
    assert [d.tolist() for d in list_directions(params, grads, torch.float32, 0.5, False)] == [[2.0, 1.0], [6.0]]
    assert [d.tolist() for d in list_directions(params, grads, torch.float32, 0.5, True)] == [[0.0, 3.0], [0.0]]
    assert [g.tolist() for g in grads] == [[1.0, -1.0], [3.0]]
    assert [s.tolist() for s in scale_list(grads, torch.tensor([2.0, 3.0]))] == [[2.0, -2.0], [9.0]]
    assert [s.tolist() for s in scale_list(grads, torch.tensor(2.0))] == [[2.0, -2.0], [6.0]]
    for lr in (0.5, torch.tensor(0.5, dtype=torch.float64)):
        moved = [param.clone() for param in params]
        descend(moved, grads, lr)
        assert [m.tolist() for m in moved] == [[1.5, 4.5], [4.5]]
