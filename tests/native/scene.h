/* scene.h - one network with two local ports and three VTEPs, and frames to send through it; see scene.c */
#ifndef SCENE_H
#define SCENE_H

#include "fdb.h"
#include "nbr.h"
#include "switch.h"

#define VNI		256
#define MTU		1450
#define MAC_A		0x02420a070011ull	/* port A, 10.7.0.11, fd07::11 */
#define MAC_B		0x02420a070012ull	/* port B, 10.7.0.12 */
#define MAC_FAR		0x02420a070021ull	/* behind the member VTEP, 10.7.0.21, fd07::21 */
#define MAC_OTHER	0x02420a070031ull	/* behind the second member, 10.7.0.31 */
#define MAC_NOBODY	0x02420a0700eeull	/* no record */
#define MAC_ROUTER	0x0a0102030405ull	/* of the gateway that is served here */

struct scene {
	struct vx_tables *tables;
	struct vx_network *network;
	int net, a, b;			/* ids */
	int member, second, foreign;	/* VTEPs 10.89.0.2, .3 and .4 */
	uint8_t buffer[VX_HEADROOM + VX_FRAME_MAX];
	uint8_t spare[VX_HEADROOM + VX_SPARE_LEN];
	struct vx_frame frame;
	uint64_t now_ns;
};

/* What ip4() and ip6() put behind the IP header; len is that of the payload behind it */
struct packet {
	uint64_t to, from;		/* MACs */
	uint8_t source[16], target[16];
	uint8_t protocol;
	uint8_t tos;
	uint16_t source_port, target_port;
	uint32_t len;
};

struct scene *scene_new(bool with_foreign);
void scene_free(struct scene *scene);
int scene_port(struct scene *scene, uint64_t mac, unsigned last);
void own_namespace(void);
void address4(uint8_t *out, unsigned last);
void address6(uint8_t *out, unsigned last);

uint32_t put_ethernet(uint8_t *frame, uint64_t to, uint64_t from, uint16_t type);
uint32_t put_packet(uint8_t *frame, const struct packet *packet, unsigned version);
uint32_t put_arp(uint8_t *frame, uint16_t op, uint64_t from, unsigned sender, unsigned target);
uint32_t put_nd(uint8_t *frame, uint8_t type, uint64_t from, const uint8_t *source, const uint8_t *target,
		bool with_option);

struct packet packet_between(uint64_t from, unsigned source, uint64_t to, unsigned target);
enum vx_reason from_port(struct scene *scene, int port, uint32_t len);
enum vx_reason from_vtep(struct scene *scene, unsigned outer, uint32_t len);
uint8_t *tap_room(struct scene *scene);
uint8_t *tunnel_room(struct scene *scene);

#endif
