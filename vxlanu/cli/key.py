"""`vxlanu key gen`: the secret that makes hosts one cluster.

Rules of this file
  1. A key file is 0600 from its first instant and never overwrites anything: a lost key is a lost cluster.
  2. 32 random bytes, base64, one line: what `--key-file` reads.
"""

from __future__ import annotations

import base64
import os
import secrets
from pathlib import Path

import click
import msgspec

from vxlanu.cli.command import Group, emit, wants_json
from vxlanu.errors import Conflict, NotFound, Refused, VxlanuError

__all__ = ["KEY_BYTES", "key"]

KEY_BYTES = 32

key = Group("key", help="The cluster key.", examples=["vxlanu key gen /etc/vxlanu/cluster.key"])


@key.verb(
    "gen", examples=["vxlanu key gen /etc/vxlanu/cluster.key", "vxlanu key gen | ssh h2 'umask 77; cat > cluster.key'"]
)
@click.argument("file", required=False, default="", type=click.Path(allow_dash=True))
def gen(file: str) -> None:
    """Make a cluster key: 32 random bytes in base64, to FILE (mode 0600, never overwritten) or to stdout."""
    made = base64.b64encode(secrets.token_bytes(KEY_BYTES)).decode()
    if file and file != "-":
        _keep(file, made)
        _say({"file": file}, f"{file} written; every host of the cluster needs a copy")
    else:
        _say({"key": made}, made)


def _say(facts: dict[str, str], line: str) -> None:
    if wants_json():
        emit(msgspec.json.encode(facts))
    else:
        click.echo(line)


def _keep(path: str, made: str) -> None:
    """Write the new file, or leave none."""
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise _blame(path, error) from error
    try:
        os.write(fd, made.encode() + b"\n")
        os.fsync(fd)
    except OSError as error:
        Path(path).unlink()
        raise _blame(path, error) from error
    finally:
        os.close(fd)


def _blame(path: str, error: OSError) -> VxlanuError:
    match error:
        case FileExistsError():
            why = "exists and is not overwritten"
            return Conflict(f"key gen {path}", why, name="file_exists", hint="another name, or move it away first")
        case FileNotFoundError() | NotADirectoryError():
            why = "its directory does not exist"
            return NotFound(f"key gen {path}", why, hint=f"mkdir -p {Path(path).parent}")
        case PermissionError():
            return Refused(f"key gen {path}", "you may not write there", name="permission_denied", hint="sudo")
    return VxlanuError(f"key gen {path}", error.strerror or str(error), name="os_error")
