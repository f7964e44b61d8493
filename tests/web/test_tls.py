"""TLS: client certificates as credentials, and a server certificate that is replaced."""

import asyncio
import datetime
import ipaddress
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp
import aiohttp.web
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from healer.errors import ConfigError
from healer.settings.listen import Source, Tls, Webhook
from healer.testing.clock import FakeClock
from healer.web.listeners import CERTIFICATE_SECONDS, Server
from tests.web.payloads import alert, group

_DAY = datetime.timedelta(days=1)


class Authority:
    """Signs certificates and writes them to files."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test authority")])
        self.file = folder / "ca.pem"
        made = self._sign(self._name, self._key, x509.BasicConstraints(True, None), None)
        self.file.write_bytes(made.public_bytes(serialization.Encoding.PEM))

    def issue(self, name: str) -> tuple[Path, Path]:
        """Certificate and key of `name`, good for 127.0.0.1 too."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])

        names = x509.SubjectAlternativeName([
            x509.DNSName(name), x509.IPAddress(ipaddress.ip_address("127.0.0.1")),
        ])  # fmt: skip
        made = self._sign(subject, key, x509.BasicConstraints(False, None), names)
        cert_file, key_file = self._folder / f"{name}.pem", self._folder / f"{name}.key"
        cert_file.write_bytes(made.public_bytes(serialization.Encoding.PEM))
        key_file.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        return cert_file, key_file

    def _sign(self, subject: Any, key: Any, basic: Any, names: Any) -> x509.Certificate:
        now = datetime.datetime.now(datetime.UTC)  # noqa: TID251 - certificates know real time
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - _DAY)
            .not_valid_after(now + _DAY)
            .add_extension(basic, critical=True)
        )
        if names is not None:
            builder = builder.add_extension(names, critical=False)
        return builder.sign(self._key, hashes.SHA256())

    def client(self, pair: tuple[Path, Path] | None) -> ssl.SSLContext:
        """What a caller trusts and shows."""
        context = ssl.create_default_context(cafile=self.file)
        if pair is not None:
            context.load_cert_chain(*pair)
        return context


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


async def test_a_client_certificate_is_a_credential(
    doors: Callable[..., Any], authority: Authority
) -> None:
    """Named certificates may deliver, others are 401, and none at all is no connection."""
    cert_file, key_file = authority.issue("healer")
    listener = Webhook(
        port=0, tls=Tls(cert_file=cert_file, key_file=key_file, client_ca_file=authority.file)
    )
    door = await doors(listener=listener, sources={"main": Source(client_names=("am.example",))})
    path = "/v1/alertmanager/main"
    good = authority.client(authority.issue("am.example"))
    assert (await door.post(group(alert()), path, ssl=good)).status == 200
    other = authority.client(authority.issue("evil.example"))
    async with aiohttp.ClientSession() as http, http.post(door.url + path, ssl=other) as answer:
        assert answer.status == 401
    async with aiohttp.ClientSession() as http:
        with pytest.raises(aiohttp.ClientError):
            await http.post(door.url + path, ssl=authority.client(None))


async def _shown(port: int, authority: Authority) -> bytes:
    """The certificate that the server shows to a new connection."""
    _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=authority.client(None))
    shown: bytes = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.close()
    await writer.wait_closed()
    return shown


async def test_a_replaced_certificate_is_taken_without_a_restart(authority: Authority) -> None:
    """New connections get the certificate that is in the files since the last look."""
    cert_file, key_file = authority.issue("healer")
    clock = FakeClock()

    application = aiohttp.web.Application()
    tls = Tls(cert_file=cert_file, key_file=key_file)
    server = await Server.start(application, Webhook(port=0, tls=tls), clock, "webhook")
    try:
        before = await _shown(server.port, authority)
        authority.issue("healer")
        clock.advance(CERTIFICATE_SECONDS)
        after = before
        for _ in range(50):
            after = await _shown(server.port, authority)
            if after != before:
                break
        assert after != before
    finally:
        await server.stop()


async def test_an_unusable_certificate_names_its_setting(authority: Authority) -> None:
    """A key that is not the certificate's is refused at start with the setting's name."""
    cert_file, _ = authority.issue("one")
    _, key_file = authority.issue("two")
    listener = Webhook(port=0, tls=Tls(cert_file=cert_file, key_file=key_file))
    with pytest.raises(ConfigError, match=r"listen\.webhook\.tls: the certificate cannot be used"):
        await Server.start(aiohttp.web.Application(), listener, FakeClock(), "webhook")


async def test_a_taken_port_names_its_setting() -> None:
    """A port that is in use is a ConfigError that names listener and address."""
    first = await Server.start(aiohttp.web.Application(), Webhook(port=0), FakeClock(), "api")
    try:
        taken = Webhook(port=first.port)
        with pytest.raises(ConfigError, match=rf"listen\.api: cannot bind 127.0.0.1:{first.port}"):
            await Server.start(aiohttp.web.Application(), taken, FakeClock(), "api")
    finally:
        await first.stop()
