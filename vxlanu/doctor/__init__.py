"""`vxlanu doctor`: what is wrong on this host, and what to do about it.

Files
  finding    a finding: {check, state, what, why, try}
  facts      what was found out about the host, as values; None: could not be found out
  read       small readers that fill in the facts: /proc, /sys, tools; nothing is changed
  ports      a reader: who holds a port, kernel vxlan devices included
  workers    a reader: how long the agent's workers wait for a CPU
  gather     all readers and the agent, in one go: `Facts` for one run
  firewall   rules as values, and what they do to a packet; nft's JSON
  iptables   the same from iptables-save
  host       findings about the host itself, from facts
  egress     findings about containers' way to the outside, from facts
  network    findings about ports, firewall, paths and members, from facts: `netcheck` is these alone

Rules of this package
  1. Findings are pure functions of the facts, so that each can be tested in both states; readers judge nothing.
  2. What cannot be told is `skip`, never `ok`. `fail` is for what stops traffic, `warn` for what will hurt one day.
  3. Whatever is not ok says what to do, as a command wherever there is one.
"""
