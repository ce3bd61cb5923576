"""The lab: several hosts and their containers on one machine, as network namespaces, with a real agent on each.

Who calls whom
  commands    the click group `vxlanu lab`; says what went wrong in one line
  demo        the story that `lab demo` tells, step by step, each step checked
  wire        explains a frame of the underlay where tshark is missing
  topology    `Lab`: what the commands, the demo and the tests hold in their hands
  supervisor  the one process that holds everything: first process of its own mount, pid and network namespaces
  barrier     why it cannot start here, and what to try
  plan        names, addresses and the commands that build the topology: pure
  namespaces  the four system calls behind it, and the small program that enters a lab

Nothing here imports more than the standard library, click, and the project's own errors.
"""
