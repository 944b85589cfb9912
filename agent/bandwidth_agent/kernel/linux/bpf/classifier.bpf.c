/* Finds the class of a packet that leaves, and sends the packet past the queue of that class.
 *
 *   uplink, way out         pair cblvN, way out        its peer cblpN, way in      uplink, way out
 *   to_pair: its class,     HTB: the class by the      from_pair: what the         to_pair: it comes from
 *   into the priority  ──▶  priority                ──▶  packet had before      ──▶  the peer, so it goes on
 *
 * Under placement `interface` the HTB is at the uplink itself, and `to_priority` only sets the priority.
 *
 * How to read this. Each function below SEC() is one program: the kernel runs it for every packet at the place where
 * it is attached, and does with the packet what it returns. Before it takes a program the kernel proves that it ends
 * and reads no memory but its own; what cannot be proven is refused. That is why no loop is left here (an agent with
 * CAP_BPF alone gets none accepted by Linux 6.1), and why what is read is copied first, with its size known.
 * `tools/bpf` compiles this into classifier_code.py; nodes need no compiler.
 */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#define NEXT -1 /* the walk goes on: the next program or filter sees the packet, at last the queue of the device */
#define DROP 2

#define HTB_MAJOR 0x7cb1u
#define EXTENSIONS 6 /* headers between that of IPv6 and the ports; a packet with more of them has no ports */
#define AUTHENTICATION 51
#define LINK_HEADER 32 /* no more bytes than this stand before the IP header */

/* Numbers that the loader puts where the address of one of these is taken: the indexes of a pair's two devices, and what
 * tells the network namespace from others. */
extern const char pair_index, peer_index, namespace;
#define NUMBER(symbol) ((__u32)(unsigned long)&(symbol))

/* What an agent writes and these programs read. Every map is pinned, so all programs of a node share them.
 *
 * In `v4` and `v6`, addresses: the longest prefix that matches has the class; 0 says that it has none. A table is a part
 * of its own: its number stands before the address and is always compared whole.
 * In `ports`, per family, protocol and port that a packet comes from: the table to look into first, 0 for none. What
 * stands at port 0, from which nothing is sent, says whether any port of that family and protocol has a table.
 */
struct key4 {
	__u32 bits; /* that are compared: 32 of the table, then those of the prefix */
	__u32 table;
	__be32 address;
};
struct key6 {
	__u32 bits;
	__u32 table;
	__be64 address[2];
};
struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1 << 18);
	__type(key, struct key4);
	__type(value, __u32);
} v4 SEC(".maps");
struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1 << 18);
	__type(key, struct key6);
	__type(value, __u32);
} v6 SEC(".maps");
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1 << 18);
	__type(key, __u32);
	__type(value, __u32);
} ports SEC(".maps");

struct header { /* what matters of a packet's IP header */
	__u32 family; /* 0: IPv4, 1: IPv6, as in the key of `ports` */
	__u32 protocol;
	__u32 next; /* where the header behind it begins */
	__u32 later_fragment; /* not 0: ports were in an earlier packet */
	__u64 destination[2]; /* of IPv4 only the first, and of that the first half */
};

/* Copies bytes of the packet, counted from its IP header. Not 0: it has not so many. The kernel may have the end of a
 * packet, and of one that was only passed on even headers, in pages beside it: then they are moved to its beginning. */
static __always_inline long copy(struct __sk_buff *packet, __u32 offset, void *to, __u32 size)
{
	__u32 end = LINK_HEADER + offset + size;

	if (!bpf_skb_load_bytes_relative(packet, offset, to, size, BPF_HDR_START_NET))
		return 0;
	bpf_skb_pull_data(packet, end < packet->len ? end : packet->len);
	return bpf_skb_load_bytes_relative(packet, offset, to, size, BPF_HDR_START_NET);
}

static __always_inline int read4(struct __sk_buff *packet, struct header *found)
{
	struct iphdr ip;

	if (copy(packet, 0, &ip, sizeof(ip)))
		return 0;
	found->family = 0;
	found->protocol = ip.protocol;
	found->next = ip.ihl * 4;
	found->later_fragment = ip.frag_off & bpf_htons(0x1fff);
	found->destination[0] = ip.daddr;
	return 1;
}

static __always_inline int read6(struct __sk_buff *packet, struct header *found)
{
	struct ipv6hdr ip;

	if (copy(packet, 0, &ip, sizeof(ip)))
		return 0;
	found->family = 1;
	found->protocol = ip.nexthdr;
	found->next = sizeof(ip);
	found->later_fragment = 0;
	__builtin_memcpy(found->destination, &ip.daddr, sizeof(ip.daddr));
	return 1;
}

/* Returns 0 for what is no IP packet. Behind a VLAN tag in the frame the IP header itself says which version it is. */
static __always_inline int read(struct __sk_buff *packet, struct header *found)
{
	__u32 protocol = packet->protocol;
	__u8 first;

	if (protocol == bpf_htons(ETH_P_IP))
		return read4(packet, found);
	if (protocol == bpf_htons(ETH_P_IPV6))
		return read6(packet, found);
	if (protocol != bpf_htons(ETH_P_8021Q) && protocol != bpf_htons(ETH_P_8021AD))
		return 0;
	if (copy(packet, 0, &first, 1))
		return 0;
	if (first >> 4 == 4)
		return read4(packet, found);
	return first >> 4 == 6 ? read6(packet, found) : 0;
}

/* Goes past the extension headers of IPv6, as netfilter does. */
static __always_inline void pass_extensions(struct __sk_buff *packet, struct header *found)
{
	__u8 extension[4]; /* what comes next, its own length; of a fragment's the last two: offset and flags */

#pragma unroll
	for (int i = 0; i < EXTENSIONS; i++) {
		__u32 kind = found->protocol;

		if (kind != IPPROTO_HOPOPTS && kind != IPPROTO_ROUTING && kind != IPPROTO_FRAGMENT &&
		    kind != IPPROTO_DSTOPTS && kind != AUTHENTICATION)
			return;
		if (copy(packet, found->next, extension, sizeof(extension)))
			return;
		found->protocol = extension[0];
		if (kind == IPPROTO_FRAGMENT) {
			found->later_fragment = extension[2] | (extension[3] & 0xf8);
			found->next += 8;
		} else if (kind == AUTHENTICATION) {
			found->next += (extension[1] + 2) * 4;
		} else {
			found->next += (extension[1] + 1) * 8;
		}
		if (found->later_fragment)
			return;
	}
}

/* Returns the table for the port that a packet comes from; 0 where there is none. */
static __always_inline __u32 table_of_port(struct __sk_buff *packet, struct header *found)
{
	__u32 tcp = found->family << 17, udp = tcp | 1 << 16, index;
	__u32 *any_tcp = bpf_map_lookup_elem(&ports, &tcp), *any_udp = bpf_map_lookup_elem(&ports, &udp), *table;
	__be16 both[2]; /* ports: from, to */

	if (!any_tcp || !any_udp || !(*any_tcp | *any_udp))
		return 0;
	if (found->family)
		pass_extensions(packet, found);
	if (found->later_fragment || (found->protocol != IPPROTO_TCP && found->protocol != IPPROTO_UDP))
		return 0;
	if (copy(packet, found->next, both, sizeof(both)) || !both[0])
		return 0;
	index = (found->protocol == IPPROTO_UDP ? udp : tcp) | bpf_ntohs(both[0]);
	table = bpf_map_lookup_elem(&ports, &index);
	return table ? *table : 0;
}

/* Every part of the key is written as 8 bytes: Linux 6.1 lets an agent with CAP_BPF alone write no less over them. */
static __always_inline __u32 class_in(__u32 table, struct header *found)
{
	__u64 bits = 32 + (found->family ? 128 : 32);
	__u64 key[3] = { bits | (__u64)table << 32, found->destination[0], found->destination[1] };
	__u32 *class = found->family ? bpf_map_lookup_elem(&v6, key) : bpf_map_lookup_elem(&v4, key);

	return class ? *class : 0;
}

/* Returns the number of a packet's class, 0 for none: first what is said for its port, then what is said for all. */
static __always_inline __u32 class_of(struct __sk_buff *packet)
{
	struct header found = {};
	__u32 table, class = 0;

	if (!read(packet, &found))
		return 0;
	table = table_of_port(packet, &found);
	if (table)
		class = class_in(table, &found);
	return class ? class : class_in(0, &found);
}

SEC("tc/to_priority") int to_priority(struct __sk_buff *packet)
{
	__u32 class = class_of(packet);

	if (class)
		packet->priority = HTB_MAJOR << 16 | class;
	return NEXT;
}

/* What the pair would lose goes along in `cb`, 20 bytes that belong to whoever has the packet. The queues below our HTB
 * use the first 8 of them at most. On the way back they say that the packet was in a pair: while an agent goes over from
 * rules to programs, a hook leads it past an ifb too, from where it comes to the uplink once more as from nowhere. */
#define RETURNED 0x7cb1b4c5u

/* `cb` is anybody's, and what the packet arrived on changes when another program sends it around. If such a program, behind
 * us, hands packets back to the uplink and knows by one of these that it has seen them, the pair would make it forget, and
 * they would go round for ever. So the flow's hash says it too, which all leave as it is: of its bits the first ones stay,
 * by which queues and devices are chosen, and the others follow from them and from the network namespace: the next one
 * that the packet comes to may have limits too. One flow in four million looks so by chance. */
#define FOLLOWING 22

static __always_inline __u32 signed_hash(__u32 hash)
{
	__u32 flow = hash >> FOLLOWING;

	return flow << FOLLOWING | ((flow + NUMBER(namespace)) * 0x9e3779b1u) >> (32 - FOLLOWING);
}

static __always_inline int was_in_a_pair(struct __sk_buff *packet)
{
	__u32 hash = packet->hash;

	return packet->ingress_ifindex && hash == signed_hash(hash);
}

SEC("tc/to_pair") int to_pair(struct __sk_buff *packet)
{
	__u32 class;

	if (packet->ingress_ifindex == NUMBER(peer_index))
		return NEXT;
	if (packet->cb[3] == RETURNED && packet->cb[4] == ~RETURNED)
		return NEXT;
	class = class_of(packet);
	if (!class || was_in_a_pair(packet))
		return NEXT;
	packet->cb[2] = packet->pkt_type << 16 | packet->queue_mapping; /* where a bandwidth manager keeps whose it is */
	packet->cb[3] = packet->priority;
	packet->cb[4] = packet->ifindex;
	packet->priority = HTB_MAJOR << 16 | class;
	return bpf_redirect(NUMBER(pair_index), 0);
}

/* What comes from the pair's own address was sent by the kernel or by a program that sends to every device. */
SEC("tc/from_pair") int from_pair(struct __sk_buff *packet)
{
	__u32 uplink = packet->cb[4];
	__be32 source;

	if (bpf_skb_load_bytes(packet, ETH_ALEN, &source, sizeof(source)) || source == bpf_htonl(0x027cb100))
		return DROP;
	bpf_skb_change_type(packet, packet->cb[2] >> 16); /* by now the peer has taken it for one of another host */
	packet->queue_mapping = packet->cb[2] & 0xffff;
	packet->priority = packet->cb[3];
	packet->cb[3] = RETURNED;
	packet->cb[4] = ~RETURNED;
	bpf_set_hash(packet, signed_hash(bpf_get_hash_recalc(packet)));
	return bpf_redirect(uplink, 0);
}

char _license[] SEC("license") = "Apache-2.0";
