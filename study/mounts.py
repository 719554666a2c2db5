"""On which file system a path lies, from the system's table of mounts."""

from __future__ import annotations

import re
from pathlib import Path

from study.errors import StudyError

MOUNTS = Path("/proc/mounts")
# Locks of sqlite do not hold on these, or hold badly: two writers can corrupt the file.
NETWORK_TYPES = frozenset(
    {"nfs", "nfs4", "cifs", "smb", "smb3", "smbfs", "afs", "ncpfs", "9p", "lustre", "gpfs", "beegfs", "ceph"}
    | {"glusterfs", "pvfs2", "orangefs", "panfs", "wekafs"}
)
_NETWORK_FUSE = ("sshfs", "glusterfs", "ceph", "s3fs", "gcsfuse", "goofys", "rclone", "juicefs", "blobfuse", "davfs")


def file_system(path: Path, table: str | None = None) -> str:
    """The type of file system that a path (there already or not) lies on; "" where the table does not say.

    Args:
        path: any path.
        table: lines as in /proc/mounts; read from there where it is not given.
    """
    if table is None:
        try:
            table = MOUNTS.read_text(encoding="utf-8", errors="replace")
        except OSError:
            return ""
    place = path.absolute().resolve()
    best: tuple[int, str] = (0, "")
    for line in table.splitlines():
        fields = line.split()
        if len(fields) < 3:
            continue
        mount = Path(re.sub(r"\\([0-7]{3})", lambda code: chr(int(code[1], 8)), fields[1]))
        if place.is_relative_to(mount) and len(mount.parts) >= best[0]:  # of equals the later lies on top
            best = (len(mount.parts), fields[2])
    return best[1]


def is_network(kind: str) -> bool:
    """Whether files of this type lie on another machine."""
    return kind in NETWORK_TYPES or (kind.startswith("fuse.") and kind[5:].startswith(_NETWORK_FUSE))


def refuse_sqlite_on_network(path: Path, what: str, remedy: str, table: str | None = None) -> None:
    """Refuse a sqlite file on a network file system.

    Raises:
        StudyError: with the path, the file system's type and the remedy.
    """
    kind = file_system(path, table)
    if is_network(kind):
        raise StudyError(f"{what}: {path} lies on a network file system ({kind}), where sqlite's locks fail; {remedy}")
