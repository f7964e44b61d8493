"""Our own JSON to any address: idempotent by key, and signed when a secret is given."""

import hashlib
import hmac
from pathlib import Path

from healer.clients.notify.wording import notice_of
from healer.clients.outgoing import Access, Outgoing, secret_text
from healer.kernel.clock import Clock
from healer.kernel.ids import canonical_json
from healer.kernel.secrets import Secret, SecretFile
from healer.ports import Message

VERSION = 1


def signature(secret: Secret, timestamp: str, body: bytes) -> str:
    """`v1=` and the HMAC-SHA256 (hex) over `timestamp.body`: replays show by their time."""
    signed = timestamp.encode() + b"." + body
    return f"v1={hmac.new(secret.reveal().encode(), signed, hashlib.sha256).hexdigest()}"


class Webhook:
    """`healer.ports.Notifier` on one HTTP endpoint.

    The body is the notice's mapping with `version` and `id`. Headers: `Idempotency-Key` (the
    message's id), and with a secret `X-Healer-Timestamp` and `X-Healer-Signature`.
    """

    def __init__(
        self,
        name: str,
        url: str,
        *,
        clock: Clock,
        access: Access | None = None,
        secret_file: Path | None = None,
        timeout: float = 10.0,
    ) -> None:
        self.name = name
        self._clock = clock
        self._secret = SecretFile(secret_file) if secret_file else None
        self._http = Outgoing(f"webhook {name}", url, access=access, timeout=timeout)

    async def send(self, message: Message) -> None:
        """Post once; any 2xx is delivered."""
        notice = notice_of(message)
        content = {"version": VERSION, "id": message.id, **notice.to_mapping()}
        body = canonical_json(content).encode()
        headers = {"Content-Type": "application/json", "Idempotency-Key": message.id}
        if self._secret is not None:
            secret = secret_text(self._secret, f"webhook {self.name}: signing secret")
            timestamp = str(int(self._clock.now()))
            headers["X-Healer-Timestamp"] = timestamp
            headers["X-Healer-Signature"] = signature(Secret(secret), timestamp, body)
        reply = await self._http.call("POST", body=body, headers=headers)
        self._http.refuse(reply)

    async def close(self) -> None:
        """Let go of the connections."""
        await self._http.close()
