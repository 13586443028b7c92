/* SPDX-License-Identifier: ISC */
/* What leaves from balanced addresses: the host's share, and nothing that would teach a neighbour another MAC address. */
#ifndef CARP_LEAVING_H
#define CARP_LEAVING_H

static __always_inline int pass_if(bool condition)
{
	return condition ? TC_ACT_UNSPEC : TC_ACT_SHOT;
}

/* An error's counterpart follows the packet in it, which may be any node's. */
static __noinline int leave_ipv4(struct __sk_buff *skb, const struct frame *frame, int packet, __u32 place)
{
	struct balance *balance = balance_at(place);
	__u64 now = bpf_ktime_get_boot_ns();
	int message;

	if (!balance)
		return TC_ACT_SHOT;
	if (balance->decision != PACKETS || is_error_ipv4(icmp_type_ipv4(skb, frame, packet, &message)))
		return pass_if(is_any_open(balance, now));
	return pass_if(is_node_open(balance, bpf_ntohl(frame->ipv4.source ^ frame->ipv4.destination) % balance->count, now));
}

/*
 * Neighbour discovery from a balanced address tells every host about the link; the kernel's own gives the parent's MAC
 * address, and drops for it.
 */
static __noinline int leave_ipv6(struct __sk_buff *skb, const struct frame *frame, int packet, __u32 place)
{
	struct balance *balance = balance_at(place);
	int type = icmp_type_ipv6(skb, frame, packet);
	__u64 now = bpf_ktime_get_boot_ns();
	__be32 addresses[8];
	int found = ABSENT;
	struct mac mac;

	if (!balance)
		return TC_ACT_SHOT;
	if (is_discovery(type)) {
		/* Of the three that give their source's, each has eight bytes more in front of the options than the one before. */
		if (type < NEIGHBOUR_ADVERTISEMENT)
			found = find_option(skb, packet + IPV6_HEADER + ICMP_HEADER * (type - ROUTER_SOLICITATION + 1),
					    packet_end(frame, packet), SOURCE_LINK_LAYER, &mac);
		if (found == ABSENT)
			return pass_if(is_any_open(balance, now));
		return pass_if(found == PRESENT && is_ours(balance, &mac, now));
	}
	if (balance->decision != PACKETS || is_error_ipv6(type))
		return pass_if(is_any_open(balance, now));
	if (!load_ipv6(skb, packet, IPV6_SOURCE, addresses, 8))
		return TC_ACT_SHOT;
	return pass_if(is_node_open(balance, (fold_ipv6(addresses) ^ fold_ipv6(addresses + 4)) % balance->count, now));
}

/*
 * ARP with a balanced address as its sender. A kernel whose parent has no address of its own asks from the shared one, but with
 * the parent's MAC address, which nobody shall learn. Where macvlans have the nodes' MAC addresses, it asks through those.
 */
static __noinline int leave_arp(struct __sk_buff *skb, const struct frame *frame, int packet, __u32 place)
{
	struct balance *balance = balance_at(place);
	__u64 now = bpf_ktime_get_boot_ns();
	struct mac told;
	int node;

	if (!balance)
		return TC_ACT_SHOT;
	if (is_ours(balance, &frame->arp.sender_mac, now))
		return TC_ACT_UNSPEC;
	if (frame->arp.operation != bpf_htons(ARP_REQUEST) || (balance->decision != PACKETS && !balance->delivers))
		return TC_ACT_SHOT;
	node = first_open(balance, now);
	if (node >= NODES)
		return TC_ACT_SHOT;
	told = *answer_mac(balance, node);
	return pass_if(!bpf_skb_store_bytes(skb, packet + offsetof(struct arp, sender_mac), &told, sizeof(told), 0));
}

/* A neighbour advertisement for a balanced address. */
static __noinline int leave_advertisement(struct __sk_buff *skb, const struct frame *frame, int packet, __u32 place)
{
	struct balance *balance = balance_at(place);
	int options = packet + IPV6_HEADER + sizeof(struct neighbour);
	struct mac mac;

	if (!balance || find_option(skb, options, packet_end(frame, packet), TARGET_LINK_LAYER, &mac) != PRESENT)
		return TC_ACT_SHOT;
	return pass_if(is_ours(balance, &mac, bpf_ktime_get_boot_ns()));
}

#endif
