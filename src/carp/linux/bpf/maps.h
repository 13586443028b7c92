/* SPDX-License-Identifier: ISC */
/* What user space tells the programs, and what they count for it. fence.py and balancer.py know these layouts. */
#ifndef CARP_MAPS_H
#define CARP_MAPS_H

#define SLOTS 8192
#define VIPS 65536
#define BALANCES 128
#define NODES 32
#define MACS (BALANCES * (NODES + 1))
/* In the place of a node: the frame's addresses choose it. */
#define ANY_NODE 0xffff

/* A MAC address in three words, so that it is compared and copied without an alignment of four. */
struct mac {
	__u16 word[ETH_ALEN / 2];
};

/* A virtual address on a parent; IPv4 as ::ffff:a.b.c.d. Network byte order. */
struct vip {
	__u32 parent;
	__be32 address[4];
};

/* Who has a virtual address: a balance if `balance` is not 0, and else the carp interface with this slot. */
struct owner {
	__u32 slot;
	__u32 balance; /* its place in carp_balances, plus 1 */
};

/* A MAC address that a balance receives on a parent. */
struct port {
	__u32 parent;
	struct mac mac;
	__u16 zero;
};

struct receiver {
	__u16 balance; /* its place in carp_balances */
	__u16 node;    /* or ANY_NODE */
};

enum decision { PACKETS, ASKER_ADDRESS, ASKER_MAC, FIRST };

struct node {
	__u32 slot;
	__u32 hash[2];
	__u32 key_word;
	struct mac mac;
	__u16 zero;
};

struct balance {
	__u32 index; /* of its mask and, times NODES, of its counters */
	__u32 decision;
	__u32 count;
	struct mac shared_mac; /* PACKETS: of the addresses */
	struct mac reply_mac;  /* PACKETS: that answers come from */
	__u8 delivers;         /* Frames to a node's MAC are for the parent itself, as no macvlan takes them. */
	__u8 router;
	__u16 zero;
	struct node nodes[NODES];
};

struct count {
	__u64 kept_packets;
	__u64 kept_bytes;
	__u64 dropped_packets;
	__u64 dropped_bytes;
};

/* Deadlines by slot: nanoseconds on CLOCK_BOOTTIME, 0 = closed. User space writes them through a mapping. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, SLOTS);
	__type(key, __u32);
	__type(value, __u64);
} carp_deadlines SEC(".maps");

/* Packets dropped by slot. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, SLOTS);
	__type(key, __u32);
	__type(value, __u64);
} carp_dropped SEC(".maps");

/* The slot of each carp interface, by interface index. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, SLOTS);
	__type(key, __u32);
	__type(value, __u32);
} carp_links SEC(".maps");

/* The owner of each virtual address on a parent. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, VIPS);
	__type(key, struct vip);
	__type(value, struct owner);
} carp_vips SEC(".maps");

/* How many balances there are; none is what most hosts have, and one load tells them. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} carp_balanced SEC(".maps");

/* Two places for each balance, so that one is written while packets still follow the other. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 2 * BALANCES);
	__type(key, __u32);
	__type(value, struct balance);
} carp_balances SEC(".maps");

/* By index of the balance: bit i = node i is MASTER here. User space writes it through a mapping. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, BALANCES);
	__type(key, __u32);
	__type(value, __u64);
} carp_masks SEC(".maps");

/* Frames to a MAC address or to a virtual address that a node decided on. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, BALANCES * NODES);
	__type(key, __u32);
	__type(value, struct count);
} carp_counts SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, MACS);
	__type(key, struct port);
	__type(value, struct receiver);
} carp_macs SEC(".maps");

#endif
