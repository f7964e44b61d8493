"""Nothing is broken where nobody allowed it: the real command against a server that takes notes."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from chaos.errors import Refused
from chaos.kube import Kube
from chaos.scope import require_namespace, require_node
from tests.demo.stack import ROOT

ALLOWED = {"healer.dev/chaos": "allowed"}


class Server:
    """Answers as an API server with a few objects would, and notes every request."""

    def __init__(self) -> None:
        self.objects: dict[str, dict[str, Any]] = {}
        self.seen: list[tuple[str, str]] = []
        server = self

        class Handler(BaseHTTPRequestHandler):
            def _answer(self) -> None:
                server.seen.append((self.command, self.path))
                found = server.objects.get(self.path)
                self.send_response(200 if found is not None else 404)
                self.end_headers()
                self.wfile.write(json.dumps(found or {"message": "not found"}).encode())

            def do_GET(self) -> None:
                self._answer()

            def do_POST(self) -> None:
                self._answer()

            def do_PATCH(self) -> None:
                self._answer()

            def do_DELETE(self) -> None:
                self._answer()

            def log_message(self, format: str, *args: object) -> None:
                """Stay quiet."""

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}"
        self._thread = threading.Thread(target=self._http.serve_forever)
        self._thread.start()

    def put(self, path: str, name: str, labels: dict[str, str]) -> None:
        """Have an object."""
        self.objects[path] = {"metadata": {"name": name, "labels": labels}}

    def stop(self) -> None:
        """Close the port."""
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()


@pytest.fixture
def server() -> Iterator[Server]:
    it = Server()
    yield it
    it.stop()


@pytest.fixture
def kubeconfig(server: Server, tmp_path: Path) -> Path:
    path = tmp_path / "kubeconfig"
    content = {
        "apiVersion": "v1", "kind": "Config", "current-context": "production",
        "clusters": [{"name": "c", "cluster": {"server": server.url}}],
        "users": [{"name": "u", "user": {"token": "nothing"}}],
        "contexts": [
            {"name": name, "context": {"cluster": "c", "user": "u"}}
            for name in ("staging", "production")
        ],
    }  # fmt: skip
    path.write_text(yaml.safe_dump(content))
    return path


@pytest.fixture
def site(server: Server, kubeconfig: Path, tmp_path: Path) -> Path:
    path = tmp_path / "site.yaml"
    path.write_text(
        yaml.safe_dump(
            {
                "namespace": "shop",
                "kubeconfig": str(kubeconfig),
                "prometheus": server.url,
                "healer": {"url": server.url},
            }
        )
    )
    return path


def chaos(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command as somebody types it."""
    return subprocess.run(
        [sys.executable, "-m", "chaos", "run", *arguments],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip


def test_a_namespace_without_the_label_is_refused_and_left_alone(
    server: Server, site: Path, tmp_path: Path
) -> None:
    """The command ends with 2, says how to allow it, and has only read."""
    server.put("/api/v1/namespaces/shop", "shop", {"healer.dev/chaos": "maybe"})
    report = tmp_path / "report"
    done = chaos("--context", "staging", "--site", str(site), "--report", str(report))
    assert done.returncode == 2
    assert "refused: namespace 'shop' is not labelled for experiments" in done.stderr
    assert "kubectl label namespace shop healer.dev/chaos=allowed" in done.stderr
    assert server.seen == [("GET", "/api/v1/namespaces/shop")]
    assert not report.exists()


def test_a_namespace_that_is_not_there_is_refused(site: Path) -> None:
    """It is not made by us, because whoever makes it is who may allow it."""
    done = chaos("--context", "staging", "--site", str(site))
    assert done.returncode == 2
    assert "namespace 'shop' does not exist" in done.stderr


def test_the_current_context_is_never_taken(server: Server, site: Path) -> None:
    """Without --context nothing is asked of anybody, though the kubeconfig has a current one."""
    done = chaos("--site", str(site))
    assert done.returncode == 2
    assert "--context" in done.stderr
    assert server.seen == []


def test_an_unknown_context_is_an_error(server: Server, site: Path) -> None:
    """A context that the kubeconfig lacks is named in the error."""
    done = chaos("--context", "stagin", "--site", str(site))
    assert done.returncode == 2
    assert "'stagin'" in done.stderr
    assert server.seen == []


def test_without_a_site_file_it_says_what_to_write(tmp_path: Path) -> None:
    """A missing site file is one line that leads to the page about it."""
    done = chaos("--context", "staging", "--site", str(tmp_path / "none.yaml"))
    assert done.returncode == 2
    assert "docs/chaos.md" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_site_file_with_an_unknown_key_is_an_error(site: Path) -> None:
    """A slip of the pen in the site file is named, not ignored."""
    site.write_text(site.read_text() + "hooks: {freeze_nod: [x]}\n")
    done = chaos("--context", "staging", "--site", str(site))
    assert done.returncode == 2
    assert "freeze_nod" in done.stderr


def test_what_carries_the_label_is_allowed(server: Server, kubeconfig: Path) -> None:
    """A namespace and a node with the label pass, a node without it is refused."""
    kube = Kube(kubeconfig, "staging")
    server.put("/api/v1/namespaces/shop", "shop", ALLOWED)
    server.put("/api/v1/nodes/one", "one", ALLOWED)
    server.put("/api/v1/nodes/two", "two", {})
    require_namespace(kube, "shop")
    require_node(kube, "one")
    with pytest.raises(Refused, match="node 'two' is not labelled"):
        require_node(kube, "two")
