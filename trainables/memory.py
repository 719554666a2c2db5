"""Errors that mean that memory is full, on a GPU or on the host, and what to do about it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

# Torch has a class of its own only for its allocator on a GPU; the one on the CPU, the libraries beside it and the
# driver say it in words.
_WORDS = ("can't allocate memory", "ALLOC_FAILED", "out of memory")


class MemoryAdviceError(RuntimeError):
    """A device or the host has too little memory for a trial; the message says what to change."""


def is_memory_error(error: BaseException) -> bool:
    """Whether an error says that memory is full, and not yet what to do about it."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    advised = isinstance(error, MemoryAdviceError)
    return isinstance(error, RuntimeError) and not advised and any(words in str(error) for words in _WORDS)


@contextmanager
def memory_advice(what: str, where: torch.device, advice: str) -> Iterator[None]:
    """Say it in one sentence where memory runs full inside: what does not fit into which device's, and what to do.

    Raises MemoryAdviceError, once: what was advised inside goes through.
    """
    try:
        yield
    except Exception as error:
        if not is_memory_error(error):
            raise
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise MemoryAdviceError(
            f"{what} does not fit into the memory of the {where.type} device ({reason}): {advice}"
        ) from error
