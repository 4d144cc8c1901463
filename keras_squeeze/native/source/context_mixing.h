/* What both builds of the context mixing kernel share: the job that Python
 * hands over, the binary range coder and integer logarithms.
 *
 * The specification is keras_squeeze/codecs/context_mixing_reference.py; the
 * names are the same there. */
#ifndef KS_CONTEXT_MIXING_H
#define KS_CONTEXT_MIXING_H

#include <stddef.h>
#include <stdint.h>

enum {
  CONTEXTS = 8,
  SETS = 16,
  PLACES = 1024,
  NEIGHBOURS = 8,
  COMPONENTS = 8,
  LARGEST_SCALED = 8191,
  DOMAIN = 2815,
  SIGN_SLOTS = 8192,
  LONGEST_RAW = 16,
  LARGEST_COUNTED = 1 << 20,
  MOST_BUCKETS = 120,
  /* Costs of other levels: how many, the largest, and the nearest level from
   * which on zero is too far. */
  COST_CHOICES = 4,
  LARGEST_COST = 65535,
  FAR = 4,
  TERMINATOR = 0xa5
};

/* All sizes are checked in Python; `slots`, `weights` and `sums` are working
 * memory that Python made large enough. */
typedef struct {
  const int32_t *squash;     /* 2 * DOMAIN + 1 probabilities */
  const int32_t *stretch;    /* 4096 */
  const int32_t *rates;      /* 1024 */
  const int32_t *logarithms; /* 256 */
  const uint32_t *prior_nodes;  /* classes x nodes */
  const uint32_t *prior_halves; /* classes x buckets */
  const int32_t *starts;        /* 2 x classes */
  const uint8_t *sets;          /* the mixer of each node */
  const uint8_t *next_states;   /* trellis states x 2, or null */
  uint8_t *states;              /* of the trellis, a chain each */
  int32_t *levels;              /* channels x taps x inputs */
  uint8_t *bytes;
  uint32_t *slots;
  int32_t *weights;
  int64_t *sums;
  int32_t *parts; /* working memory of the components */
  int64_t channels, taps, width, inputs;
  int64_t length; /* of `bytes` */
  int64_t chains;
  int64_t mean; /* of all magnitudes, in 1/1024 */
  int32_t mean_class, buckets, classes, nodes, hole;
  int32_t sign_mode, decoding, portable, first_channel;
  int32_t top; /* a level that the last bucket is for, or 0 */
} ks_context_mixing_job;

/* -- the binary range coder ---------------------------------------------- */

/* `range` stays above 2**32; four bytes leave or enter at once. While
 * decoding, `code` is how far the coded number lies above `low`, which is not
 * followed. */
typedef struct {
  uint64_t low, range, code;
  uint8_t *bytes;
  int64_t position, length;
} range_coder;

static inline uint64_t coder_word(range_coder *coder) {
  uint64_t word = 0;
  for (int i = 0; i < 4; i++) {
    int64_t at = coder->position++;
    word = word << 8 | (at < coder->length ? coder->bytes[at] : 0);
  }
  return word;
}

static inline void coder_carry(range_coder *coder) {
  int64_t at = coder->position;
  while (at > 0) {
    at--;
    if (at < coder->length && ++coder->bytes[at] != 0) break;
    if (at >= coder->length) break;
  }
}

static inline void coder_put(range_coder *coder) {
  for (int shift = 56; shift >= 32; shift -= 8) {
    if (coder->position < coder->length)
      coder->bytes[coder->position] = (uint8_t)(coder->low >> shift);
    coder->position++;
  }
}

static inline void coder_normalize(range_coder *coder, int decoding) {
  if (coder->range >> 32) return;
  coder->range <<= 32;
  if (decoding) {
    coder->code = coder->code << 32 | coder_word(coder);
    return;
  }
  coder_put(coder);
  coder->low <<= 32;
}

static inline void coder_add(range_coder *coder, uint64_t step, int decoding) {
  if (decoding) {
    coder->code -= step;
    return;
  }
  coder->low += step;
  if (coder->low < step) coder_carry(coder);
}

/* Codes one bit whose probability of being 1 is `p` / 65536. */
static inline int coder_bit(range_coder *coder, uint32_t p, int bit,
                            int decoding) {
  uint64_t bound = (coder->range >> 16) * p;
  if (decoding) bit = coder->code < bound;
  if (!decoding) {
  if (bit) {
    coder->range = bound;
  } else {
    coder_add(coder, bound, decoding);
    coder->range -= bound;
  }
    coder_normalize(coder, decoding);
    return bit;
  }
  /* Masks, not branches: half of them would be guessed wrong. */
  uint64_t zero = (uint64_t)bit - 1;
  coder_add(coder, bound & zero, decoding);
  coder->range = bound + ((coder->range - 2 * bound) & zero);
  coder_normalize(coder, decoding);
  return bit;
}

/* Codes up to 16 bits that are as likely 0 as 1. */
static inline uint32_t coder_raw_part(range_coder *coder, uint32_t value,
                                      int count, int decoding) {
  uint64_t part = coder->range >> count;
  if (decoding) {
    uint64_t place = coder->code / part;
    uint64_t last = (UINT64_C(1) << count) - 1;
    value = (uint32_t)(place < last ? place : last);
  }
  coder_add(coder, part * value, decoding);
  coder->range = part;
  coder_normalize(coder, decoding);
  return value;
}

static inline uint32_t coder_raw(range_coder *coder, uint32_t value, int count,
                                 int decoding) {
  uint32_t high = 0;
  if (count > LONGEST_RAW) {
    count -= LONGEST_RAW;
    high = coder_raw_part(coder, value >> count, LONGEST_RAW, decoding);
    value &= (UINT32_C(1) << count) - 1;
  }
  return high << count | coder_raw_part(coder, value, count, decoding);
}

/* Where the interval starts: the eight bytes read last, less `code`. */
static inline void coder_find_low(range_coder *coder) {
  coder->position -= 8;
  coder->low = coder_word(coder) << 32;
  coder->low |= coder_word(coder);
  coder->low -= coder->code;
}

/* The number inside the last interval that ends in the most zero bits. */
static inline uint64_t coder_last(const range_coder *coder) {
  uint64_t end = coder->low + coder->range - 1;
  if (coder->low == 0 || end < coder->low) return 0;
  for (int zeros = 63; zeros > 0; zeros--) {
    uint64_t value = end >> zeros << zeros;
    if (value - coder->low < coder->range) return value;
  }
  return end;
}

/* -- logarithms and buckets ---------------------------------------------- */

static inline int highest_bit(uint64_t x) {
#if defined(__GNUC__)
  return 63 - __builtin_clzll(x);
#else
  int place = 0;
  while (x >>= 1) place++;
  return place;
#endif
}

/* 256 * log2(x), x >= 1 */
static inline int32_t log_of(const int32_t *logarithms, uint64_t x) {
  int place = highest_bit(x);
  return 256 * place + logarithms[x << (63 - place) << 1 >> 56];
}

static inline int32_t clip(int32_t x, int32_t low, int32_t high) {
  return x < low ? low : x > high ? high : x;
}


/* The square root, rounded down, of less than 2**62. */
static inline uint64_t root_of(uint64_t x) {
  uint64_t root = 0;
  for (uint64_t bit = UINT64_C(1) << 30; bit; bit >>= 1)
    if ((root + bit) * (root + bit) <= x) root += bit;
  return root;
}

static inline uint32_t bucket_start(int32_t bucket) {
  if (bucket < 8) return (uint32_t)bucket;
  return (uint32_t)(4 + (bucket & 3)) << ((bucket >> 2) - 1);
}

static inline int32_t bucket_of(int32_t magnitude) {
  if (magnitude < 8) return magnitude;
  int octave = highest_bit((uint64_t)magnitude);
  return 4 * octave - 4 + (magnitude >> (octave - 2) & 3);
}

#endif
