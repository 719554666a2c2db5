"""What tests of several packages share: a small CIFAR-10 in the true on-disk format, scripts in two processes."""

from __future__ import annotations

import io
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

WriteCifar = Callable[..., Path]
# Files that run whole studies come first: begun last, one would keep a process busy long after the other's end.
LONG = (
    "test_kills",
    "_real",
    "test_papers_experiments",
    "test_end_to_end",
    "test_studies",
    "test_notebook",
    "test_own_parts",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(
        key=lambda item: next((rank for rank, end in enumerate(LONG) if item.path.stem.endswith(end)), len(LONG))
    )


class PythonTwoPickler(pickle._Pickler):  # type: ignore[name-defined]  # the Python twin of the C one
    """Writes what Python 2 wrote: one string type of bytes, and numpy's old module name."""

    dispatch: ClassVar[dict[Any, Any]] = dict(pickle._Pickler.dispatch)  # type: ignore[attr-defined]

    def save_bytes(self, value: bytes | str) -> None:
        raw = value.encode("latin1") if isinstance(value, str) else value
        self.write(b"T" + len(raw).to_bytes(4, "little") + raw)  # BINSTRING
        self.memoize(value)

    dispatch[str] = dispatch[bytes] = save_bytes


def as_python_two(value: object) -> bytes:
    stream = io.BytesIO()
    PythonTwoPickler(stream, protocol=2).dump(value)
    return stream.getvalue().replace(b"cnumpy._core.multiarray\n", b"cnumpy.core.multiarray\n")


@pytest.fixture(scope="session")
def python_two() -> Callable[[object], bytes]:
    """Pickle as Python 2 did."""
    return as_python_two


@pytest.fixture(scope="session")
def write_cifar10() -> WriteCifar:
    """Five training batches and one for the test, of `items` each; all classes in each batch of 10 or more."""

    def write(root: Path, items: int = 20, seed: int = 0) -> Path:
        folder = root / "cifar-10-batches-py"
        folder.mkdir(parents=True)
        generator = np.random.default_rng(seed)
        for name in (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"):
            batch = {
                "batch_label": f"batch {name}",
                "labels": (np.arange(items) % 10)[generator.permutation(items)].tolist(),
                "data": generator.integers(0, 256, (items, 3072), dtype=np.uint8),
                "filenames": [f"{index}.png" for index in range(items)],
            }
            (folder / name).write_bytes(as_python_two(batch))
        names = [f"class {label}" for label in range(10)]
        meta = {"num_cases_per_batch": items, "label_names": names, "num_vis": 3072}
        (folder / "batches.meta").write_bytes(as_python_two(meta))
        return folder

    return write


@pytest.fixture
def run_workers(tmp_path: Path) -> Callable[..., list[Any]]:
    """Run a test file as the script of two processes: what each of them, told its rank and a folder, saves there.

    `run_workers(__file__, *arguments, folder=tmp_path)`; each is to leave `<rank>.pt`.
    """

    def run(script: str, *arguments: str, folder: Path = tmp_path) -> list[Any]:
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1]), "OMP_NUM_THREADS": "1"}
        commands = [[sys.executable, script, str(rank), str(folder), *arguments] for rank in range(2)]
        processes = [subprocess.Popen(command, env=environment, stderr=subprocess.PIPE) for command in commands]
        try:
            errors = [process.communicate(timeout=120)[1].decode() for process in processes]
        finally:
            for process in processes:
                process.kill()
        assert [process.returncode for process in processes] == [0, 0], "\n".join(errors)
        return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(2)]

    return run
