/* Encoding blocks of class_rans: which table and token each element has, and
   then the steps, backwards. A job's `out` is here what is read. */
#include "class_rans.h"

enum { KS_UINT8 = KS_KINDS };

/* What a token of a table does to a state: x = x + bias + q * complement with
   q = x / frequency. The reciprocal is 2**32 + reciprocal, in units of
   2**-(32 + shift): exact for every x of 32 bits. */
typedef struct {
  uint32_t reciprocal;
  uint32_t most; /* beyond this, a word is written first */
  uint32_t bias;
  uint16_t complement;
  uint16_t shift;
} ks_encoding;

static inline void load_row(const ks_job *job, size_t offset, int width,
                     int32_t *values) {
  switch (job->kind) {
    case KS_INT8: {
      const int8_t *from = (const int8_t *)job->out + offset;
      for (int lane = 0; lane < width; lane++) values[lane] = from[lane];
      return;
    }
    case KS_UINT8: {
      const uint8_t *from = (const uint8_t *)job->out + offset;
      for (int lane = 0; lane < width; lane++) values[lane] = from[lane];
      return;
    }
    case KS_INT16: {
      const int16_t *from = (const int16_t *)job->out + offset;
      for (int lane = 0; lane < width; lane++) values[lane] = from[lane];
      return;
    }
    default: {
      const int32_t *from = (const int32_t *)job->out + offset;
      for (int lane = 0; lane < width; lane++) values[lane] = from[lane];
    }
  }
}

static inline int32_t level_of(int32_t code) {
  int32_t half = ((code < 0 ? -code : code) + 1) >> 1;
  return code < 0 ? -half : half;
}

/* Codes to levels, and the machines one step on; whether all lie on their
   grid. */
static int follow(const ks_job *job, ks_block *block, int32_t *values,
                  int width) {
  int good = 1;
  for (int lane = 0; lane < width; lane++) {
    int32_t code = values[lane], state = block->machine[lane];
    int32_t level = level_of(code);
    int32_t grid = -(state & 1), odd = -(level & 1);
    int32_t sign = (level > 0) - (level < 0);
    good &= code == 2 * level - (sign & grid);
    values[lane] = level;
    block->machine[lane] = state >> 1 ^ (grid & job->machine_grid) ^
                           (odd & job->machine_parity);
  }
  return good;
}

/* Counters lie side by side, so that equal tokens in neighbouring lanes need
   not wait for each other. */
enum { KS_COUNTERS = 4 };

/* The tokens and tables of a row; `width` is a constant where it matters. */
static inline void token_row(const ks_job *job, const int32_t *values,
                             const uint32_t *slots, uint32_t plain, int width,
                             uint8_t *restrict tokens,
                             uint8_t *restrict tables) {
  uint32_t low = (uint32_t)job->low;
  int shift = job->shift;
  for (int lane = 0; lane < width; lane++) {
    uint32_t above = (uint32_t)values[lane] - low;
    uint32_t token = (uint32_t)((int32_t)above >> shift);
    tokens[lane] = (uint8_t)(token < plain ? token : plain);
    tables[lane] = (uint8_t)(slots[lane] >> KS_PRECISION);
  }
}

static inline void count_row(const uint8_t *restrict tokens,
                             const uint8_t *restrict tables, int width,
                             int64_t *restrict counts) {
#if defined(__GNUC__)
#pragma GCC unroll 32
#endif
  for (int lane = 0; lane < width; lane++) {
    uint32_t index = (uint32_t)tables[lane] << 8 | tokens[lane];
    counts[index * KS_COUNTERS + (uint32_t)(lane % KS_COUNTERS)]++;
  }
}

static int token_run(const ks_job *job, ks_block *block, const ks_run *run,
                     int32_t plain, uint8_t *tokens, uint8_t *tables,
                     int64_t *counts) {
  int contexts = job->near_distance || job->machine;
  int width = run->width, good = 1;
  uint32_t slots[KS_LANES];
  int32_t values[KS_LANES];
  ks_class_cache cache;
  memset(&cache, 0, sizeof cache);
  for (int64_t row = 0; row < run->count; row++) {
    const uint32_t *chosen =
        ks_cached_slots(job, run, run->position + row, width, &cache);
    if (contexts) {
      memcpy(slots, chosen, sizeof slots);
      ks_context_slots(job, block, run, row, width, slots);
      chosen = slots;
    }
    if (width == KS_LANES) {
      load_row(job, ks_offset(job, run, row), KS_LANES, values);
    } else {
      load_row(job, ks_offset(job, run, row), width, values);
    }
    if (job->machine) good &= follow(job, block, values, width);
    if (job->near_distance) {
      uint8_t *near = block->near + (run->first + row) * KS_LANES;
      for (int lane = 0; lane < width; lane++) {
        near[lane] = ks_near_class(values[lane], job->near_threshold);
      }
    }
    if (width == KS_LANES) {
      token_row(job, values, chosen, (uint32_t)plain, KS_LANES, tokens, tables);
      count_row(tokens, tables, KS_LANES, counts);
    } else {
      token_row(job, values, chosen, (uint32_t)plain, width, tokens, tables);
      count_row(tokens, tables, width, counts);
    }
    tokens += job->lanes;
    tables += job->lanes;
  }
  return good;
}

/* Finds the table and the token of each element of some blocks.

   job: what the tensor is; `out` is read, `low` the least value of token 0.
   first, last: the blocks, the last one not included. With a trellis, all.
   plain: how many tokens stand for values; `plain` itself stands for others.
   machines: of each block and lane, written for blocks after `first`.
   tokens, tables: rows x lanes, written.
   counts: tables x 256 x 4, added to: the sum of four counts.
   near: block_rows x 32 bytes, only used with neighbour classes.

   Returns 0, or 1 if codes are not those of the trellis. */
KS_EXPORT int ks_class_rans_tokens(const ks_job *job, int64_t first,
                                   int64_t last, int32_t plain,
                                   uint8_t *machines, uint8_t *tokens,
                                   uint8_t *tables, int64_t *counts,
                                   uint8_t *near) {
  ks_block block;
  int good = 1;
  memset(&block, 0, sizeof block);
  block.near = near;
  for (int lane = 0; lane < job->lanes; lane++) {
    block.machine[lane] = machines[first * job->lanes + lane];
  }
  for (int64_t number = first; number < last; number++) {
    int64_t begun = number * job->block_rows;
    int64_t stop = begun + job->block_rows;
    if (stop > job->rows) stop = job->rows;
    for (int lane = 0; lane < job->lanes; lane++) {
      machines[number * job->lanes + lane] = (uint8_t)block.machine[lane];
    }
    for (int64_t row = begun; row < stop;) {
      ks_run run = ks_run_at(job, begun, row, stop);
      int64_t at = row * job->lanes;
      good &= token_run(job, &block, &run, plain, tokens + at, tables + at,
                        counts);
      row += run.count;
    }
  }
  return !good;
}

/* The cell of an element: (class * 5 + near) * 2 + grid says the table,
   without the factors that are not there. */
static inline uint64_t cell_of(const int16_t *tokens, const int16_t *classes,
                               const uint8_t *near, const uint8_t *grids,
                               int64_t size, int64_t i) {
  int64_t table = classes ? classes[i] : 0;
  if (near) table = table * 5 + near[i];
  if (grids) table = table * 2 + grids[i];
  return (uint64_t)(table * size + tokens[i]);
}

enum { KS_FEW_CELLS = 2048 };

/* Counts tokens by table, for the choice of contexts.

   tokens: count.
   classes, near, grids: of each element, or NULL.
   tables, size: of counts; what lies outside is not counted.
   counts: tables x size, added to. */
KS_EXPORT void ks_class_rans_histogram(const int16_t *tokens,
                                       const int16_t *classes,
                                       const uint8_t *near,
                                       const uint8_t *grids, int64_t count,
                                       int64_t tables, int64_t size,
                                       int64_t *counts) {
  uint64_t cells = (uint64_t)(tables * size);
  int64_t spread[KS_COUNTERS][KS_FEW_CELLS];
  int64_t i = 0;
  if (cells <= KS_FEW_CELLS) {
    memset(spread, 0, sizeof spread);
    for (; i + KS_COUNTERS <= count; i += KS_COUNTERS) {
      for (int k = 0; k < KS_COUNTERS; k++) {
        uint64_t cell = cell_of(tokens, classes, near, grids, size, i + k);
        if (cell < cells) spread[k][cell]++;
      }
    }
    for (uint64_t cell = 0; cell < cells; cell++) {
      for (int k = 0; k < KS_COUNTERS; k++) counts[cell] += spread[k][cell];
    }
  }
  for (; i < count; i++) {
    uint64_t cell = cell_of(tokens, classes, near, grids, size, i);
    if (cell < cells) counts[cell]++;
  }
}

/* Replaces tokens that their table lacks by the escape token.

   missing: tables x 256, 1 for such tokens.
   values: written, the values that are escaped.
   room: how many of them there is room for; the others are not written.

   Returns how many there are. */
KS_EXPORT int64_t ks_class_rans_escapes(const ks_job *job, int64_t first,
                                        int64_t last, uint8_t *tokens,
                                        const uint8_t *tables,
                                        const uint8_t *missing,
                                        int32_t *values, int64_t room) {
  int64_t found = 0;
  for (int64_t number = first; number < last; number++) {
    int64_t begun = number * job->block_rows;
    int64_t stop = begun + job->block_rows;
    if (stop > job->rows) stop = job->rows;
    for (int64_t row = begun; row < stop;) {
      ks_run run = ks_run_at(job, begun, row, stop);
      for (int64_t i = 0; i < run.count; i++) {
        int64_t at = (row + i) * job->lanes;
        int32_t all[KS_LANES];
        int loaded = 0;
        for (int lane = 0; lane < run.width; lane++) {
          uint8_t *token = tokens + at + lane;
          if (!missing[tables[at + lane] * 256 + *token]) continue;
          *token = (uint8_t)job->escape;
          if (!loaded) load_row(job, ks_offset(job, &run, i), run.width, all);
          loaded = 1;
          if (found < room) {
            int32_t code = all[lane];
            values[found] = job->machine ? level_of(code) : code;
          }
          found++;
        }
      }
      row += run.count;
    }
  }
  return found;
}

/* One step backwards: writes a word if the state is too large for it. */
static inline uint32_t push(uint32_t x, const ks_encoding *how,
                            uint16_t **next) {
  uint32_t full = x > how->most;
  (*next)[-1] = (uint16_t)x;
  *next -= full;
  x >>= full << 4;
  uint64_t product = ((uint64_t)x * how->reciprocal >> 32) + x;
  uint32_t quotient = (uint32_t)(product >> how->shift);
  return x + how->bias + quotient * how->complement;
}

/* Among 2**bits equal shares. */
static inline uint32_t push_raw(uint32_t x, uint32_t value, int bits,
                                uint16_t **next) {
  int below = KS_PRECISION - bits;
  if ((x >> (32 - bits)) != 0) {
    *--*next = (uint16_t)x;
    x >>= 16;
  }
  uint32_t share = x & ((1u << below) - 1);
  return ((x >> below) << KS_PRECISION) + (value << below) + share;
}

/* The third and the second step of a row, in this order. */
static void encode_rest(const ks_job *job, ks_block *block, size_t offset,
                        const uint8_t *tokens, const ks_encoding *escape,
                        int width, uint16_t **next) {
  int32_t values[KS_LANES];
  load_row(job, offset, width, values);
  if (job->machine) {
    for (int lane = 0; lane < width; lane++) {
      values[lane] = level_of(values[lane]);
    }
  }
  for (int lane = width - 1; lane >= 0; lane--) {
    int escaped = tokens[lane] == job->escape;
    int bits = escaped ? job->escape_shift : job->shift;
    if (!bits) continue;
    int32_t low = escaped ? job->escape_low : job->low;
    uint32_t above = (uint32_t)values[lane] - (uint32_t)low;
    block->x[lane] =
        push_raw(block->x[lane], above & ((1u << bits) - 1), bits, next);
  }
  for (int lane = width - 1; lane >= 0; lane--) {
    if (tokens[lane] != job->escape) continue;
    uint32_t above = (uint32_t)values[lane] - (uint32_t)job->escape_low;
    const ks_encoding *how = escape + (above >> job->escape_shift & 255);
    block->x[lane] = push(block->x[lane], how, next);
  }
}

static int any_escape(const ks_job *job, const uint8_t *tokens, int width) {
  int found = 0;
  for (int lane = 0; lane < width; lane++) found |= tokens[lane] == job->escape;
  return found;
}

static uint16_t *encode_run(const ks_job *job, ks_block *block,
                            const ks_run *run, const uint8_t *tokens,
                            const uint8_t *tables, const ks_encoding *how,
                            const ks_encoding *escape, uint16_t *next) {
  int width = run->width;
  for (int64_t row = run->count - 1; row >= 0; row--) {
    const uint8_t *token = tokens + row * job->lanes;
    const uint8_t *table = tables + row * job->lanes;
    if (job->shift || (job->escape < 256 && any_escape(job, token, width))) {
      encode_rest(job, block, ks_offset(job, run, row), token, escape, width,
                  &next);
    }
    if (width == KS_LANES) {
      uint32_t *restrict x = block->x;
#if defined(__GNUC__)
#pragma GCC unroll 32
#endif
      for (int lane = KS_LANES - 1; lane >= 0; lane--) {
        x[lane] = push(x[lane], how + table[lane] * 256 + token[lane], &next);
      }
    } else {
      for (int lane = width - 1; lane >= 0; lane--) {
        const ks_encoding *one = how + table[lane] * 256 + token[lane];
        block->x[lane] = push(block->x[lane], one, &next);
      }
    }
  }
  return next;
}

/* Codes one block.

   job: what the tensor is; `out` is read.
   number: which block.
   tokens, tables: of the whole tensor, rows x lanes.
   how: tables x 256; a token that occurs has a frequency.
   escape: 256, of the escape table.
   states: of this block, written.
   words: room for one word more than there are steps, `room` words.

   Returns where in `words` those written begin; they end at the end. */
KS_EXPORT int64_t ks_class_rans_encode(const ks_job *job, int64_t number,
                                       const uint8_t *tokens,
                                       const uint8_t *tables,
                                       const ks_encoding *how,
                                       const ks_encoding *escape,
                                       uint32_t *states, uint16_t *words,
                                       int64_t room) {
  ks_block block;
  memset(&block, 0, sizeof block);
  for (int lane = 0; lane < KS_LANES; lane++) block.x[lane] = KS_STATE_LOW;
  int64_t begun = number * job->block_rows;
  int64_t stop = begun + job->block_rows;
  if (stop > job->rows) stop = job->rows;
  uint16_t *next = words + room;
  while (stop > begun) {
    /* The run that ends here starts where its group or the block does. */
    int64_t row = (stop - 1) / job->positions * job->positions;
    if (row < begun) row = begun;
    ks_run run = ks_run_at(job, begun, row, stop);
    if (row + run.count < stop) {
      row += run.count;
      run = ks_run_at(job, begun, row, stop);
    }
    int64_t at = row * job->lanes;
    next = encode_run(job, &block, &run, tokens + at, tables + at, how, escape,
                      next);
    stop = row;
  }
  for (int lane = 0; lane < job->lanes; lane++) states[lane] = block.x[lane];
  return next - words;
}
