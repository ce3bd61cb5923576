"""What pyproject.toml cannot say: the cffi extension (cffi issue 55), one abi3 wheel for CPython 3.11 and later, and
the man pages, which are drawn from the command line while the packages are collected (vxlanu/cli/manual.py)."""

import os
import subprocess
import sys
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


class WithManual(build_py):
    """Draws the pages into the build tree: as package data, and where man(1) looks beside the program."""

    def run(self) -> None:
        super().run()
        if self.editable_mode:
            return
        pages = Path(self.build_lib, "vxlanu", "share", "man")
        # A process of its own, since building must not import what it builds into itself.
        environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])}
        subprocess.run([sys.executable, "-m", "vxlanu.cli.manual", str(pages)], check=True, env=environment)
        self.distribution.data_files = [("share/man/man1", sorted(map(str, pages.glob("*.1"))))]


setup(
    cffi_modules=["native/build_native.py:ffibuilder"],
    cmdclass={"build_py": WithManual},
    options={"bdist_wheel": {"py_limited_api": "cp311"}},
)
