/* unit_engine.c - an engine that cannot be made closes nothing of anybody else's; one that is given sockets goes on;
 * and where its workers run
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sched.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "check.h"
#include "engine.h"
#include "scene.h"

#define LOOKED_AT	256

static unsigned open_descriptors(void)
{
	unsigned count = 0;

	for (int fd = 0; fd < LOOKED_AT; fd++)
		count += fcntl(fd, F_GETFD) >= 0;
	return count;
}

static void a_refused_engine_leaves_all_descriptors_alone(void)
{
	static const uint8_t loopback[4] = { 127, 0, 0, 1 };
	vx_config config = { .data_port = 47892, .workers = 2, .tx_sockets = 2 };
	struct rlimit limit, few;
	vx_engine *engine = NULL;
	int error = -EMFILE, first;
	unsigned before, refused = 0;

	vx_addr_map4(config.address, loopback);
	while ((first = open("/dev/null", O_RDWR | O_CLOEXEC)) < 3)	/* none of the standard ones is missing */
		CHECK(first >= 0);
	close(first);
	before = open_descriptors();
	EQUAL(getrlimit(RLIMIT_NOFILE, &limit), 0);
	for (few = limit, few.rlim_cur = (rlim_t)first; error; few.rlim_cur++) {
		EQUAL(setrlimit(RLIMIT_NOFILE, &few), 0);
		error = vx_engine_new(&config, &engine);
		if (!error)
			continue;
		EQUAL(error, -EMFILE);
		EQUAL(open_descriptors(), before);
		refused++;
	}
	EQUAL(setrlimit(RLIMIT_NOFILE, &limit), 0);
	CHECK(refused > 8);
	EQUAL((uintptr_t)engine->tables % _Alignof(struct vx_tables), 0);
	vx_engine_free(engine);
	EQUAL(open_descriptors(), before);
}

static void send_word(uint16_t port, const char *word)
{
	struct sockaddr_in to = {
		.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)
	};
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	EQUAL(sendto(fd, word, 4, 0, (struct sockaddr *)&to, sizeof(to)), 4);
	close(fd);
}

static void a_given_socket_is_gone_on_with_and_its_queue_is_not_lost(void)
{
	vx_config config = { .data_port = 47893, .workers = 1, .tx_sockets = 2, .offloads = VX_OFFLOAD_ALL };
	static const uint8_t loopback[4] = { 127, 0, 0, 1 };
	vx_engine *first = NULL, *next = NULL;
	char word[8];
	int kept;

	vx_addr_map4(config.address, loopback);
	EQUAL(vx_engine_new(&config, &first), 0);
	kept = dup(vx_engine_receive_fd(first, 0));
	vx_engine_free(first);
	send_word(config.data_port, "kept");
	EQUAL(vx_engine_new(&config, &next), -EADDRINUSE);	/* the descriptor holds the port */
	config.given = 1;
	config.receive_fds[0] = kept;
	EQUAL(vx_engine_new(&config, &next), 0);
	close(kept);
	EQUAL(recv(vx_engine_receive_fd(next, 0), word, sizeof(word), 0), 4);
	EQUAL(memcmp(word, "kept", 4), 0);
	EQUAL(vx_engine_receive_fd(next, 1), -ENOENT);
	vx_engine_free(next);
}

/* The same socket each time; what differs is what the new engine wants of it. */
static void a_given_socket_that_does_not_fit_is_stale(void)
{
	static const uint8_t loopback[4] = { 127, 0, 0, 1 }, other[4] = { 127, 0, 0, 2 };
	vx_config fits = { .data_port = 47894, .workers = 1, .tx_sockets = 2, .offloads = VX_OFFLOAD_ALL, .given = 1 };
	vx_config open_new, wrong;
	vx_engine *engine = NULL;
	unsigned before;

	vx_addr_map4(fits.address, loopback);
	open_new = fits;
	open_new.given = 0;
	EQUAL(vx_engine_new(&open_new, &engine), 0);
	fits.receive_fds[0] = dup(vx_engine_receive_fd(engine, 0));
	vx_engine_free(engine);
	before = open_descriptors();
	wrong = fits, wrong.data_port++;
	EQUAL(vx_engine_new(&wrong, &engine), -ESTALE);
	wrong = fits, vx_addr_map4(wrong.address, other);
	EQUAL(vx_engine_new(&wrong, &engine), -ESTALE);
	wrong = fits, wrong.workers = 2;
	EQUAL(vx_engine_new(&wrong, &engine), -ESTALE);
	wrong = fits, wrong.workers = wrong.given = 2, wrong.receive_fds[1] = wrong.receive_fds[0];
	EQUAL(vx_engine_new(&wrong, &engine), -ESTALE);		/* not shared */
	wrong = fits, wrong.offloads = 0;
	EQUAL(vx_engine_new(&wrong, &engine), -ESTALE);		/* its trains could not be read */
	wrong = fits, wrong.receive_fds[0] = open("/dev/null", O_RDWR | O_CLOEXEC);
	EQUAL(vx_engine_new(&wrong, &engine), -ESTALE);
	close(wrong.receive_fds[0]);
	EQUAL(open_descriptors(), before);
	EQUAL(vx_engine_new(&fits, &engine), 0);
	vx_engine_free(engine);
	EQUAL(open_descriptors(), before);
	close(fits.receive_fds[0]);
}

/** usual_of() - What a worker has learnt of waits for a container, behind a small datagram, with these flags */
static uint32_t usual_of(uint32_t flags)
{
	vx_config config = { .data_port = 47895, .workers = 1, .tx_sockets = 2, .flags = flags };
	static const uint8_t loopback[4] = { 127, 0, 0, 1 };
	vx_engine *engine = NULL;
	uint64_t turns;
	uint32_t usual;

	vx_addr_map4(config.address, loopback);
	EQUAL(vx_engine_new(&config, &engine), 0);
	EQUAL(vx_engine_start(engine), 0);
	turns = vx_engine_heartbeat(engine, 0);
	send_word(config.data_port, "look");
	while (vx_engine_heartbeat(engine, 0) < turns + 3)	/* the last one is idle: it comes after a second */
		usleep(1000);
	vx_worker_stop(&engine->worker[0]);
	usual = engine->worker[0].spin.usual_ns[VX_AWAIT_TAP];
	vx_engine_free(engine);
	return usual;
}

static void a_worker_looks_on_only_if_told_to(void)
{
	EQUAL(usual_of(0), 0);
	CHECK(usual_of(VX_ENGINE_SPIN) > 0);
}

/** placed() - Start so many workers: each has to be on the CPUs that are wanted of it */
static void placed(unsigned workers, uint32_t flags, uint8_t host, const cpu_set_t *wanted)
{
	vx_config config = { .data_port = 47896, .workers = workers, .tx_sockets = 2, .flags = flags };
	const uint8_t loopback[4] = { 127, 0, 0, host };
	vx_engine *engine = NULL;
	cpu_set_t found;

	vx_addr_map4(config.address, loopback);
	EQUAL(vx_engine_new(&config, &engine), 0);
	EQUAL(vx_engine_start(engine), 0);
	for (unsigned i = 0; i < workers; i++) {
		uint64_t turns = vx_engine_heartbeat(engine, i);

		while (vx_engine_heartbeat(engine, i) == turns)	/* it goes to its place before its first turn */
			usleep(1000);
		EQUAL(pthread_getaffinity_np(engine->worker[i].thread, sizeof(found), &found), 0);
		CHECK(CPU_EQUAL(&found, &wanted[i]));
	}
	vx_engine_free(engine);
}

static void workers_keep_to_cpus_of_their_own_if_there_are_exactly_as_many(void)
{
	cpu_set_t before, ours, any[3], each[2];
	int cpu = 0;

	EQUAL(sched_getaffinity(0, sizeof(before), &before), 0);
	CPU_ZERO(&ours);
	for (unsigned i = 0; i < 2; i++, cpu++) {
		while (cpu < CPU_SETSIZE && !CPU_ISSET(cpu, &before))
			cpu++;
		if (cpu == CPU_SETSIZE)
			break;			/* a machine of one CPU */
		CPU_SET(cpu, &ours);
		CPU_ZERO(&each[i]);
		CPU_SET(cpu, &each[i]);
	}
	EQUAL(sched_setaffinity(0, sizeof(ours), &ours), 0);
	for (unsigned i = 0; i < 3; i++)
		any[i] = ours;
	if (CPU_COUNT(&ours) == 2) {
		placed(2, VX_ENGINE_PIN, 2, each);
		placed(2, VX_ENGINE_PIN, 3, (cpu_set_t[]){ each[1], each[0] });	/* hosts begin at CPUs of their own */
	}
	placed(2, 0, 2, any);
	placed(1 + (unsigned)CPU_COUNT(&ours), VX_ENGINE_PIN, 2, any);
	EQUAL(sched_setaffinity(0, sizeof(each[0]), &each[0]), 0);
	placed(1, VX_ENGINE_PIN, 3, each);
	EQUAL(sched_setaffinity(0, sizeof(before), &before), 0);
}

CASES(CASE(own_namespace), CASE(a_refused_engine_leaves_all_descriptors_alone),
      CASE(a_given_socket_is_gone_on_with_and_its_queue_is_not_lost), CASE(a_given_socket_that_does_not_fit_is_stale),
      CASE(a_worker_looks_on_only_if_told_to), CASE(workers_keep_to_cpus_of_their_own_if_there_are_exactly_as_many))
