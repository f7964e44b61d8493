"""Mail by SMTP, in a thread with a time limit: certificates are verified, headers cannot break."""

import asyncio
import contextlib
import logging
import smtplib
import socket
import ssl
from collections.abc import Sequence
from datetime import UTC, datetime
from email.errors import MessageError
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime, parseaddr
from pathlib import Path
from typing import Literal

from healer.clients.notify.wording import cut, notice_of, one_line, thread_of
from healer.clients.outgoing import secret_text
from healer.domain.message import Notice, NoticeEvent
from healer.errors import (
    ConfigError,
    HealerError,
    Refused,
    TemporaryError,
    TimedOut,
    Unauthorized,
    Unreachable,
)
from healer.kernel.ids import digest
from healer.kernel.secrets import SecretFile
from healer.ports import Message

_log = logging.getLogger(__name__)

SUBJECT_LIMIT = 200
EVIDENCE_LIMIT = 20_000

Protection = Literal["starttls", "tls", "none"]


class Email:
    """`healer.ports.Notifier` on one SMTP server. Delivery is at least once; the Message-ID of a
    repeated mail is the same, so most mailboxes show it once."""

    def __init__(
        self,
        name: str,
        *,
        host: str,
        sender: str,
        to: Sequence[str],
        port: int = 587,
        tls: Protection = "starttls",
        username: str = "",
        password_file: Path | None = None,
        ca_file: Path | None = None,
        timeout: float = 10.0,
    ) -> None:
        """Raises ConfigError for an address that is none, or a password over a plain connection."""
        self.name = name
        self._host, self._port, self._tls = host, port, tls
        self._sender = _address(name, sender)
        self._to = tuple(_address(name, one) for one in to)
        if not self._to:
            raise ConfigError(f"email {name}: nobody to write to; set `to`")
        if bool(username) != (password_file is not None):
            raise ConfigError(f"email {name}: username and password_file belong together")
        if username and tls == "none":
            raise ConfigError(f"email {name}: a password needs `tls: starttls` or `tls: tls`")
        self._username = username
        self._password = SecretFile(password_file) if password_file else None
        self._ca_file = ca_file
        self._timeout = timeout

    async def send(self, message: Message) -> None:
        """One mail to all. 4xx raises TemporaryError, 5xx Refused or Unauthorized."""
        notice = notice_of(message)
        mail = self.compose(message, notice)
        password = ""
        if self._password is not None:
            password = secret_text(self._password, f"email {self.name}: password")
        await asyncio.to_thread(self._deliver, mail, password)

    def compose(self, message: Message, notice: Notice) -> EmailMessage:
        """The mail: plain text, threaded by episode, marked as sent by a machine."""
        mail = EmailMessage(policy=SMTP)
        prefix = "RESOLVED" if notice.event is NoticeEvent.RESOLVE else notice.severity.upper()
        mail["Subject"] = one_line(f"[{prefix}] {notice.title}", SUBJECT_LIMIT)
        mail["From"] = self._sender
        mail["To"] = self._to
        mail["Date"] = format_datetime(datetime.fromtimestamp(notice.at, UTC))
        domain = self._sender.domain
        mail["Message-ID"] = f"<{digest('mail', message.id)[:32]}@{domain}>"
        thread = f"<{digest('thread', thread_of(message, notice))[:32]}@{domain}>"
        mail["In-Reply-To"] = thread
        mail["References"] = thread
        mail["Auto-Submitted"] = "auto-generated"
        mail["X-Healer-Episode"] = one_line(notice.episode_id, 100) or "none"
        mail.set_content(_text(notice), cte="quoted-printable")
        return mail

    def _context(self) -> ssl.SSLContext:
        try:
            return ssl.create_default_context(cafile=self._ca_file)
        except (OSError, ssl.SSLError) as error:
            raise ConfigError(f"email {self.name}: {self._ca_file}: {error}; give a PEM") from error

    def _deliver(self, mail: EmailMessage, password: str) -> None:
        server: smtplib.SMTP | None = None
        try:
            server = self._connected()
            if password:
                server.login(self._username, password)
            left_out = server.send_message(mail)
        except (smtplib.SMTPException, OSError, ValueError) as error:
            raise self._named(error, connected=server is not None) from error
        finally:
            if server is not None:
                # The mail is accepted or refused by now; how the server says goodbye is nothing.
                with contextlib.suppress(smtplib.SMTPException, OSError):
                    server.quit()
                server.close()
        if left_out:
            # The others have it: trying again would tell them again and these still not.
            _log.error("mail not taken for some", extra={"email": self.name, "who": _why(left_out)})

    def _connected(self) -> smtplib.SMTP:
        own_name = socket.gethostname()
        if self._tls == "tls":
            return smtplib.SMTP_SSL(
                self._host, self._port, own_name, timeout=self._timeout, context=self._context()
            )
        server = smtplib.SMTP(self._host, self._port, own_name, timeout=self._timeout)
        try:
            if self._tls == "starttls":
                server.starttls(context=self._context())
        except BaseException:
            server.close()
            raise
        return server

    def _named(self, error: Exception, *, connected: bool) -> HealerError:
        """`error` as one of ours."""
        place = f"email {self.name}: {self._host}:{self._port}"
        match error:
            case smtplib.SMTPAuthenticationError():
                return _by_code(error.smtp_code, f"{place} refused the login: {_said(error)}",
                                Unauthorized)  # fmt: skip
            case smtplib.SMTPRecipientsRefused():
                codes = [code for code, _ in error.recipients.values()]
                return _by_code(min(codes), f"{place}: {_why(error.recipients)}", Refused)
            case smtplib.SMTPResponseException():
                return _by_code(error.smtp_code, f"{place} answered {_said(error)}", Refused)
            case smtplib.SMTPNotSupportedError():
                return Refused(f"{place} does not offer what is needed: {error}; check tls")
            case ssl.SSLCertVerificationError():
                return Refused(f"{place}: its certificate cannot be verified: {error}; set ca_file")
            # smtplib reports a time-out while reading as a disconnect, with the cause attached.
            case TimeoutError() | smtplib.SMTPServerDisconnected(__context__=TimeoutError()) if (
                connected
            ):
                return TimedOut(f"{place}: no answer within {self._timeout:g} s")
            case ValueError():
                return Refused(f"{place}: the mail cannot be written: {error}")
            case _:
                what = str(error) or type(error).__name__
                return Unreachable(f"{place}: {what}", sent=connected)


def _address(name: str, text: str) -> Address:
    shown, spec = parseaddr(text)
    if "@" not in spec or not text.isprintable():
        raise ConfigError(f"email {name}: {text!r} is not an address; write oncall@example.com")
    try:
        return Address(shown, addr_spec=spec)
    except (ValueError, IndexError, MessageError) as error:
        raise ConfigError(f"email {name}: {text!r} is not an address: {error}") from error


def _by_code(code: int, text: str, permanent: type[HealerError]) -> HealerError:
    """4xx is worth another try, by the meaning of SMTP's first digit."""
    return TemporaryError(text) if 400 <= code < 500 else permanent(text)


def _said(error: smtplib.SMTPResponseException) -> str:
    words = error.smtp_error
    text = words.decode(errors="replace") if isinstance(words, bytes) else str(words)
    return f"{error.smtp_code} {one_line(text, 300)}"


def _why(refused: dict[str, tuple[int, bytes]]) -> str:
    return "; ".join(
        f"{to}: {code} {one_line(why.decode(errors='replace'), 200)}"
        for to, (code, why) in refused.items()
    )


def _text(notice: Notice) -> str:
    parts = [notice.text.strip() or notice.title]
    facts = [
        ("Target", notice.target), ("Playbook", notice.playbook), ("Reason", notice.reason),
        ("Episode", notice.episode_id),
    ]  # fmt: skip
    parts.append("\n".join(f"{name}: {text}" for name, text in facts if text))
    parts.append("\n".join(f"{name}: {url}" for name, url in notice.links.items()))
    parts.append("\n".join(f"{k} = {v}" for k, v in sorted(notice.labels.items())))
    parts.extend(f"--- {k}\n{cut(v, EVIDENCE_LIMIT)}" for k, v in notice.evidence.items())
    # Control characters but line breaks and tabs are for terminals, not for mail.
    text = "\n\n".join(part for part in parts if part)
    return "".join(c if c.isprintable() or c in "\n\t" else " " for c in text) + "\n"
