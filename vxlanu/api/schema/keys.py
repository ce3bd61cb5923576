"""The records as keys and values, in the shape of Consul's KV store.

Rules: vxlanu/api/schema/__init__.py, but for the spelling of the fields, which is Consul's.
"""

from __future__ import annotations

from msgspec import Struct


class KeyValue(Struct, rename="pascal"):
    """One key. `value` is base64; an index counts changes of the records, as this agent has seen them."""

    lock_index: int
    key: str
    flags: int
    value: str
    create_index: int
    modify_index: int
