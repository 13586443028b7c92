"""The daemon: one loop and one timer around the engine, and the hands that carry its actions out.

`runtime` runs rounds, `hardware` keeps the kernel's objects as the configuration wants them, `ownership` takes and releases
addresses, `chronicle` writes the log. `control`, `conversation`, `routes` and `api` answer clients: `status` says what is,
`administration` changes it, `event_stream` tells what happens, `pacing` keeps long answers from holding the loop. `main`
starts and stops it all.
"""
