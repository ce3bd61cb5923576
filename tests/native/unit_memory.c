/* unit_memory.c - each change of the tables, with each of its allocations failing in turn, leaves everything as it was
 *
 * calloc(), malloc(), posix_memalign() and epoll_ctl() are caught by the linker's --wrap. An operation is made again
 * and again, with the first, the second, ... of its calls failing, until it needs no more: then it succeeds. Before and
 * after each failure a picture of the engine is taken, in words, so that a difference can be read.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdarg.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "check.h"
#include "engine.h"
#include "fdb.h"
#include "nbr.h"
#include "scene.h"

#define LOOKED_AT	32	/* ids of each kind */
#define PICTURE		65536
#define WORKERS		2
#define PEERS		20

static unsigned calls, failing;		/* the call that fails, counted from 1; 0: none */

static bool fails(void)
{
	return ++calls == failing;
}

void *__real_calloc(size_t count, size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_calloc(size_t count, size_t size)
{
	return fails() ? NULL : __real_calloc(count, size);
}

void *__real_malloc(size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_malloc(size_t size)
{
	return fails() ? NULL : __real_malloc(size);
}

int __real_posix_memalign(void **memory, size_t alignment, size_t size);
int __wrap_posix_memalign(void **memory, size_t alignment, size_t size);
int __wrap_posix_memalign(void **memory, size_t alignment, size_t size)
{
	return fails() ? ENOMEM : __real_posix_memalign(memory, alignment, size);
}

int __real_epoll_ctl(int epoll, int op, int fd, struct epoll_event *event);
int __wrap_epoll_ctl(int epoll, int op, int fd, struct epoll_event *event);
int __wrap_epoll_ctl(int epoll, int op, int fd, struct epoll_event *event)
{
	errno = ENOMEM;
	return op == EPOLL_CTL_ADD && fails() ? -1 : __real_epoll_ctl(epoll, op, fd, event);
}

static vx_engine *engine;
static int network, port, fds[WORKERS];
static vx_member members[PEERS];

/* -- the picture -------------------------------------------------------------------------------------------------- */

static void say(char *picture, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void say(char *picture, const char *format, ...)
{
	size_t len = strlen(picture);
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(picture + len, PICTURE - len, format, arguments);
	va_end(arguments);
}

static void picture_network(char *picture, const struct vx_network *of)
{
	const struct vx_members *list = atomic_load(&of->members);
	const struct vx_locals *locals = atomic_load(&of->locals);

	say(picture, "network %u flags %u, %u records, %u neighbours; members", of->id, of->flags, of->fdb.live,
	    of->neighbors.live);
	for (uint32_t i = 0; list && i < list->ids; i++)
		say(picture, " %u/%u", i, list->flags[i]);
	say(picture, ", floods to %u and %u", list ? list->flood : 0, list ? list->foreign : 0);
	say(picture, "; ports");
	for (uint32_t i = 0; locals && i < locals->count; i++)
		say(picture, " %u", locals->port[i]);
	say(picture, "\n");
}

static void picture_port(char *picture, const struct vx_port *of)
{
	const struct vx_allow *allow = atomic_load(&of->allow);

	say(picture, "port %u of %u, may send from %u;", of->id, of->network->id, allow ? allow->count : 0);
	for (unsigned i = 0; i < engine->workers; i++) {
		struct epoll_event event = { .data.u64 = vx_value(1, of->id, of->generation), .events = EPOLLIN };

		if (vx_port_reader(of, i) >= 0)
			say(picture, " watched %d", !__real_epoll_ctl(engine->worker[i].epoll, EPOLL_CTL_MOD,
								      vx_port_reader(of, i), &event));
	}
	say(picture, "\n");
}

static const char *take_picture(void)
{
	struct vx_tables *tables = engine->tables;
	char *picture = __real_calloc(1, PICTURE);

	say(picture, "%u VNIs, %u addresses, descriptors %d %d\n", tables->vnis.live, tables->addresses.live,
	    fcntl(fds[0], F_GETFD) >= 0, fcntl(fds[1], F_GETFD) >= 0);
	for (uint32_t i = 0; i < LOOKED_AT; i++) {
		const struct vx_vtep *vtep = vx_net_vtep(tables, i);

		say(picture, "%u: busy %d%d%d\n", i, tables->network_busy[i], tables->port_busy[i],
		    tables->vtep_busy[i]);
		if (vtep)
			say(picture, "vtep %u in %u networks\n", i, vtep->networks);
		if (vx_net_port(tables, i))
			picture_port(picture, vx_net_port(tables, i));
		if (vx_net_get(tables, i))
			picture_network(picture, vx_net_get(tables, i));
	}
	return picture;
}

/* -- the operations ----------------------------------------------------------------------------------------------- */

/** each_failure() - Make an operation until nothing of it fails. Return: its result; @least calls have failed */
static int each_failure(int (*operation)(void), unsigned least)
{
	for (unsigned n = 1;; n++) {
		const char *before = take_picture(), *after;
		int result;

		calls = 0;
		failing = n;
		result = operation();
		failing = 0;
		if (calls < n) {
			CHECK(result >= 0 && n > least);
			free((void *)before);
			return result;
		}
		EQUAL(result, -ENOMEM);
		after = take_picture();
		if (strcmp(before, after)) {
			fprintf(stderr, "call %u failed:\n%sbecame\n%s", n, before, after);
			exit(1);
		}
		free((void *)before);
		free((void *)after);
	}
}

/** settle() - Wait until the reaper has freed what was deleted: until then its ids are busy */
static void settle(void)
{
	while (vx_engine_reclaim(engine))
		sched_yield();
}

static int add_network(void)
{
	return vx_network_add(engine, VNI, MTU, 0);
}

static int add_vtep(void)
{
	static unsigned last = 1;
	uint8_t address[VX_ADDR_LEN];
	int made;

	address4(address, last);
	made = vx_vtep_add(engine, address, 4789, 0);
	last += made >= 0;
	return made;
}

static int set_few_vteps(void)
{
	return vx_network_vteps(engine, network, members, 3);
}

static int set_many_vteps(void)
{
	return vx_network_vteps(engine, network, members + 1, PEERS - 1);
}

static int set_no_vteps(void)
{
	return vx_network_vteps(engine, network, NULL, 0);
}

static int add_port(void)
{
	static const uint8_t mac[VX_MAC_LEN] = { 2, 0, 0, 0, 0, 1 };

	return vx_port_add(engine, network, mac, MTU, 0, fds, WORKERS);
}

static int allow(void)
{
	static const vx_prefix prefix = { .length = 128 };

	return vx_port_allow(engine, port, &prefix, 1);
}

static int set_records(void)
{
	static uint8_t last;
	uint8_t mac[VX_MAC_LEN] = { 2, 0, 0, 0, 1, last }, address[VX_ADDR_LEN];
	int error = vx_fdb_set(engine, network, mac, VX_AT_PORT, port);

	address4(address, last);
	if (error)
		return error;
	error = vx_neighbor_set(engine, network, address, mac, 0);
	if (error)		/* these are two changes: take the first back, as whoever makes both would */
		EQUAL(vx_fdb_del(engine, network, mac), 0);
	last += !error;
	return error;
}

static int take_out_of_conflict(void)
{
	return vx_network_flags(engine, network, 0);
}

static int delete_port(void)
{
	return vx_port_del(engine, port);
}

static int delete_network(void)
{
	return vx_network_del(engine, network);
}

static void nothing_is_left_half_done(void)
{
	static const uint8_t mac[VX_MAC_LEN] = { 2, 0, 0, 0, 0, 2 };
	int other[WORKERS] = { eventfd(0, 0), eventfd(0, 0) };

	for (unsigned i = 0; i < WORKERS; i++)
		fds[i] = eventfd(0, 0);
	network = each_failure(add_network, 3);
	for (unsigned i = 0; i < PEERS; i++)
		members[i] = (vx_member){ (uint32_t)each_failure(add_vtep, 1), VX_MEMBER_FLOOD };
	each_failure(set_few_vteps, 1);
	each_failure(set_many_vteps, 1);
	CHECK(vx_port_add(engine, network, mac, MTU, 0, other, WORKERS) >= 0);
	port = each_failure(add_port, 2 + WORKERS);
	each_failure(allow, 1);
	each_failure(allow, 1);
	for (unsigned i = 0; i < 100; i++)
		each_failure(set_records, 0);
	EQUAL(vx_network_flags(engine, network, VX_NETWORK_IN_CONFLICT), 0);
	each_failure(take_out_of_conflict, 0);
	each_failure(delete_port, 1);
	settle();
	each_failure(set_few_vteps, 1);
	each_failure(set_no_vteps, 0);
	each_failure(set_few_vteps, 1);
}

/* The last references go without memory: nothing could be done about a network that cannot be deleted. */
static void deleting_a_network_frees_its_vteps_in_any_case(void)
{
	EQUAL(vx_vtep_del(engine, (int)members[0].vtep), -EBUSY);
	EQUAL(vx_port_del(engine, port - 1), 0);
	settle();
	each_failure(delete_network, 0);
	EQUAL(vx_vtep_del(engine, (int)members[0].vtep), 0);
}

static void make_engine(void)
{
	static const uint8_t loopback[4] = { 127, 0, 0, 1 };
	vx_config config = { .data_port = 47895, .workers = WORKERS, .tx_sockets = 2 };
	int error;

	vx_addr_map4(config.address, loopback);
	for (failing = 1;; failing++) {
		calls = 0;
		error = vx_engine_new(&config, &engine);
		if (!error)
			break;
		EQUAL(error, -ENOMEM);
	}
	CHECK(failing > 5);
	failing = 0;
}

static void free_engine(void)
{
	vx_engine_free(engine);
}

CASES(CASE(own_namespace), CASE(make_engine), CASE(nothing_is_left_half_done),
      CASE(deleting_a_network_frees_its_vteps_in_any_case), CASE(free_engine))
