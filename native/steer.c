/* steer.c - both directions of a flow on one worker
 *
 * How it works
 *   A stream's data and its acknowledgements cost most where two workers handle them: each wakes while the other
 *   runs, and takes its CPU and its cache. Left alone the kernel chooses twice: which queue of the TAP a frame of the
 *   container goes to, and which of the receive sockets that share the data port gets a datagram, by two hashes that
 *   do not know each other. So it is told to choose by one number, vx_eth_flow(), equal for both directions:
 *
 *     out   the TAP runs a program (TUNSETSTEERINGEBPF) that reckons it from the frame, and picks the queue;
 *     wire  the sender picks a source port whose lowest bits are the number's highest, its *class* (transmit.c);
 *     in    the group of receive sockets runs a filter that picks a socket by the class, which is all it looks at.
 *
 *   The filter leaves the inner frame alone although it could read it: a UDP_GRO train holds frames of several flows
 *   and is judged by its first one, so that flows of one source port must go one way, or they would be overtaken.
 *   Source ports out of our range are no classes: the kernel's hash decides, as if there were no filter.
 *   Kernel vxlan and others that send from within it are spread by what their ports happen to be.
 *
 *   Hosts need not agree on anything: with another number of workers, without steering, or with an older version at
 *   the other end flows keep their order, and what is lost is the gain.
 *
 * The program is a property of the TAP and the filter one of the group: both outlive the agent, and whoever takes
 * them over says anew what he wants. bpf() needs CAP_BPF or CAP_SYS_ADMIN where kernel.unprivileged_bpf_disabled is
 * set: the ladder's `steering`.
 */
#define _GNU_SOURCE
#include "steer.h"

#include <errno.h>
#include <linux/bpf.h>
#include <linux/filter.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "compat.h"
#include "eth.h"

/* Registers: 6 must hold the frame for the loads, which answer in 0 and leave only 6 to 9 as they were */
#define ANSWER		0
#define CONTEXT		1
#define FRAME		6
#define FLOW		7
#define IP_LEN		8

#define INSN(op, to, from, jump, value) \
	{ .code = (op), .dst_reg = (to), .src_reg = (from), .off = (jump), .imm = (value) }
#define SET(to, from)		INSN(BPF_ALU64 | BPF_MOV | BPF_X, to, from, 0, 0)
#define LOAD(size, at)		INSN(BPF_LD | BPF_ABS | (size), 0, 0, 0, at)
#define LOAD_BEHIND(size, reg, at)	INSN(BPF_LD | BPF_IND | (size), 0, reg, 0, at)
#define MIX			INSN(BPF_ALU | BPF_XOR | BPF_X, FLOW, ANSWER, 0, 0)
#define RECKON(op, reg, value)	INSN(BPF_ALU | (op) | BPF_K, reg, 0, 0, (int32_t)(value))
#define GO_IF(op, value, to)	INSN(BPF_JMP | (op) | BPF_K, ANSWER, 0, to, value)	/* to a label, see load() */
#define GO(to)			INSN(BPF_JMP | BPF_JA, 0, 0, to, 0)
#define END			INSN(BPF_JMP | BPF_EXIT, 0, 0, 0, 0)

enum { IPV4 = 7, PORTS4 = 16, IPV6 = 25, PORTS6 = 44, DONE = 48, TIMES = 50 };	/* labels: where in the program */

/* vx_eth_flow() for the kernel's machine. A frame that is not IP, or ends too soon, goes to queue 0 */
static const struct bpf_insn program[] = {
	SET(FRAME, CONTEXT),
	RECKON(BPF_MOV, FLOW, 0),
	LOAD(BPF_H, 12),
	GO_IF(BPF_JEQ, VX_ETHERTYPE_IPV4, IPV4),
	GO_IF(BPF_JEQ, VX_ETHERTYPE_IPV6, IPV6),
	RECKON(BPF_MOV, ANSWER, 0),
	END,
	[IPV4] = LOAD(BPF_W, 26), MIX,
	LOAD(BPF_W, 30), MIX,
	LOAD(BPF_H, 20), GO_IF(BPF_JSET, 0x3fff, DONE),		/* a fragment */
	LOAD(BPF_B, 23), GO_IF(BPF_JEQ, VX_PROTO_TCP, PORTS4), GO_IF(BPF_JNE, VX_PROTO_UDP, DONE),
	[PORTS4] = LOAD(BPF_B, 14), RECKON(BPF_AND, ANSWER, 15), RECKON(BPF_LSH, ANSWER, 2), SET(IP_LEN, ANSWER),
	LOAD_BEHIND(BPF_H, IP_LEN, 14), MIX,
	LOAD_BEHIND(BPF_H, IP_LEN, 16), MIX,
	GO(DONE),
	[IPV6] = LOAD(BPF_W, 22), MIX, LOAD(BPF_W, 26), MIX, LOAD(BPF_W, 30), MIX, LOAD(BPF_W, 34), MIX,
	LOAD(BPF_W, 38), MIX, LOAD(BPF_W, 42), MIX, LOAD(BPF_W, 46), MIX, LOAD(BPF_W, 50), MIX,
	LOAD(BPF_B, 20), GO_IF(BPF_JEQ, VX_PROTO_TCP, PORTS6), GO_IF(BPF_JNE, VX_PROTO_UDP, DONE),
	[PORTS6] = LOAD(BPF_H, 54), MIX,
	LOAD(BPF_H, 56), MIX,
	[DONE] = RECKON(BPF_MUL, FLOW, VX_FLOW_FACTOR),
	RECKON(BPF_RSH, FLOW, 32 - VX_FLOW_BITS),
	[TIMES] = RECKON(BPF_MUL, FLOW, 0),			/* the number of workers */
	RECKON(BPF_RSH, FLOW, VX_FLOW_BITS),
	SET(ANSWER, FLOW),
	END,
};

#define PROGRAM_LEN	(sizeof(program) / sizeof(program[0]))

static bool is_jump(const struct bpf_insn *insn)
{
	return (insn->code & 7) == BPF_JMP && insn->code != (BPF_JMP | BPF_EXIT);
}

/** vx_steer_program() - Load the program that picks the queue of a TAP. Return: descriptor or -errno */
int vx_steer_program(int workers)
{
	struct bpf_insn code[PROGRAM_LEN];
	union bpf_attr load = {
		.prog_type = BPF_PROG_TYPE_SOCKET_FILTER,
		.insns = (uintptr_t)code,
		.insn_cnt = PROGRAM_LEN,
		.license = (uintptr_t)"Apache-2.0",
	};
	long fd;

	if (workers < 1 || workers > VX_WORKERS_MAX)
		return -EINVAL;
	memcpy(code, program, sizeof(code));
	code[TIMES].imm = workers;
	for (unsigned i = 0; i < PROGRAM_LEN; i++)
		if (is_jump(&code[i]))
			code[i].off = (int16_t)(code[i].off - (int)i - 1);
	fd = syscall(__NR_bpf, BPF_PROG_LOAD, &load, sizeof(load));
	return fd < 0 ? -errno : (int)fd;
}

/**
 * vx_steer_sockets() - Let the class of the source port pick the receive socket
 * @fd:		Any socket of the group
 * @ipv4:	Its family
 * @workers:	Sockets in the group, in the order of their binding
 *
 * Return: 0 or -errno
 */
int vx_steer_sockets(int fd, bool ipv4, unsigned workers)
{
	const uint32_t network = (uint32_t)SKF_NET_OFF;		/* the outer IP header */
	struct sock_filter code[] = {
		BPF_STMT(BPF_LDX | BPF_B | BPF_MSH, network),	/* IPv4: the length of its header */
		BPF_STMT(BPF_LD | BPF_H | BPF_IND, network),
		BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, VX_TX_PORT_MIN, 0, 4),
		BPF_STMT(BPF_ALU | BPF_AND | BPF_K, (1 << VX_FLOW_BITS) - 1),
		BPF_STMT(BPF_ALU | BPF_MUL | BPF_K, workers),
		BPF_STMT(BPF_ALU | BPF_RSH | BPF_K, VX_FLOW_BITS),
		BPF_STMT(BPF_RET | BPF_A, 0),
		BPF_STMT(BPF_RET | BPF_K, VX_NONE),		/* no socket: the kernel's hash decides */
	};
	struct sock_fprog filter = { sizeof(code) / sizeof(code[0]), code };

	if (!ipv4)
		code[0] = (struct sock_filter)BPF_STMT(BPF_LDX | BPF_IMM, 40);
	return setsockopt(fd, SOL_SOCKET, SO_ATTACH_REUSEPORT_CBPF, &filter, sizeof(filter)) ? -errno : 0;
}

/** vx_steer_release() - Leave the receive socket to the kernel's hash, whatever an earlier run wanted */
void vx_steer_release(int fd)
{
	int none = 0;

	if (setsockopt(fd, SOL_SOCKET, SO_DETACH_REUSEPORT_BPF, &none, sizeof(none)))
		return;		/* ENOENT: nobody wanted anything */
}
