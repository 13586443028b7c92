/* SPDX-License-Identifier: ISC */
/* Messages of neighbour discovery and their link-layer options. */
#ifndef CARP_OPTIONS_H
#define CARP_OPTIONS_H

#define SOURCE_LINK_LAYER 1
#define TARGET_LINK_LAYER 2
#define MOST_OPTIONS 8
#define OPTION_UNIT 8

/* A neighbour solicitation or advertisement without options. */
struct neighbour {
	__u8 type;
	__u8 code;
	__u16 checksum;
	__be32 flags;
	__be32 target[4];
};

struct option {
	__u8 type;
	__u8 length; /* in units of eight bytes, with this head */
	struct mac mac;
};

enum found { ABSENT, PRESENT, BROKEN };

/*
 * Finds the link-layer address among options that reach from `at` to `end`. More than MOST_OPTIONS are as good as broken, and so
 * is one without length, behind which one never gets.
 */
static __noinline int find_option(struct __sk_buff *skb, int at, int end, int type, struct mac *mac)
{
	struct option option;
	int number;

	for (number = 0; number < MOST_OPTIONS; number++) {
		if (at >= end)
			return ABSENT;
		if (at + (int)sizeof(option) > end || bpf_skb_load_bytes(skb, at, &option, sizeof(option)))
			return BROKEN;
		if (option.type == type) {
			*mac = option.mac;
			return option.length == 1 ? PRESENT : BROKEN;
		}
		at += option.length * OPTION_UNIT;
	}
	return at >= end ? ABSENT : BROKEN;
}

static __always_inline int packet_end(const struct frame *frame, int packet)
{
	return packet + IPV6_HEADER + bpf_ntohs(frame->ipv6.length);
}

#endif
