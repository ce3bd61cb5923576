"""Ways out of a network: the gateway that every host serves, and containers' way to the outside.

Files
  service     the gateway of a network: a port of the switch, behind which a namespace of our own routes
  egress      containers' second interface: one per target, kept true by an audit
  ground      the host's side of it: bridge, forwarding, rules
  claim       which of several agents in one namespace has it
  ledger      what of it is on disk
  pool        the bridge's subnet and the targets' addresses: which are free
  published   `--publish`: its words, and holding the port
  rules       the nftables of egress, as a function of what they are for
  nft         running nft
  docker_user the few rules that Docker's firewall needs to let it pass
  tool        running a program of the firewall's
"""
