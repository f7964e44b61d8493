"""A disk that is soon full."""

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def small_disk(folder: Path, mebibytes: int = 4) -> Iterator[Path]:
    """A file system of a few MiB at `folder`."""
    if os.geteuid() != 0:
        pytest.skip("mounting a small tmpfs needs root")
    folder.mkdir()
    libc = ctypes.CDLL(None, use_errno=True)
    size = f"size={mebibytes}m".encode()
    if libc.mount(b"tmpfs", os.fsencode(folder), b"tmpfs", 0, size) != 0:
        pytest.skip(f"mounting a small tmpfs: {os.strerror(ctypes.get_errno())}")
    try:
        yield folder
    finally:
        assert libc.umount(os.fsencode(folder)) == 0
