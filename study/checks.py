"""Whether this machine can run a study: each check looks at one thing and says ok, warn or fail, with a remedy."""

from __future__ import annotations

import os
import re
import shutil
import socket
import sqlite3
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from study.errors import StudyError
from study.home import StudyHome
from study.spec import Spec
from study.text import counted, size

OK, WARN, FAIL = "ok", "warn", "fail"
PACKAGE: Final = "large-batch-study"
PINS: Final = Path(__file__).parents[1] / "constraints.txt"  # in a checkout; an installed package has none
_MIB, _GIB = 1 << 20, 1 << 30
_ANSWER_SECONDS = 5.0


@dataclass(frozen=True)
class Finding:
    """One line of the doctor's."""

    level: str  # OK, WARN or FAIL
    what: str
    text: str
    remedy: str = ""  # of a warning or a failure


def python_and_packages(pins: Path = PINS) -> Iterator[Finding]:
    """Python and the declared packages: present, new enough, and as pinned."""
    version = ".".join(map(str, sys.version_info[:3]))
    enough = sys.version_info >= (3, 11)
    yield Finding(OK if enough else FAIL, "python", version, "" if enough else "install Python 3.11 or newer")
    pinned = dict(re.findall(r"^([\w.-]+)==(\S+)$", pins.read_text(encoding="utf-8"), re.M)) if pins.is_file() else {}
    wanted = [line for line in metadata.requires(PACKAGE) or () if "extra ==" not in line]
    unlike, bad = [], 0
    for requirement in wanted:
        name, bounds = _parsed(requirement)
        try:
            found = metadata.version(name)
        except metadata.PackageNotFoundError:
            bad += 1
            yield Finding(FAIL, name, "is not installed", "pip install -e . -c constraints.txt")
            continue
        if not _within(found, bounds):
            bad += 1
            yield Finding(FAIL, name, f"{found}, but {bounds} is needed", f"pip install '{name}{bounds}'")
        elif name in pinned and pinned[name] != found:
            unlike.append(f"{name} {found} (pinned {pinned[name]})")
    if unlike:
        text = f"{', '.join(unlike)}: not the versions that were tested together"
        yield Finding(WARN, "packages", text, "pip install -e . -c constraints.txt")
    elif not bad:
        yield Finding(OK, "packages", f"all {len(wanted)} declared ones{', as pinned' if pinned else ''}")


def devices() -> Iterator[Finding]:
    """CPUs, what they can do, and GPUs that torch sees."""
    import torch

    cpus = len(os.sched_getaffinity(0))
    flags = _cpu_flags()
    bf16 = next((name for name in ("amx_bf16", "avx512_bf16") if name in flags), None)
    yield Finding(OK, "cpu", f"{cpus} to use, {f'bf16 in hardware ({bf16})' if bf16 else 'no bf16 in hardware'}")
    if not torch.cuda.is_available():
        yield Finding(OK, "gpu", "none that torch sees; trials train on CPUs")
        return
    for index in range(torch.cuda.device_count()):
        free, total = torch.cuda.mem_get_info(index)
        text = f"{index}: {torch.cuda.get_device_name(index)}, {size(free)} of {size(total)} free"
        busy = free < total / 2
        yield Finding(WARN if busy else OK, "gpu", text, "another process uses it; see nvidia-smi" if busy else "")


def memory() -> Iterator[Finding]:
    """Main memory that is free."""
    import psutil

    found = psutil.virtual_memory()
    level = FAIL if found.available < 1 * _GIB else WARN if found.available < 4 * _GIB else OK
    remedy = "end other programs, or run fewer trials at once with resources.max_concurrent" if level != OK else ""
    yield Finding(level, "memory", f"{size(found.available)} of {size(found.total)} free", remedy)


def home_folder(place: StudyHome) -> Iterator[Finding]:
    """Disk space and rights where the studies live; nothing is made."""
    from study.mounts import file_system, is_network

    folder = next(path for path in (place.root, *place.root.parents) if path.exists())
    if not (folder.is_dir() and os.access(folder, os.W_OK | os.X_OK)):
        yield Finding(FAIL, "home", f"{place.root} cannot be written", "choose another with --home or STUDY_HOME")
        return
    kind = file_system(folder)
    if is_network(kind):
        text = f"{place.root} lies on a network file system ({kind}), where sqlite's locks fail"
        yield Finding(WARN, "home", text, "use a local --home, or a server in MLFLOW_TRACKING_URI and search.storage")
    free = shutil.disk_usage(folder).free
    level = FAIL if free < 256 * _MIB else WARN if free < 5 * _GIB else OK
    text = f"{place.root}: {size(free)} free"
    yield Finding(level, "home", text, "free some, or choose another --home" if level != OK else "")


def data_sets(spec: Spec) -> Iterator[Finding]:
    """Whether the files of the study's data sets are there; nothing is downloaded."""
    from study.datasets import data_config
    from trainables.config import ConfigError
    from trainables.data.facts import data_facts, require_present

    for data in spec.data_sets:
        try:
            config = replace(data_config(data), download=False)
            require_present(config)
            found = data_facts(config)
        except ConfigError as error:
            yield Finding(FAIL, "data", str(error), "put the files there, or set data.root")
            continue
        test = f" and {found.test_items:,} to test" if found.test_items is not None else ""
        yield Finding(OK, "data", f"{data.name}: {found.items:,} images{test}, {found.classes} classes")


def mlflow_store(uri: str) -> Iterator[Finding]:
    """Whether the tracking store answers."""
    from study.console import without_password

    shown, parts = without_password(uri), urlsplit(uri)
    remedy = "start it, or mend MLFLOW_TRACKING_URI; a study runs all the same and tells it later"
    if parts.scheme == "sqlite":
        path = Path(uri.removeprefix("sqlite:///"))
        if not path.exists():
            yield Finding(OK, "mlflow", f"{shown}: will be made")
            return
        try:
            with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as database:
                database.execute("select count(*) from experiments")
        except sqlite3.Error as error:
            yield Finding(FAIL, "mlflow", f"{shown}: {error}", f"move {path} away, a new one is made")
            return
        yield Finding(OK, "mlflow", shown)
        return
    default = {"http": 80, "https": 443, "postgresql": 5432, "mysql": 3306, "mssql": 1433}
    port = parts.port or default.get(parts.scheme.partition("+")[0])
    if parts.hostname is None or port is None:
        yield Finding(WARN, "mlflow", f"{shown}: not a store that can be tried from here", "see that MLflow takes it")
        return
    try:
        socket.create_connection((parts.hostname, port), timeout=_ANSWER_SECONDS).close()
    except OSError as error:
        yield Finding(WARN, "mlflow", f"{shown}: {parts.hostname}:{port} does not answer ({error})", remedy)
        return
    yield Finding(OK, "mlflow", f"{shown}: {parts.hostname}:{port} answers")


def ray_cluster(spec: Spec, address: str | None) -> Iterator[Finding]:
    """Whether Ray starts (or answers at the address) and has what one trial of the study takes."""
    from study.sweep.capacity import capacity, need_of, require_possible
    from study.sweep.connect import cluster

    try:
        with cluster(address, spec=spec) as found:
            nodes = found.nodes()
            need = need_of(spec.resources, found.possible_nodes())
            require_possible(need, found.possible_nodes())
    except StudyError as error:
        yield Finding(FAIL, "ray", str(error))
        return
    cpus, gpus = (sum(node.resources.get(name, 0.0) for node in nodes) for name in ("CPU", "GPU"))
    where = f"{counted(len(nodes), 'node')}, {cpus:g} CPUs, {gpus:g} GPUs"
    yield Finding(OK, "ray", f"{where}: {counted(capacity(need, nodes), 'trial')} of {spec.name} at a time")


def run_checks(checks: Sequence[tuple[str, Callable[[], Iterator[Finding]]]]) -> Iterator[Finding]:
    """Every finding as it comes; a check that breaks is a failure of its own and ends nothing."""
    for what, check in checks:
        try:
            yield from check()
        except Exception as error:
            text = " ".join(str(error).split())[:300] or type(error).__name__
            yield Finding(FAIL, what, f"could not be looked at ({text})", "mend that first")


def _parsed(requirement: str) -> tuple[str, str]:
    """`ray[tune]<2.61,>=2.60` as its name and its bounds."""
    found = re.match(r"([\w.-]+)(?:\[[^\]]*\])?\s*([^;]*)", requirement)
    assert found is not None
    return found[1], found[2].strip()


def _within(version: str, bounds: str) -> bool:
    """Whether a version keeps bounds such as `>=2.60,<2.61`."""
    have = _numbers(version)
    for operator, bound in re.findall(r"(>=|<=|==|<|>)\s*([\w.]+)", bounds):
        want = _numbers(bound)
        width = max(len(have), len(want))
        left, right = have + (0,) * (width - len(have)), want + (0,) * (width - len(want))
        kept = {">=": left >= right, "<=": left <= right, "==": left == right, "<": left < right, ">": left > right}
        if not kept[operator]:
            return False
    return True


def _numbers(version: str) -> tuple[int, ...]:
    release = re.match(r"\d+(?:\.\d+)*", version)
    return tuple(int(part) for part in release[0].split(".")) if release else ()


def _cpu_flags() -> frozenset[str]:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return frozenset()
    line = re.search(r"^flags\s*:(.*)$", text, re.M)
    return frozenset(line[1].split()) if line else frozenset()
