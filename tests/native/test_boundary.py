"""The stub that Python is checked against says what the C boundary says; ids from outside are held to their ranges."""

from __future__ import annotations

import ast
import errno
import re
from pathlib import Path

import pytest

from vxlanu._native import ffi, lib

ROOT = Path(__file__).resolve().parents[2]
CDEF = re.sub(r"/\*.*?\*/", "", (ROOT / "native" / "vxlanu.cdef.h").read_text(), flags=re.DOTALL)
STUB = {
    node.name: node
    for node in ast.parse((ROOT / "vxlanu" / "_native.pyi").read_text()).body
    if isinstance(node, ast.ClassDef)
}
STRUCTS = {
    "Config": "vx_config",
    "Prefix": "vx_prefix",
    "Member": "vx_member",
    "FdbEntry": "vx_fdb_entry",
    "Neighbor": "vx_neighbor",
    "SoftEntry": "vx_soft_entry",
    "PortInfo": "vx_port_info",
    "Event": "vx_event",
    "Counters": "vx_counters",
    "Verdict": "vx_verdict",
    "CaptureConfig": "vx_capture_config",
    "CaptureInfo": "vx_capture_info",
    "BenchConfig": "vx_bench_config",
    "BenchCensus": "vx_bench_census",
}


def fields(name: str) -> list[str]:
    return [
        node.target.id
        for node in STUB[name].body
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
    ]


def test_every_function_of_the_boundary_is_in_the_stub_with_as_many_arguments() -> None:
    declared = {
        name: 0 if arguments.strip() == "void" else arguments.count(",") + 1
        for name, arguments in re.findall(r"\b(vx_\w+)\(([^)]*)\);", CDEF)
    }
    stubbed = {
        node.name: len(node.args.posonlyargs + node.args.args) - 1
        for node in STUB["Lib"].body
        if isinstance(node, ast.FunctionDef)
    }
    assert len(declared) > 30
    assert stubbed == declared
    assert all(callable(getattr(lib, name)) for name in declared)


def test_every_constant_of_the_boundary_is_in_the_stub() -> None:
    declared = re.findall(r"#define (VX_\w+) \d+", CDEF)
    assert fields("Lib") == declared
    assert all(isinstance(getattr(lib, name), int) for name in declared)


@pytest.mark.parametrize("name", sorted(STRUCTS))
def test_every_field_of_a_struct_is_in_the_stub(name: str) -> None:
    described = getattr(ffi, "typeof")(STRUCTS[name])  # noqa: B009 - not in the stub: the product has no use for it
    in_c = [field for field, _ in described.fields if field != "reserved"]
    assert fields(name) == in_c


def test_no_constant_hides_a_drop_reason() -> None:
    """A macro spelled like an enumerator replaces it without a word, and frames count under another reason."""
    reasons = {f"VX_{name.upper()}" for name in reason_names()}
    assert "VX_NETWORK_CONFLICT" in reasons
    for header in (ROOT / "native").glob("*.h"):
        assert not reasons & set(re.findall(r"#define (VX_\w+)", header.read_text())), header.name


def reason_names() -> list[str]:
    return [ffi.string(lib.vx_reason_name(number)).decode() for number in range(lib.vx_reason_count())]


def test_reasons_have_names_and_sentences_and_strangers_are_unknown() -> None:
    names = reason_names()
    assert names[0] == "ok" and len(set(names)) == len(names) <= lib.VX_REASON_SLOTS
    assert all(" " in ffi.string(lib.vx_reason_text(n)).decode() for n in range(1, len(names)))
    for stranger in (-1, lib.vx_reason_count(), 2**31 - 1):
        assert ffi.string(lib.vx_reason_name(stranger)) == b"unknown"


def test_a_config_out_of_range_is_refused() -> None:
    made = ffi.new("vx_engine **")
    for wrong in ({"data_port": 0}, {"data_port": 4789, "workers": 99}, {"data_port": 4789, "tx_sockets": 999}):
        assert lib.vx_engine_new(ffi.new("vx_config *", wrong), made) == -errno.EINVAL
