/* soft.h - MACs that no record explains: learned and pending; see soft.c */
#ifndef VX_SOFT_H
#define VX_SOFT_H

#include "vx.h"

struct vx_soft_slot {
	_Atomic uint64_t who;		/* MAC << 16 | VTEP; 0: free */
	_Atomic uint64_t when;		/* expiry in ms << 24 | generation of the VTEP (20 bits) << 4 | kind */
};

struct vx_soft {
	struct vx_soft_slot *slots;	/* VX_SOFT_SLOTS */
};

/** struct vx_soft_source - The VTEP that a frame came from, as far as soft state is concerned */
struct vx_soft_source {
	uint32_t vtep;
	uint32_t generation;
	_Atomic uint32_t *count;	/* entries that this VTEP holds */
	_Atomic uint32_t *(*count_of)(void *context, uint32_t vtep);	/* the same of another one; NULL: gone */
	void *context;
	bool foreign;
	bool dry;			/* trace: tell what would happen, change nothing */
};

int vx_soft_init(struct vx_soft *soft);
void vx_soft_destroy(struct vx_soft *soft);
enum vx_reason vx_soft_note(struct vx_soft *soft, uint64_t mac, struct vx_soft_source source, uint64_t now_ms,
			    uint8_t *event);
bool vx_soft_find(const struct vx_soft *soft, uint64_t mac, uint64_t now_ms, uint32_t *vtep, uint32_t *generation);
void vx_soft_sweep(struct vx_soft *soft, uint64_t now_ms, _Atomic uint32_t *(*count_of)(void *, uint32_t),
		   void *context);
void vx_soft_forget(struct vx_soft *soft, uint64_t mac, uint32_t vtep, _Atomic uint32_t *(*count_of)(void *, uint32_t),
		    void *context);
bool vx_soft_next(const struct vx_soft *soft, uint64_t now_ms, uint64_t *cursor, vx_soft_entry *entry);

#endif
