"""The public test kit: CARP hosts on a LAN that exists in memory only, in time that passes only when told.

`clock` holds the time, `packets` makes advertisements and wrong ones of each kind, `bench` drives one engine by hand, and
`lan` joins many hosts by a wire that loses, delays, doubles and reorders. `station` is one host of it, `kernel` what goes on
there without the daemon, `history` what was seen. Nothing here sleeps or opens a socket, and a seed repeats a run exactly::

    lan = VirtualLan(seed=1)
    for name, skew in (("a", 0), ("b", 100)):
        lan.add(name, carp_interface(advskew=skew))
    lan.run_for(seconds(4))
    assert lan.masters(1) == {"a"}
"""
