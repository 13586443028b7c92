"""The attendant: an unprivileged process beside carpd that runs hooks and checks, so that none can delay or crash it.

`orders` is what the two tell each other; `carp.daemon` starts the process and `python -m carp.attendant` is it.
"""
