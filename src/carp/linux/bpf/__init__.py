"""Programs in the kernel: the fence, which silences a daemon that is dead, stopped or mute, and balances load; and a filter.

`carp.bpf.c` and the headers beside it are the source of the fence, `hearing.bpf.c` that of the filter, and `tools/build_bpf`
makes the objects of them; `libbpf` loads these by the system's library, `tc` attaches programs to interfaces. `fence` and
`balancer` are what the daemon uses, `claims` keeps apart what both say about an address; `hearing` is for packet sockets.
"""
