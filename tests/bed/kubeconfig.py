"""Kubeconfig files: written with everything embedded, so that one can be copied anywhere."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import yaml

from tests.bed.certificates import Authority


def write_kubeconfig(path: Path, server: str, authority: Authority, client: str) -> Path:
    """Write a kubeconfig that speaks to `server` as the holder of that client certificate."""

    def embedded(file: Path) -> str:
        return base64.b64encode(file.read_bytes()).decode()

    cluster = {
        "server": server,
        "certificate-authority-data": embedded(authority.certificate("ca")),
    }
    user = {
        "client-certificate-data": embedded(authority.certificate(client)),
        "client-key-data": embedded(authority.key(client)),
    }
    return write_yaml(
        path,
        {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "bed", "cluster": cluster}],
            "users": [{"name": client, "user": user}],
            "contexts": [{"name": "bed", "context": {"cluster": "bed", "user": client}}],
            "current-context": "bed",
        },
    )


def write_yaml(path: Path, content: Any) -> Path:
    """Write a YAML file that only its owner reads, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    whole = path.with_name(f".{path.name}.new")
    whole.write_text(yaml.safe_dump(content, sort_keys=False, width=1000))
    whole.chmod(0o600)
    whole.rename(path)
    return path
