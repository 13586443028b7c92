/* SPDX-License-Identifier: ISC */
/* The BSDs' rules for who takes a packet and who answers an asker, bit for bit; src/carp/protocol/balance.py has the same. */
#ifndef CARP_CHOICE_H
#define CARP_CHOICE_H

#define ICMP_UNREACHABLE 3
#define ICMP_QUENCH 4
#define ICMP_REDIRECT 5
#define ICMP_TIME_EXCEEDED 11
#define ICMP_PARAMETER_PROBLEM 12
#define ICMPV6_FIRST_QUERY 128
#define ROUTER_SOLICITATION 133
#define NEIGHBOUR_SOLICITATION 135
#define NEIGHBOUR_ADVERTISEMENT 136
#define REDIRECT 137
#define ICMP_HEADER 8
#define NOT_ICMP -1
/* In the place of a node: none, and all. */
#define NO_NODE 0xfffffffe
#define EVERY_NODE 0xffffffff

static __always_inline __u32 fold_ipv6(const __be32 *address)
{
	return bpf_ntohl(address[0] ^ address[1] ^ address[2] ^ address[3]);
}

/* The type of an ICMP message, NOT_ICMP for other packets. A fragment is none, so that it stays with those behind it. */
static __always_inline int icmp_type_ipv4(struct __sk_buff *skb, const struct frame *frame, int packet, int *message)
{
	__u8 type;

	*message = packet + (frame->ipv4.version_and_length & 0x0f) * 4;
	if (frame->ipv4.protocol != PROTOCOL_ICMP || frame->ipv4.fragment & bpf_htons(MORE_FRAGMENTS_OR_OFFSET) ||
	    bpf_skb_load_bytes(skb, *message, &type, sizeof(type)))
		return NOT_ICMP;
	return type;
}

static __always_inline int icmp_type_ipv6(struct __sk_buff *skb, const struct frame *frame, int packet)
{
	__u8 type;

	if (frame->ipv6.next_header != PROTOCOL_ICMPV6 || bpf_skb_load_bytes(skb, packet + IPV6_HEADER, &type, sizeof(type)))
		return NOT_ICMP;
	return type;
}

static __always_inline bool is_error_ipv4(int type)
{
	return type == ICMP_UNREACHABLE || type == ICMP_QUENCH || type == ICMP_REDIRECT || type == ICMP_TIME_EXCEEDED ||
	       type == ICMP_PARAMETER_PROBLEM;
}

static __always_inline bool is_error_ipv6(int type)
{
	return type != NOT_ICMP && type < ICMPV6_FIRST_QUERY;
}

static __always_inline bool is_discovery(int type)
{
	return type >= ROUTER_SOLICITATION && type <= REDIRECT;
}

/*
 * The node that takes a packet that came in. An error follows the flow of the packet in it, whose destination is the error's
 * peer. `packet` is where the IP header begins.
 */
static __always_inline __u32 node_of_ipv4(struct __sk_buff *skb, const struct frame *frame, int packet, __u32 count)
{
	__be32 peer = frame->ipv4.source, inner;
	int message;

	if (is_error_ipv4(icmp_type_ipv4(skb, frame, packet, &message)) &&
	    !bpf_skb_load_bytes(skb, message + ICMP_HEADER + offsetof(struct iphdr, daddr), &inner, sizeof(inner)))
		peer = inner;
	return bpf_ntohl(peer ^ frame->ipv4.destination) % count;
}

/* The same for IPv6. Neighbour discovery is for every node: what it tells is about the link. */
static __always_inline __u32 node_of_ipv6(struct __sk_buff *skb, const struct frame *frame, int packet, __u32 count)
{
	int type = icmp_type_ipv6(skb, frame, packet);
	__be32 addresses[8], inner[4];
	__u32 peer;

	if (is_discovery(type))
		return EVERY_NODE;
	if (!load_ipv6(skb, packet, IPV6_SOURCE, addresses, 8))
		return NO_NODE;
	peer = fold_ipv6(addresses);
	if (is_error_ipv6(type) &&
	    !bpf_skb_load_bytes(skb, packet + IPV6_HEADER + ICMP_HEADER + IPV6_DESTINATION, inner, sizeof(inner)))
		peer = fold_ipv6(inner);
	return (peer ^ fold_ipv6(addresses + 4)) % count;
}

/* The keyed hash of an asker's MAC address. Its words are read in the order of the processor, which is little-endian. */
static __always_inline __u32 hash_mac(const struct node *node, const struct mac *mac)
{
	__u32 a = 0x9e3779b9 + (mac->word[0] | (__u32)mac->word[1] << 16);
	__u32 b = node->hash[0] + mac->word[2];
	__u32 c = node->hash[1] + node->key_word;

#define MIX(right_a, left_b, right_c)         \
	a = (a - b - c) ^ c >> (right_a);     \
	b = (b - c - a) ^ a << (left_b);      \
	c = (c - a - b) ^ b >> (right_c)

	MIX(13, 8, 13);
	MIX(12, 16, 5);
	MIX(3, 10, 15);
#undef MIX
	return c;
}

/* The open node that answers an asker, whose address is folded; NO_NODE if that is not here. Without `mac` it told none. */
__noinline __u32 node_for(const struct balance *balance, __u32 address, const struct mac *mac, __u64 now)
{
	__u32 count, node = 0;

	if (!balance || !mac)
		return NO_NODE;
	count = balance->count;
	if (balance->decision == ASKER_MAC) {
		for (node = 0; node < NODES; node++) {
			if (node < count && hash_mac(node_at(balance, node), mac) % count == node && is_node_open(balance, node, now))
				return node;
		}
		return NO_NODE;
	}
	if (balance->decision == ASKER_ADDRESS)
		node = address % count;
	return is_node_open(balance, node, now) ? node : NO_NODE;
}

#endif
