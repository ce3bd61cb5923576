/* load.h - what the programs of this folder have alike: a clock, where to listen, whom to send to, and how they fail
 *
 * Whoever includes it first defines PROGRAM, which is what its complaints begin with, and _GNU_SOURCE.
 */
#ifndef LOAD_H
#define LOAD_H

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#define SECOND_NS	1000000000ull

/** clock_ns() - Now, in nanoseconds; the same clock for both ends, which are on one machine */
static inline uint64_t clock_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * SECOND_NS + (uint64_t)now.tv_nsec;
}

/** sleep_until() - Wait for a moment of that clock */
static inline void sleep_until(uint64_t when_ns)
{
	struct timespec when = { (time_t)(when_ns / SECOND_NS), (long)(when_ns % SECOND_NS) };

	while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &when, NULL) == EINTR)
		;
}

/** fail() - Say what could not be done with what, and errno; and end */
_Noreturn static inline void fail(const char *what, const char *which)
{
	fprintf(stderr, PROGRAM ": %s %s: %s\n", what, which, strerror(errno));
	exit(1);
}

/** bound_to() - A socket of @type at a port of every address, IPv6 and IPv4; who listens there already keeps it */
static inline int bound_to(int type, const char *port)
{
	struct sockaddr_in6 own = { .sin6_family = AF_INET6, .sin6_port = htons((uint16_t)atoi(port)) };
	int fd = socket(AF_INET6, type, 0), off = 0;
	int again = type == SOCK_STREAM;	/* of UDP it would let two share the port */

	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &again, sizeof(again)) ||
	    setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off)) ||
	    bind(fd, (struct sockaddr *)&own, sizeof(own)))
		fail("take port", port);
	return fd;
}

/** listening() - Tell whoever reads standard output that the other end may begin */
static inline void listening(void)
{
	puts("listening");
	fflush(stdout);
}

/** address_of() - Where to send to; the caller releases it */
static inline struct addrinfo *address_of(int type, const char *address, const char *port)
{
	struct addrinfo *found, asked = { .ai_socktype = type, .ai_flags = AI_NUMERICHOST };

	errno = EINVAL;
	if (getaddrinfo(address, port, &asked, &found))
		fail("find address", address);
	return found;
}

#endif
