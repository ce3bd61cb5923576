/* nbr.c - which MAC has an address, by record: what the ARP and ND proxy answers from
 *
 * How it works
 *   One hash table per network from the 16-byte address to a word of flags and MAC. An address fe80:: made of
 *   a MAC (modified EUI-64, RFC 4291 appendix A), which is what attach configures in every target, needs no
 *   record of its own: it is known if its MAC has a forwarding record.
 */
#include "nbr.h"

#include <errno.h>

#include "fdb.h"

#define KIND		1ull
#define MAC_MASK	0xffffffffffffull

/** vx_nbr_link_local() - The fe80:: address that an interface makes of its MAC */
void vx_nbr_link_local(uint64_t mac, uint8_t *address)
{
	uint8_t bytes[VX_MAC_LEN];

	vx_mac_put(bytes, mac);
	memset(address, 0, VX_ADDR_LEN);
	address[0] = 0xfe;
	address[1] = 0x80;
	memcpy(address + 8, bytes, 3);
	address[8] ^= 2;
	address[11] = 0xff;
	address[12] = 0xfe;
	memcpy(address + 13, bytes + 3, 3);
}

/** mac_of_link_local() - The MAC in an fe80:: address, 0 if it is not made of one */
static uint64_t mac_of_link_local(const uint8_t *address)
{
	uint8_t bytes[VX_MAC_LEN], again[VX_ADDR_LEN];

	memcpy(bytes, address + 8, 3);
	bytes[0] ^= 2;
	memcpy(bytes + 3, address + 13, 3);
	vx_nbr_link_local(vx_mac(bytes), again);
	return memcmp(again, address, VX_ADDR_LEN) ? 0 : vx_mac(bytes);
}

/** vx_nbr_find() - Look an address up. Return: false if it is not known */
bool vx_nbr_find(const struct vx_network *network, const uint8_t *address, uint64_t *mac, uint32_t *flags)
{
	uint64_t value = vx_table_address(&network->neighbors, address);

	if (value) {
		*mac = value & MAC_MASK;
		*flags = (uint32_t)(value >> 48) & 0xff;
		return true;
	}
	*flags = 0;
	*mac = mac_of_link_local(address);
	return *mac && vx_fdb_find(network, *mac).kind;
}

int vx_nbr_record(struct vx_network *network, const uint8_t *address, uint64_t mac, uint32_t flags)
{
	uint64_t value = KIND << 56 | (uint64_t)(flags & 0xff) << 48 | mac;

	return vx_table_set(&network->neighbors, vx_key_address(address), value);
}

int vx_nbr_erase(struct vx_network *network, const uint8_t *address)
{
	return vx_table_del(&network->neighbors, vx_key_address(address)) ? 0 : -ENOENT;
}

/** vx_nbr_next() - Walk the records. Return: false at the end */
bool vx_nbr_next(const struct vx_network *network, uint64_t *cursor, vx_neighbor *entry)
{
	struct vx_key key;
	uint64_t value = vx_table_next(&network->neighbors, cursor, &key);

	if (!value)
		return false;
	memcpy(entry->address, key.word, VX_ADDR_LEN);
	vx_mac_put(entry->mac, value & MAC_MASK);
	entry->flags = (uint16_t)((value >> 48) & 0xff);
	return true;
}
