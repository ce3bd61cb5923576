/* ns.c - namespaces and end-of-life watches: the system calls that Python 3.11 does not have
 *
 * How it works
 *   The helper process of vxlanu/nsopen forks a child per request; the child enters namespaces with these calls
 *   and works there with ordinary Python. The agent itself calls only the vx_ns_watch functions: an agent has
 *   threads, and entering a namespace would move one of them and leave the others behind.
 *
 * Nothing but system calls: no malloc, no stdio, no global, no errno left to read. Every function answers a
 * descriptor or 0, or a negative errno.
 */

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "ns.h"

#include <errno.h>
#include <linux/nsfs.h>
#include <sched.h>
#include <signal.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <unistd.h>

static int answer(int returned)
{
	return returned < 0 ? -errno : returned;
}

/**
 * vx_ns_enter() - Move the calling thread into a namespace
 * @fd:		A namespace (/proc/N/ns/..., /run/netns/...) or a pidfd
 * @nstype:	CLONE_NEWNET or CLONE_NEWUSER: the kind that @fd must be, so that a wrong file is refused
 *
 * A user namespace can be entered only by a process with a single thread.
 *
 * Return: 0, or -errno (-EINVAL: not a namespace of that kind; -EPERM: not ours to enter)
 */
int vx_ns_enter(int fd, int nstype)
{
	return answer(setns(fd, nstype));
}

/**
 * vx_ns_new_net() - Give the calling process a new, empty network namespace
 *
 * Return: 0, or -errno (-EPERM without CAP_SYS_ADMIN in our user namespace)
 */
int vx_ns_new_net(void)
{
	return answer(unshare(CLONE_NEWNET));
}

/**
 * vx_ns_new_user_net() - Give the calling process a new user namespace, all capabilities in it, and an empty network
 * namespace there
 *
 * Return: 0, or -errno (-EPERM, -ENOSPC: this host allows no user namespaces)
 */
int vx_ns_new_user_net(void)
{
	return answer(unshare(CLONE_NEWUSER | CLONE_NEWNET));
}

/**
 * vx_ns_owner() - Open the user namespace that owns a namespace
 * @fd:		Any namespace
 *
 * Return: a new descriptor, close-on-exec, or -errno (-EPERM: the owner is not below our own user namespace)
 */
int vx_ns_owner(int fd)
{
	return answer(ioctl(fd, NS_GET_USERNS));
}

/**
 * vx_ns_die_with_parent() - Ask for SIGKILL when the parent ends, however it ends
 * @parent:	Its process id, as known before the fork
 *
 * The parent may have died between fork and this call; then the signal would never come, so that is checked.
 * The kernel means the parent's *thread* that forked: the agent forks from its main thread.
 *
 * Return: 0, or -errno (-ESRCH: the parent is gone already)
 */
int vx_ns_die_with_parent(int parent)
{
	if (prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) < 0)
		return -errno;
	return getppid() == parent ? 0 : -ESRCH;
}

/**
 * vx_ns_watch_open() - Open an inotify instance, non-blocking and close-on-exec
 *
 * Return: descriptor, or -errno (-EMFILE: fs.inotify.max_user_instances)
 */
int vx_ns_watch_open(void)
{
	return answer(inotify_init1(IN_NONBLOCK | IN_CLOEXEC));
}

/**
 * vx_ns_watch_add() - Watch a directory or file
 * @watch:	From vx_ns_watch_open()
 * @path:	What to watch, ended by a zero byte
 * @mask:	IN_... events wanted
 *
 * Return: number of the watch (the same one when the same inode is added again), or -errno
 */
int vx_ns_watch_add(int watch, const char *path, uint32_t mask)
{
	return answer(inotify_add_watch(watch, path, mask));
}

/**
 * vx_ns_watch_remove() - End one watch
 * @watch:	From vx_ns_watch_open()
 * @number:	From vx_ns_watch_add()
 *
 * Return: 0, or -errno (-EINVAL: it has ended by itself)
 */
int vx_ns_watch_remove(int watch, int number)
{
	return answer(inotify_rm_watch(watch, number));
}
