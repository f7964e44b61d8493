"""OCI image archives, written without a registry, a daemon or root."""

from __future__ import annotations

import hashlib
import io
import json
import platform
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.bed.builds import app, binary, limited, pause
from tests.bed.cache import Artefact

UID = 65532
FOLDERS = ("dev", "etc", "home", "proc", "run", "sys", "tmp", "var")
ACCOUNTS = f"root:x:0:0:root:/root:/none\nnonroot:x:{UID}:{UID}:nonroot:/home:/none\n"
GROUPS = f"root:x:0:\nnonroot:x:{UID}:\n"
MEDIA = "application/vnd.oci.image."


@dataclass(frozen=True)
class Image:
    """What an image runs: `reference` must have a tag, and `localhost/` pulls nothing."""

    reference: str
    entrypoint: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)
    workdir: str = "/"
    user: str = f"{UID}:{UID}"


class Layer:
    """A root file system being put together, written straight to disk."""

    def __init__(self, path: Path, *, lowest: bool = True) -> None:
        self._path = path
        self._tar = tarfile.open(path, "w", format=tarfile.PAX_FORMAT)  # noqa: SIM115
        self._seen: set[str] = set()
        if lowest:
            self._foundation()

    def _foundation(self) -> None:
        for name in FOLDERS:
            self._folder(name, 0o1777 if name == "tmp" else 0o755)
        self.text("etc/passwd", ACCOUNTS)
        self.text("etc/group", GROUPS)
        # Names are looked up in files, then in DNS; without this file some libraries guess.
        self.text("etc/nsswitch.conf", "hosts: files dns\n")

    def text(self, name: str, content: str) -> None:
        """Add a small file."""
        self.data(name, content.encode(), 0o644)

    def data(self, name: str, content: bytes, mode: int) -> None:
        """Add a file with that content."""
        if self._known(name):
            return
        entry = self._entry(name, mode)
        entry.size = len(content)
        self._tar.addfile(entry, io.BytesIO(content))

    def file(self, source: Path, name: str) -> None:
        """Add a copy of a file, or of the link it is."""
        if source.is_symlink():
            self.link(name, str(source.readlink()))
            return
        if self._known(name):
            return
        status = source.stat()
        # Everybody may read it, since no file in the image belongs to who runs it.
        entry = self._entry(name, 0o755 if status.st_mode & 0o111 else 0o644)
        entry.size = status.st_size
        # Python takes a compiled file only when its source has the time it was made from.
        entry.mtime = int(status.st_mtime)
        with source.open("rb") as content:
            self._tar.addfile(entry, content)

    def link(self, name: str, target: str) -> None:
        """Add a symbolic link."""
        if not self._known(name):
            entry = self._entry(name, 0o777)
            entry.type, entry.linkname = tarfile.SYMTYPE, target
            self._tar.addfile(entry)

    def tree(self, source: Path, name: str, skip: Sequence[str] = ()) -> None:
        """Add a folder and all below it, without whatever is called as in `skip`."""
        for path in sorted(source.iterdir()):
            if path.name in skip:
                continue
            inner = f"{name}/{path.name}"
            if path.is_dir() and not path.is_symlink():
                self.tree(path, inner, skip)
            elif path.is_file() or path.is_symlink():
                self.file(path, inner)

    def close(self) -> Path:
        """Finish the layer and return its path."""
        self._tar.close()
        return self._path

    def _known(self, name: str) -> bool:
        name = name.strip("/")
        if name in self._seen:
            return True
        parent = name.rpartition("/")[0]
        if parent and parent not in self._seen:
            self._folder(parent, 0o755)
        self._seen.add(name)
        return False

    def _folder(self, name: str, mode: int) -> None:
        if not self._known(name):
            entry = self._entry(name, mode)
            entry.type = tarfile.DIRTYPE
            self._tar.addfile(entry)

    def _entry(self, name: str, mode: int) -> tarfile.TarInfo:
        entry = tarfile.TarInfo(name.strip("/"))
        entry.mode = mode
        return entry


def write_archive(image: Image, layers: Sequence[Path], out: Path) -> Path:
    """Write the OCI archive of an image of those (uncompressed) layers, lowest first."""
    digests = {path: _digest(path) for path in layers}
    config = {
        "architecture": {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), "amd64"),
        "os": "linux",
        "config": {
            "Entrypoint": list(image.entrypoint),
            "Env": [f"{name}={value}" for name, value in image.environment.items()],
            "User": image.user,
            "WorkingDir": image.workdir,
        },
        "rootfs": {
            "type": "layers",
            "diff_ids": [f"sha256:{digest}" for digest in digests.values()],
        },
    }
    blobs: dict[str, bytes] = {}

    def blob(content: object, kind: str) -> dict[str, object]:
        data = json.dumps(content, sort_keys=True).encode()
        name = hashlib.sha256(data).hexdigest()
        blobs[name] = data
        return {"mediaType": MEDIA + kind, "digest": f"sha256:{name}", "size": len(data)}

    manifest = {
        "schemaVersion": 2,
        "mediaType": MEDIA + "manifest.v1+json",
        "config": blob(config, "config.v1+json"),
        "layers": [
            {
                "mediaType": MEDIA + "layer.v1.tar",
                "digest": f"sha256:{digest}",
                "size": path.stat().st_size,
            }
            for path, digest in digests.items()
        ],
    }
    entry = blob(manifest, "manifest.v1+json")
    entry["annotations"] = {
        "io.containerd.image.name": image.reference,
        "org.opencontainers.image.ref.name": image.reference.rsplit(":", 1)[1],
    }
    whole = out.with_name(f".{out.name}.new")
    with tarfile.open(whole, "w") as tar:
        _add(tar, "oci-layout", b'{"imageLayoutVersion":"1.0.0"}')
        index = json.dumps({"schemaVersion": 2, "manifests": [entry]})
        _add(tar, "index.json", index.encode())
        for name, data in blobs.items():
            _add(tar, f"blobs/sha256/{name}", data)
        for path, digest in digests.items():
            tar.add(path, f"blobs/sha256/{digest}")
    whole.rename(out)
    return out


def binary_image(reference: str, program: Path, out: Path) -> Path:
    """The archive of an image that holds one static program, at /app."""
    layer = Layer(out.with_name(f".{out.name}.layer"))
    layer.file(program, "app")
    path = layer.close()
    try:
        return write_archive(Image(reference, ["/app"]), [path], out)
    finally:
        path.unlink()


def pause_archive() -> Path:
    """The archive of the image every pod's sandbox runs: localhost/pause:1."""
    return _binary_archive("pause", pause())


def app_archive() -> Path:
    """The archive of the service to break: localhost/app:1."""
    return _binary_archive("app", app())


def limited_archive() -> Path:
    """The archive of the service of known capacity: localhost/limited:1."""
    return _binary_archive("limited", limited())


def _binary_archive(name: str, program: Artefact) -> Path:
    def make(folder: Path) -> None:
        binary_image(f"localhost/{name}:1", binary(name), folder / "image.tar")

    recipe = program.recipe + Path(__file__).read_text()
    return Artefact(f"image-{name}", program.version, recipe, make).path() / "image.tar"


def _digest(path: Path) -> str:
    with path.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(data)
    tar.addfile(entry, io.BytesIO(data))
