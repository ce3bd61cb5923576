"""Start a service as its systemd unit confines it, without systemd: `confined.py UNIT CONFIGURATION [SEEN...]`.

Runs in a mount namespace of its own (unshare --mount --propagation slave) and becomes the unit's ExecStart.
CONFIGURATION is what the service finds as its agent.toml; SEEN are trees below /tmp that PrivateTmp must not hide, for
the program itself is in them.

How it works
  First a machine: /run, /etc and /var/lib are in memory and the service's own, but for /run/netns, where new namespaces
  go on to appear. On it run the commands of ExecStartPre, which are not confined ("+"). Then the file system is made
  what the unit says, by bind mounts, and setpriv(1) drops the capabilities.

Rules of this file
  1. Every setting of [Service] is either done here or stands in LEFT_OUT with its reason: no new one is overlooked.
  2. What is done is read from the unit's own lines, never copied from them.

systemd.exec(5), systemd.service(5). The real thing is started in tests/kernels/units.py.
"""

from __future__ import annotations

import errno
import os
import resource
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

from vxlanu.lab.namespaces import MS_BIND, MS_REC, mount

MS_RDONLY, MS_NOSUID, MS_REMOUNT = 1, 2, 32
DONE = {
    *("ExecStart", "ExecStartPre", "Environment", "LimitNOFILE", "UMask", "CapabilityBoundingSet", "NoNewPrivileges"),
    *("ReadWritePaths", "StateDirectory", "StateDirectoryMode", "RuntimeDirectory", "ProtectSystem", "PrivateTmp"),
    *("ProtectHome", "ProtectControlGroups", "ProtectKernelModules", "DevicePolicy", "DeviceAllow"),
}
LEFT_OUT = {
    "a manager's own work, not the service's place": (
        *("Type", "NotifyAccess", "WatchdogSec", "Restart", "RestartSec", "RestartPreventExitStatus", "KillMode"),
        *("ExecReload", "ExecStopPost", "TimeoutStopSec", "FileDescriptorStoreMax", "RuntimeDirectoryPreserve"),
        "CPUWeight",
    ),
    "filters of system calls": (
        *("RestrictAddressFamilies", "RestrictRealtime", "RestrictSUIDSGID", "LockPersonality"),
        *("SystemCallArchitectures",),
    ),
    "a capability that the bounding set does not have": ("ProtectClock", "ProtectKernelLogs"),
}
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"  # systemd's for a service
HARMLESS = ("null", "zero", "full", "random", "urandom", "tty", "ptmx", "pts", "shm")  # of DevicePolicy=closed
HANDED_ON = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES")
COVERED = (errno.EINVAL, errno.ENOENT, errno.ENOTDIR)  # by another mount, or it was another test's and is gone
STAYS_WRITABLE = ("/proc", "/dev", "/sys")  # ProtectSystem=strict leaves the kernel's own file systems alone


class Service:
    """The section [Service] of a unit."""

    def __init__(self, text: str) -> None:
        self._lines: list[tuple[str, str]] = []
        section = ""
        for line in text.splitlines():
            if line.startswith("["):
                section = line
            elif section == "[Service]" and line and line[0] not in "#;":
                key, _, value = line.partition("=")
                self._lines.append((key, value))
        unknown = {key for key, _ in self._lines} - DONE - {key for keys in LEFT_OUT.values() for key in keys}
        assert not unknown, f"neither done nor left out for a reason: {unknown}"

    def values(self, key: str) -> list[str]:
        """Of every line of that key."""
        return [value for own, value in self._lines if own == key]

    def words(self, key: str) -> list[str]:
        return [word for value in self.values(key) for word in shlex.split(value)]

    def one(self, key: str) -> str:
        [value] = self.values(key)
        return value


def make_machine(configuration: str) -> None:
    """What a service can write is nobody else's."""
    namespaces = os.open("/run/netns", os.O_RDONLY)
    notify = os.open(os.environ["NOTIFY_SOCKET"], os.O_PATH)
    mount("tmpfs", "/run", "tmpfs", MS_NOSUID, "mode=755")
    Path("/run/netns").mkdir()
    mount(f"/proc/self/fd/{namespaces}", "/run/netns", None, MS_BIND | MS_REC)
    Path("/run/own-etc").mkdir()
    kept = [entry for entry in Path("/etc").iterdir() if entry.name not in ("netns", "vxlanu")]  # others' come and go
    subprocess.run(["cp", "-a", *kept, "/run/own-etc"], check=True)
    mount("/run/own-etc", "/etc", None, MS_BIND)
    Path("/etc/vxlanu").mkdir()
    shutil.copy(configuration, "/etc/vxlanu/agent.toml")
    mount("tmpfs", "/var/lib", "tmpfs", MS_NOSUID, "mode=755")
    os.environ["NOTIFY_SOCKET"] = "/run/notify"  # PrivateTmp would hide it where it is
    Path("/run/notify").touch()
    mount(f"/proc/self/fd/{notify}", "/run/notify", None, MS_BIND)
    os.close(namespaces)
    os.close(notify)


def prepare(service: Service) -> list[str]:
    """What runs before, and the directories that are made for it; all paths that it may write."""
    for command in service.values("ExecStartPre"):
        assert command.startswith("+"), "one that is confined itself"
        subprocess.run(shlex.split(command[1:]), check=True)
    made = [f"/var/lib/{name}" for name in service.words("StateDirectory")]
    made += [f"/run/{name}" for name in service.words("RuntimeDirectory")]
    for path in made:
        Path(path).mkdir()
    for name in service.words("StateDirectory"):
        Path(f"/var/lib/{name}").chmod(int(service.one("StateDirectoryMode"), 8))
    asked = service.words("ReadWritePaths")
    return made + [path.removeprefix("-") for path in asked if path[0] != "-" or Path(path[1:]).exists()]


def cover_tmp(seen: list[str]) -> None:
    """PrivateTmp=yes."""
    held = [(tree, os.open(tree, os.O_RDONLY)) for tree in seen]
    for path in ("/tmp", "/var/tmp"):
        mount("tmpfs", path, "tmpfs", MS_NOSUID, "mode=1777")
    for tree, fd in held:
        Path(tree).mkdir(parents=True, exist_ok=True)
        mount(f"/proc/self/fd/{fd}", tree, None, MS_BIND | MS_REC)
        os.close(fd)


def close_file_system(writable: list[str]) -> None:
    """ProtectSystem=strict with its ReadWritePaths, ProtectControlGroups, ProtectKernelModules."""
    for path in writable:
        mount(path, path, None, MS_BIND)
    points = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    left_alone = (*(f"{path}/" for path in STAYS_WRITABLE), "/run/netns/")
    for point in points:
        if point in (*writable, *STAYS_WRITABLE, "/tmp", "/var/tmp"):
            continue
        if point.startswith(left_alone) and not point.startswith("/sys/fs/cgroup"):
            continue
        try:
            mount("none", point, None, MS_REMOUNT | MS_BIND | MS_RDONLY)
        except OSError as why:
            if why.errno not in COVERED:
                raise
    if Path("/lib/modules").exists():
        mount("tmpfs", "/lib/modules", "tmpfs", MS_RDONLY, "mode=000")


def close_devices(allowed: list[str]) -> None:
    """DevicePolicy=closed with its DeviceAllow, of which every second word says how."""
    made = Path("/run/own-dev")
    made.mkdir()
    mount("tmpfs", str(made), "tmpfs", MS_NOSUID, "mode=755")
    for name in (*HARMLESS, *(path.removeprefix("/dev/") for path in allowed[::2])):
        node, place = Path("/dev", name), made / name
        if not node.exists():
            continue
        place.parent.mkdir(exist_ok=True)
        place.mkdir() if node.is_dir() else place.touch()
        mount(str(node), str(place), None, MS_BIND)
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        (made / name).symlink_to(f"/proc/self/fd/{number}")
    (made / "fd").symlink_to("/proc/self/fd")
    mount(str(made), "/dev", None, MS_BIND | MS_REC)


def limit_files(most: int) -> None:
    """LimitNOFILE, as far as this machine lets root go."""
    _, own = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = most if own == resource.RLIM_INFINITY else min(most, own)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def main(unit: str, configuration: str, *seen: str) -> None:
    """Become the service."""
    service = Service(Path(unit).read_text())
    for key, value in {"ProtectSystem": "strict", "PrivateTmp": "yes", "DevicePolicy": "closed"}.items():
        assert service.one(key) == value, f"{key} is done here as {value} only"
    environment = {name: os.environ[name] for name in HANDED_ON if name in os.environ}
    environment |= {"PATH": PATH} | dict(word.split("=", 1) for word in service.words("Environment"))
    make_machine(configuration)
    environment["NOTIFY_SOCKET"] = os.environ["NOTIFY_SOCKET"]
    writable = prepare(service)
    cover_tmp(list(seen))
    close_devices(service.words("DeviceAllow"))
    close_file_system(writable)
    limit_files(int(service.one("LimitNOFILE")))
    os.umask(int(service.one("UMask"), 8))
    kept = ",".join("+" + word.removeprefix("CAP_").lower() for word in service.words("CapabilityBoundingSet"))
    command = ["setpriv", f"--bounding-set=-all,{kept}", "--no-new-privs", "--", *service.words("ExecStart")]
    os.execvpe(command[0], command, environment)


if __name__ == "__main__":
    main(*sys.argv[1:])
