/* ns.h - what Python 3.11 cannot do with namespaces; contracts in ns.c
 *
 * build_native.py declares all seven to Python: vxlanu/nsopen/syscalls.py is their only caller.
 */
#ifndef VX_NS_H
#define VX_NS_H

#include <stdint.h>

int vx_ns_enter(int fd, int nstype);
int vx_ns_new_net(void);
int vx_ns_owner(int fd);
int vx_ns_die_with_parent(int parent);
int vx_ns_watch_open(void);
int vx_ns_watch_add(int watch, const char *path, uint32_t mask);
int vx_ns_watch_remove(int watch, int number);

#endif
