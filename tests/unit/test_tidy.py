"""The form of the code: what a program can check of the rules of the house.

How it works
  A rule is a function from (path, text) to complaints. Each stands in CASES beside two samples: one that breaks it and
  one that just keeps it. Every rule is run over its samples (it bites, and not too early), then over the repository.

What is counted
  Python functions: lines from `def` to the end without the docstring, at most 40. C functions: lines between the
  braces, at most 60. Files: at most 600 lines. Lines: at most 120 columns, a tab in C being eight.
"""

from __future__ import annotations

import ast
import os
import re
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("native", "control", "vxlanu", "tests", "benchmarks", ".ci")
TOP_FILES = ("Makefile", "setup.py", "pyproject.toml", "README.md", "CHANGELOG.md")
WRITTEN_BY_PROGRAMS = {"benchmarks/REPORT.md"}
TEXT_SUFFIXES = {".py", ".pyi", ".c", ".h", ".sh", ".md", ".toml", ".txt", ""}
C_SUFFIXES = (".c", ".h")

PYTHON_FUNCTION_LINES = 40
C_FUNCTION_LINES = 60
FILE_LINES = 600
COLUMNS = 120

CORE_MAY_NOT = {"asyncio", "socket", "ssl", "time", "random", "os", "threading", "logging"}
NATIVE_DOORS = ("vxlanu/dataplane.py", "vxlanu/dataplane/", "vxlanu/nsopen.py", "vxlanu/nsopen/")
HOT = [
    f"native/{room}.c"
    for room in (
        *("vxlan", "eth", "arp", "nd", "ecn", "csum", "gso", "train", "gro", "toobig", "burst", "inject"),  # pure
        *("spin", "guard", "switch", "tap", "sock", "uplink", "transmit", "worker"),
    )
]
BANNED_NAMES = {"util", "utils", "helpers", "manager", "common"}
MARKERS = ("TO" + "DO", "FIX" + "ME", "XX" + "X")

AS_DESIGNED = """
    vxlan_invalid_hdr vxlan_vni_not_found hdr_trunc vtep_unknown vtep_mac mac_invalid_source local_mac mac_pending
    src_mac_spoof src_ip_spoof arp_spoof fdb_miss neigh_miss no_tx_target split_horizon storm_limit vlan ip_tunnel_ecn
    pkt_too_big csum gso_invalid ring_full tap_down rx_overflow sock_full sock_error unreachable network_conflict
    shutdown
"""
DESIGN_REASONS = set(AS_DESIGNED.split())


def sources() -> Iterator[tuple[str, str]]:
    """Every text file of the repository that people write; symlinks (vxlanu/control) are seen once, at their target."""
    for name in TOP_FILES:
        if (ROOT / name).is_file():
            yield name, (ROOT / name).read_text()
    for folder in FOLDERS:
        for place, folders, files in os.walk(ROOT / folder):
            folders[:] = sorted(f for f in folders if f != "__pycache__" and not f.endswith(".egg-info"))
            for file in sorted(Path(place, name) for name in files):
                name = file.relative_to(ROOT).as_posix()
                if file.suffix in TEXT_SUFFIXES and not file.is_symlink() and name not in WRITTEN_BY_PROGRAMS:
                    yield name, file.read_text()


# -- rules: (path, text) -> complaints ---------------------------------------------------------------------------------


def python_functions_are_short(path: str, text: str) -> Iterator[str]:
    if not path.endswith(".py"):
        return
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno is not None
            lines = node.end_lineno - node.lineno + 1 - _docstring_lines(node)
            if lines > PYTHON_FUNCTION_LINES:
                yield f"{path}:{node.lineno}: {node.name} has {lines} lines"


def _docstring_lines(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    first = node.body[0]
    if ast.get_docstring(node, clean=False) is None or first.end_lineno is None:
        return 0
    return first.end_lineno - first.lineno + 1


def c_functions_are_short(path: str, text: str) -> Iterator[str]:
    """A body is what stands between a line that opens a brace in column 0, or behind `)`, and a `}` in column 0."""
    if not path.endswith(C_SUFFIXES):
        return
    opened = 0
    for number, line in enumerate(text.splitlines(), 1):
        if line == "{" or re.match(r"[A-Za-z_].*\)\s*\{$", line):
            opened = number
        elif line.startswith("}") and opened:
            if number - opened - 1 > C_FUNCTION_LINES:
                yield f"{path}:{opened}: a function of {number - opened - 1} lines"
            opened = 0


def files_are_short(path: str, text: str) -> Iterator[str]:
    lines = text.count("\n")
    if lines > FILE_LINES:
        yield f"{path}: {lines} lines"


def lines_are_narrow(path: str, text: str) -> Iterator[str]:
    for number, line in enumerate(text.splitlines(), 1):
        if len(line.expandtabs(8)) > COLUMNS:
            yield f"{path}:{number}: {len(line.expandtabs(8))} columns"


def every_file_has_a_head(path: str, text: str) -> Iterator[str]:
    suffix = PurePosixPath(path).suffix
    if suffix == ".py" and ast.get_docstring(ast.parse(text)) is None:
        yield f"{path}: no docstring says what it is for"
    if suffix == ".pyi" and not text.startswith(('"""', "#")):
        yield f"{path}: no head says what it is for"
    if suffix in C_SUFFIXES and not text.startswith("/* "):
        yield f"{path}: no comment at the top says what it is for"
    if suffix in ("", ".sh") and not re.match(r"(#!.*\n)?# \S", text):
        yield f"{path}: no comment at the top says what it is for"


def no_marker_of_unfinished_work(path: str, text: str) -> Iterator[str]:
    for number, line in enumerate(text.splitlines(), 1):
        if any(re.search(rf"\b{marker}\b", line) for marker in MARKERS):
            yield f"{path}:{number}: {line.strip()}"


def names_say_something(path: str, text: str) -> Iterator[str]:
    """No file, class or function is called after a drawer into which anything fits."""
    if BANNED_NAMES & set(_words(PurePosixPath(path).stem)):
        yield f"{path}: the file's name"
    if path.endswith(".py"):
        for node in ast.walk(ast.parse(text)):
            defined = isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
            if defined and BANNED_NAMES & set(_words(getattr(node, "name", ""))):
                yield f"{path}: {getattr(node, 'name', '')}"


def _words(name: str) -> list[str]:
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", name).lower().split("_")


def the_core_is_pure(path: str, text: str) -> Iterator[str]:
    if not path.startswith("control/core/") or not path.endswith(".py"):
        return
    for line, module in _imports(text, path):
        outside = module.split(".")[0] == "vxlanu" and not module.startswith("vxlanu.control")
        if module.split(".")[0] in CORE_MAY_NOT or outside:
            yield f"{path}:{line}: imports {module}"


def one_door_to_the_native_module(path: str, text: str) -> Iterator[str]:
    shipped = path.startswith(("vxlanu/", "control/")) and path.endswith(".py")
    if not shipped or path.startswith(NATIVE_DOORS):
        return
    for line, module in _imports(text, path):
        if module.split(".")[-1] == "_native" or "._native." in module:
            yield f"{path}:{line}: imports {module}"


def _imports(text: str, path: str) -> Iterator[tuple[int, str]]:
    """(line, module) of every import, wherever it stands; `from a import b` gives both a and a.b."""
    package = PurePosixPath(path).parent.as_posix().replace("/", ".")
    package = re.sub(r"^control\b", "vxlanu.control", package)
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            module = ".".join([*above, node.module] if node.module else above)
            yield node.lineno, module
            yield from ((node.lineno, f"{module}.{alias.name}") for alias in node.names)


def types_are_not_waved_through(path: str, text: str) -> Iterator[str]:
    if not path.endswith(".py"):
        return
    for number, module in _imports(text, path):
        if module == "typing.Any":
            yield f"{path}:{number}: imports Any"
    for number, line in enumerate(text.splitlines(), 1):
        if re.search(r"#\s*type: ignore(?!\[[\w, -]+\]\s+#\s*\S)", line) and "re.search" not in line:
            yield f"{path}:{number}: an ignored type without a code and a reason"


def the_hot_path_neither_allocates_nor_formats(path: str, text: str) -> Iterator[str]:
    if path not in HOT:
        return
    for number, line in _c_code(text):
        if found := re.search(r"\b(malloc|calloc|realloc|strdup|free|\w*printf|puts|perror|syslog)\s*\(", line):
            yield f"{path}:{number}: {found[1]}"


def _c_code(text: str) -> Iterator[tuple[int, str]]:
    """Lines without comments and string literals, numbered as in the file."""
    blanked = re.sub(r"/\*.*?\*/", lambda m: re.sub(r"[^\n]", " ", m[0]), text, flags=re.DOTALL)
    for number, line in enumerate(blanked.splitlines(), 1):
        yield number, re.sub(r'"(\\.|[^"\\])*"', '""', line).split("//")[0]


def wire_structs_have_a_size(path: str, text: str) -> Iterator[str]:
    """A packed struct lies on the wire, so its size is asserted in the file that declares it."""
    if not path.endswith(C_SUFFIXES):
        return
    mark = r"__attribute__\s*\(\(\s*packed"
    for found in re.finditer(rf"struct\s+(\w+)\s*\{{[^{{}}]*\}}\s*{mark}|struct\s+{mark}\s*\)\)\s*(\w+)", text):
        name = found[1] or found[2]
        if not re.search(rf"static_assert\s*\(\s*sizeof\s*\(\s*struct\s+{name}\b", text):
            yield f"{path}: struct {name} has no static_assert on its size"


def nothing_of_one_machine(path: str, text: str) -> Iterator[str]:
    for number, line in enumerate(text.splitlines(), 1):
        if re.search(r"(?<![\w.}])/(root|work|home/\w+)/", line) and "re.search" not in line:
            yield f"{path}:{number}: {line.strip()}"


Rule = Callable[[str, str], Iterator[str]]


@dataclass(frozen=True, slots=True)
class Case:
    """A rule, a path it applies to, a text that breaks it, and one that keeps it."""

    rule: Rule
    path: str
    bad: str
    good: str


def _python_function(lines: int) -> str:
    return "def f():\n" + '    """Not\n    counted."""\n' + "    x = 1\n" * (lines - 1)


def _c_struct(lines: int) -> str:
    return "struct a {\n" + "\tint x;\n" * lines + "};\n"


def _c_function(lines: int) -> str:
    return "int f(void)\n{\n" + "\tx++;\n" * lines + "}\n"


IGNORE = "# type" + ": ignore"
PACKED_BEHIND = "struct w {\n\tint x;\n} __attribute__((packed));\n"
PACKED_BEFORE = "struct __attribute__((packed)) w {\n\tint x;\n};\n"
ASSERTED = 'static_assert(sizeof(struct w) == 4, "as on the wire");\n'

CASES = [
    Case(python_functions_are_short, "vxlanu/a.py", _python_function(41), _python_function(40)),
    Case(c_functions_are_short, "native/a.c", _c_function(61), _c_function(60)),
    Case(c_functions_are_short, "native/a.c", _c_function(61).replace(")\n{", ") {"), _c_struct(99)),
    Case(files_are_short, "vxlanu/a.py", "x\n" * 601, "x\n" * 600),
    Case(lines_are_narrow, "native/a.c", "\t" + "x" * 113, "\t" + "x" * 112),
    Case(every_file_has_a_head, "vxlanu/a.py", "import re\n", '"""It is for this."""\n'),
    Case(every_file_has_a_head, "native/a.c", "#include <x.h>\n", "/* a.c - it is for this */\n"),
    Case(every_file_has_a_head, "tests/setup-a", "#!/bin/bash\nset -e\n", "#!/bin/bash\n# It is for this.\n"),
    Case(no_marker_of_unfinished_work, "native/a.h", f"/* {MARKERS[0]}: later */", "/* methods and toads */"),
    Case(names_say_something, "vxlanu/a.py", "def common_part(): ...\n", "class NamespaceHelper: ...\n"),
    Case(names_say_something, "vxlanu/a.py", "class TapManager: ...\n", "class Tap: ...\n"),
    Case(the_core_is_pure, "control/core/a.py", "def f():\n    from time import time\n", "import re, msgpack\n"),
    Case(the_core_is_pure, "control/core/a.py", "from vxlanu.errors import Conflict\n", "from . import records\n"),
    Case(the_core_is_pure, "control/core/a.py", "import os.path\n", "from vxlanu.control.core import x\n"),
    Case(one_door_to_the_native_module, "vxlanu/agent/a.py", "from vxlanu import _native\n", "import vxlanu.native\n"),
    Case(one_door_to_the_native_module, "vxlanu/a.py", "from ._native import lib\n", "from . import dataplane\n"),
    Case(types_are_not_waved_through, "vxlanu/a.py", "from typing import Any\n", "from typing import AnyStr\n"),
    Case(types_are_not_waved_through, "vxlanu/a.py", f"x = y  {IGNORE}\n", f"x = y  {IGNORE}[misc]  # untyped\n"),
    Case(the_hot_path_neither_allocates_nor_formats, "native/eth.c", "x = malloc(4);", '/* malloc() */ f("free(");'),
    Case(wire_structs_have_a_size, "native/a.h", PACKED_BEHIND, "struct w {\n\tint x;\n};\n"),
    Case(wire_structs_have_a_size, "native/a.h", PACKED_BEFORE, PACKED_BEFORE + ASSERTED),
    Case(nothing_of_one_machine, "README.md", "cd " + "/ro" + "ot/vxlanu\n", "cd /var/lib/vxlanu\n"),
]


RULES = list(dict.fromkeys(case.rule for case in CASES))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.rule.__name__)
def test_the_rule_bites_and_not_too_early(case: Case) -> None:
    assert list(case.rule(case.path, case.bad)), "the sample that breaks the rule passes"
    assert not list(case.rule(case.path, case.good))


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_house_keeps_its_rules(rule: Rule) -> None:
    complaints = [complaint for path, text in sources() for complaint in rule(path, text)]
    assert not complaints, "\n" + "\n".join(complaints)


def test_a_file_name_is_judged_too() -> None:
    assert list(names_say_something("vxlanu/net_utils.py", ""))
    assert not list(names_say_something("vxlanu/commons_reader.py", ""))


def test_the_walk_sees_the_whole_house() -> None:
    """An empty walk would keep every rule."""
    seen = {path for path, _ in sources()}
    assert {"control/core/records.py", "native/reasons.h", "vxlanu/errors.py", "tests/unit/test_tidy.py"} <= seen
    assert not [path for path in seen if path.startswith("vxlanu/control/")]


# -- the packages ------------------------------------------------------------------------------------------------------


def _packages_on_disk(root: Path) -> set[str]:
    """Every folder with an __init__.py, under the name by which it is imported."""
    found = {init.parent.relative_to(root).as_posix() for init in (root / "vxlanu").rglob("__init__.py")}
    found = {folder for folder in found if not folder.startswith("vxlanu/control")}
    found |= {"vxlanu/" + init.parent.relative_to(root).as_posix() for init in (root / "control").rglob("__init__.py")}
    return {folder.replace("/", ".") for folder in found}


def test_the_packages_listed_are_the_folders(tmp_path: Path) -> None:
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    assert set(listed) == _packages_on_disk(ROOT)
    assert listed == sorted(listed)
    (tmp_path / "vxlanu" / "new").mkdir(parents=True)
    (tmp_path / "vxlanu" / "new" / "__init__.py").touch()
    assert _packages_on_disk(tmp_path) == {"vxlanu.new"}, "a new folder would go unseen"


def test_control_is_a_link_for_tools_that_read_the_tree() -> None:
    link = ROOT / "vxlanu" / "control"
    assert link.is_symlink()
    assert link.readlink() == Path("../control")


# -- the drop reasons --------------------------------------------------------------------------------------------------


def _reasons(header: str) -> dict[str, str]:
    """Enumerator -> spelling, of every X(NAME, "spelling", "sentence") that has a sentence."""
    code = re.sub(r"/\*.*?\*/", "", header, flags=re.DOTALL)
    return dict(re.findall(r'X\(\s*([A-Z0-9_]+),\s*"([a-z0-9_]+)",\s*"[^"]{8,}', code))


def test_drop_reasons_are_spelled_as_designed() -> None:
    reasons = _reasons((ROOT / "native" / "reasons.h").read_text())
    missing = DESIGN_REASONS - set(reasons.values())
    assert not missing
    assert all(name.lower() == spelling for name, spelling in reasons.items())
    assert not _reasons('X(CSUM, "csum", "short")'), "a reason without a sentence would pass"


def test_a_further_reason_has_a_test_that_provokes_it() -> None:
    further = set(_reasons((ROOT / "native" / "reasons.h").read_text()).values()) - DESIGN_REASONS
    tests = "".join(text for path, text in sources() if path.startswith("tests/") and "test_tidy" not in path)
    further.discard("ok")
    unproved = [name for name in sorted(further) if f"VX_{name.upper()}" not in tests and f'"{name}"' not in tests]
    assert not unproved
