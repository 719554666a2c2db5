"""File systems from a made-up table of mounts."""

from __future__ import annotations

from pathlib import Path

import pytest

from study.errors import StudyError
from study.mounts import file_system, is_network, refuse_sqlite_on_network

TABLE = r"""
/dev/sda1 / ext4 rw,relatime 0 0
proc /proc proc rw 0 0
server:/home /home nfs4 rw,vers=4.2 0 0
/dev/sdb1 /home/local xfs rw 0 0
//nas/share /mnt/with\040space cifs rw 0 0
me@host:/ /mnt/ssh fuse.sshfs rw 0 0
lustre@tcp:/scratch /scratch lustre rw 0 0
tmpfs /scratch/node tmpfs rw 0 0
below /mnt/both ext4 rw 0 0
above:/x /mnt/both nfs rw 0 0
"""


@pytest.mark.parametrize(
    ("path", "kind", "network"),
    [
        ("/srv/studies", "ext4", False),
        ("/home/me/studies/not-there-yet", "nfs4", True),
        ("/home", "nfs4", True),
        ("/home/local/studies", "xfs", False),
        ("/homework", "ext4", False),
        ("/mnt/with space/studies", "cifs", True),
        ("/mnt/ssh/x", "fuse.sshfs", True),
        ("/scratch/me", "lustre", True),
        ("/scratch/node/me", "tmpfs", False),
        ("/mnt/both/x", "nfs", True),  # of two on one place the later lies on top
    ],
)
def test_the_mount_that_a_path_lies_on(path: str, kind: str, network: bool) -> None:
    assert file_system(Path(path), TABLE) == kind
    assert is_network(kind) == network


def test_the_refusal_names_path_type_and_remedy() -> None:
    with pytest.raises(StudyError) as raised:
        refuse_sqlite_on_network(Path("/home/me/o.db"), "search.storage=sqlite", "use a journal", TABLE)
    assert str(raised.value) == (
        "search.storage=sqlite: /home/me/o.db lies on a network file system (nfs4), where sqlite's locks fail; "
        "use a journal"
    )
    refuse_sqlite_on_network(Path("/home/local/o.db"), "search.storage=sqlite", "use a journal", TABLE)


def test_a_table_that_says_nothing_refuses_nothing(tmp_path: Path) -> None:
    assert file_system(tmp_path, "") == ""
    refuse_sqlite_on_network(tmp_path, "x", "y", "garbage\n\n")


def test_this_machines_own_table(tmp_path: Path) -> None:
    assert file_system(tmp_path)
