"""The one door: HTTP and JSON on a unix socket. `schema` is the contract, `routes` and `server` the agent's side."""
