/* nbr.h - which MAC has an address, by record; see nbr.c */
#ifndef VX_NBR_H
#define VX_NBR_H

#include "net.h"

bool vx_nbr_find(const struct vx_network *network, const uint8_t *address, uint64_t *mac, uint32_t *flags);
int vx_nbr_record(struct vx_network *network, const uint8_t *address, uint64_t mac, uint32_t flags);
int vx_nbr_erase(struct vx_network *network, const uint8_t *address);
bool vx_nbr_next(const struct vx_network *network, uint64_t *cursor, vx_neighbor *entry);
void vx_nbr_link_local(uint64_t mac, uint8_t *address);

#endif
