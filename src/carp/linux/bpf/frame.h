/* SPDX-License-Identifier: ISC */
/*
 * Reading frames. A driver may leave the headers in a page of their own, where direct access would take a whole packet for a
 * truncated one: bpf_skb_load_bytes reads them there. What every packet is asked for is read directly where it can be, in
 * words that are aligned where the network header is.
 */
#ifndef CARP_FRAME_H
#define CARP_FRAME_H

#define PROTOCOL_CARP 112
#define PROTOCOL_ICMP 1
#define PROTOCOL_ICMPV6 58
#define VLAN_ID 0x0fff
#define VLAN_HEADER 4
#define MORE_FRAGMENTS_OR_OFFSET 0x3fff
#define IPV4_MULTICAST 0xe0000000
#define IPV4_MULTICAST_MASK 0xf0000000
#define IPV4_BROADCAST 0xffffffff
#define IPV6_SOURCE 8
#define IPV6_DESTINATION 24
#define IPV6_HEADER 40

/*
 * An Ethernet header and the 20 bytes behind it, which are all of an IPv4 header's fixed part, and hold the sender of an ARP.
 * The two bytes in front align what follows, so that nothing is put together from single bytes.
 */
struct frame {
	__u16 padding;
	struct mac destination_mac;
	struct mac source_mac;
	__be16 type;
	union {
		struct {
			__be16 tag;
			__be16 type;
		} vlan;
		struct {
			__u8 version_and_length;
			__u8 before_fragment[5];
			__be16 fragment;
			__u8 lifetime;
			__u8 protocol;
			__be16 checksum;
			__be32 source;
			__be32 destination;
		} ipv4;
		struct {
			__be16 hardware;
			__be16 protocol;
			__u8 hardware_length;
			__u8 protocol_length;
			__be16 operation;
			struct mac sender_mac;
			__be16 sender[2];
		} arp;
		struct {
			__u8 before_length[4];
			__be16 length;
			__u8 next_header;
			__u8 hop_limit;
		} ipv6;
	};
};

typedef __u16 __attribute__((__may_alias__)) half;
typedef __u32 __attribute__((__may_alias__)) word;

#define FRAME_BYTES (sizeof(struct frame) - offsetof(struct frame, destination_mac))
#define BEFORE_TYPE (2 * ETH_ALEN)

static __always_inline bool load_head(struct __sk_buff *skb, struct frame *frame)
{
	void *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
	word *to = (word *)frame;
	__u32 number;

	if (data + FRAME_BYTES > end)
		return !bpf_skb_load_bytes(skb, 0, &frame->destination_mac, FRAME_BYTES);
	((half *)to)[1] = *(half *)data;
#pragma clang loop unroll(full)
	for (number = 1; number < sizeof(*frame) / sizeof(word); number++)
		to[number] = *(word *)(data + number * sizeof(word) - sizeof(half));
	return true;
}

/* Both addresses of an IPv6 packet, or from an offset on `words` words of them. */
static __always_inline bool load_ipv6(struct __sk_buff *skb, int packet, __u32 offset, __be32 *to, __u32 words)
{
	void *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
	__u32 number;

	if (packet != ETH_HLEN || data + ETH_HLEN + IPV6_HEADER > end)
		return !bpf_skb_load_bytes(skb, packet + offset, to, words * sizeof(*to));
#pragma clang loop unroll(full)
	for (number = 0; number < words; number++)
		to[number] = *(word *)(data + ETH_HLEN + offset + number * sizeof(word));
	return true;
}

/*
 * Reads the frame's head; returns where it begins, -1 for a frame of no concern. A tag with VLAN ID 0 gives a priority and no
 * other network: Linux takes such a frame as an untagged one, and so does the fence.
 */
static __always_inline int read_frame(struct __sk_buff *skb, struct frame *frame)
{
	if (skb->vlan_present && (skb->vlan_tci & VLAN_ID) != 0)
		return -1;
	if (!load_head(skb, frame))
		return -1;
	if (frame->type != bpf_htons(ETH_P_8021Q) && frame->type != bpf_htons(ETH_P_8021AD))
		return 0;
	if (frame->vlan.tag & bpf_htons(VLAN_ID))
		return -1;
	/* Again from the type on, behind the tag. */
	if (bpf_skb_load_bytes(skb, VLAN_HEADER + BEFORE_TYPE, &frame->type, FRAME_BYTES - BEFORE_TYPE))
		return -1;
	return VLAN_HEADER;
}

static __always_inline bool is_same_mac(const struct mac *one, const struct mac *other)
{
	return one->word[0] == other->word[0] && one->word[1] == other->word[1] && one->word[2] == other->word[2];
}

/* A host's own MAC address has no group bit and is not zero. */
static __always_inline bool is_host_mac(const struct mac *mac)
{
	return !(mac->word[0] & bpf_htons(0x0100)) && (mac->word[0] | mac->word[1] | mac->word[2]) != 0;
}

static __always_inline void set_ipv4(struct vip *vip, __be32 address)
{
	vip->address[0] = 0;
	vip->address[1] = 0;
	vip->address[2] = bpf_htonl(0xffff);
	vip->address[3] = address;
}

static __always_inline bool is_group_ipv4(__be32 address)
{
	return (address & bpf_htonl(IPV4_MULTICAST_MASK)) == bpf_htonl(IPV4_MULTICAST) || address == bpf_htonl(IPV4_BROADCAST);
}

static __always_inline bool is_group_ipv6(const __be32 *address)
{
	return (address[0] & bpf_htonl(0xff000000)) == bpf_htonl(0xff000000);
}

#endif
