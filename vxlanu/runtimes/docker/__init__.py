"""Docker's network plugin: the agent as `-d vxlanu --ipam-driver vxlanu`.

How it works
  dockerd finds the socket by its name and asks by HTTP: an address, an endpoint, an interface. The interface is a TAP
  in the host's namespace, which dockerd moves into the container, renames and addresses; our descriptors move with it.
  Docker's ids mean something on one host only, so a Docker network says which network of ours it stands for, by
  `vxlanu.network=NAME` or by its subnet.

Files
  shapes    the requests and answers as they cross the socket (libnetwork's remote drivers, API version 1)
  server    the socket: sizes, times, errors
  absence   who answers on it when the agent is killed
  stand_in  that process, a program of its own
  ledger    what must outlive us, since Docker never says it twice
  pools     which of our networks is meant
  ipam      IpamDriver
  driver    NetworkDriver
  plugin    the above put together, the start after a crash, and what was forgotten in the middle
and of Docker's API, which we call (podman's socket speaks like it)
  client    containers, networks
  names     endpoints get the names of their containers
  sync      networks of the cluster in Docker's list
  events    following, for ever

Docker's own API is never called from inside a request: dockerd holds locks while it waits for us.
"""
