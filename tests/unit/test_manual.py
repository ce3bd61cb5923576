"""The man pages: one for every command, drawn from what --help says, and without a warning in either formatter."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from needs import require

from vxlanu.cli.main import COMMANDS
from vxlanu.cli.manual import pages, write

FORMATTERS = {"groff": ["groff", "-man", "-ww", "-z", "-Tutf8"], "mandoc": ["mandoc", "-Tlint", "-W", "warning"]}


def test_every_command_has_a_page_with_its_verbs_options_and_examples() -> None:
    found = pages()
    assert set(found) == {"vxlanu.1", *(f"vxlanu-{name}.1" for name in COMMANDS)}
    network = found["vxlanu-network.1"]
    for part in ('.SH "CREATE"', "vxlanu network rm [OPTIONS] NETWORK", "\\-\\-subnet CIDR", "Examples:"):
        assert part in network
    assert all(f".BR vxlanu-{name} (1)" in found["vxlanu.1"] for name in COMMANDS)


@pytest.mark.parametrize("formatter", FORMATTERS)
def test_the_pages_format_without_a_warning(formatter: str, tmp_path: Path) -> None:
    require(formatter)
    for file in write(tmp_path):
        done = subprocess.run([*FORMATTERS[formatter], str(file)], capture_output=True, text=True, check=False)
        assert done.stdout + done.stderr == "", file.name
    (tmp_path / "bad.1").write_text(".TH BAD 1\n.SH NAME\nbad\n.XX\n.PP\n")
    command = [*FORMATTERS[formatter], str(tmp_path / "bad.1")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout + done.stderr != "", "a check that finds nothing"


def test_the_same_sources_make_the_same_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "86400")
    first = pages()
    assert first == pages() and '"1970-01-02"' in first["vxlanu.1"]
