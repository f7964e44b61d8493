"""Mail, against an SMTP server that speaks the real protocol and refuses as real ones do."""

import asyncio
import email
import ssl
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from email.policy import default
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.smtp import SMTP, AuthResult
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from healer.clients.notify.email import Email
from healer.domain.message import Notice, NoticeEvent, Severity
from healer.errors import (
    ConfigError,
    HealerError,
    Refused,
    TemporaryError,
    TimedOut,
    Unauthorized,
    Unreachable,
)
from healer.ports import Message
from healer.testing.clock import START

NOTICE = Notice(
    NoticeEvent.TRIGGER, Severity.ERROR, "payments is döwn", "Restarted twice.", START, "ep-1",
    "restart", "Deployment/shop/payments", "not_recovered", {"alertname": "Down"},
    {"runbook": "https://example.com"}, {"logs": "panic\n.\nQUIT\n" + "x" * 2000 + "\x1b[31m"},
)  # fmt: skip


def message(notice: Notice = NOTICE, key: str = "m-1") -> Message:
    return Message(key, "mail", notice.to_mapping())


class Mailbox:
    """Takes mail, or answers what a test says."""

    def __init__(self) -> None:
        self.mails: list[EmailMessage] = []
        self.to: list[str] = []
        self.replies: dict[str, str] = {}
        self.hang: asyncio.Event | None = None

    async def handle_MAIL(self, _: Any, __: Any, envelope: Any, address: str, options: Any) -> str:  # noqa: N802
        if "MAIL" in self.replies:
            return self.replies["MAIL"]
        envelope.mail_from = address
        return "250 OK"

    async def handle_RCPT(self, _: Any, __: Any, envelope: Any, address: str, options: Any) -> str:  # noqa: N802
        if address in self.replies:
            return self.replies[address]
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, _: Any, __: Any, envelope: Any) -> str:  # noqa: N802
        if self.hang is not None:
            await self.hang.wait()
        if "DATA" in self.replies:
            return self.replies["DATA"]
        found = email.message_from_bytes(envelope.content, policy=default)
        assert isinstance(found, EmailMessage)
        self.mails.append(found)
        self.to = list(envelope.rcpt_tos)
        return "250 OK"

    async def handle_QUIT(self, *_: Any) -> str:  # noqa: N802
        return self.replies.get("QUIT", "221 bye")


def certificate(folder: Path) -> tuple[Path, Path]:
    """A self-signed certificate for localhost, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)  # noqa: TID251 - a certificate is valid in real time
    made = (
        x509.CertificateBuilder()
        .subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(1)
        .not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    (folder / "cert.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return folder / "cert.pem", folder / "key.pem"


def authenticate(_: Any, __: Any, ___: Any, mechanism: str, data: Any) -> AuthResult:
    good = (data.login, data.password) == (b"ann", b"pass word")
    return AuthResult(success=good, handled=False)


class Stage:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.box = Mailbox()
        self.cert, self.key = certificate(folder)
        self.running: list[asyncio.Server] = []
        (folder / "password").write_text("pass word\n")

    async def serve(self, protection: str, *, login: bool = False) -> int:
        """Start a server; returns its port."""
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(self.cert, self.key)
        more: dict[str, Any] = {"tls_context": context} if protection == "starttls" else {}
        if protection == "starttls":
            more["require_starttls"] = True
        if login:
            more |= {"authenticator": authenticate, "auth_required": True,
                     "auth_require_tls": protection == "starttls"}  # fmt: skip
        server = await asyncio.get_running_loop().create_server(
            lambda: SMTP(self.box, hostname="localhost", **more),
            "127.0.0.1",
            0,
            ssl=context if protection == "tls" else None,
        )
        self.running.append(server)
        return int(server.sockets[0].getsockname()[1])

    def mailer(self, port: int, **more: Any) -> Email:
        given: dict[str, Any] = {
            "host": "localhost", "port": port, "sender": "healer <healer@example.com>",
            "to": ("a@example.com", "b@example.com"), "tls": "none", "ca_file": self.cert,
            "timeout": 5.0,
        }  # fmt: skip
        return Email("ops", **{**given, **more})


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    made = Stage(tmp_path)
    yield made
    for server in made.running:
        server.close()
        await server.wait_closed()


@pytest.mark.parametrize("protection", ["none", "starttls", "tls"])
async def test_a_mail_arrives_whole(stage: Stage, protection: str) -> None:
    """Subject, addresses, text, labels, links and evidence arrive over every protection."""
    await stage.mailer(await stage.serve(protection), tls=protection).send(message())
    (mail,) = stage.box.mails
    assert mail["Subject"] == "[ERROR] payments is döwn"
    assert stage.box.to == ["a@example.com", "b@example.com"]
    assert mail["Auto-Submitted"] == "auto-generated"
    text = mail.get_content().replace("\r\n", "\n")
    for part in ("Restarted twice.", "Target: Deployment/shop/payments", "alertname = Down",
                 "runbook: https://example.com", "\n.\nQUIT\n", "x" * 2000):  # fmt: skip
        assert part in text
    assert "\x1b" not in text


async def test_the_same_message_is_the_same_mail(stage: Stage) -> None:
    """A repeated message has the same Message-ID, and an episode's mails share a thread."""
    mailer = stage.mailer(await stage.serve("none"))
    await mailer.send(message())
    await mailer.send(message())
    await mailer.send(message(replace(NOTICE, event=NoticeEvent.RESOLVE), "m-2"))
    first, again, resolved = stage.box.mails
    assert first["Message-ID"] == again["Message-ID"] != resolved["Message-ID"]
    assert first["References"] == resolved["References"]
    assert resolved["Subject"].startswith("[RESOLVED]")


async def test_a_title_cannot_add_headers(stage: Stage) -> None:
    """Line breaks in a title, however spelled, stay inside the subject."""
    evil = "x\r\nBcc: evil@example.com\r\n\r\nbody\n\u2028\x0b\x00y"
    await stage.mailer(await stage.serve("none")).send(
        message(replace(NOTICE, title=evil, episode_id="e\r\nX: y"))
    )
    (mail,) = stage.box.mails
    assert mail["Bcc"] is None
    assert mail["X"] is None
    assert "Bcc: evil" in mail["Subject"]
    assert stage.box.to == ["a@example.com", "b@example.com"]


@pytest.mark.parametrize(
    ("where", "reply", "expected"),
    [
        ("MAIL", "451 try later", TemporaryError),
        ("MAIL", "550 no", Refused),
        ("DATA", "452 full", TemporaryError),
        ("DATA", "554 spam", Refused),
    ],
)
async def test_the_first_digit_decides(
    stage: Stage, where: str, reply: str, expected: type[HealerError]
) -> None:
    """4xx is worth another try, 5xx is a refusal, in the server's own words."""
    stage.box.replies[where] = reply
    with pytest.raises(expected, match=reply[4:]) as caught:
        await stage.mailer(await stage.serve("none")).send(message())
    assert type(caught.value) is expected


@pytest.mark.parametrize(("code", "expected"), [("450", TemporaryError), ("550", Refused)])
async def test_when_nobody_is_taken_the_mail_fails(
    stage: Stage, code: str, expected: type[HealerError]
) -> None:
    """When every address is refused nothing was delivered, and the first digit decides."""
    stage.box.replies = {f"{who}@example.com": f"{code} who" for who in "ab"}
    with pytest.raises(expected, match=r"a@example\.com") as caught:
        await stage.mailer(await stage.serve("none")).send(message())
    assert type(caught.value) is expected


async def test_when_some_are_taken_nobody_is_told_twice(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    """One refused address among good ones is logged, and the mail counts as delivered."""
    stage.box.replies = {"a@example.com": "550 gone"}
    await stage.mailer(await stage.serve("none")).send(message())
    assert stage.box.to == ["b@example.com"]
    assert "not taken for some" in caplog.text


async def test_a_rude_goodbye_changes_nothing(stage: Stage) -> None:
    """What the server says to QUIT does not make a delivered mail a failure."""
    stage.box.replies = {"QUIT": "500 what"}
    await stage.mailer(await stage.serve("none")).send(message())
    assert len(stage.box.mails) == 1


@pytest.mark.parametrize(("password", "arrives"), [("pass word", True), ("wrong", False)])
async def test_the_password_decides(stage: Stage, password: str, arrives: bool) -> None:
    """The password file is used over TLS, and a wrong one is Unauthorized."""
    (stage.folder / "password").write_text(password)
    mailer = stage.mailer(
        await stage.serve("starttls", login=True),
        tls="starttls",
        username="ann",
        password_file=stage.folder / "password",
    )
    if arrives:
        await mailer.send(message())
        assert len(stage.box.mails) == 1
        return
    with pytest.raises(Unauthorized, match="login"):
        await mailer.send(message())
    assert stage.box.mails == []


@pytest.mark.parametrize("protection", ["starttls", "tls"])
async def test_an_unverified_certificate_gets_no_mail(stage: Stage, protection: str) -> None:
    """A certificate nobody we trust has signed ends the connection before anything is said."""
    mailer = stage.mailer(await stage.serve(protection), tls=protection, ca_file=None)
    with pytest.raises(Refused, match="certificate"):
        await mailer.send(message())
    assert stage.box.mails == []


async def test_starttls_is_never_left_out(stage: Stage) -> None:
    """A server that does not offer STARTTLS gets no mail in the clear."""
    mailer = stage.mailer(await stage.serve("none"), tls="starttls")
    with pytest.raises(Refused, match="STARTTLS"):
        await mailer.send(message())
    assert stage.box.mails == []


async def test_a_hang_is_timed_out(stage: Stage) -> None:
    """A server that stops answering after the mail was sent leaves the outcome unknown."""
    port = await stage.serve("none")
    stage.box.hang = asyncio.Event()
    with pytest.raises(TimedOut) as caught:
        await stage.mailer(port, timeout=0.3).send(message())
    assert caught.value.may_have_happened
    stage.box.hang.set()


async def test_nobody_there_is_unreachable(stage: Stage, unused_tcp_port: int) -> None:
    """A refused connection means that nothing was sent."""
    with pytest.raises(Unreachable) as caught:
        await stage.mailer(unused_tcp_port).send(message())
    assert not caught.value.may_have_happened


@pytest.mark.parametrize(
    "wrong",
    [
        {"sender": "nobody"}, {"to": ()}, {"to": ("a@b\r\nBcc: c@d",)}, {"to": ("",)},
        {"username": "ann"}, {"password_file": Path("x")},
        {"username": "ann", "password_file": Path("x"), "tls": "none"},
    ],
)  # fmt: skip
def test_wrong_settings_are_named(stage: Stage, wrong: dict[str, Any]) -> None:
    """Addresses that are none, and a password in the clear, are refused at once."""
    with pytest.raises(ConfigError, match="email ops"):
        stage.mailer(25, **wrong)
