/* SPDX-License-Identifier: ISC */
/* What arrives for balanced addresses and MAC addresses: questions are answered here, of the rest each host keeps its share. */
#ifndef CARP_ARRIVING_H
#define CARP_ARRIVING_H

#define GROUP_MAC_BIT 0x0100

static __always_inline struct receiver *receiver_of(struct __sk_buff *skb, const struct frame *frame)
{
	struct port port = { .parent = skb->ifindex, .mac = frame->destination_mac };

	return bpf_map_lookup_elem(&carp_macs, &port);
}

/* TCP takes nothing that came by a multicast MAC address, and nobody what was flooded to another one. */
static __always_inline void deliver(struct __sk_buff *skb)
{
	if (skb->pkt_type != PACKET_HOST)
		bpf_skb_change_type(skb, PACKET_HOST);
}

/*
 * A packet of a share. The parent's macvlans are given a copy of every frame to a multicast MAC address that the parent listens to,
 * which cost a fifth of the throughput: the frame gets the parent's own.
 */
static __always_inline void deliver_share(struct __sk_buff *skb, const struct balance *balance)
{
	struct mac own = balance->reply_mac;

	if (balance->shared_mac.word[0] & bpf_htons(GROUP_MAC_BIT))
		bpf_skb_store_bytes(skb, 0, &own, sizeof(own), 0);
	deliver(skb);
}

static __noinline int arrive_arp(struct __sk_buff *skb, const struct frame *frame, int begin)
{
	struct vip vip = { .parent = skb->ifindex };
	struct receiver *receiver;
	struct balance *balance;
	struct owner *owner;
	struct arp arp;
	__be32 target;

	/* Linux takes any hardware type. */
	if (bpf_skb_load_bytes(skb, begin + ETH_HLEN, &arp, sizeof(arp)))
		return TC_ACT_UNSPEC;
	if (arp.protocol == bpf_htons(ETH_P_IP) && arp.hardware_length == ETH_ALEN && arp.protocol_length == sizeof(target) &&
	    arp.operation == bpf_htons(ARP_REQUEST)) {
		__builtin_memcpy(&target, arp.target, sizeof(target));
		set_ipv4(&vip, target);
		owner = bpf_map_lookup_elem(&carp_vips, &vip);
		if (owner && owner->balance) {
			balance = balance_at(owner->balance - 1);
			return balance && begin == 0 ? answer_arp(skb, balance, &arp) : TC_ACT_SHOT;
		}
	}
	receiver = receiver_of(skb, frame);
	if (!receiver)
		return TC_ACT_UNSPEC;
	deliver(skb);
	return TC_ACT_UNSPEC;
}

/* A packet that the balance divides by its addresses. */
static __always_inline int split(struct __sk_buff *skb, const struct balance *balance, const struct frame *frame, int packet,
				 __u64 now)
{
	__u32 node = frame->type == bpf_htons(ETH_P_IP) ? node_of_ipv4(skb, frame, packet, balance->count)
							: node_of_ipv6(skb, frame, packet, balance->count);

	return node == EVERY_NODE ? TC_ACT_UNSPEC : decide(skb, balance, node, now);
}

/*
 * An IP packet to one host. `addressed` is the place in carp_balances, plus 1, of the balance that has its destination, or 0.
 * What comes by a MAC address of the same balance is decided once.
 */
static __always_inline int arrive_ip(struct __sk_buff *skb, const struct frame *frame, int packet, __u32 addressed)
{
	struct balance *balance = addressed ? balance_at(addressed - 1) : NULL;
	struct receiver *receiver;
	int verdict;
	__u64 now;

	if (balance && balance->decision == PACKETS && is_same_mac(&frame->destination_mac, &balance->shared_mac)) {
		verdict = split(skb, balance, frame, packet, bpf_ktime_get_boot_ns());
		if (verdict == TC_ACT_UNSPEC)
			deliver_share(skb, balance);
		return verdict;
	}
	receiver = receiver_of(skb, frame);
	if (!balance && !receiver)
		return TC_ACT_UNSPEC;
	now = bpf_ktime_get_boot_ns();
	if (balance && (!receiver || receiver->balance != addressed - 1)) {
		if (balance->decision == PACKETS)
			verdict = split(skb, balance, frame, packet, now);
		else
			verdict = is_any_open(balance, now) ? TC_ACT_UNSPEC : TC_ACT_SHOT;
		if (verdict != TC_ACT_UNSPEC)
			return verdict;
	}
	if (!receiver)
		return TC_ACT_UNSPEC;
	balance = balance_at(receiver->balance);
	if (!balance)
		return TC_ACT_SHOT;
	if (receiver->node == ANY_NODE)
		verdict = split(skb, balance, frame, packet, now);
	else
		verdict = decide(skb, balance, receiver->node, now);
	if (verdict == TC_ACT_UNSPEC && receiver->node == ANY_NODE)
		deliver_share(skb, balance);
	else if (verdict == TC_ACT_UNSPEC && balance->delivers)
		deliver(skb);
	return verdict;
}

/* Tells whether a packet is a solicitation for a balanced address, and deals with it. */
static __always_inline bool is_solicitation(struct __sk_buff *skb, const struct frame *frame, int begin, int *verdict)
{
	int packet = begin + ETH_HLEN;
	struct vip vip = { .parent = skb->ifindex };
	struct neighbour asked;
	struct balance *balance;
	struct owner *owner;

	if (frame->ipv6.next_header != PROTOCOL_ICMPV6 ||
	    bpf_skb_load_bytes(skb, packet + IPV6_HEADER, &asked, sizeof(asked)) || asked.type != NEIGHBOUR_SOLICITATION)
		return false;
	__builtin_memcpy(vip.address, asked.target, sizeof(vip.address));
	owner = bpf_map_lookup_elem(&carp_vips, &vip);
	if (!owner || !owner->balance)
		return false;
	balance = balance_at(owner->balance - 1);
	*verdict = balance && begin == 0 ? answer_solicitation(skb, balance, frame, &asked) : TC_ACT_SHOT;
	return true;
}

#endif
