/* check.h - the whole test framework: named cases, a check that says where it failed
 *
 * A test file ends with CASES(a, b, c): main() runs them in order, prints each name, and exits 1 at the first
 * failed check with file, line and both values. Built with sanitizers, see test_c_units.py.
 */
#ifndef CHECK_H
#define CHECK_H

#include <stdio.h>
#include <stdlib.h>

#define CHECK(condition) \
	do { \
		if (!(condition)) { \
			fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition); \
			exit(1); \
		} \
	} while (0)

#define EQUAL(got, wanted) \
	do { \
		long long got_ = (long long)(got), wanted_ = (long long)(wanted); \
		if (got_ != wanted_) { \
			fprintf(stderr, "%s:%d: %s is %lld, not %lld\n", __FILE__, __LINE__, #got, got_, wanted_); \
			exit(1); \
		} \
	} while (0)

/* A drop reason, told by name when it is another one */
#define REASON(got, wanted) \
	do { \
		int got_ = (int)(got), wanted_ = (int)(wanted); \
		if (got_ != wanted_) { \
			fprintf(stderr, "%s:%d: reason %d, not %s (%d)\n", \
				__FILE__, __LINE__, got_, #wanted, wanted_); \
			exit(1); \
		} \
	} while (0)

struct named_case {
	const char *name;
	void (*run)(void);
};

static inline int run_cases(const struct named_case *cases, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		printf("%s\n", cases[i].name);
		fflush(stdout);
		cases[i].run();
	}
	return 0;
}

#define CASE(function) { #function, function }
#define CASES(...) \
	int main(void) \
	{ \
		static const struct named_case cases[] = { __VA_ARGS__ }; \
		return run_cases(cases, sizeof(cases) / sizeof(cases[0])); \
	}

#endif
