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
#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static uint64_t clock_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

_Noreturn static void fail(const char *what)
{
	fprintf(stderr, "connect_load: %s: %s\n", what, strerror(errno));
	exit(1);
}

_Noreturn static void serve(const char *port)
{
	struct sockaddr_in6 own = { .sin6_family = AF_INET6, .sin6_port = htons((uint16_t)atoi(port)) };
	int fd = socket(AF_INET6, SOCK_STREAM, 0), on = 1, off = 0, one;
	char byte;

	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) ||
	    setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off)) ||
	    bind(fd, (struct sockaddr *)&own, sizeof(own)) || listen(fd, 128))
		fail("listen");
	puts("listening");
	fflush(stdout);
	for (;;) {
		one = accept(fd, NULL, NULL);
		if (one < 0)
			continue;
		if (read(one, &byte, 1) == 1 && write(one, &byte, 1) < 0)
			perror("connect_load: write");
		close(one);
	}
}

static void connect_once(const struct addrinfo *to)
{
	int fd = socket(to->ai_family, SOCK_STREAM, 0);
	char byte = 'x';

	if (fd < 0 || connect(fd, to->ai_addr, to->ai_addrlen))
		fail("connect");
	if (write(fd, &byte, 1) != 1 || read(fd, &byte, 1) != 1 || read(fd, &byte, 1) != 0)
		fail("the server did not answer a byte and close");
	close(fd);
}

int main(int argc, char **argv)
{
	struct addrinfo *to, asked = { .ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICHOST };
	uint64_t begun, now;
	unsigned count;

	if (argc == 3 && strcmp(argv[1], "serve") == 0)
		serve(argv[2]);
	if (argc != 5 || strcmp(argv[1], "connect") != 0 || getaddrinfo(argv[2], argv[3], &asked, &to)) {
		fprintf(stderr, "usage: connect_load serve PORT | connect ADDRESS PORT MS\n");
		return 2;
	}
	begun = now = clock_ns();
	for (count = 0; now - begun < (uint64_t)atoi(argv[4]) * 1000000u; count++, now = clock_ns())
		connect_once(to);
	freeaddrinfo(to);
	printf("{\"connections\": %u, \"seconds\": %.6f}\n", count, (double)(now - begun) / 1e9);
	return 0;
}
