/* unit_transmit.c - what each errno of a send means; sendmmsg() is scripted by the linker's --wrap */
#define _GNU_SOURCE
#include <errno.h>
#include <sys/resource.h>
#include <unistd.h>

#include "check.h"
#include "scene.h"
#include "sock.h"

static int script[8];		/* per call: 0 sends all, N > 0 sends N, -errno fails */
static unsigned calls;
static unsigned sent;
static uint8_t last_tos;

int __wrap_sendmmsg(int fd, struct mmsghdr *messages, unsigned count, int flags);
int __wrap_sendmmsg(int fd, struct mmsghdr *messages, unsigned count, int flags)
{
	int step = calls < 8 ? script[calls] : 0;
	struct cmsghdr *control = CMSG_FIRSTHDR(&messages[0].msg_hdr);

	(void)fd;
	(void)flags;
	calls++;
	last_tos = control ? *CMSG_DATA(control) : 0;
	if (step < 0) {
		errno = -step;
		return -1;
	}
	if (step && (unsigned)step < count)
		count = (unsigned)step;
	sent += count;
	return (int)count;
}

static int failed_errno;
static uint32_t failed_mtu;

static void note_failed(void *context, uint32_t vtep, int error, uint32_t path_mtu)
{
	(void)context;
	(void)vtep;
	failed_errno = error;
	failed_mtu = path_mtu;
}

struct stand {
	struct scene *scene;
	struct vx_stats stats;
	struct vx_transmitter transmitter;
	uint32_t len;
};

static void set_up(struct stand *stand)
{
	static const uint8_t loopback[4] = { 127, 0, 0, 1 };
	vx_config config = { .data_port = 4789, .tx_sockets = 4 };
	struct packet packet = packet_between(MAC_A, 0x11, MAC_FAR, 0x21);

	memset(stand, 0, sizeof(*stand));
	memset(script, 0, sizeof(script));
	calls = sent = 0;
	failed_errno = 0;
	vx_addr_map4(config.address, loopback);
	stand->scene = scene_new(false);
	EQUAL(vx_stats_init(&stand->stats), 0);
	EQUAL(vx_transmitter_open(&stand->transmitter, &config, &stand->scene->tables->offloads), 0);
	stand->transmitter.tables = stand->scene->tables;
	stand->transmitter.stats = &stand->stats;
	stand->transmitter.failed = note_failed;
	stand->len = put_packet(tap_room(stand->scene), &packet, 4);
	REASON(from_port(stand->scene, stand->scene->a, stand->len), VX_OK);
}

static void tear_down(struct stand *stand)
{
	vx_transmitter_close(&stand->transmitter);
	vx_stats_destroy(&stand->stats);
	scene_free(stand->scene);
}

static void queue(struct stand *stand, unsigned count)
{
	const struct vx_vtep *vtep = vx_net_vtep(stand->scene->tables, (uint32_t)stand->scene->member);

	while (count--)
		vx_transmitter_queue(&stand->transmitter, &stand->scene->frame, vtep);
}

static uint64_t dropped(const struct stand *stand, enum vx_reason reason)
{
	return stand->stats.vteps[stand->scene->member].drops[reason];
}

static void a_batch_leaves_in_one_call_and_is_counted(void)
{
	struct stand stand;

	set_up(&stand);
	queue(&stand, 5);
	EQUAL(calls, 0);
	vx_transmitter_flush(&stand.transmitter, true);
	EQUAL(calls, 1);
	EQUAL(sent, 5);
	EQUAL(stand.stats.engine->encapsulated, 5);
	EQUAL(stand.stats.vteps[stand.scene->member].out_frames, 5);
	EQUAL(stand.stats.networks[stand.scene->net].out_bytes, 5 * stand.len);
	EQUAL(stand.transmitter.dirty, 0);
	EQUAL(last_tos, 0);
	stand.scene->frame.outer_tos = 2;
	queue(&stand, 1);
	vx_transmitter_flush(&stand.transmitter, true);
	EQUAL(last_tos, 2);
	tear_down(&stand);
}

static void a_full_socket_keeps_its_messages_and_blocks(void)
{
	struct stand stand;

	set_up(&stand);
	script[0] = 2;
	script[1] = script[2] = -EAGAIN;
	queue(&stand, 5);
	vx_transmitter_flush(&stand.transmitter, true);
	CHECK(stand.transmitter.blocked);
	EQUAL(sent, 2);
	queue(&stand, 1);			/* an answer of the proxy in between: no room */
	EQUAL(dropped(&stand, VX_SOCK_FULL), 1);
	vx_transmitter_flush(&stand.transmitter, false);
	EQUAL(calls, 2);			/* left alone */
	vx_transmitter_flush(&stand.transmitter, true);
	CHECK(stand.transmitter.blocked);
	vx_transmitter_flush(&stand.transmitter, true);
	EQUAL(stand.transmitter.blocked, 0);
	EQUAL(sent, 5);
	EQUAL(stand.stats.engine->encapsulated, 5);
	tear_down(&stand);
}

static void an_answer_that_does_not_fit_is_dropped(void)
{
	struct stand stand;

	set_up(&stand);
	script[0] = -EAGAIN;
	queue(&stand, 3);
	vx_transmitter_flush(&stand.transmitter, false);
	EQUAL(stand.transmitter.blocked, 0);
	EQUAL(dropped(&stand, VX_SOCK_FULL), 3);
	tear_down(&stand);
}

static void an_old_icmp_error_costs_one_retry(void)
{
	struct stand stand;

	set_up(&stand);
	script[0] = -ECONNREFUSED;
	queue(&stand, 2);
	vx_transmitter_flush(&stand.transmitter, true);
	EQUAL(sent, 2);
	EQUAL(dropped(&stand, VX_SOCK_ERROR), 0);
	calls = 0;
	script[0] = script[1] = -ECONNREFUSED;
	queue(&stand, 2);
	vx_transmitter_flush(&stand.transmitter, true);
	EQUAL(dropped(&stand, VX_SOCK_ERROR), 1);
	EQUAL(sent, 3);
	EQUAL(failed_errno, ECONNREFUSED);
	tear_down(&stand);
}

static void each_error_drops_one_message_under_its_reason(void)
{
	static const struct {
		int error;
		enum vx_reason reason;
	} cases[] = {
		{ ENOBUFS, VX_SOCK_FULL },	 { ENOMEM, VX_SOCK_FULL },    { ENETUNREACH, VX_UNREACHABLE },
		{ EHOSTUNREACH, VX_UNREACHABLE }, { ENETDOWN, VX_UNREACHABLE }, { EPERM, VX_SOCK_ERROR },
		{ EIO, VX_SOCK_ERROR },		 { EINVAL, VX_SOCK_ERROR },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct stand stand;

		set_up(&stand);
		script[0] = -EINTR;
		script[1] = -cases[i].error;
		queue(&stand, 3);
		vx_transmitter_flush(&stand.transmitter, true);
		EQUAL(sent, 2);
		EQUAL(dropped(&stand, cases[i].reason), 1);
		EQUAL(failed_errno, cases[i].reason == VX_SOCK_FULL ? 0 : cases[i].error);
		tear_down(&stand);
	}
}

static void a_message_too_long_lowers_the_path_mtu(void)
{
	struct stand stand;
	struct vx_vtep *vtep;

	set_up(&stand);
	stand.scene->frame.len = 1450;
	vtep = vx_net_vtep(stand.scene->tables, (uint32_t)stand.scene->member);
	script[0] = -EMSGSIZE;
	queue(&stand, 2);
	vx_transmitter_flush(&stand.transmitter, true);
	EQUAL(dropped(&stand, VX_PKT_TOO_BIG), 1);
	EQUAL(sent, 1);
	CHECK(vtep->path_mtu && vtep->path_mtu < 1450 + 8 + 28);
	EQUAL(failed_mtu, vtep->path_mtu);
	tear_down(&stand);
}

static void a_path_mtu_never_rises_by_a_failure(void)
{
	struct stand stand;
	struct vx_vtep *vtep;

	set_up(&stand);
	vtep = vx_net_vtep(stand.scene->tables, (uint32_t)stand.scene->member);
	script[0] = script[1] = -EMSGSIZE;
	stand.scene->frame.len = 1400;
	queue(&stand, 1);
	stand.scene->frame.len = 1450;		/* queued before the first one failed */
	queue(&stand, 1);
	vx_transmitter_flush(&stand.transmitter, true);
	EQUAL(dropped(&stand, VX_PKT_TOO_BIG), 2);
	CHECK(vtep->path_mtu < 1400 + 8 + 28);
	EQUAL(failed_mtu, 0);			/* the second failure was no news */
	tear_down(&stand);
}

/** mapped_pages() - Size of this process's address space */
static long mapped_pages(void)
{
	FILE *statm = fopen("/proc/self/statm", "re");
	long pages = 0;

	CHECK(statm && fscanf(statm, "%ld", &pages) == 1);
	fclose(statm);
	return pages;
}

static void what_cannot_be_opened_leaves_nothing(void)
{
	static const uint8_t loopback[4] = { 127, 0, 0, 1 };
	vx_config config = { .data_port = 4789, .tx_sockets = VX_TX_SOCKETS_MAX };
	struct vx_transmitter transmitter = { 0 };
	struct rlimit limit, few;
	long before;
	_Atomic uint32_t offloads = VX_OFFLOAD_ALL;
	int next = dup(0);

	vx_addr_map4(config.address, loopback);
	close(next);
	EQUAL(getrlimit(RLIMIT_NOFILE, &limit), 0);
	few = (struct rlimit){ (rlim_t)next + 3, limit.rlim_max };
	before = mapped_pages();
	EQUAL(setrlimit(RLIMIT_NOFILE, &few), 0);
	for (unsigned i = 0; i < 200; i++)
		EQUAL(vx_transmitter_open(&transmitter, &config, &offloads), -EMFILE);
	EQUAL(dup(0), next);
	close(next);
	EQUAL(setrlimit(RLIMIT_NOFILE, &limit), 0);
	CHECK(mapped_pages() - before < (long)(20 * VX_TX_SOCKETS_MAX * sizeof(struct vx_tx_socket) / 4096));
	EQUAL(vx_transmitter_open(&transmitter, &config, &offloads), 0);
	vx_transmitter_close(&transmitter);
}

static void more_messages_than_a_queue_holds_leave_in_between(void)
{
	struct stand stand;

	set_up(&stand);
	queue(&stand, VX_TX_QUEUE + 10);
	EQUAL(sent, VX_TX_QUEUE);
	vx_transmitter_flush(&stand.transmitter, true);
	EQUAL(sent, VX_TX_QUEUE + 10);
	tear_down(&stand);
}

CASES(CASE(own_namespace), CASE(a_batch_leaves_in_one_call_and_is_counted),
      CASE(a_full_socket_keeps_its_messages_and_blocks),
      CASE(an_answer_that_does_not_fit_is_dropped), CASE(an_old_icmp_error_costs_one_retry),
      CASE(each_error_drops_one_message_under_its_reason), CASE(a_message_too_long_lowers_the_path_mtu),
      CASE(a_path_mtu_never_rises_by_a_failure), CASE(what_cannot_be_opened_leaves_nothing),
      CASE(more_messages_than_a_queue_holds_leave_in_between))
