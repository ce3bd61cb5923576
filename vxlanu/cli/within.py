"""Being where a container is: this process moves into the network namespace of a local endpoint, for good.

Rules of this file
  1. The namespace is the one that the agent attached, told by its inode: a name that means another by now is refused.
  2. Only the network changes: files, processes and the user stay this host's.
"""

from __future__ import annotations

import os

from vxlanu.api.schema import EndpointDetail
from vxlanu.errors import NotFound, Refused

__all__ = ["move_into"]


def move_into(endpoint: EndpointDetail) -> None:
    """Move this process; the caller ends in there.

    Raises:
        NotFound: the endpoint is on another host, or its namespace has ended.
        Refused: it takes root, or the owner of a rootless container.
    """
    what = f"endpoint {endpoint.name}"
    if not endpoint.local or not endpoint.netns_path:
        raise NotFound(what, f"it is on {endpoint.node}", hint="the same there", name="not_local")
    from vxlanu.nsopen.place import Place  # loads what only the agent needs otherwise
    from vxlanu.nsopen.wire import PermissionMissing

    try:
        fd = os.open(endpoint.netns_path, os.O_RDONLY | os.O_CLOEXEC)
    except PermissionError as error:
        raise Refused(what, "its namespace is not yours to enter", hint="as root", name="permission_denied") from error
    except OSError as error:
        raise NotFound(what, f"{endpoint.netns_path}: {error.strerror}", name="namespace_missing") from error
    try:
        if os.fstat(fd).st_ino != endpoint.netns_inode:
            why = f"{endpoint.netns_path} is another namespace by now, or seen from another mount namespace"
            raise NotFound(what, why, name="namespace_missing")
        Place(-1, fd, False).go_to_target()
    except PermissionMissing as error:
        hint = "as root, or as the owner of the container"
        raise Refused(what, f"{error.what}: {error.why}", hint=hint, name="permission_denied") from error
    finally:
        os.close(fd)
