"""Where trials keep their checkpoints: the study's home, a shared folder, or a URL that pyarrow or fsspec can open."""

from __future__ import annotations

import contextlib
import os
import posixpath
import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from study.errors import StudyError
from study.home import StudyHome
from trainables.group import CheckpointFolder

if TYPE_CHECKING:
    from pyarrow.fs import FileSystem

PATTERN = "*.pt"


@dataclass(frozen=True)
class SharedFolder:
    """A folder that every node sees, used as it is."""

    path: str

    def open(self) -> Path:
        return Path(self.path)

    def saved(self) -> None:
        """Nothing: it is where it belongs."""

    def close(self) -> None:
        """Nothing: there is no copy."""


@dataclass
class Mirror:
    """A URL, fetched into a local folder before training and sent what is new after each epoch."""

    url: str
    _local: Path | None = None
    _sent: set[str] = field(default_factory=set)

    def open(self) -> Path:
        self._local = Path(tempfile.mkdtemp(prefix="checkpoints-"))
        filesystem, root = open_url(self.url)
        for name in _names(filesystem, root):
            with filesystem.open_input_stream(posixpath.join(root, name)) as source:
                (self._local / name).write_bytes(source.read())
            self._sent.add(name)
        return self._local

    def saved(self) -> None:
        assert self._local is not None  # `open` comes first
        here = {path.name for path in self._local.glob(PATTERN)}
        if here == self._sent:
            return
        filesystem, root = open_url(self.url)
        filesystem.create_dir(root, recursive=True)
        # The new one first: there is a whole checkpoint at every moment. A torn upload is known by its name's hash.
        for name in sorted(here - self._sent):
            content = (self._local / name).read_bytes()
            with filesystem.open_output_stream(posixpath.join(root, name)) as sink:
                sink.write(content)
        for name in sorted(self._sent - here):
            filesystem.delete_file(posixpath.join(root, name))
        self._sent = here

    def close(self) -> None:
        if self._local is not None:
            shutil.rmtree(self._local, ignore_errors=True)


@dataclass(frozen=True)
class Storage:
    """Where one study's trials keep their checkpoints.

    Args:
        home: the study's home, used where no storage is given.
        given: a folder that every node sees, or a URL.
        study_id: keeps studies of one name and several homes apart.
    """

    home: StudyHome
    given: str | None
    study_id: str

    @property
    def root(self) -> str:
        """The folder or URL of the whole study."""
        if self.given is None:
            return str(self.home.folder / "trials")
        place = self.given if is_url(self.given) else str(Path(self.given).expanduser().absolute())
        return below(place, f"{self.home.name}-{self.study_id[:8]}")

    def of_trial(self, folder: str) -> str:
        """Folder or URL of a trial's checkpoints."""
        return below(self.root, folder, "checkpoints")

    def drop(self, folder: str) -> None:
        """A trial has ended for good: nobody needs its checkpoints any more."""
        with contextlib.suppress(Exception):  # better left lying than a study ended
            # In the study's home a trial's folder holds its reports too; elsewhere there are checkpoints only.
            drop(self.of_trial(folder) if self.given is None else below(self.root, folder))

    def close(self) -> None:
        """Take away what is empty."""
        with contextlib.suppress(Exception):
            if self.given is not None:
                drop(self.root, only_if_empty=True)


def storage_of(home: StudyHome, given: str | None, facts: dict[str, Any]) -> Storage:
    """The study's storage: as it was begun, and else as given, which is entered into `facts`.

    Raises:
        StudyError: the study was begun with another one.
    """
    if given is not None and not is_url(given):
        given = str(Path(given).expanduser().absolute())
    begun = facts.setdefault("storage", given)
    if given is not None and given != begun:
        lie = f"--storage {begun}" if begun else "its checkpoints in its home"
        raise StudyError(
            f"the study '{home.name}' was begun with {lie}, where they lie; leave out --storage {given}, or begin "
            "another study with name=..."
        )
    return Storage(home, begun, facts["id"])


def is_url(place: str) -> bool:
    return "://" in place


def below(place: str, *names: str) -> str:
    """What lies in a folder or under a URL, whose options (`s3://bucket/folder?region=...`) stay at its end."""
    path, mark, options = place.partition("?") if is_url(place) else (place, "", "")
    return "/".join((path.rstrip("/"), *names)) + mark + options


def checkpoint_folder(place: str) -> CheckpointFolder:
    """What to hand to those who train there."""
    return Mirror(place) if is_url(place) else SharedFolder(place)


def drop(place: str, *, only_if_empty: bool = False) -> None:
    """Remove a folder or what lies below a URL, if it is there."""
    if not is_url(place):
        path = Path(place)
        if not only_if_empty or not any(item.is_file() for item in path.rglob("*")):
            shutil.rmtree(path, ignore_errors=True)
        return
    filesystem, root = open_url(place)
    if not only_if_empty or not _names(filesystem, root, recursive=True):
        try:
            filesystem.delete_dir(root)
        except FileNotFoundError:
            return


def open_url(url: str) -> tuple[FileSystem, str]:
    """pyarrow's file system for the URL, else fsspec's, and the path in it.

    Raises:
        StudyError: neither can, and why.
    """
    from pyarrow import ArrowException
    from pyarrow.fs import FileSystem, FSSpecHandler, PyFileSystem

    try:
        found: tuple[FileSystem, str] = FileSystem.from_uri(url)
        return found
    except (ArrowException, ValueError, OSError) as error:
        first = in_short(error)
    try:
        import fsspec

        filesystem, path = fsspec.core.url_to_fs(url)
    except (ImportError, ValueError, OSError) as error:
        raise StudyError(f"neither pyarrow ({first}) nor fsspec ({in_short(error)}) can open it") from None
    return PyFileSystem(FSSpecHandler(filesystem)), path


def in_short(error: Exception) -> str:
    """What a file system says went wrong, in one line."""
    if isinstance(error, OSError) and error.errno:
        return os.strerror(error.errno)
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")


def _names(filesystem: FileSystem, root: str, *, recursive: bool = False) -> list[str]:
    from pyarrow.fs import FileSelector, FileType

    selector: Any = FileSelector(root, allow_not_found=True, recursive=recursive)
    return [item.base_name for item in filesystem.get_file_info(selector) if item.type == FileType.File]
