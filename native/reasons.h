/* reasons.h - why a frame was not delivered: the one list
 *
 * How it works
 *   Every frame that is not delivered is counted under exactly one of these reasons. The spelling is what
 *   `vxlanu drops`, metrics, traces and tests print; the sentence is what a user reads beside it. Where the
 *   kernel's vxlan driver has a name for the same thing (enum skb_drop_reason), the kernel's name is used.
 *
 * Rules
 *   A reason is added at the end of its group, and only with a test that provokes it: the numbers are not a
 *   wire format and no store keeps them; Python asks for names (vx_reason_name()).
 */
#ifndef VX_REASONS_H
#define VX_REASONS_H

/* X(ENUM, "spelling", "sentence for the user") */
#define VX_REASONS(X) \
	X(OK, "ok", "delivered") \
	/* what the tunnel brought */ \
	X(VXLAN_INVALID_HDR, "vxlan_invalid_hdr", "the VXLAN header has no I flag (RFC 7348 section 5)") \
	X(VXLAN_VNI_NOT_FOUND, "vxlan_vni_not_found", "no network on this host has the VNI of the datagram") \
	X(HDR_TRUNC, "hdr_trunc", "the frame or datagram is shorter than its headers say") \
	X(VTEP_UNKNOWN, "vtep_unknown", "the sending host is not a member of this network") \
	X(VTEP_MAC, "vtep_mac", "the inner source MAC belongs to another host by record") \
	X(MAC_INVALID_SOURCE, "mac_invalid_source", "the inner source MAC is zero or a group address") \
	X(LOCAL_MAC, "local_mac", "the tunnel brought a frame from the MAC of a local endpoint") \
	X(MAC_PENDING, "mac_pending", "the source MAC has no record and its grace of 5 s is over") \
	/* what an endpoint may not send */ \
	X(SRC_MAC_SPOOF, "src_mac_spoof", "the endpoint sent from a MAC that is not its own") \
	X(SRC_IP_SPOOF, "src_ip_spoof", "the endpoint sent from an address that is not its own") \
	X(ARP_SPOOF, "arp_spoof", "ARP or ND claimed a MAC or an address that is not the sender's") \
	X(ROGUE_SERVER, "rogue_server", "the endpoint sent a router advertisement or a DHCP answer") \
	/* nowhere to go */ \
	X(FDB_MISS, "fdb_miss", "no endpoint of the network has the destination MAC") \
	X(NEIGH_MISS, "neigh_miss", "no endpoint of the network has the address that ARP or ND asks for") \
	X(NO_TX_TARGET, "no_tx_target", "the network has nobody else to send the frame to") \
	X(SPLIT_HORIZON, "split_horizon", "a frame from the tunnel never goes back into the tunnel") \
	/* limits and form */ \
	X(STORM_LIMIT, "storm_limit", "the endpoint caused more broadcast copies than 1000 a second") \
	X(VLAN, "vlan", "the inner frame has a VLAN tag and the network passes none, or more than two") \
	X(IP_TUNNEL_ECN, "ip_tunnel_ecn", "congestion mark on a packet whose sender knows no marks (RFC 6040)") \
	X(PKT_TOO_BIG, "pkt_too_big", "the frame is larger than the MTU of its target or of the path to it") \
	X(CSUM, "csum", "the inner checksum is wrong where it has to be right") \
	X(GSO_INVALID, "gso_invalid", "the offload header of the frame contradicts its contents") \
	/* losses at the edges */ \
	X(RING_FULL, "ring_full", "the queue of a TAP, or that of copies, was full") \
	X(TAP_DOWN, "tap_down", "the receiving interface is down or gone") \
	X(RX_OVERFLOW, "rx_overflow", "the kernel dropped datagrams because the receive buffer was full") \
	X(SOCK_FULL, "sock_full", "the transmit queue of the underlay was full") \
	X(SOCK_ERROR, "sock_error", "the underlay refused the datagram") \
	X(UNREACHABLE, "unreachable", "the underlay has no route to the host") \
	/* state of the engine */ \
	X(NETWORK_CONFLICT, "network_conflict", "another network owns this VNI, so this one is not programmed") \
	X(SHUTDOWN, "shutdown", "the engine or the endpoint was being stopped")

enum vx_reason {
#define X(name, spelling, sentence) VX_##name,
	VX_REASONS(X)
#undef X
	VX_REASON_COUNT
};

#endif
