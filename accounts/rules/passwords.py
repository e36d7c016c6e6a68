"""Which passwords are taken."""

import unicodedata
from typing import Final

from accounts.rules.emails import EmailAddress
from kit.errors import InvalidInput

MIN_LENGTH: Final = 10
MAX_LENGTH: Final = 256


def normal_form(password: str) -> str | None:
    """The text that is hashed, NFKC, so that two keyboards agree; None for what can be no one's password."""
    if len(password) > MAX_LENGTH:
        return None
    try:
        password.encode()
    except UnicodeEncodeError:
        return None
    return unicodedata.normalize("NFKC", password)


def check_new_password(password: str, address: EmailAddress, *, field: str = "password") -> str:
    """The normal form of a password that may be set; InvalidInput says what is wrong with another."""
    normal = normal_form(password)
    if normal is None or len(normal) > MAX_LENGTH:
        raise InvalidInput(f"A password may have at most {MAX_LENGTH} characters of text.", field=[field])
    if len(normal) < MIN_LENGTH:
        raise InvalidInput(f"A password must have at least {MIN_LENGTH} characters.", field=[field])
    if len(set(normal)) < 4 or normal.casefold() in {address.key, address.key.partition("@")[0]}:
        raise InvalidInput("This password is too easy to guess.", field=[field])
    return normal
