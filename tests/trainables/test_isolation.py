"""The fence around a trial."""

from __future__ import annotations

import random
from contextlib import nullcontext

import numpy as np
import pytest
import torch

from trainables.config import ConfigError
from trainables.isolation import derive_seed, generator, isolated, resolve_device

CPU = torch.device("cpu")


@pytest.mark.parametrize("fails", [False, True])
def test_everything_is_put_back(fails: bool) -> None:
    threads = torch.get_num_threads()
    torch.manual_seed(7)
    states = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()
    try:
        torch.set_num_threads(2)
        torch.set_default_dtype(torch.float64)
        ending = pytest.raises(RuntimeError, match="planted") if fails else nullcontext()
        with torch.inference_mode(), ending, isolated(CPU):
            assert torch.get_num_threads() == 1
            assert torch.get_default_dtype() == torch.float32
            assert torch.is_grad_enabled()
            assert not torch.is_inference_mode_enabled()
            torch.rand(3)
            torch.manual_seed(1)
            if fails:
                raise RuntimeError("planted")
        assert torch.get_num_threads() == 2
        assert torch.get_default_dtype() == torch.float64
        assert torch.equal(torch.get_rng_state(), states[0])
        assert random.getstate() == states[1]
        assert np.random.get_state()[1].tolist() == states[2]
    finally:
        torch.set_num_threads(threads)
        torch.set_default_dtype(torch.float32)


def test_streams_differ_and_repeat() -> None:
    seeds = {
        derive_seed(seed, purpose, epoch) for seed in (0, 1) for purpose in ("weights", "order") for epoch in range(3)
    }
    assert len(seeds) == 12
    assert torch.equal(torch.rand(3, generator=generator(1, "a", 2)), torch.rand(3, generator=generator(1, "a", 2)))


def test_devices() -> None:
    assert resolve_device("cpu") == CPU
    assert resolve_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    if not torch.cuda.is_available():
        with pytest.raises(ConfigError, match="torch sees no CUDA device"):
            resolve_device("cuda")
