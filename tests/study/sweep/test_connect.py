"""Addresses that cannot be meant are refused at once; what goes to the nodes is our packages and the user's modules."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from study.errors import StudyError
from study.load import load_study
from study.sweep.connect import require_usable
from study.sweep.packages import PACKAGES, python_modules


@pytest.mark.parametrize(
    ("address", "says"),
    [
        ("ray://127.0.0.1:10001", "ray job submit"),
        ("http://127.0.0.1:8265", "of Ray's dashboard"),
        ("nonsense", "must read host:port"),
        ("127.0.0.1:port", "must read host:port"),
        ("127.0.0.1:1", "no Ray cluster could be reached at 127.0.0.1:1"),
        ("127.0.0.1:70000", "no Ray cluster could be reached"),
        ("no-such-host.invalid:6379", "no Ray cluster could be reached"),
    ],
)
def test_a_bad_address_is_refused(address: str, says: str) -> None:
    with pytest.raises(StudyError, match=says):
        require_usable(address)


def test_auto_is_left_to_ray() -> None:
    require_usable("auto")


def test_our_packages_and_the_user_s_modules_go_along(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_package").mkdir()
    (tmp_path / "my_package" / "__init__.py").write_text("")
    (tmp_path / "my_package" / "models.py").write_text("def small(in_channels, classes, image_size): ...\n")
    (tmp_path / "my_module.py").write_text("def other(in_channels, classes, image_size): ...\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    names = ("my_package.models:small", "my_module:other", "torch.nn:Identity")
    spec = load_study("digits-warmup").model_copy(
        update={"model": [load_study("digits-warmup").models[0].model_copy(update={"name": name}) for name in names]}
    )
    found = python_modules(spec)
    assert [path.name for path in found] == [*PACKAGES, "my_module.py", "my_package"]
    assert all(path.exists() for path in found)
    assert "torch" not in {path.name for path in found}  # installed, and to be installed there too
    assert [path.name for path in python_modules(None)] == list(PACKAGES)
    assert not [name for name in sys.modules if name.startswith("my_")]  # looked for, not run


def test_what_the_user_s_modules_import_goes_along(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_model.py").write_text(
        "import torch, my_blocks, some_library\nfrom . import nothing\ndef small(): ...\n"
    )
    (tmp_path / "my_blocks").mkdir()
    (tmp_path / "my_blocks" / "__init__.py").write_text("from .residual import block\n")
    (tmp_path / "my_blocks" / "residual.py").write_text(
        "def block():\n    from my_layers.norms import norm\nimport no_such_module_anywhere, __main__, study.spec\n"
    )
    (tmp_path / "my_layers.py").write_text("import my_model, my_broken, json\n")  # round and round
    (tmp_path / "my_broken.py").write_text("def (\n")
    (tmp_path / "my_other.py").write_text("")  # nobody wants it
    elsewhere = tmp_path / ".local" / "lib" / "site-packages"  # pip install --user
    (elsewhere / "some_library").mkdir(parents=True)
    (elsewhere / "some_library" / "__init__.py").write_text("")
    for folder in (elsewhere, tmp_path):
        monkeypatch.syspath_prepend(str(folder))
    spec = load_study("digits-warmup")
    wanted = spec.model_copy(update={"model": spec.models[0].model_copy(update={"name": "my_model:small"})})
    found = [path.name for path in python_modules(wanted)]
    assert found == [*PACKAGES, "my_blocks", "my_broken.py", "my_layers.py", "my_model.py"]


def test_a_module_that_is_nowhere_is_named() -> None:
    spec = load_study("digits-warmup")
    lost = spec.model_copy(update={"model": spec.models[0].model_copy(update={"name": "no_such_module:model"})})
    with pytest.raises(StudyError, match="'no_such_module:model': Python finds no module 'no_such_module'"):
        python_modules(lost)
