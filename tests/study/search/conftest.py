"""A ledger in a real journal file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from study.plan import make_plan
from study.search.ledger import Ledger
from study.spec import Spec

OpenLedger = Callable[..., Ledger]


@pytest.fixture
def open_ledger(tmp_path: Path, make_spec: Callable[..., Spec]) -> OpenLedger:
    """Open the test's ledger, or open it again as the next session does; keywords as for `make_spec`."""

    def open_(file: str = "optuna.log", **changes: object) -> Ledger:
        spec = make_spec(**changes)
        return Ledger(tmp_path / file, make_plan(spec), spec.search)

    return open_
