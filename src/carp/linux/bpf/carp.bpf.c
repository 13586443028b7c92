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
 * while the fence is closed. No packet is changed.
 *
 * A packet's bytes are read by bpf_skb_load_bytes, because a driver may leave the headers in a page of their own, where
 * direct access would take a whole packet for a truncated one.
 */
#include <stdbool.h>
#include <stddef.h>
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/pkt_cls.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#define SLOTS 8192
#define VIPS 65536

#define PROTOCOL_CARP 112
#define PROTOCOL_ICMPV6 58
#define NEIGHBOUR_ADVERTISEMENT 136
#define ARP_ETHERNET 1
#define VLAN_ID 0x0fff

/* A virtual address on a parent; IPv4 as ::ffff:a.b.c.d. Network byte order. */
struct vip {
	__u32 parent;
	__be32 address[4];
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

/* The slot of each virtual address on a parent. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, VIPS);
	__type(key, struct vip);
	__type(value, __u32);
} carp_vips SEC(".maps");

/*
 * An Ethernet header and the 20 bytes behind it, which are all of an IPv4 header's fixed part, and hold the sender of an ARP.
 * The two bytes in front align what follows, so that nothing is put together from single bytes.
 */
struct frame {
	__u16 padding;
	__u8 destination_mac[ETH_ALEN];
	__u8 source_mac[ETH_ALEN];
	__be16 type;
	union {
		struct {
			__be16 tag;
			__be16 type;
		} vlan;
		struct {
			__u8 before_protocol[9];
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
			__u8 sender_mac[ETH_ALEN];
			__be16 sender[2];
		} arp;
		struct {
			__u8 before_next_header[6];
			__u8 next_header;
		} ipv6;
	};
};

#define FRAME_BYTES (sizeof(struct frame) - offsetof(struct frame, destination_mac))
#define VLAN_HEADER 4
#define IPV6_SOURCE 8
#define IPV6_DESTINATION 24
#define IPV6_HEADER 40

/* A neighbour solicitation or advertisement without options. */
struct neighbour {
	__u8 type;
	__u8 before_target[7];
	__be32 target[4];
};

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

static __always_inline int judge_address(const struct vip *vip)
{
	__u32 *slot = bpf_map_lookup_elem(&carp_vips, vip);

	return slot ? judge(*slot) : TC_ACT_UNSPEC;
}

static __always_inline int judge_ipv4(struct vip *vip, __be32 address)
{
	vip->address[0] = 0;
	vip->address[1] = 0;
	vip->address[2] = bpf_htonl(0xffff);
	vip->address[3] = address;
	return judge_address(vip);
}

/*
 * Reads the frame's head; returns where it begins, -1 for a frame of no concern. A tag with VLAN ID 0 gives a priority and no
 * other network: Linux takes such a frame as an untagged one, and so does the fence.
 */
static __always_inline int read_frame(struct __sk_buff *skb, struct frame *frame)
{
	if (skb->vlan_present && (skb->vlan_tci & VLAN_ID) != 0)
		return -1;
	if (bpf_skb_load_bytes(skb, 0, frame->destination_mac, FRAME_BYTES))
		return -1;
	if (frame->type != bpf_htons(ETH_P_8021Q) && frame->type != bpf_htons(ETH_P_8021AD))
		return 0;
	if (frame->vlan.tag & bpf_htons(VLAN_ID))
		return -1;
	/* Read again behind the tag: what the MAC addresses become does not matter. */
	if (bpf_skb_load_bytes(skb, VLAN_HEADER, frame->destination_mac, FRAME_BYTES))
		return -1;
	return VLAN_HEADER;
}

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
	struct frame frame;
	int begin = read_frame(skb, &frame);

	if (begin < 0)
		return TC_ACT_UNSPEC;
	if (frame.type == bpf_htons(ETH_P_IP)) {
		if (frame.ipv4.protocol == PROTOCOL_CARP)
			return TC_ACT_UNSPEC;
		return judge_ipv4(&vip, frame.ipv4.destination);
	}
	if (frame.type == bpf_htons(ETH_P_IPV6)) {
		if (frame.ipv6.next_header == PROTOCOL_CARP)
			return TC_ACT_UNSPEC;
		if (bpf_skb_load_bytes(skb, begin + ETH_HLEN + IPV6_DESTINATION, vip.address, sizeof(vip.address)))
			return TC_ACT_UNSPEC;
		return judge_address(&vip);
	}
	/* Also ARP: a host that is not MASTER must be able to resolve the address that another one holds. */
	return TC_ACT_UNSPEC;
}

SEC("tc")
int carp_parent_out(struct __sk_buff *skb)
{
	struct vip vip = { .parent = skb->ifindex };
	struct frame frame;
	int begin = read_frame(skb, &frame);
	struct neighbour neighbour;
	__be32 sender;
	int verdict;

	if (begin < 0)
		return TC_ACT_UNSPEC;
	if (frame.type == bpf_htons(ETH_P_IP)) {
		if (frame.ipv4.protocol == PROTOCOL_CARP)
			return TC_ACT_UNSPEC;
		return judge_ipv4(&vip, frame.ipv4.source);
	}
	if (frame.type == bpf_htons(ETH_P_ARP)) {
		if (frame.arp.hardware != bpf_htons(ARP_ETHERNET) || frame.arp.protocol != bpf_htons(ETH_P_IP) ||
		    frame.arp.hardware_length != ETH_ALEN || frame.arp.protocol_length != sizeof(__be32))
			return TC_ACT_UNSPEC;
		__builtin_memcpy(&sender, frame.arp.sender, sizeof(sender));
		return judge_ipv4(&vip, sender);
	}
	if (frame.type != bpf_htons(ETH_P_IPV6) || frame.ipv6.next_header == PROTOCOL_CARP)
		return TC_ACT_UNSPEC;
	begin += ETH_HLEN;
	if (bpf_skb_load_bytes(skb, begin + IPV6_SOURCE, vip.address, sizeof(vip.address)))
		return TC_ACT_UNSPEC;
	verdict = judge_address(&vip);
	if (verdict != TC_ACT_UNSPEC || frame.ipv6.next_header != PROTOCOL_ICMPV6)
		return verdict;
	if (bpf_skb_load_bytes(skb, begin + IPV6_HEADER, &neighbour, sizeof(neighbour)))
		return TC_ACT_UNSPEC;
	if (neighbour.type != NEIGHBOUR_ADVERTISEMENT)
		return TC_ACT_UNSPEC;
	__builtin_memcpy(vip.address, neighbour.target, sizeof(vip.address));
	return judge_address(&vip);
}

/* The kernel asks for a licence only to grant helpers that are bound to the GPL; none of them is used here. */
char licence[] SEC("license") = "ISC";
