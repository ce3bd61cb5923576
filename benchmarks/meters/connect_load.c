/* connect_load.c - TCP connections one after the other
 *
 *   connect_load serve PORT                  until it is killed; says "listening" when it does
 *   connect_load connect ADDRESS PORT MS     prints how many connections in how long, as JSON
 *
 * How it works
 *   Each connection carries a byte there and a byte back (netperf calls it TCP_CRR), and the server closes first, as
 *   one of HTTP/1.0 does: TIME_WAIT is then the server's, which takes a new SYN for such a port (RFC 6191), and the
 *   client does not run out of ports. So it is seven packets or more, and three waits for the other side.
 */
#define _GNU_SOURCE
#define PROGRAM		"connect_load"
#include "load.h"

#include <unistd.h>

_Noreturn static void serve(const char *port)
{
	int fd = bound_to(SOCK_STREAM, port), one;
	char byte;

	if (listen(fd, 128))
		fail("listen at port", port);
	listening();
	for (;;) {
		one = accept(fd, NULL, NULL);
		if (one < 0)
			continue;
		if (read(one, &byte, 1) == 1 && write(one, &byte, 1) < 0)
			perror("connect_load: write");
		close(one);
	}
}

static void connect_once(const struct addrinfo *to, const char *address)
{
	int fd = socket(to->ai_family, SOCK_STREAM, 0);
	char byte = 'x';

	if (fd < 0 || connect(fd, to->ai_addr, to->ai_addrlen))
		fail("connect to", address);
	if (write(fd, &byte, 1) != 1 || read(fd, &byte, 1) != 1 || read(fd, &byte, 1) != 0)
		fail("get a byte back, and an end, from", address);
	close(fd);
}

int main(int argc, char **argv)
{
	uint64_t begun, now, lasts_ns;
	struct addrinfo *to;
	unsigned count;

	if (argc == 3 && strcmp(argv[1], "serve") == 0)
		serve(argv[2]);
	if (argc != 5 || strcmp(argv[1], "connect") != 0) {
		fprintf(stderr, "usage: connect_load serve PORT | connect ADDRESS PORT MS\n");
		return 2;
	}
	to = address_of(SOCK_STREAM, argv[2], argv[3]);
	lasts_ns = (uint64_t)atoi(argv[4]) * 1000000u;
	begun = now = clock_ns();
	for (count = 0; now - begun < lasts_ns; count++, now = clock_ns())
		connect_once(to, argv[2]);
	freeaddrinfo(to);
	printf("{\"connections\": %u, \"seconds\": %.6f}\n", count, (double)(now - begun) / 1e9);
	return 0;
}
