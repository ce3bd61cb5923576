/* replay_bundle.c - feed the records of a bundle to a fuzz target: u32 length in network order, then the bytes
 *
 * Tens of thousands of captured frames as files of their own would be slower to open than to judge.
 */
#include <stdio.h>
#include <stdlib.h>

#include "vx.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int main(int argc, char **argv)
{
	FILE *bundle = argc == 2 ? fopen(argv[1], "rb") : NULL;
	unsigned long records = 0;
	uint8_t header[4];

	if (!bundle)
		return 2;
	while (fread(header, 1, 4, bundle) == 4) {
		uint32_t size = vx_get32(header);
		uint8_t *record = malloc(size ? size : 1);

		if (!record || fread(record, 1, size, bundle) != size)
			return 3;
		LLVMFuzzerTestOneInput(record, size);
		free(record);
		records++;
	}
	fclose(bundle);
	printf("%lu\n", records);
	return 0;
}
