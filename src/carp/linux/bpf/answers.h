/* SPDX-License-Identifier: ISC */
/* Answers to those who ask for a balanced address: the question becomes the answer and goes back where it came from. */
#ifndef CARP_ANSWERS_H
#define CARP_ANSWERS_H

#define ARP_ETHERNET 1
#define ARP_REQUEST 1
#define ARP_REPLY 2
#define HOP_LIMIT 255
#define IPV6_VERSION 0x60
#define ALL_NODES bpf_htonl(0xff020000)
#define ROUTER 0x80000000
#define SOLICITED 0x40000000
#define OVERRIDE 0x20000000

struct arp {
	__be16 hardware;
	__be16 protocol;
	__u8 hardware_length;
	__u8 protocol_length;
	__be16 operation;
	struct mac sender_mac;
	__be16 sender[2];
	struct mac target_mac;
	__be16 target[2];
};

struct arp_frame {
	struct mac destination_mac;
	struct mac source_mac;
	__be16 type;
	struct arp arp;
};

/* The two bytes in front align the addresses. */
struct advertisement_frame {
	__u16 padding;
	struct mac destination_mac;
	struct mac source_mac;
	__be16 type;
	__be32 version;
	__be16 length;
	__u8 next_header;
	__u8 hop_limit;
	__be32 source[4];
	__be32 destination[4];
	struct neighbour neighbour;
	struct option option;
};

#define ADVERTISEMENT_BYTES (sizeof(struct advertisement_frame) - offsetof(struct advertisement_frame, destination_mac))
#define MESSAGE_BYTES (sizeof(struct neighbour) + sizeof(struct option))

/* The MAC address that a node gives for the balanced addresses. */
static __always_inline const struct mac *answer_mac(const struct balance *balance, __u32 node)
{
	return balance->decision == PACKETS ? &balance->shared_mac : &node_at(balance, node)->mac;
}

/* That which the answer itself comes from: no switch shall learn the shared one. */
static __always_inline const struct mac *reply_mac(const struct balance *balance, __u32 node)
{
	return balance->decision == PACKETS ? &balance->reply_mac : &node_at(balance, node)->mac;
}

/* An ARP request for an address of this balance. The kernel does not see it, answered or not. */
static __noinline int answer_arp(struct __sk_buff *skb, const struct balance *balance, const struct arp *request)
{
	__u32 asker, target, node;
	struct arp_frame reply;

	__builtin_memcpy(&asker, request->sender, sizeof(asker));
	__builtin_memcpy(&target, request->target, sizeof(target));
	if (request->hardware != bpf_htons(ARP_ETHERNET) || asker == target || !is_host_mac(&request->sender_mac))
		return TC_ACT_SHOT;
	node = node_for(balance, bpf_ntohl(asker), &request->sender_mac, bpf_ktime_get_boot_ns());
	if (node >= NODES)
		return TC_ACT_SHOT;
	reply.destination_mac = request->sender_mac;
	reply.source_mac = *reply_mac(balance, node);
	reply.type = bpf_htons(ETH_P_ARP);
	reply.arp = *request;
	reply.arp.operation = bpf_htons(ARP_REPLY);
	reply.arp.sender_mac = *answer_mac(balance, node);
	__builtin_memcpy(reply.arp.sender, request->target, sizeof(reply.arp.sender));
	reply.arp.target_mac = request->sender_mac;
	__builtin_memcpy(reply.arp.target, request->sender, sizeof(reply.arp.target));
	if (bpf_skb_store_bytes(skb, 0, &reply, sizeof(reply), 0))
		return TC_ACT_SHOT;
	return bpf_redirect(skb->ifindex, 0);
}

/* The checksum of a message of MESSAGE_BYTES and of the pseudo header. */
static __always_inline __u16 checksum(struct advertisement_frame *frame)
{
	__u32 sum = bpf_csum_diff(NULL, 0, frame->source, sizeof(frame->source) + sizeof(frame->destination) + MESSAGE_BYTES,
				  bpf_htons(MESSAGE_BYTES) + bpf_htons(PROTOCOL_ICMPV6));

	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return ~sum;
}

/*
 * A neighbour solicitation for an address of this balance, without a tag in the frame. The kernel does not see it, answered or
 * not. Its checksum is not looked at: a neighbour on the same machine may leave it to a device that there is not.
 */
static __noinline int answer_solicitation(struct __sk_buff *skb, const struct balance *balance, const struct frame *frame,
					  const struct neighbour *asked)
{
	struct advertisement_frame reply = { .type = bpf_htons(ETH_P_IPV6) };
	int end = packet_end(frame, ETH_HLEN);
	int options = ETH_HLEN + IPV6_HEADER + sizeof(*asked);
	bool is_probe; /* for duplicates of its address, which the asker does not have yet */
	__u64 now = bpf_ktime_get_boot_ns();
	__u32 node;
	int found;

	if (frame->ipv6.hop_limit != HOP_LIMIT || asked->code != 0 || end < options ||
	    bpf_skb_load_bytes(skb, ETH_HLEN + IPV6_SOURCE, reply.destination, sizeof(reply.destination)))
		return TC_ACT_SHOT;
	is_probe = !(reply.destination[0] | reply.destination[1] | reply.destination[2] | reply.destination[3]);
	reply.destination_mac = frame->source_mac;
	found = find_option(skb, options, end, SOURCE_LINK_LAYER, &reply.destination_mac);
	if (found == BROKEN || (found == PRESENT && is_probe) || is_group_ipv6(reply.destination) ||
	    !is_host_mac(&reply.destination_mac))
		return TC_ACT_SHOT;
	if (balance->decision != ASKER_MAC || found == PRESENT)
		node = node_for(balance, fold_ipv6(reply.destination), &reply.destination_mac, now);
	else
		node = is_probe && is_node_open(balance, 0, now) ? 0 : NO_NODE;
	if (node >= NODES)
		return TC_ACT_SHOT;
	reply.source_mac = *reply_mac(balance, node);
	reply.version = bpf_htonl((__u32)IPV6_VERSION << 24);
	reply.length = bpf_htons(MESSAGE_BYTES);
	reply.next_header = PROTOCOL_ICMPV6;
	reply.hop_limit = HOP_LIMIT;
	__builtin_memcpy(reply.source, asked->target, sizeof(reply.source));
	if (is_probe) {
		reply.destination[0] = ALL_NODES;
		reply.destination[3] = bpf_htonl(1);
	}
	reply.neighbour.type = NEIGHBOUR_ADVERTISEMENT;
	reply.neighbour.flags = bpf_htonl(OVERRIDE | (is_probe ? 0 : SOLICITED) | (balance->router ? ROUTER : 0));
	__builtin_memcpy(reply.neighbour.target, asked->target, sizeof(reply.neighbour.target));
	reply.option.type = TARGET_LINK_LAYER;
	reply.option.length = 1;
	reply.option.mac = *answer_mac(balance, node);
	reply.neighbour.checksum = checksum(&reply);
	if (bpf_skb_change_tail(skb, ADVERTISEMENT_BYTES, 0) ||
	    bpf_skb_store_bytes(skb, 0, &reply.destination_mac, ADVERTISEMENT_BYTES, 0))
		return TC_ACT_SHOT;
	return bpf_redirect(skb->ifindex, 0);
}

#endif
