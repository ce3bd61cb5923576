/* unit_engine.c - an engine that cannot be made: whatever runs out, nothing of anybody else's is closed */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sys/resource.h>
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

CASES(CASE(own_namespace), CASE(a_refused_engine_leaves_all_descriptors_alone))
