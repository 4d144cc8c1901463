/* Decoding of the codec `rans`, as keras_squeeze/codecs/rans_lanes.py says:
 * lanes of 32-bit states that share one stream of 16-bit words. */

#include <stdint.h>

#define STATE_LOW UINT32_C(65536)

/* Decodes `steps` rows of `lanes` slots.
 *
 * words   the stream; the lanes of a step take them in order
 * states  one a lane, each at least 2**16; changed in place
 * table   for each of 2**precision slots the frequency of its symbol times
 *         2**16 plus the slot's place among the symbol's
 * slots   steps * lanes numbers, each below 2**precision, row by row
 *
 * Returns 1 if all words were used and every lane is back at 2**16, else 0.
 * What is in `slots` then is unspecified but within range. */
int ks_rans_lanes_decode(const uint16_t *words, int64_t word_count,
                         uint32_t *states, int64_t lanes, int64_t steps,
                         const uint32_t *table, int precision,
                         uint16_t *slots);

int ks_rans_lanes_decode(const uint16_t *words, int64_t word_count,
                         uint32_t *states, int64_t lanes, int64_t steps,
                         const uint32_t *table, int precision,
                         uint16_t *slots)
{
    const uint32_t mask = (UINT32_C(1) << precision) - 1;
    int64_t next = 0;
    int whole = 1;

    for (int64_t step = 0; step < steps; step++) {
        uint16_t *row = slots + step * lanes;
        for (int64_t lane = 0; lane < lanes; lane++) {
            uint32_t x = states[lane];
            const uint32_t slot = x & mask;
            const uint32_t entry = table[slot];
            row[lane] = (uint16_t)slot;
            x = (entry >> 16) * (x >> precision) + (entry & 0xFFFF);
            if (x < STATE_LOW) {
                /* A damaged stream runs dry: zeros do as well as anything. */
                const uint32_t word = next < word_count ? words[next] : 0;
                next++;
                x = x << 16 | word;
            }
            states[lane] = x;
        }
    }
    for (int64_t lane = 0; lane < lanes; lane++)
        whole &= states[lane] == STATE_LOW;
    return whole && next == word_count;
}
