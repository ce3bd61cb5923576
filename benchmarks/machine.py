"""What a run was made on and with: the machine, the cables, the versions of tools."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

from benchmarks.results import Machine
from vxlanu.bench.report import machine as codec_machine
from vxlanu.lab.topology import Lab

__all__ = ["TOOLS", "commit", "machine", "offloads", "tools"]

TOOLS = {"iperf3": ["--version"], "sockperf": ["--version"], "ip": ["-V"], "ethtool": ["--version"]}
FEATURES = (
    "tx-checksum-ip-generic", "tx-tcp-segmentation", "tx-tcp6-segmentation", "tx-udp-segmentation",
    "tx-udp_tnl-segmentation", "tx-udp_tnl-csum-segmentation", "generic-receive-offload",
)  # fmt: skip
VULNERABILITIES = Path("/sys/devices/system/cpu/vulnerabilities")


def machine() -> Machine:
    """This one, now."""
    about = codec_machine()
    return Machine(
        cpu=str(about["cpu"]),
        cores=int(about["cpus"]),
        caches=str(about["caches"]),
        memory_mib=os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") >> 20,
        hypervisor=_hypervisor(),
        kernel=str(about["kernel"]),
        clock_source=_said("/sys/devices/system/clocksource/clocksource0/current_clocksource"),
        congestion=_said("/proc/sys/net/ipv4/tcp_congestion_control"),
        mitigations=_mitigations(),
        compiler=str(about["compiler"]),
        python=str(about["python"]),
    )


def commit() -> tuple[str, str]:
    """vxlanu's version, and the commit of its clone."""
    about = codec_machine()
    return str(about["version"]), str(about["commit"])


def offloads(lab: Lab, host: str) -> dict[str, bool]:
    """What the host's end of its cable can do, of that which counts for a tunnel."""
    shown = lab.exec(host, ["ethtool", "--json", "-k", "eth0"], check=False).stdout
    try:
        features = json.loads(shown)[0]
    except (ValueError, IndexError):  # ethtool before 6.0 has no JSON
        lines = lab.exec(host, ["ethtool", "-k", "eth0"]).stdout.splitlines()
        features = {key.strip(): {"active": value.split()[0] == "on"} for key, _, value in _pairs(lines)}
    return {name: bool(features[name]["active"]) for name in FEATURES if name in features}


def _pairs(lines: Iterable[str]) -> Iterable[tuple[str, str, str]]:
    return (line.partition(":") for line in lines if line.partition(":")[2].strip())


def tools() -> dict[str, str]:
    """Versions of the clients; `missing` where there is none."""
    return {name: _version([name, *flags]) if shutil.which(name) else "missing" for name, flags in TOOLS.items()}


def _version(command: list[str]) -> str:
    """The first line with a digit in it; some say it on stderr."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=10)
    lines = (done.stdout + done.stderr).splitlines()
    return next((line.strip() for line in lines if any(map(str.isdigit, line))), "no version said")


def _said(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return ""


def _hypervisor() -> str:
    """systemd-detect-virt knows more than the CPU's flag, where it is there."""
    if " hypervisor" not in _said("/proc/cpuinfo"):
        return ""
    if not shutil.which("systemd-detect-virt"):
        return "yes"
    done = subprocess.run(["systemd-detect-virt", "--vm"], capture_output=True, text=True, check=False, timeout=10)
    return done.stdout.strip() if done.returncode == 0 else "yes"


def _mitigations() -> dict[str, str]:
    found = {path.name: _said(str(path)) for path in sorted(VULNERABILITIES.glob("*"))}
    return {name: state.removeprefix("Mitigation: ") for name, state in found.items() if state.startswith("Mitigation")}
