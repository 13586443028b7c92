// SPDX-License-Identifier: ISC
/*
 * The filter of a parent's packet socket. It passes protocol 112 to any group, as the classic program of bpf_filter.py does, and
 * refuses what is certainly no advertisement that this host could act on: one with a wrong TTL, checksum or version, or with a
 * vhid that nobody here has. It never looks at who sends: the hosts of a group share a MAC address, and a forger may use any IP
 * address.
 *
 * What is refused is counted. One for each reason in 100 ms passes nevertheless, uncounted: the daemon counts that one itself, and
 * tells of it. Whatever is not judged here passes: fragments, IP options, other lengths, tagged frames, VRRP.
 */
#include <stdbool.h>
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#define PROTOCOL_CARP 112
#define IPV6_FRAGMENT 44
#define ETHERTYPE_AT 12
#define IPV4_PROTOCOL_AT (ETH_HLEN + 9)
#define IPV4_DESTINATION_AT (ETH_HLEN + 16)
#define IPV6_NEXT_HEADER_AT (ETH_HLEN + 6)
#define IPV6_DESTINATION_AT (ETH_HLEN + 24)
#define IPV6_FRAGMENTED_AT (ETH_HLEN + 40)
#define MORE_FRAGMENTS_OR_OFFSET 0x3fff
#define IPV4_NO_OPTIONS 0x45
#define IPV4_GROUP 0xe0000012
#define TTL 255
#define VERSION 2
#define VERSION_2_TYPE_1 0x21
#define VRRP_ADDRESSES 5 /* of an advertisement of VRRP 2 that is as long as one of CARP */
#define PASS_EVERY_NS 100000000ULL

#define REFUSE 0
#define PASS 512 /* so many bytes; as in batch.py */

/* The order of the checks in protocol/hearing.py; hearing.py beside this knows it. */
enum reason { BAD_TTL, BAD_CHECKSUM, BAD_VERSION, BAD_VHID, REASONS };

struct hearing {
	__u64 judges; /* 0: everything passes. User space writes this and the next. */
	__u64 vhids[4];
	__u64 passed_at[REASONS];
	__u64 refused[2][REASONS]; /* IPv4, IPv6 */
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct hearing);
} carp_hearing SEC(".maps");

struct advertisement {
	__u8 version_type;
	__u8 vhid;
	__u8 advskew;
	__u8 authlen;
	__be16 rest[16];
};

struct ipv4 {
	__u8 version_and_length;
	__u8 service;
	__be16 length;
	__be16 identification;
	__be16 fragment;
	__u8 ttl;
	__u8 protocol;
	__be16 checksum;
	__be16 source[2];
	__be32 destination;
	struct advertisement advertisement;
};

struct ipv6 {
	__be32 version_and_flow;
	__be16 length;
	__u8 next_header;
	__u8 hop_limit;
	__be16 source[8];
	__be32 destination[4];
	struct advertisement advertisement;
};

typedef __u16 __attribute__((__may_alias__)) half;

/* They end the program with REFUSE where the packet is shorter, as those of classic programs do. */
unsigned long long load_byte(void *skb, unsigned long long offset) asm("llvm.bpf.load.byte");
unsigned long long load_half(void *skb, unsigned long long offset) asm("llvm.bpf.load.half");

static __always_inline __u32 sum(const void *from, __u32 bytes)
{
	__u32 total = 0, number;

#pragma clang loop unroll(full)
	for (number = 0; number < bytes / sizeof(half); number++)
		total += ((const half *)from)[number];
	return total;
}

/* A sum that includes its own checksum folds to 0xffff, in any byte order. */
static __always_inline bool holds(__u32 total)
{
	total = (total & 0xffff) + (total >> 16);
	return (total & 0xffff) + (total >> 16) == 0xffff;
}

static __always_inline int refuse(struct hearing *hearing, __u32 is_ipv6, enum reason reason)
{
	__u64 now = bpf_ktime_get_boot_ns();

	if (now - hearing->passed_at[reason] >= PASS_EVERY_NS) {
		hearing->passed_at[reason] = now;
		return PASS;
	}
	__sync_fetch_and_add(&hearing->refused[is_ipv6][reason], 1);
	return REFUSE;
}

/* `pseudo` is the sum of the header that NetBSD's checksum of 2023 covers over IPv6, too; 0 for none. */
static __always_inline int judge(struct hearing *hearing, const struct advertisement *one, __u8 ttl, __u32 is_ipv6, __u32 pseudo)
{
	__u32 total = sum(one, sizeof(*one));

	if (ttl != TTL)
		return refuse(hearing, is_ipv6, BAD_TTL);
	if (one->version_type == VERSION_2_TYPE_1 && one->authlen == VRRP_ADDRESSES)
		return PASS;
	if (!holds(total) && !(is_ipv6 && holds(total + pseudo)))
		return refuse(hearing, is_ipv6, BAD_CHECKSUM);
	if (one->version_type >> 4 != VERSION)
		return refuse(hearing, is_ipv6, BAD_VERSION);
	if (!(hearing->vhids[one->vhid / 64] >> one->vhid % 64 & 1))
		return refuse(hearing, is_ipv6, BAD_VHID);
	return PASS;
}

static __always_inline int hear_ipv4(struct __sk_buff *skb, struct hearing *hearing)
{
	struct ipv4 packet;

	if (bpf_skb_load_bytes(skb, ETH_HLEN, &packet, sizeof(packet)))
		return PASS;
	if (packet.version_and_length != IPV4_NO_OPTIONS || packet.length != bpf_htons(sizeof(packet)) ||
	    packet.fragment & bpf_htons(MORE_FRAGMENTS_OR_OFFSET) || packet.destination != bpf_htonl(IPV4_GROUP) ||
	    !holds(sum(&packet, sizeof(packet) - sizeof(packet.advertisement))))
		return PASS;
	return judge(hearing, &packet.advertisement, packet.ttl, 0, 0);
}

static __always_inline int hear_ipv6(struct __sk_buff *skb, struct hearing *hearing)
{
	struct ipv6 packet;
	__u32 pseudo;

	if (bpf_skb_load_bytes(skb, ETH_HLEN, &packet, sizeof(packet)))
		return PASS;
	if ((packet.version_and_flow & bpf_htonl(0xf0000000)) != bpf_htonl(0x60000000) ||
	    packet.length != bpf_htons(sizeof(packet.advertisement)) || packet.destination[0] != bpf_htonl(0xff020000) ||
	    packet.destination[1] || packet.destination[2] || packet.destination[3] != bpf_htonl(0x12))
		return PASS;
	pseudo = sum(packet.source, sizeof(packet.source) + sizeof(packet.destination));
	pseudo += bpf_htons(sizeof(packet.advertisement)) + bpf_htons(PROTOCOL_CARP);
	return judge(hearing, &packet.advertisement, packet.hop_limit, 1, pseudo);
}

SEC("socket")
int carp_hear(struct __sk_buff *skb)
{
	struct hearing *hearing;
	__u32 type = skb->pkt_type, only = 0, next;
	bool is_ipv6;

	if (type == PACKET_OTHERHOST || type == PACKET_OUTGOING)
		return REFUSE;
	type = load_half(skb, ETHERTYPE_AT);
	is_ipv6 = type == ETH_P_IPV6;
	if (is_ipv6) {
		if (load_byte(skb, IPV6_DESTINATION_AT) != 0xff)
			return REFUSE;
		next = load_byte(skb, IPV6_NEXT_HEADER_AT);
		if (next == IPV6_FRAGMENT)
			return load_byte(skb, IPV6_FRAGMENTED_AT) == PROTOCOL_CARP ? PASS : REFUSE;
	} else if (type == ETH_P_IP) {
		if (load_byte(skb, IPV4_DESTINATION_AT) >> 4 != 0xe)
			return REFUSE;
		next = load_byte(skb, IPV4_PROTOCOL_AT);
	} else {
		return REFUSE;
	}
	if (next != PROTOCOL_CARP)
		return REFUSE;
	hearing = bpf_map_lookup_elem(&carp_hearing, &only);
	if (!hearing || !hearing->judges || skb->vlan_present)
		return PASS;
	return is_ipv6 ? hear_ipv6(skb, hearing) : hear_ipv4(skb, hearing);
}

char licence[] SEC("license") = "ISC";
