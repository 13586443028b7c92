"""The daemon: one loop and one timer around the engine, and the hands that carry its actions out.

`runtime` runs rounds, `hardware` keeps the kernel's objects as the configuration wants them, `ownership` takes and releases
addresses, `chronicle` writes the log, `status` and `control` answer questions, `main` starts and stops it all.
"""
