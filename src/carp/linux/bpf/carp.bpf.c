// SPDX-License-Identifier: ISC
/*
 * The fence: three programs for traffic control that silence a daemon which no longer moves its deadlines. The default is closed.
 *
 * carp_link        on a carp interface, both directions: every packet drops.
 * carp_parent_in   on its parent, ingress: IP packets to a virtual address drop.
 * carp_parent_out  on its parent, egress: IP packets from a virtual address drop, and ARP packets and neighbour
 *                  advertisements that claim one.
 *
 * "Drop" is: unless the deadline of the slot lies in the future. Whatever does not drop goes on to the next filter
 * (TC_ACT_UNSPEC), so filters of others behind these are asked as before. Protocol 112 passes on the parent: elections go on
 * while the fence is closed.
 *
 * A balanced address belongs to several nodes, each with a slot of its own. On the parent the programs also answer for it, take
 * this host's share of its packets, and change no others.
 */
#include <stdbool.h>
#include <stddef.h>
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/ip.h>
#include <linux/pkt_cls.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "maps.h"
#include "frame.h"
#include "nodes.h"
#include "choice.h"
#include "options.h"
#include "answers.h"
#include "arriving.h"
#include "leaving.h"

SEC("tc")
int carp_link(struct __sk_buff *skb)
{
	__u32 ifindex = skb->ifindex;
	__u32 *slot = bpf_map_lookup_elem(&carp_links, &ifindex);

	return slot ? judge(*slot) : TC_ACT_SHOT;
}

SEC("tc")
int carp_parent_in(struct __sk_buff *skb)
{
	struct vip vip = { .parent = skb->ifindex };
	struct receiver *receiver;
	struct frame frame;
	int begin = read_frame(skb, &frame), verdict;
	struct owner *owner;
	__u32 addressed = 0;
	bool is_group;

	if (begin < 0)
		return TC_ACT_UNSPEC;
	if (frame.type == bpf_htons(ETH_P_IP)) {
		if (frame.ipv4.protocol == PROTOCOL_CARP)
			return TC_ACT_UNSPEC;
		set_ipv4(&vip, frame.ipv4.destination);
		is_group = is_group_ipv4(frame.ipv4.destination);
	} else if (frame.type == bpf_htons(ETH_P_IPV6)) {
		if (frame.ipv6.next_header == PROTOCOL_CARP)
			return TC_ACT_UNSPEC;
		if (!load_ipv6(skb, begin + ETH_HLEN, IPV6_DESTINATION, vip.address, 4))
			return TC_ACT_UNSPEC;
		is_group = is_group_ipv6(vip.address);
		if (are_balances() && is_solicitation(skb, &frame, begin, &verdict))
			return verdict;
	} else {
		/* Also ARP for other addresses: a host that is not MASTER must be able to resolve what another one holds. */
		if (!are_balances())
			return TC_ACT_UNSPEC;
		if (frame.type == bpf_htons(ETH_P_ARP))
			return arrive_arp(skb, &frame, begin);
		receiver = receiver_of(skb, &frame);
		return receiver && receiver->node == ANY_NODE ? TC_ACT_SHOT : TC_ACT_UNSPEC;
	}
	owner = bpf_map_lookup_elem(&carp_vips, &vip);
	if (owner) {
		addressed = owner->balance;
		if (!addressed) {
			verdict = judge(owner->slot);
			if (verdict != TC_ACT_UNSPEC)
				return verdict;
		}
	}
	if (is_group || !are_balances())
		return TC_ACT_UNSPEC;
	return arrive_ip(skb, &frame, begin + ETH_HLEN, addressed);
}

SEC("tc")
int carp_parent_out(struct __sk_buff *skb)
{
	struct vip vip = { .parent = skb->ifindex };
	struct frame frame;
	int packet = read_frame(skb, &frame), verdict;
	struct neighbour neighbour;
	struct owner *owner;
	__u32 addressed = 0;
	__be32 sender;

	if (packet < 0)
		return TC_ACT_UNSPEC;
	packet += ETH_HLEN;
	if (frame.type == bpf_htons(ETH_P_IP)) {
		if (frame.ipv4.protocol == PROTOCOL_CARP)
			return TC_ACT_UNSPEC;
		set_ipv4(&vip, frame.ipv4.source);
		owner = bpf_map_lookup_elem(&carp_vips, &vip);
		if (!owner)
			return TC_ACT_UNSPEC;
		return owner->balance ? leave_ipv4(skb, &frame, packet, owner->balance - 1) : judge(owner->slot);
	}
	if (frame.type == bpf_htons(ETH_P_ARP)) {
		if (frame.arp.hardware != bpf_htons(ARP_ETHERNET) || frame.arp.protocol != bpf_htons(ETH_P_IP) ||
		    frame.arp.hardware_length != ETH_ALEN || frame.arp.protocol_length != sizeof(__be32))
			return TC_ACT_UNSPEC;
		__builtin_memcpy(&sender, frame.arp.sender, sizeof(sender));
		set_ipv4(&vip, sender);
		owner = bpf_map_lookup_elem(&carp_vips, &vip);
		if (!owner)
			return TC_ACT_UNSPEC;
		return owner->balance ? leave_arp(skb, &frame, packet, owner->balance - 1) : judge(owner->slot);
	}
	if (frame.type != bpf_htons(ETH_P_IPV6) || frame.ipv6.next_header == PROTOCOL_CARP)
		return TC_ACT_UNSPEC;
	if (!load_ipv6(skb, packet, IPV6_SOURCE, vip.address, 4))
		return TC_ACT_UNSPEC;
	owner = bpf_map_lookup_elem(&carp_vips, &vip);
	if (owner) {
		addressed = owner->balance;
		if (!addressed) {
			verdict = judge(owner->slot);
			if (verdict != TC_ACT_UNSPEC)
				return verdict;
		}
	}
	if (frame.ipv6.next_header == PROTOCOL_ICMPV6 &&
	    !bpf_skb_load_bytes(skb, packet + IPV6_HEADER, &neighbour, sizeof(neighbour)) &&
	    neighbour.type == NEIGHBOUR_ADVERTISEMENT) {
		__builtin_memcpy(vip.address, neighbour.target, sizeof(vip.address));
		owner = bpf_map_lookup_elem(&carp_vips, &vip);
		if (owner)
			return owner->balance ? leave_advertisement(skb, &frame, packet, owner->balance - 1) : judge(owner->slot);
	}
	return addressed ? leave_ipv6(skb, &frame, packet, addressed - 1) : TC_ACT_UNSPEC;
}

/* The kernel asks for a licence only to grant helpers that are bound to the GPL; none of them is used here. */
char licence[] SEC("license") = "ISC";
