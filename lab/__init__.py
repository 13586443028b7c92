"""The laboratory: small LANs of network namespaces in which real daemons run on the real kernel.

From below upward: `netns` makes namespaces; `lan` wires them to a switch whose ports can fail in the ways real ports do;
`host` runs a daemon in one; `probe` asks the shared addresses for an answer every millisecond from a process of its own;
`measure` turns its record into figures; `events` listens to what a daemon tells; `witness` asks in every other way and names
who speaks, frame by frame; `strikes` takes the MASTER out and says whether two hosts ever spoke; `parents` gives hosts a
second LAN; `scenes` and `show` are `make lab`. Nothing here is shipped, and nothing of `carp` is imported: the laboratory
judges the programs from outside.

All instants are integer nanoseconds of CLOCK_MONOTONIC, which every process of a machine shares.
"""
