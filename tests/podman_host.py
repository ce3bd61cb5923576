"""Podman on one of docker_hosts.py's hosts: by its command line alone, or with its API's socket, too.

Rules of this file
  1. Podman is asked with nothing of Docker's in the environment; its state is in the host's own /var/lib and /run.
  2. Its containers are in the host's control groups, so that the end of the host is the end of every trace of them.
"""

from __future__ import annotations

import subprocess

from docker_hosts import DockerHost
from docker_image import write_image
from lab_ns import poll

__all__ = ["IMAGE", "PodmanHost"]

IMAGE = "localhost/busybox"
SOCKET = "/run/podman/podman.sock"
AS_PODMAN = ("env", "-u", "DOCKER_CONFIG", "podman")

# What podman needs on a host that is not a machine of its own: no limits to raise, control groups of either version,
# no journal, locks that are not in the /dev/shm of all hosts, and no network of its own making.
CONFIGURATION = """
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
lock_type = "file"
runtime = "runc"
"""


class PodmanHost:
    """Podman with an image, on a host that may have it already."""

    def __init__(self, host: DockerHost) -> None:
        self.host = host
        self._serving: subprocess.Popen[bytes] | None = None
        host.run("mkdir", "-p", "/etc/containers", "/run/podman")
        host.path("/etc/containers/containers.conf").write_text(CONFIGURATION)
        if host.call("podman", "image", "exists", IMAGE).returncode != 0:
            image = host.folder / "podman.tar"
            write_image(image)
            self("import", str(image), IMAGE)
            image.unlink()

    def __call__(self, *words: str) -> str:
        """What `podman WORDS` printed; a failure carries all of its output."""
        return self.host.run(*AS_PODMAN, *words)

    def call(self, *words: str) -> subprocess.CompletedProcess[str]:
        """`podman WORDS` to its end, whatever that is."""
        return self.host.call(*AS_PODMAN, *words)

    def run_container(self, name: str) -> None:
        """One without a network, that ends when it is told to."""
        group = ("--cgroup-parent", self.host.cgroup)
        self("run", "-d", "--init=false", "--name", name, "--network", "none", *group, IMAGE, "sleep", "36000")

    def listen(self) -> None:
        """Offer the API, as podman.socket does."""
        self._serving = self.host.start("podman", "system", "service", "--time", "0", f"unix://{SOCKET}", log="podman")
        poll(self.answers, what="podman answers", story=self.story)

    def answers(self) -> bool:
        """Whether somebody listens on the socket."""
        asked = self.host.call("podman", "--remote", "--url", f"unix://{SOCKET}", "version")
        return asked.returncode == 0

    def stop_listening(self, *, leave_socket: bool = False) -> None:
        """End the API's server; what a crash of it leaves is its socket."""
        if self._serving:
            self.host.run("pkill", "-9", "-f", "^podman system service")
            self._serving.wait(60)
            self._serving = None
        if not leave_socket:
            self.host.run("rm", "-f", SOCKET)

    def inspect(self, name: str, what: str) -> str:
        """A field of a container, as a template of podman's says it."""
        return self("inspect", "--type", "container", "--format", what, name)

    def story(self) -> str:
        """What the agent, podman and its containers say."""
        lines = self.host.log("podman").splitlines()[-20:]
        return "\n".join([self.host.story(), *lines, self.host.call("podman", "ps", "-a").stdout])

    def close(self) -> None:
        """Remove its containers and its socket."""
        gone = ("rm", "-f", "-a", "-t", "1")  # which may meet podman's own cleaning up
        poll(lambda: self.call(*gone).returncode == 0, what="no container of podman's", story=self.story)
        self.stop_listening()
