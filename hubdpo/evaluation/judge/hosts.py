"""Tell private addresses from public ones: a key travels in clear text to the former alone."""

from __future__ import annotations

import ipaddress
import re
import socket

PRIVATE = [
    ipaddress.ip_network(network)
    for network in (
        "0.0.0.0/32", "127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "169.254.0.0/16",
        "::/128", "::1/128", "fc00::/7", "fe80::/10",
    )
]  # fmt: skip
LOCAL = ("local", "internal", "localhost", "lan", "home", "svc", "corp")
_NAME = re.compile(r"(?!\d+$|0x[0-9a-f]*$)[a-z0-9_-]+")


def is_private(host: str) -> bool:
    """Tell whether a host is this machine or one of a private network, as far as its name says."""
    host = host.lower().rstrip(".")
    if (address := _address(host)) is not None:
        return any(address in network for network in PRIVATE)
    names = host.split(".")
    return all(map(_NAME.fullmatch, names)) and (len(names) == 1 or names[-1] in LOCAL)


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """Return the address that a host is, in any form that resolvers take: 134744072 and 0x8.8.2056 are 8.8.8.8."""
    try:
        return ipaddress.IPv4Address(socket.inet_aton(host))
    except (OSError, UnicodeError):
        pass
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address
