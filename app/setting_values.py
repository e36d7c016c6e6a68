"""What the text of a variable may be: each parser answers the value or raises ValueError saying what is expected."""

import ipaddress
import secrets
from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import TypeVar
from urllib.parse import SplitResult, urlsplit

from accounts.mail.mailer import parse_smtp_url
from kit.sealing import parse_keys

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_T = TypeVar("_T")
SECRET_KEY_CHARACTERS = 32


class LimiterPolicy(StrEnum):
    """What the limiter does while Redis is away."""

    OPEN = "open"
    CLOSED = "closed"


class Environment(StrEnum):
    """Whether this installation moves real money; decides the prefix of new API keys."""

    LIVE = "live"
    TEST = "test"


class Secret:
    """A value that never shows itself: str, repr and format answer stars; `reveal` answers the value."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        """Keep `value`."""
        self._value = value

    def reveal(self) -> str:
        """The value, for the one who presents it."""
        return self._value

    def __repr__(self) -> str:
        return "Secret('***')"

    __str__ = __repr__

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and secrets.compare_digest(self._value.encode(), other._value.encode())

    def __hash__(self) -> int:
        return hash((Secret, self._value))

    def __reduce__(self) -> str:
        raise TypeError("a secret is not serialised")


class SettingsError(Exception):
    """The environment cannot be used; `problems` has a sentence for each variable that is wrong."""

    def __init__(self, problems: Sequence[str]) -> None:
        """All problems at once, so that they can be mended at once."""
        super().__init__("The environment is not usable:\n" + "\n".join(f"  - {problem}" for problem in problems))
        self.problems = tuple(problems)


def optional(parse: Callable[[str], _T]) -> Callable[[str], _T | None]:
    """Empty is None."""
    return lambda text: parse(text) if text else None


def secret(check: Callable[[str], str]) -> Callable[[str], Secret | None]:
    """Empty is None; anything else is checked and wrapped."""
    return lambda text: Secret(check(text)) if text else None


def each(parse: Callable[[str], _T]) -> Callable[[str], tuple[_T, ...]]:
    """A list separated by commas."""
    return lambda text: tuple(parse(part.strip()) for part in text.split(",") if part.strip())


def integer(low: int, high: int) -> Callable[[str], int]:
    """A whole number within both bounds."""

    def parse(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            number = low - 1
        if not low <= number <= high:
            raise ValueError(f"a whole number from {low} to {high}")
        return number

    return parse


def one_of(*words: str) -> Callable[[str], str]:
    """One of the words, in any case."""

    def parse(text: str) -> str:
        if text.lower() not in words:
            raise ValueError(f"one of {', '.join(words)}")
        return text.lower()

    return parse


def boolean(text: str) -> bool:
    """Yes or no, in the usual words."""
    words = {"true": True, "1": True, "yes": True, "on": True, "false": False, "0": False, "no": False, "off": False}
    if text.lower() not in words:
        raise ValueError("true or false")
    return words[text.lower()]


def address(*schemes: str) -> Callable[[str], str]:
    """An address of one of the schemes, as it was given."""

    def parse(text: str) -> str:
        parts = _split(text)
        if parts is None or parts.scheme not in schemes or not (parts.netloc or parts.path.strip("/")):
            raise ValueError("an address as " + " or ".join(f"{scheme}://…" for scheme in schemes))
        return text

    return parse


def smtp_address(text: str) -> str:
    """Where mail is handed over, with what may follow a question mark."""
    try:
        parse_smtp_url(text)
    except ValueError as problem:
        raise ValueError(
            "an address as smtp://… or smtps://…, with nothing but ?starttls=require or never"
        ) from problem
    return text


def web_address(text: str) -> str:
    """Without a slash at its end, so that paths can be appended."""
    parts = _split(text)
    if parts is None or parts.scheme not in {"http", "https"} or not parts.hostname or parts.query or parts.fragment:
        raise ValueError("an address as https://host/path, without ? and #")
    return text.rstrip("/")


def store_address(text: str) -> str:
    """Where files lie; empty for the usual place."""
    parts = _split(text)
    plain = parts is not None and not (parts.query or parts.fragment or parts.username)
    bucket = parts is not None and parts.scheme == "s3" and bool(parts.netloc)
    folder = parts is not None and parts.scheme == "file" and not parts.netloc and len(parts.path) > 1
    if text and not (plain and (bucket or folder)):
        raise ValueError("s3://bucket/prefix or file:///folder")
    return text


def origin(text: str) -> str:
    """What a browser sends as Origin, or a star."""
    parts = _split(text)
    if text != "*" and (
        parts is None or parts.scheme not in {"http", "https"} or not parts.hostname or parts.path.strip("/")
    ):
        raise ValueError("origins as https://host or https://host:port, separated by commas, or *")
    return text.rstrip("/").lower()


def _split(text: str) -> SplitResult | None:
    """None where it is no address at all; reading the port makes urlsplit check it."""
    try:
        parts = urlsplit(text)
        _ = parts.port
    except ValueError:
        return None
    return parts


def network(text: str) -> Network:
    """A network, or a single address as the network of itself."""
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise ValueError("networks as 10.0.0.0/8 or fd00::/8 or single addresses, separated by commas") from None


def mail_address(text: str) -> str:
    """An address without a display name."""
    name, at, host = text.rpartition("@")
    if not (name and at and host) or any(character in text for character in "\r\n"):
        raise ValueError("a mail address")
    return text


def secret_keys(text: str) -> str:
    """One key, or several versions of it while it is rotated, none of which can be guessed by trying."""
    try:
        parse_keys(text)
    except ValueError as problem:
        raise ValueError(
            f"at least {SECRET_KEY_CHARACTERS} characters, random, as `openssl rand -base64 48` prints them; "
            "or several as 2:NEW,1:OLD, the current one first"
        ) from problem
    return text
