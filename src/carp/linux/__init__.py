"""The ports: everything that touches the Linux kernel, in small pieces that know nothing of elections.

`packet_socket` sends and receives advertisements, `membership` joins the groups that switches must see, `announce` makes
gratuitous ARP and neighbour advertisements, `rtnetlink` and `netlink` speak to the routing socket, `links` keeps a table of
links and addresses, `carplink` makes the interface of a virtual host, `sysctl` and `journal` remember what was changed,
`worker` keeps slow calls off the event loop, `clock` has the one clock and the one timer.
"""
