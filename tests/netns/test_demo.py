"""`vxlanu lab demo` from its first line to its last, as `make demo` runs it: with tshark, and with what replaces it."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from vxlanu.lab.demo import steps
from vxlanu.lab.topology import running_labs

pytestmark = pytest.mark.netns

LIMIT_S = 280
"""The demo takes about 12 s and promises a minute; times are checked by `make accept`."""


@pytest.mark.parametrize("dissector", ["tshark", "vxlanu.lab.wire"])
def test_the_demo_tells_its_whole_story(dissector: str, tmp_path: Path, require: Callable[..., None]) -> None:
    require("native", "ip", "ping")
    path = os.environ["PATH"]
    if dissector == "tshark":
        require("tshark")
    else:
        for tool in ("ip", "ping"):
            found = shutil.which(tool)
            assert found is not None
            (tmp_path / tool).symlink_to(found)
        path = str(tmp_path)
    program = "import sys; from vxlanu.cli.main import main; sys.exit(main(['lab', 'demo']))"
    command, environment = [sys.executable, "-u", "-c", program], os.environ | {"PATH": path}
    spoken, complaints = tmp_path / "said.txt", tmp_path / "complained.txt"  # there also after one that did not end
    with (
        spoken.open("w") as out, complaints.open("w") as err,
        subprocess.Popen(command, env=environment, stdout=out, stderr=err) as demo,
    ):
        try:
            with contextlib.suppress(subprocess.TimeoutExpired):
                demo.wait(LIMIT_S)
        finally:
            demo.kill()
    said = spoken.read_text()
    assert demo.returncode == 0, said[-6000:] + complaints.read_text()
    told = re.findall(r"^(\d+)\. (.*)$", said, re.MULTILINE)
    assert [title for _, title in told] == [step.title for step in steps()]
    assert "Every step of the demo held" in said.splitlines()[-1]
    assert re.search(rf"^underlay # .*{re.escape(dissector)} ", said, re.MULTILINE)
    assert "VXLAN Network Identifier (VNI): 256" in said
    assert f"demo-{demo.pid}" not in running_labs(), "not without a trace"
