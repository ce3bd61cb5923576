"""What a capture of all inner frames costs at the highest rate of small packets; `make accept` prints it.

    c1-1 ─ h1 ── h2 ─ c2-1        datagrams of 64 bytes from c1-1, captured on h1 into a file in memory

Rounds with and without a capture take turns, so that what else the machine does meets both. Everything runs on the
same CPUs, the capture's writer, stream and command included: on a machine of its own each of them would cost less.
"""

from __future__ import annotations

import signal
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from capture_command import capturing
from capture_file import counted_in
from streams import pings

from vxlanu.lab.topology import Lab, poll

pytestmark = [pytest.mark.accept, pytest.mark.netns, pytest.mark.interop("iperf3", "capinfos")]

ROUNDS = 5
SECONDS = 2
PROMISED = 0.75
MEMORY = Path("/dev/shm")


def counters(lab: Lab, host: str) -> dict[str, int]:
    """Frames of the endpoint of a host, as the endpoint sees them."""
    (row,) = (row for row in lab.vxlanu(host, "stats") if row["scope"] == "endpoint")
    return {key: int(row[key]) for key in ("sent_frames", "received_frames")}


def delivered(lab: Lab) -> int:
    """Frames that reached c2-1 while c1-1 sent as fast as it goes."""
    before = counters(lab, "h2")["received_frames"]
    with lab.running("c2-1", ["iperf3", "-s", "-1", "--forceflush"]) as server:
        assert server.stdout
        while "listening" not in (line := server.stdout.readline()):
            assert line, server.stderr and server.stderr.read()
        command = ["iperf3", "-c", "192.168.0.20", "-u", "-b", "0", "-l", "64", "-t", str(SECONDS), "-J"]
        lab.exec("c1-1", command)
    return counters(lab, "h2")["received_frames"] - before


def test_forwarding_falls_by_a_quarter_at_most_and_what_is_lost_is_said(make_lab: Callable[..., Lab]) -> None:
    lab = make_lab(hosts=2, containers=1)
    lab.vxlanu("h1", "network", "create", "look", "--subnet", "192.168.0.0/24")
    lab.vxlanu("h1", "attach", "look", "c1-1", "--ip", "192.168.0.10")
    lab.vxlanu("h2", "attach", "look", "c2-1", "--ip", "192.168.0.20")
    poll(lambda: pings(lab, "c1-1", "192.168.0.20"), "the overlay", 20)
    rates: dict[bool, list[float]] = {False: [], True: []}
    shares = []
    with tempfile.TemporaryDirectory(dir=MEMORY) as directory:
        file = Path(directory) / "f.pcapng"
        for _ in range(ROUNDS):
            rates[False].append(delivered(lab) / SECONDS / 1000)
            with capturing(lab, "--direction", "out", "-w", file) as running:
                before = counters(lab, "h1")["sent_frames"]
                rates[True].append(delivered(lab) / SECONDS / 1000)
                sent = counters(lab, "h1")["sent_frames"] - before
                code, _out, said = running.end(signal.SIGINT)
            assert code == 0
            frames, lost = int(said.split()[0]), int(said.split()[-2])
            shares.append(lost / sent)
            assert abs(frames + lost - sent) <= 20, (frames, lost, sent)  # a router solicitation may fall between
            assert counted_in(file) == frames
    for on, values in rates.items():
        print(f"\n{'with' if on else 'without'} a capture: median {statistics.median(values):.0f} k frames/s "
              f"(of {ROUNDS}: {min(values):.0f} to {max(values):.0f})", end="")  # fmt: skip
    ratio = statistics.median(on / off for off, on in zip(rates[False], rates[True], strict=True))
    print(f"\nratio, median of rounds {ratio:.2f}, promised {PROMISED}; "
          f"lost to the capture, and said: median {statistics.median(shares):.0%}")  # fmt: skip
    assert ratio >= PROMISED
