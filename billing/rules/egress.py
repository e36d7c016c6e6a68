"""Which addresses we may be sent to by an address that a customer gave: public ones, and what the operator allows."""

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final
from urllib.parse import urlsplit

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

MAX_URL_LENGTH: Final = 2_000
# Beside what Python knows to be not global: its table lags behind the registries, and it takes multicast for global.
_NEVER: Final[tuple[Network, ...]] = tuple(
    ip_network(text)
    for text in (
        *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24"),
        *("192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24"),
        *(
            "224.0.0.0/4",
            "240.0.0.0/4",
            "::/96",
            "64:ff9b:1::/48",
            "100::/64",
            "2001::/23",
            "2001:db8::/32",
            "3fff::/20",
        ),
        *("5f00::/16", "fc00::/7", "fe80::/10", "fec0::/10", "ff00::/8"),
    )
)
_NAT64: Final = IPv6Network("64:ff9b::/96")


def may_reach(address: Address, allowed: Sequence[Network]) -> bool:
    """Whether we may connect there. IPv4 within IPv6 (mapped, 6to4, NAT64) is judged as the IPv4 that it leads to."""
    meant = _meant(address)
    if any(each in network for network in allowed for each in {address, meant} if each.version == network.version):
        return True
    return all(
        each.is_global and not any(each.version == network.version and each in network for network in _NEVER)
        for each in ({meant} if isinstance(meant, IPv4Address) else {address})
    )


def literal_address(host: str) -> Address | None:
    """The address that a host name is, where it is one and not a name."""
    try:
        return ip_address(host.strip("[]"))
    except ValueError:
        return None


def mistake_in_url(
    url: str, name: str = "url", such_as: str = "https://example.com/hooks", max_length: int = MAX_URL_LENGTH
) -> str | None:
    """What is wrong with an address to send to, whatever it resolves to; None where nothing is. `name` of its field."""
    if len(url) > max_length or not url.isascii() or not url.isprintable() or " " in url:
        return f"{name} must be an address of at most {max_length} printable ASCII characters, without blanks"
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return f"{name} must be an address such as {such_as}"
    if parts.scheme not in {"https", "http"} or not parts.hostname or port == 0:
        return f"{name} must be an address such as {such_as}"
    if parts.username is not None or parts.password is not None or parts.fragment:
        return f"{name} must have no user, no password and no fragment"
    return None


def _meant(address: Address) -> Address:
    if isinstance(address, IPv4Address):
        return address
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address.sixtofour is not None:
        return address.sixtofour
    if address in _NAT64:
        return IPv4Address(int(address) & 0xFFFF_FFFF)
    return address
