"""The fence: programs in the kernel's traffic control that silence a daemon which is dead, stopped or mute, and balance load.

`carp.bpf.c` and the headers beside it are the source of the programs, `carp.bpf.o` what `tools/build_bpf` makes of it; `libbpf`
loads it by the system's library, `tc` attaches programs to interfaces, `fence` and `balancer` are what the daemon uses, and
`claims` keeps apart what both say about an address.
"""
