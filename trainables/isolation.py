"""Seeds and the fence around a trial: nothing leaks into the process or out of it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from trainables.config import ConfigError


def derive_seed(seed: int, purpose: str, epoch: int = 0) -> int:
    """An own random stream for each purpose and epoch, so that none depends on what others drew."""
    digest = hashlib.sha256(f"{seed}/{purpose}/{epoch}".encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1


def generator(seed: int, purpose: str, epoch: int = 0) -> torch.Generator:
    """A CPU generator on the stream of `purpose` and `epoch`."""
    return torch.Generator().manual_seed(derive_seed(seed, purpose, epoch))


def resolve_device(name: str) -> torch.device:
    """`auto` is a CUDA device where there is one. Raises ConfigError for `cuda` without one."""
    available = torch.cuda.is_available() if name != "cpu" else False
    if name == "cuda" and not available:
        raise ConfigError("device is cuda, but torch sees no CUDA device: use cpu or auto")
    return torch.device("cuda" if available else "cpu")


def device_name(device: torch.device) -> str:
    """What a device is called: a GPU by its model, the CPU as cpu."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"


@contextmanager
def isolated(device: torch.device) -> Iterator[None]:
    """Torch's global state as a fresh process has it, put back afterwards whatever happens.

    On the CPU one thread: parallel trials beat threads inside a trial, and sums do not depend on the thread
    count. Only torch's random state is handled. The loop draws from no other, and those of Python and numpy
    are shared with other threads of the process, which must not see them jump.
    """
    threads = torch.get_num_threads()
    dtype = torch.get_default_dtype()
    cuda = [torch.cuda.current_device()] if device.type == "cuda" else []
    with (
        torch.random.fork_rng(devices=cuda),
        torch.inference_mode(False),
        torch.enable_grad(),
    ):
        try:
            torch.set_default_dtype(torch.float32)
            if device.type == "cpu":
                torch.set_num_threads(1)
            yield
        finally:
            torch.set_num_threads(threads)
            torch.set_default_dtype(dtype)
