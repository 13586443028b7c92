/* SPDX-License-Identifier: ISC */
/* Which slots and nodes are open, and what follows for a packet. The default is closed. */
#ifndef CARP_NODES_H
#define CARP_NODES_H

static __always_inline bool is_open(__u32 slot)
{
	__u64 *found = bpf_map_lookup_elem(&carp_deadlines, &slot);
	__u64 deadline;

	if (!found)
		return false;
	deadline = *(volatile __u64 *)found;
	return deadline != 0 && bpf_ktime_get_boot_ns() < deadline;
}

static __always_inline int judge(__u32 slot)
{
	__u64 *dropped;

	if (is_open(slot))
		return TC_ACT_UNSPEC;
	/* Only here: a packet that passes touches no shared counter. */
	dropped = bpf_map_lookup_elem(&carp_dropped, &slot);
	if (dropped)
		__sync_fetch_and_add(dropped, 1);
	return TC_ACT_SHOT;
}

static __always_inline bool are_balances(void)
{
	__u32 first = 0;
	__u64 *balances = bpf_map_lookup_elem(&carp_balanced, &first);

	return balances && *(volatile __u64 *)balances != 0;
}

static __always_inline struct balance *balance_at(__u32 place)
{
	return bpf_map_lookup_elem(&carp_balances, &place);
}

static __always_inline __u32 mask_of(const struct balance *balance)
{
	__u32 index = balance->index;
	__u64 *mask = bpf_map_lookup_elem(&carp_masks, &index);

	return mask ? *(volatile __u64 *)mask : 0;
}

static __always_inline bool is_before_deadline(__u32 slot, __u64 now)
{
	__u64 *deadline = bpf_map_lookup_elem(&carp_deadlines, &slot);

	return deadline && now < *(volatile __u64 *)deadline;
}

/* The compiler forgets what it knows of the index, so that it keeps the bound for the verifier to see. */
static __always_inline const struct node *node_at(const struct balance *balance, __u32 index)
{
	__u64 bound = index;

	asm volatile("" : "+r"(bound));
	return &balance->nodes[bound & (NODES - 1)];
}

/* A node is open while it is MASTER here and its advertisements leave in time. */
static __always_inline bool is_node_open(const struct balance *balance, __u32 node, __u64 now)
{
	if (node >= NODES || !(mask_of(balance) >> node & 1))
		return false;
	return is_before_deadline(node_at(balance, node)->slot, now);
}

/* Functions with loops are not static: the verifier goes through such a one once, and not at every call. */
/* The first open node, NODES if there is none. */
__noinline int first_open(const struct balance *balance, __u64 now)
{
	__u32 node, mask;

	if (!balance)
		return NODES;
	mask = mask_of(balance);
	for (node = 0; node < NODES; node++) {
		if (mask >> node & 1 && is_before_deadline(node_at(balance, node)->slot, now))
			return node;
	}
	return NODES;
}

static __always_inline bool is_any_open(const struct balance *balance, __u64 now)
{
	return first_open(balance, now) < NODES;
}

/* Tells whether a MAC address speaks for the addresses of a balance from here: the shared one, or that of an open node. */
__noinline int is_ours(const struct balance *balance, const struct mac *mac, __u64 now)
{
	__u32 node;

	if (!balance || !mac)
		return false;
	if (balance->decision == PACKETS)
		return is_same_mac(mac, &balance->shared_mac) && is_node_open(balance, 0, now);
	for (node = 0; node < NODES; node++) {
		if (node < balance->count && is_same_mac(mac, &node_at(balance, node)->mac) && is_node_open(balance, node, now))
			return true;
	}
	return false;
}

/* A frame that one node decides on: it passes or drops, and is counted. A large one counts as the packets in it. */
static __always_inline int decide(struct __sk_buff *skb, const struct balance *balance, __u32 node, __u64 now)
{
	bool passes = is_node_open(balance, node, now);
	__u32 place = balance->index * NODES + node;
	__u32 packets = skb->gso_segs;
	struct count *count = NULL;

	if (node < NODES)
		count = bpf_map_lookup_elem(&carp_counts, &place);
	if (!packets)
		packets = 1;
	if (count && passes) {
		count->kept_packets += packets;
		count->kept_bytes += skb->len;
	} else if (count) {
		count->dropped_packets += packets;
		count->dropped_bytes += skb->len;
	}
	return passes ? TC_ACT_UNSPEC : TC_ACT_SHOT;
}

#endif
