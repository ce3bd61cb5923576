"""Captures: what a file begins with, one capture from request to end, and files read again.

Files
  blocks    pcapng blocks that Python makes: section, interfaces, names
  wanted    what a request names, resolved: endpoints, networks, VTEPs
  session   a capture of this host: follows endpoints that come and go, and empties the pipe that the frames come by
  reading   frames of capture files, with what the files say of each
  dissect   what a frame says, in a line
  lines     frames of a file, with names, for people and for programs

The frames themselves are written by the fast path's own thread (native/recorder.c).
"""
