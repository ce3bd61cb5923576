"""The pure core of the control plane: membership, records, address management, wire codec.

Nothing in this package reads a clock, draws a random number of its own, or touches a socket, a file or a thread. Time
(`now`, monotonic seconds) and randomness (`Rng`) are arguments; what shall happen is returned as effects (effects.py).
`tests/unit/test_control_purity.py` checks the imports.
"""
