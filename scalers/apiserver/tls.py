"""TLS whose certificate and whose trusted front proxies change while it serves.

Each handshake is given the newest context. A client without a certificate gets in, for the health
pages; one with a certificate that the front proxy's authority did not sign does not.
"""

import ssl

from scalers.apiserver.certificates import Pair
from scalers.apiserver.contract import MetricsApiError


class LiveTls:
    """The context to listen with, and the one that connections are handed."""

    def __init__(self, pair: Pair, authority: str) -> None:
        """Raises MetricsApiError when OpenSSL refuses either."""
        self.current = _context(pair, authority)
        self._pair, self._authority = pair, authority
        self.door = _context(pair, authority)

        def newest(connection: ssl.SSLObject, _name: str | None, _door: ssl.SSLContext) -> None:
            connection.context = self.current

        self.door.sni_callback = newest

    def renew(self, *, pair: Pair | None = None, authority: str | None = None) -> bool:
        """Serve and trust these from the next handshake on; whether anything is another now."""
        wanted = (pair or self._pair, authority or self._authority)
        if wanted == (self._pair, self._authority):
            return False
        self.current = _context(*wanted)
        self._pair, self._authority = wanted
        return True

    def is_current(self, connection: object) -> bool:
        """Whether this connection was made under what is trusted now."""
        return isinstance(connection, ssl.SSLObject) and connection.context is self.current


def _context(pair: Pair, authority: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    # A resumed session would be trusted for what was true at its first handshake. Python cannot
    # turn off the sessions of TLS 1.2; Go, and so every API server, has spoken 1.3 since 2019.
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.num_tickets = 0
    context.verify_mode = ssl.CERT_OPTIONAL
    context.set_alpn_protocols(["http/1.1"])
    try:
        pair.load_into(context)
    except (OSError, ssl.SSLError) as error:
        raise MetricsApiError(
            f"the metrics API's certificate cannot be used ({error}); give a pair that belongs "
            "together"
        ) from error
    if not authority:  # not known yet: every client certificate is refused in the handshake
        return context
    try:
        context.load_verify_locations(cadata=authority)
    except (OSError, ssl.SSLError, ValueError) as error:
        raise MetricsApiError(
            f"the front proxy's authority cannot be read ({error}); it comes from ConfigMap "
            "kube-system/extension-apiserver-authentication"
        ) from error
    return context
