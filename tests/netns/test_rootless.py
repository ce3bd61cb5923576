"""The lab as an ordinary user: no capability, no account, nothing but user namespaces and /dev/net/tun.

this machine, root of the tests
  └─ mount namespace: the tree can be read, /dev/net/tun has the mode that the test wants   (ordinary_user.py)
       └─ user UID: `vxlanu lab …`, or the tests that are marked `rootless`
            └─ user namespace: the lab's supervisor is its root; hosts, containers, agents
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytest

from vxlanu.lab.topology import Lab, poll, running_labs

pytestmark = pytest.mark.netns

UID = 61300 + os.getpid() % 4000  # nobody's: above what adduser gives; two runs on one machine do not meet
TESTS = Path(__file__).resolve().parents[1]
ROOT = TESTS.parent
NOT_SHOWN = shutil.ignore_patterns(".git", "build", "__pycache__", ".*_cache", ".hypothesis")
VXLANU = str(Path(sys.executable).with_name("vxlanu"))
SLEEPER = ("/bin/sh", "-c", "exec sleep 1000")
REACHED = 'for _ in 1 2 3 4 5; do ping -n -c 1 -W 10 "$0" && exit; sleep 1; done; exit 1'
DEMO_S = 280  # as in test_demo.py
_numbers = count(1)
Completed = subprocess.CompletedProcess[str]


def processes() -> dict[int, str]:
    """What runs as the ordinary user, by command line."""
    found = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if entry.stat().st_uid == UID:
                found[int(entry.name)] = (entry / "cmdline").read_text().replace("\0", " ")
        except OSError:
            continue  # it ended while we looked
    return found


def for_all(path: Path) -> bool:
    """Whether others may read a file or folder, and pass or run what its owner may."""
    mode = path.lstat().st_mode
    return stat.S_ISLNK(mode) or mode & 0o005 == mode >> 6 & 0o005


def everything_in(folder: Path) -> Iterator[Path]:
    """The folder itself and what an ordinary user is shown of it."""
    yield folder
    for place, folders, files in os.walk(folder):
        hidden = NOT_SHOWN(place, [*folders, *files])
        folders[:] = [name for name in folders if name not in hidden]
        yield from (Path(place, name) for name in (*folders, *files) if name not in hidden)


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """This tree if others may read it (root's umask may be 077), else a copy that they may."""
    if all(map(for_all, everything_in(ROOT))):
        return ROOT
    copied = shutil.copytree(ROOT, tmp_path_factory.mktemp("tree") / "copy", symlinks=True, ignore=NOT_SHOWN)
    for path in everything_in(copied):
        if not path.is_symlink():
            path.chmod(path.stat().st_mode | path.stat().st_mode >> 6 & 0o005)
    return copied


class User:
    """Runs commands as an ordinary user with a home of its own; `lab` is an id that nobody else uses."""

    def __init__(self, home: Path, tree: Path) -> None:
        self.home, self.tree = home, tree
        self.lab = f"user-{os.getpid()}-{next(_numbers)}"

    def run(self, *command: str, tun: str = "666", timeout_s: float = 120, status: int = 0) -> Completed:
        wrapper = [sys.executable, TESTS / "ordinary_user.py", str(UID), self.home, tun, self.tree, "--"]
        done = subprocess.run([*wrapper, *command], capture_output=True, text=True, timeout=timeout_s, check=False)
        assert done.returncode == status, f"{command}: status {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    def vxlanu_lab(self, verb: str, *words: str) -> str:
        return self.run(VXLANU, "lab", verb, "--lab", self.lab, *words).stdout

    def inside(self, place: str, *command: str) -> str:
        return self.vxlanu_lab("exec", place, "--", *command)

    def up(self) -> None:
        self.vxlanu_lab("up", "--hosts", "2", "--containers", "1")

    def end(self) -> None:
        """Whatever a test that failed has left."""
        for pid, line in processes().items():
            if "vxlanu.lab.supervisor" in line and self.lab in line:
                os.kill(pid, signal.SIGKILL)


@pytest.fixture
def user(require: Callable[..., None], tree: Path) -> Iterator[User]:
    require("native")
    home = Path(tempfile.mkdtemp(prefix="vxt-home-", dir="/tmp"))  # tmp_path is its owner's alone
    home.chmod(0o755)
    os.chown(home, UID, UID)
    made = User(home, tree)
    try:
        yield made
    finally:
        made.end()
        shutil.rmtree(home)


def test_who_runs_these_tests_has_no_capability(user: User) -> None:
    status = user.run("grep", "-E", "^(Uid|Cap|Groups)", "/proc/self/status").stdout.split("\n")
    said = {line.split(":")[0]: line.split(":")[1].split() for line in status if line}
    assert said["Uid"] == [str(UID)] * 4
    assert said["Groups"] == []
    assert said["CapPrm"] == said["CapEff"] == said["CapAmb"] == ["0" * 16]
    user.run("ip", "netns", "add", f"vxt{os.getpid()}", status=1)


def test_a_user_has_a_lab_from_up_to_down(user: User) -> None:
    user.up()
    assert user.inside("h1", "id", "-u").strip() == "0", "of the user namespace"
    user.inside("h1", "vxlanu", "network", "create", "demonet", "--subnet", "192.168.0.0/24")
    user.inside("h1", "vxlanu", "attach", "demonet", "c1-1", "--ip", "192.168.0.100")
    user.inside("h2", "vxlanu", "attach", "demonet", "c2-1")
    user.inside("c2-1", "sh", "-c", REACHED, "192.168.0.100")
    user.vxlanu_lab("agent", "kill", "h1")
    rows = {row["name"]: row["state"] for row in json.loads(user.vxlanu_lab("ls", "--json"))["items"]}
    assert rows["h1"].startswith("down"), rows
    user.vxlanu_lab("agent", "start", "h1")
    user.inside("c2-1", "sh", "-c", REACHED, "192.168.0.100")
    status = json.loads(user.inside("h1", "vxlanu", "status", "--json"))
    missing = {row["name"]: row["why"] for row in status["offloads"] if not row["in_use"]}
    assert "CAP_NET_ADMIN" in missing["rcvbufforce"], "the one rung that a user namespace does not reach is shown"
    user.vxlanu_lab("down")
    poll(lambda: not processes(), f"everything to be gone: {processes()}")


def test_a_user_is_told_the_whole_story(user: User) -> None:
    assert "Every step of the demo held" in user.run(VXLANU, "lab", "demo", timeout_s=DEMO_S).stdout
    poll(lambda: not processes(), f"everything to be gone: {processes()}")


def test_the_labs_of_two_users_with_one_id_do_not_meet(user: User, make_lab: Callable[..., Lab]) -> None:
    user.lab = roots = make_lab(hosts=1, containers=0, agent=SLEEPER).plan.lab
    user.up()
    assert roots in running_labs()
    names = {row["name"] for row in json.loads(user.vxlanu_lab("ls", "--json"))["items"]}
    assert names == {"h1", "h2", "c1-1", "c2-1"}
    assert Lab.find(roots).hosts() == ["h1"], "root finds its own"
    user.vxlanu_lab("down")
    assert Lab.find(roots).agents() == {"h1": None}
    assert "not running" in user.run(VXLANU, "lab", "ls", "--lab", user.lab, status=4).stderr, "and the user not root's"


def test_a_device_that_the_user_may_not_open_is_named_with_what_to_do(user: User) -> None:
    said = user.run(VXLANU, "lab", "up", "--lab", user.lab, tun="600", status=6).stderr
    assert "/dev/net/tun: Permission denied" in said and "chmod 0666 /dev/net/tun" in said, said
    assert len(said.splitlines()) == 1


def test_forbidden_user_namespaces_are_named_with_the_switch(user: User) -> None:
    """In a user namespace whose limit is 0, without the capabilities that would make another unnecessary."""
    script = (
        "echo 0 > /proc/sys/user/max_user_namespaces; exec setpriv --bounding-set=-all --inh-caps=-all "
        f"{VXLANU} lab up --lab {user.lab}"
    )
    said = user.run("unshare", "--user", "--map-root-user", "sh", "-c", script, status=6).stderr
    assert "user.max_user_namespaces is 0" in said and "sysctl -w user.max_user_namespaces=" in said, said
    assert len(said.splitlines()) == 1


@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    "chosen",
    [
        "overlay.py::test_all_pairs_ping",
        *(pytest.param(f"{it}.py", marks=pytest.mark.accept) for it in ("overlay", "gateway", "failures", "bad_input")),
    ],
)
def test_what_needs_only_a_lab_holds_without_root(user: User, chosen: str) -> None:
    """Whole files by `make accept`; `make test` has that such a test runs as a user, and what is above."""
    options = ["-q", "-p", "no:cacheprovider", "-m", "rootless", "--rootdir", str(ROOT)]
    tests = TESTS / "netns" / f"test_{chosen}"
    config = ["-c", str(ROOT / "pyproject.toml")]
    said = user.run(sys.executable, "-m", "pytest", *options, *config, str(tests), timeout_s=800).stdout
    last = said.strip().splitlines()[-1]
    assert "passed" in last and "deselected" not in last, said
