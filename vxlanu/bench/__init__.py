"""`vxlanu bench pcap`: the frames of captures through the C fast path, checked and timed.

Files
  frames   which packets of capture files are carried, and which are not and why
  measure  what is timed: operations, sizes, tables, repeats
  report   results as text and as JSON, with what they were taken on

Nothing here knows how a frame is carried: vxlanu.dataplane.bench calls the rooms themselves.
"""
