"""The helper of an agent that runs already: `python -m vxlanu.nsopen.again FD AGENT`.

The first helper is a fork of the agent before it had threads. One that is started later cannot be: a fork of a program
with threads may hold their locks for ever. So it is a program of its own, and gets its end of the control socket as FD.
"""

from __future__ import annotations

import os
import socket
import sys

from vxlanu.nsopen.helper import serve

__all__: list[str] = []

if __name__ == "__main__":
    control, agent = int(sys.argv[1]), int(sys.argv[2])
    if os.getppid() == agent:
        serve(socket.socket(fileno=control), agent)
