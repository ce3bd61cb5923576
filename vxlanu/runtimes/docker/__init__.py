"""Docker: the socket plugin that it calls, and its API, which we call. Podman's API speaks like it."""
