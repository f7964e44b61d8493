"""The serving certificate: from files that somebody rotates, or made here.

A made one is an authority and a certificate signed by it. The authority's key is forgotten at once,
and its certificate is added to the `caBundle` of each APIService beside those of other replicas.
"""

import os
import secrets
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from scalers.apiserver.contract import ApiServices, Listening, MetricsApiError

#: A made certificate is good for so long, and replaced when a third of it is left.
MADE_DAYS = 30.0
REPLACE_AT = 2 / 3
#: Of made authorities so many stay in a bundle: replicas, and those before them.
BUNDLE_LIMIT = 12
MADE_BY = "healer-metrics-"


@dataclass(frozen=True, slots=True)
class Pair:
    """A certificate chain and its key, as PEM; `authority` only when it was made here."""

    chain: bytes
    key: bytes
    authority: bytes = b""
    replace_at: float = float("inf")  #: Unix seconds

    def load_into(self, context: ssl.SSLContext) -> None:
        """Make a context serve it; the key touches no disk. Raises ssl.SSLError."""
        with _in_memory(self.chain) as chain, _in_memory(self.key) as key:
            context.load_cert_chain(chain.path, key.path)


class CertificateFiles:
    """Two PEM files."""

    def __init__(self, cert_file: Path, key_file: Path) -> None:
        self._cert_file, self._key_file = cert_file, key_file
        self._stamp: tuple[tuple[int, int, int], ...] = ()

    def changed(self) -> bool:
        """Whether they are others than were read last. Raises MetricsApiError."""
        return self._stamps() != self._stamp

    def read(self) -> Pair:
        """What is in them, and that it is a pair. Raises MetricsApiError."""
        stamp = self._stamps()
        try:
            pair = Pair(self._cert_file.read_bytes(), self._key_file.read_bytes())
            pair.load_into(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))
        except (OSError, ssl.SSLError) as error:
            raise self._unusable(error) from error
        self._stamp = stamp
        return pair

    def _stamps(self) -> tuple[tuple[int, int, int], ...]:
        try:
            found = [path.stat() for path in (self._cert_file, self._key_file)]
        except OSError as error:
            raise self._unusable(error) from error
        return tuple((one.st_ino, one.st_size, one.st_mtime_ns) for one in found)

    def _unusable(self, error: Exception) -> MetricsApiError:
        return MetricsApiError(
            f"{self._cert_file}, {self._key_file}: the metrics API cannot serve with these "
            f"({error}); give PEM files that belong together"
        )


def make(listening: Listening, now: float) -> Pair:
    """A new authority and a certificate of it for the Service's name."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    def named(text: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])

    begin = datetime.fromtimestamp(now, UTC) - timedelta(hours=1)
    end = datetime.fromtimestamp(now, UTC) + timedelta(days=MADE_DAYS)

    def dated(subject: x509.Name, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(begin)
            .not_valid_after(end)
        )

    issuer = named(MADE_BY + secrets.token_hex(8))
    root_key = ec.generate_private_key(ec.SECP256R1())
    root_id = x509.SubjectKeyIdentifier.from_public_key(root_key.public_key())
    root = (
        dated(issuer, root_key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs=True), critical=True)
        .add_extension(root_id, critical=False)
        .sign(root_key, hashes.SHA256())
    )
    key = ec.generate_private_key(ec.SECP256R1())
    short = f"{listening.service}.{listening.namespace}"
    names = [x509.DNSName(name) for name in (listening.server_name, short, listening.service)]
    by = x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(root_id)
    leaf = (
        dated(named(listening.server_name[:64]), key.public_key())
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(by, critical=False)
        .sign(root_key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    return Pair(
        leaf.public_bytes(pem),
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()),
        root.public_bytes(pem),
        now + MADE_DAYS * 86400 * REPLACE_AT,
    )


def merged(bundle: bytes, authority: bytes, now: float) -> bytes:
    """The bundle with this authority in it, without made ones that ended or are too many.

    What others put there stays. Raises MetricsApiError when the bundle cannot be read.
    """
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding
    from cryptography.x509.oid import NameOID

    try:
        found = x509.load_pem_x509_certificates(bundle) if bundle.strip() else []
    except ValueError as error:
        raise MetricsApiError(
            f"the caBundle of the APIService is not PEM ({error}); clear it"
        ) from error
    (own,) = x509.load_pem_x509_certificates(authority)
    moment = datetime.fromtimestamp(now, UTC)
    others, made = [], []
    for one in found:
        names = one.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        if not any(str(name.value).startswith(MADE_BY) for name in names):
            others.append(one)
        elif one != own and one.not_valid_after_utc > moment:
            made.append(one)
    made.sort(key=lambda one: one.not_valid_before_utc)
    kept = [*others, *made[-(BUNDLE_LIMIT - 1) :], own]
    return b"".join(one.public_bytes(Encoding.PEM) for one in kept)


async def tell(services: ApiServices, names: Sequence[str], authority: bytes, now: float) -> None:
    """Put the authority into each APIService's bundle. Raises Unavailable and MetricsApiError."""
    for name in names:
        bundle, version = await services.bundle(name)
        if authority.strip() not in bundle:
            await services.trust(name, merged(bundle, authority, now), version)


class _in_memory:  # noqa: N801 - used as a function
    """A file without a place on disk, for OpenSSL, which reads from paths only."""

    def __init__(self, content: bytes) -> None:
        self._descriptor = os.memfd_create("pem")
        os.write(self._descriptor, content)
        self.path = f"/proc/self/fd/{self._descriptor}"

    def __enter__(self) -> "_in_memory":
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)


def _usage(*, signs: bool):  # type: ignore[no-untyped-def]
    from cryptography import x509

    return x509.KeyUsage(
        digital_signature=True, content_commitment=False, key_encipherment=False,
        data_encipherment=False, key_agreement=False, key_cert_sign=signs, crl_sign=signs,
        encipher_only=False, decipher_only=False,
    )  # fmt: skip
