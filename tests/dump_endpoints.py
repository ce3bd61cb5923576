"""A script as people wrote them for Docker's Consul: prints every container, with the standard library alone.

    dump_endpoints.py HOST PORT

It knows nothing of vxlanu. What it reads is what the walk-through of Docker's overlay of 2017 read: the keys below
docker/network/v1.0/endpoint/, the values base64 of JSON.
"""

import base64
import json
import sys
import urllib.request


def main(host: str, port: str) -> None:
    """One block a container."""
    url = f"http://{host}:{port}/v1/kv/docker/network/v1.0/endpoint/?recurse"
    with urllib.request.urlopen(url, timeout=10) as answer:
        found = json.load(answer)
    for one in found:
        if one["Value"] is None:
            continue
        endpoint = json.loads(base64.b64decode(one["Value"]))
        print("Endpoint Name:", endpoint["name"])
        print("IP address:", endpoint["ep_iface"]["addr"])
        print("MAC address:", endpoint["ep_iface"]["mac"])
        print("Locator:", endpoint["locator"])
        print()


if __name__ == "__main__":
    main(*sys.argv[1:])
