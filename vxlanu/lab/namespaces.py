"""The system calls of the lab, and the small program that runs a command inside one.

    python -I -S namespaces.py PID NAME -- COMMAND...

runs COMMAND in the network namespace NAME of the lab whose supervisor is PID (`underlay`: the supervisor's own), and in
its mount, pid and user namespaces. Run by path, so that it starts in 20 ms: it imports nothing of the project.

Rules of this file
  1. Standard library only, and no import at the top that the program does not need.
  2. The command dies with the program, whatever ends it; the program ends as the command ended.

Python 3.11 has no os.setns and no os.unshare (3.12 has), and mount(2) and prctl(2) are in no version: hence ctypes.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

CLONE_NEWNS = 0x00020000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000
MS_NOSUID, MS_NODEV, MS_NOEXEC = 2, 4, 8
MS_BIND, MS_REC, MS_PRIVATE = 0x1000, 0x4000, 0x40000
PR_SET_PDEATHSIG, PR_SET_NAME = 1, 15

_libc = ctypes.CDLL(None, use_errno=True)


def _checked(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def unshare(flags: int) -> None:
    """Leave the parent's namespaces; with CLONE_NEWPID only children are in the new one."""
    _checked(_libc.unshare(flags), "unshare")


def become_own_root() -> None:
    """Into a new user namespace in which this user, and nobody else, is root: `unshare --map-root-user`."""
    user, group = os.geteuid(), os.getegid()
    unshare(CLONE_NEWUSER)
    for name, text in (("setgroups", "deny"), ("uid_map", f"0 {user} 1"), ("gid_map", f"0 {group} 1")):
        with open(f"/proc/self/{name}", "w") as file:
            file.write(text)


def setns(path: str, kind: int) -> None:
    """Enter the namespace that `path` names, which must be of `kind`."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        _checked(_libc.setns(fd, kind), f"setns {path}")
    finally:
        os.close(fd)


def mount(source: str, target: str, fstype: str | None, flags: int, data: str = "") -> None:
    """mount(2)."""
    kind = None if fstype is None else fstype.encode()
    done = _libc.mount(source.encode(), target.encode(), kind, ctypes.c_ulong(flags), data.encode())
    _checked(done, f"mount {target}")


def cover_etc(real: str) -> None:
    """A directory of our own over /etc, full of links into the real one, which is at `real` now: what agents write
    below /etc/netns ends with the mount namespace, and everything else is as it was."""
    os.mkdir(real, 0o755)  # noqa: PTH102 - as in main
    mount("/etc", real, None, MS_BIND | MS_REC)
    mount("tmpfs", "/etc", "tmpfs", MS_NOSUID | MS_NODEV, "mode=755")
    for name in os.listdir(real):  # noqa: PTH208 - as in main
        if name != "netns":
            os.symlink(f"{real}/{name}", f"/etc/{name}")  # noqa: PTH211 - as in main


def _use_names_of(name: str) -> None:
    """As `ip netns exec` does: the resolv.conf of a namespace over everybody's, for this command alone."""
    file = f"/etc/netns/{name}/resolv.conf"
    if os.path.exists(file):  # noqa: PTH110 - as in main
        unshare(CLONE_NEWNS)
        mount("none", "/", None, MS_REC | MS_PRIVATE)
        mount(file, "/etc/resolv.conf", None, MS_BIND)


def die_with_parent() -> None:
    """Ask for SIGKILL when the parent thread ends."""
    _checked(_libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0), "prctl")


def set_title(title: str) -> None:
    """The name that `ps -o comm` shows; the kernel keeps 15 bytes."""
    _checked(_libc.prctl(PR_SET_NAME, title.encode()[:15], 0, 0, 0), "prctl")


def _run_inside(pid: int, name: str, command: list[str], cwd: str) -> None:
    """The child: already in the pid namespace, it enters the other two and becomes the command. Never returns."""
    die_with_parent()
    network = f"/proc/{pid}/ns/net" if name == "underlay" else f"/proc/{pid}/root/run/netns/{name}"
    try:
        setns(network, CLONE_NEWNET)
        setns(f"/proc/{pid}/ns/mnt", CLONE_NEWNS)
        _use_names_of(name)
    except OSError as error:
        print(f"vxlanu: lab exec {name}: {error.strerror}", file=sys.stderr)
        os._exit(4 if isinstance(error, FileNotFoundError) else 6)
    try:
        os.chdir(cwd)
    except OSError:
        os.chdir("/")
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGPIPE):
        signal.signal(number, signal.SIG_DFL)
    try:
        os.execvp(command[0], command)
    except OSError as error:
        print(f"vxlanu: lab exec {name}: {command[0]}: {error.strerror}", file=sys.stderr)
        os._exit(127 if isinstance(error, FileNotFoundError) else 126)


def main(arguments: list[str]) -> int:
    """Run COMMAND inside and return its exit status as a shell gives it (128 + signal)."""
    pid, name, separator, *command = arguments
    if separator != "--" or not command:
        print("usage: namespaces.py PID NAME -- COMMAND...", file=sys.stderr)
        return 2
    cwd = os.getcwd()  # noqa: PTH109 - pathlib would double the start time
    try:
        if os.stat(f"/proc/{pid}/ns/user").st_ino != os.stat("/proc/self/ns/user").st_ino:  # noqa: PTH116 - as above
            setns(f"/proc/{pid}/ns/user", CLONE_NEWUSER)
        setns(f"/proc/{pid}/ns/pid", CLONE_NEWPID)
    except OSError as error:
        print(f"vxlanu: lab exec {name}: {error.strerror}: is the lab still up?", file=sys.stderr)
        return 6 if isinstance(error, PermissionError) else 4
    child = os.fork()
    if child == 0:
        _run_inside(int(pid), name, command, cwd)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal sends it to the command as well
    signal.signal(signal.SIGTERM, lambda number, frame: os.kill(child, number))
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
