"""Whether a word that a user, a file or a peer wrote is an IP address.

Rules of this file
  1. Nothing but the standard library: whoever reads words may ask, the command line too.
  2. What `ipaddress` takes is one, with the zone of a link too (fe80::1%eth0), and never with a prefix length.
"""

from __future__ import annotations

import ipaddress

__all__ = ["is_address"]


def is_address(text: str, version: int | None = None) -> bool:
    """Of that IP version, or of any."""
    try:
        found = ipaddress.ip_address(text).version
    except ValueError:
        return False
    return version in (None, found)
