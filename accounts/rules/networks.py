"""Address allow-lists of API keys."""

from collections.abc import Sequence
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final

from kit.errors import InvalidInput

MAX_NETWORKS: Final = 50


def parse_networks(texts: Sequence[str]) -> tuple[str, ...]:
    """The networks in CIDR form without repeats, such as "203.0.113.0/24"; InvalidInput names the one that is none."""
    if not 1 <= len(texts) <= MAX_NETWORKS:
        raise InvalidInput(f"Give 1 to {MAX_NETWORKS} networks.", field=["addresses"])
    networks: dict[str, None] = {}
    for text in texts:
        try:
            networks[str(ip_network(text.strip(), strict=False))] = None
        except ValueError as error:
            raise InvalidInput(
                f"{text[:60]!r} is not a network such as 203.0.113.0/24.", field=["addresses"]
            ) from error
    return tuple(networks)


def admits(networks: Sequence[IPv4Network | IPv6Network], address: str | None) -> bool:
    """Whether a request from this address may use the key; no networks: from anywhere; an unknown address: from nowhere."""
    if not networks:
        return True
    if address is None:
        return False
    try:
        found = ip_address(address)
    except ValueError:
        return False
    if isinstance(found, IPv6Address) and found.ipv4_mapped is not None:
        found = found.ipv4_mapped
    return any(found in network for network in networks)
