"""When each VTEP was last heard or sent to, to the second: what `wg show` calls the latest handshake.

The fast path counts and keeps no times. So the counters are looked at once a second: one that has grown means traffic
in that second.
"""

from __future__ import annotations

from vxlanu.dataplane import Dataplane, VtepRef


class Traffic:
    """The age of every VTEP's last traffic."""

    def __init__(self, dataplane: Dataplane) -> None:
        self._dataplane = dataplane
        self._seen: dict[VtepRef, tuple[int, float | None]] = {}

    def look(self, now: float) -> None:
        """Once a second; a VTEP that is no longer in use is forgotten."""
        before, self._seen = self._seen, {}
        for vtep, (totals, _mtu) in self._dataplane.vteps().items():
            frames = totals.in_frames + totals.out_frames
            was, at = before.get(vtep, (0, None))
            self._seen[vtep] = (frames, now if frames != was else at)

    def age(self, vtep: VtepRef, now: float) -> float | None:
        """Seconds; None: no traffic yet."""
        at = self._seen.get(vtep, (0, None))[1]
        return None if at is None else round(max(0.0, now - at), 1)
