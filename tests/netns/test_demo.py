"""`vxlanu lab demo` from its first line to its last, as `make demo` runs it: with tshark, and with what replaces it."""

from __future__ import annotations

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

LIMIT_S = 300
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
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ | {"PATH": path},
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr
    told = re.findall(r"^(\d+)\. (.*)$", done.stdout, re.MULTILINE)
    assert [title for _, title in told] == [step.title for step in steps()]
    assert "Every step of the demo held" in done.stdout.splitlines()[-1]
    assert re.search(rf"^underlay # .*{re.escape(dissector)} ", done.stdout, re.MULTILINE)
    assert "VXLAN Network Identifier (VNI): 256" in done.stdout
    assert not [lab for lab in running_labs() if lab.startswith("demo-")]
