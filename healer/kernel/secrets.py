"""Secrets come from files or the environment, are re-read when they change, and never printed."""

import hashlib
import hmac
from pathlib import Path


class Secret:
    """A secret value whose text shows nothing of it."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """The value itself; call this only where it goes on the wire."""
        return self._value

    def __repr__(self) -> str:
        return "Secret(***)"

    __str__ = __repr__


class SecretFile:
    """The first line of a file, read again whenever the file changes.

    Raises OSError when it cannot be read and ValueError when it is empty or larger than 64 KiB.
    """

    _LIMIT = 65536

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stamp: tuple[int, int, int] | None = None
        self._secret = Secret("")

    def read(self) -> Secret:
        """The current value."""
        status = self._path.stat()
        stamp = (status.st_ino, status.st_size, status.st_mtime_ns)
        if stamp != self._stamp:
            if status.st_size > self._LIMIT:
                raise ValueError(f"{self._path}: a secret file is at most {self._LIMIT} bytes")
            lines = self._path.read_text().strip().splitlines()
            if not lines:
                raise ValueError(f"{self._path}: the secret file is empty")
            self._secret = Secret(lines[0].strip())
            self._stamp = stamp
        return self._secret


def same(given: str, expected: Secret) -> bool:
    """Whether `given` is the secret, in a time that does not depend on where they differ."""
    left = hashlib.sha256(given.encode()).digest()
    right = hashlib.sha256(expected.reveal().encode()).digest()
    return hmac.compare_digest(left, right)
