/* switch.h - the decision; see switch.c */
#ifndef VX_SWITCH_H
#define VX_SWITCH_H

#include "guard.h"

void vx_switch(struct vx_tables *tables, struct vx_frame *frames, unsigned count, struct vx_when when);
enum vx_reason vx_switch_fit_port(struct vx_frame *frame, const struct vx_port *port);
enum vx_reason vx_switch_fit_vtep(struct vx_frame *frame, const struct vx_vtep *vtep);

#endif
