"""One certificate authority a cluster, and what it signs. All of it is thrown away after."""

from __future__ import annotations

import datetime
import ipaddress
from collections.abc import Sequence
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

DAYS = 30


class Authority:
    """A folder of keys and certificates, all signed by the `ca` in it.

    An authority whose folder already holds a `ca` goes on with that one.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        if self.certificate("ca").exists():
            loaded = serialization.load_pem_private_key(self.key("ca").read_bytes(), None)
            assert isinstance(loaded, ec.EllipticCurvePrivateKey)
            self._key = loaded
            self._root = x509.load_pem_x509_certificate(self.certificate("ca").read_bytes())
            return
        self._key = ec.generate_private_key(ec.SECP256R1())
        name = _name("test-bed-ca")
        builder = _dated(x509.CertificateBuilder().subject_name(name).issuer_name(name))
        self._root = (
            builder.public_key(self._key.public_key())
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(_usage(signs=True), critical=True)
            .add_extension(
                x509.SubjectKeyIdentifier.from_public_key(self._key.public_key()), critical=False
            )
            .sign(self._key, hashes.SHA256())
        )
        self._write("ca", self._key, self._root)

    def certificate(self, name: str) -> Path:
        """Where the certificate of that name lies."""
        return self.folder / f"{name}.crt"

    def key(self, name: str) -> Path:
        """Where the private key of that name lies."""
        return self.folder / f"{name}.key"

    def issue(
        self,
        name: str,
        common_name: str,
        *,
        organisation: str = "",
        names: Sequence[str] = (),
        addresses: Sequence[str] = (),
    ) -> None:
        """Sign a certificate good for a client and for a server at those names."""
        key = ec.generate_private_key(ec.SECP256R1())
        alternative: list[x509.GeneralName] = [x509.DNSName(n) for n in names]
        alternative += [x509.IPAddress(ipaddress.ip_address(a)) for a in addresses]
        builder = (
            _dated(x509.CertificateBuilder())
            .subject_name(_name(common_name, organisation))
            .issuer_name(self._root.subject)
            .public_key(key.public_key())
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(signs=False), critical=True)
            .add_extension(
                x509.ExtendedKeyUsage(
                    [ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH]
                ),
                critical=False,
            )
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()),
                critical=False,
            )
        )
        if alternative:
            builder = builder.add_extension(
                x509.SubjectAlternativeName(alternative), critical=False
            )
        self._write(name, key, builder.sign(self._key, hashes.SHA256()))

    def bare_key(self, name: str) -> Path:
        """Make a key without a certificate, as service-account tokens are signed with."""
        key = ec.generate_private_key(ec.SECP256R1())
        self.key(name).write_bytes(_pem(key))
        self.key(name).chmod(0o600)
        return self.key(name)

    def _write(self, name: str, key: ec.EllipticCurvePrivateKey, cert: x509.Certificate) -> None:
        self.key(name).write_bytes(_pem(key))
        self.key(name).chmod(0o600)
        self.certificate(name).write_bytes(cert.public_bytes(serialization.Encoding.PEM))


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    # "EC PRIVATE KEY", which every component reads, also for service-account keys.
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.TraditionalOpenSSL,
        serialization.NoEncryption(),
    )


def _name(common_name: str, organisation: str = "") -> x509.Name:
    attributes = [x509.NameAttribute(NameOID.COMMON_NAME, common_name)]
    if organisation:
        attributes.insert(0, x509.NameAttribute(NameOID.ORGANIZATION_NAME, organisation))
    return x509.Name(attributes)


def _dated(builder: x509.CertificateBuilder) -> x509.CertificateBuilder:
    today = datetime.datetime.now(datetime.UTC)  # noqa: TID251 - real certificates
    return (
        builder.serial_number(x509.random_serial_number())
        .not_valid_before(today - datetime.timedelta(hours=1))
        .not_valid_after(today + datetime.timedelta(days=DAYS))
    )


def _usage(*, signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=not signs,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs,
        crl_sign=signs,
        encipher_only=False,
        decipher_only=False,
    )
