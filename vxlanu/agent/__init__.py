"""The agent: the only place that wires the parts together.

Files, in the order of a life
  run         start and stop of the process: what is opened, in which order, and who hears of a failure
  away        `vxlanu agent --stand-in`, in place of all this
  advertise   which address the other hosts shall use
  logs        where events go
  journal     what the agent itself keeps on disk, and the control plane's rows
  agent       `Agent`: the parts, and what they tell each other
  lookup      from what a user types to the thing that is meant
  networks    create and remove; foreign VTEPs
  attach      attach, detach, and what vanishes by itself
  losses      what the kernel lost before the fast path saw it
  answers     the bodies of the API's lists
  service     the API's questions, answered
"""
