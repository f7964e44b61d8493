"""The service that victims run where no image with the same routes is at hand: stdlib only.

/ready, /hang (answers nobody from then on), /poison (spoils the scratch state and dies of it, and
so does every container after it), /leak?mb=N (keeps N MiB), /metrics. BAD=unready: never ready.
"""

import http.server
import os
import pathlib
import threading
import urllib.parse

POISON = pathlib.Path(os.environ.get("SCRATCH", "/scratch")) / "poison"
HUNG = threading.Event()
NEVER = threading.Event()
HOARD: list[bytearray] = []


class Handler(http.server.BaseHTTPRequestHandler):
    """One request."""

    def do_GET(self) -> None:
        """Answer, hang or die."""
        if HUNG.is_set():
            NEVER.wait()
        url = urllib.parse.urlsplit(self.path)
        status, text = 200, "ok\n"
        if url.path == "/ready":
            status = 503 if os.environ.get("BAD") == "unready" else 200
        elif url.path == "/hang":
            HUNG.set()
        elif url.path == "/poison":
            POISON.write_text("poison\n")
            os._exit(3)
        elif url.path == "/leak":
            size = int(urllib.parse.parse_qs(url.query).get("mb", ["1"])[0])
            HOARD.extend(bytearray(b"\x01" * (1 << 20)) for _ in range(size))
        elif url.path == "/metrics":
            text = f"# TYPE app_leaked_bytes gauge\napp_leaked_bytes {len(HOARD) << 20}\n"
        self.send_response(status)
        self.send_header("Content-Type", "text/plain; version=0.0.4")
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, format: str, *args: object) -> None:
        """Stay quiet."""


if __name__ == "__main__":
    if POISON.exists():
        raise SystemExit(3)
    address = ("0.0.0.0", int(os.environ.get("PORT", "8080")))  # noqa: S104 - inside a pod
    http.server.ThreadingHTTPServer(address, Handler).serve_forever()
