"""The fence: programs in the kernel's traffic control that silence a daemon which is dead, stopped or mute.

`carp.bpf.c` is the source of the programs, `carp.bpf.o` what `tools/build_bpf` makes of it; `libbpf` loads it by the system's
library, `tc` attaches programs to interfaces, `fence` is what the daemon uses.
"""
