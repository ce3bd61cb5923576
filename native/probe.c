/* probe.c - datagrams by which two agents find out whether the data port is open between them
 *
 * How it works
 *   `vxlanu netcheck` must see what a firewall or a middlebox does to VXLAN, so a probe is VXLAN: I flag set, an
 *   Ethernet frame inside. It belongs to no network: VNI 0, which no network may have. The frame goes to a group
 *   address that no bridge forwards and has an EtherType for experiments, so that whoever else takes VNI 0 does
 *   nothing with it:
 *
 *      VXLAN header, VNI 0 | 01:80:c2:00:00:00 | sender's MAC | 0x88b5 | "vxp" 1 | token, 8 bytes | padding
 *
 *   The switch absorbs it and tells the agent outer source and token; what they mean is the agent's
 *   (vxlanu/agent/probes.py, which also makes them). Anybody can send one: it costs an event, and those are limited
 *   per kind (ring.c).
 *
 * Pure: no system call, no global, no allocation.
 */
#include "probe.h"

#define TYPE_AT		(VX_VXLAN_LEN + 2 * VX_MAC_LEN)
#define MAGIC_AT	(VX_VXLAN_LEN + VX_ETH_LEN)
#define TOKEN_AT	(MAGIC_AT + 4)
#define PROBE_LEN	(TOKEN_AT + 8)
#define ETHERTYPE	0x88b5		/* IEEE Std 802 local experimental EtherType 1 */
#define MAGIC		0x76787001u	/* "vxp", and the version of this format */

/**
 * vx_probe_is() - Whether a datagram is a probe
 * @datagram:	From its VXLAN header on
 * @len:	Its length, padding included
 * @vni:	VNI as parsed
 */
bool vx_probe_is(const uint8_t *datagram, uint32_t len, uint32_t vni)
{
	return vni == 0 && len >= PROBE_LEN && vx_get16(datagram + TYPE_AT) == ETHERTYPE &&
	       vx_get32(datagram + MAGIC_AT) == MAGIC;
}

/** vx_probe_token() - The token of a datagram that is a probe */
uint64_t vx_probe_token(const uint8_t *datagram)
{
	return (uint64_t)vx_get32(datagram + TOKEN_AT) << 32 | vx_get32(datagram + TOKEN_AT + 4);
}
