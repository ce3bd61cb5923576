/* sends.h - a sendmmsg() that does as it is told and remembers every datagram; see sends.c */
#ifndef SENDS_H
#define SENDS_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

#define SENDS_STEPS	16
#define SENDS_DATAGRAMS	8192

/* One datagram as the wire would see it */
struct datagram {
	const uint8_t *data;
	uint32_t len;
	unsigned to;		/* last byte of the destination's address */
	unsigned tos;		/* 0 without cmsg */
	unsigned send;		/* number of the send that carried it */
	int fd;
};

/* What a send looks like to the kernel */
struct attempt {
	unsigned to;
	unsigned segments;	/* datagrams that it makes */
	uint32_t size;		/* bytes of the largest */
	uint32_t len;		/* bytes of all */
};

struct sends {
	int step[SENDS_STEPS];	/* of call i: 0 takes all, N > 0 takes N sends, -errno fails */
	int (*judge)(const struct attempt *attempt);	/* if set: 0, or the errno that this send fails with */
	unsigned calls;
	unsigned sends;		/* that were taken */
	unsigned count;
	struct datagram datagram[SENDS_DATAGRAMS];
};

extern struct sends sends;

void sends_reset(void);
int __wrap_sendmmsg(int fd, struct mmsghdr *messages, unsigned count, int flags);

#endif
