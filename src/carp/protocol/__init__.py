"""CARP alone: no socket, file, clock, thread or log; the standard library's data types only.

A host tells its `Engine` what happened (`events`) and when, and carries out what the engine asks for (`actions`)::

    engine = Engine(counter_start, random.Random())
    for action in engine.handle(event, now):
        ...
    wake_up_at = engine.next_deadline()

Time is an argument everywhere: integer nanoseconds on one clock (`values.Instant`). The parts, from the wire upwards: `packet`
reads and writes advertisements, `auth` makes and checks their digests, `dialect` lists what differs between the BSDs and
ucarp, `interval` turns advbase and advskew into time, `table` is the state machine of a virtual host, `vhost` carries it out,
`election` weighs two hosts, `patience` knows how long peers wait, `sending` makes advertisements, `interface` groups virtual
hosts on one carp interface, `demotion` knows why this host should not be MASTER, and `engine` runs them all.

Docstrings name their sources: PROTOCOL.md is the behaviour of the BSDs as read from their kernels, WIRE.md what was confirmed
on the wire, LINUX.md what was measured on Linux. What they say for users is in `docs/`.
"""
