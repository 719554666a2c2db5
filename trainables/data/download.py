"""Fetching what can be fetched, by torchvision's downloader."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from trainables.config import ConfigError
from trainables.data.cifar import HOME_PAGE, Archive


def download_cifar(archive: Archive, root: Path) -> None:
    """Put the files that are missing into the archive's folder in `root`, each whole or not at all.

    Raises ConfigError where it cannot be fetched or written.
    """
    from torchvision import datasets

    try:
        root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".download-", dir=root) as place:
            getattr(datasets, archive.downloader)(place, download=True)
            (root / archive.folder).mkdir(exist_ok=True)
            for file in archive.files:
                target = root / archive.folder / file
                if not target.exists():
                    os.replace(Path(place) / archive.folder / file, target)
    except (OSError, RuntimeError) as error:  # URLError is an OSError
        raise ConfigError(
            f"{archive.packed} could not be downloaded to {root} ({error}); get it from {HOME_PAGE} and put it there"
        ) from None
