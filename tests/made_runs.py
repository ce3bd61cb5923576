"""Runs of the benchmarks that nobody has measured, for the tests of what is computed and drawn from them."""

from __future__ import annotations

from benchmarks.results import Machine, MeterInfo, PeerInfo, Run, Sample, Series, Settings

TCP = MeterInfo("tcp-1", "TCP, 1 stream", "Gbit/s", True)
RTT = MeterInfo("rtt-tcp", "TCP round trip", "µs", False)


def run_of(*series: Series, meters: tuple[MeterInfo, ...] = (TCP,), missing: str = "", lost: str = "") -> Run:
    """Of vxlanu, kernel, and tinc if it says why that is `missing`; `lost` is the one of the two that is so as well."""
    machine = Machine(
        cpu="a CPU", cores=2, caches="", memory_mib=4096, hypervisor="kvm", kernel="6.1", clock_source="tsc",
        congestion="cubic", mitigations={}, compiler="gcc", python="3.11",
    )  # fmt: skip
    why = {lost: "it did not come up"}
    peers = [PeerInfo(name, f"what {name} is", "1", why.get(name, "")) for name in ("vxlanu", "kernel")]
    return Run(
        date="2026-01-01", version="0", commit="abc", machine=machine, offloads={"tx-udp-segmentation": True},
        tools={"iperf3": "3"}, settings=Settings(underlay="offload", family="ipv4", mtu=1500, rounds=5),
        peers=[*peers, PeerInfo("tinc", "tinc", missing=missing)] if missing else peers,
        meters=list(meters), series=list(series),
    )  # fmt: skip


def series(peer: str, *values: float, meter: str = "tcp-1", steal: dict[int, float] | None = None) -> Series:
    stolen = steal or {}
    samples = [Sample(at, value, steal=stolen.get(at, 0.0)) for at, value in enumerate(values, 1)]
    return Series(meter, peer, samples)
