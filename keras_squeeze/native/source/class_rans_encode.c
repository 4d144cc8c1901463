/* Encoding blocks of class_rans: which table and token each element has, and
   then the steps, backwards. A job's `out` is here what is read. */
#include "class_rans.h"

enum { KS_UINT8 = KS_KINDS };

/* What a token of a table does to a state: x = x + bias + q * complement with
   q = x / frequency, the high half of x * reciprocal. For a frequency of one
   that is x - 1, which the bias makes up for. */
typedef struct {
  uint64_t reciprocal; /* 2**64 / frequency, rounded up: exact for 32 bits */
  uint32_t most;       /* beyond this, a word is written first */
  uint16_t bias;
  uint16_t complement;
} ks_encoding;

static inline uint32_t quotient_of(uint32_t x, uint64_t reciprocal) {
#if defined(__SIZEOF_INT128__)
  return (uint32_t)((unsigned __int128)x * reciprocal >> 64);
#else
  uint64_t low = (reciprocal & 0xffffffffu) * x;
  return (uint32_t)(((reciprocal >> 32) * x + (low >> 32)) >> 32);
#endif
}

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

/* Codes to levels, and the machines one step on; whether all lie on their
   grid. */
static int follow(const ks_job *job, ks_block *block, int32_t *values,
                  int width) {
  int good = 1;
  for (int lane = 0; lane < width; lane++) {
    int32_t code = values[lane], state = block->machine[lane];
    int32_t level = ks_level_of(code);
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

/* A cell is a table and a token. */
static inline void cell_row(const ks_job *job, const int32_t *values,
                            const uint32_t *slots, uint32_t plain, int width,
                            uint16_t *restrict cells) {
  uint32_t low = (uint32_t)job->low;
  int shift = job->shift;
  for (int lane = 0; lane < width; lane++) {
    uint32_t above = (uint32_t)values[lane] - low;
    uint32_t token = (uint32_t)((int32_t)above >> shift);
    token = token < plain ? token : plain;
    cells[lane] = (uint16_t)(slots[lane] >> (KS_PRECISION - 8) | token);
  }
}

static inline void count_row(const uint16_t *restrict cells, int width,
                             uint32_t *restrict counters) {
#if defined(__GNUC__)
#pragma GCC unroll 32
#endif
  for (int lane = 0; lane < width; lane++) {
    counters[cells[lane] * KS_COUNTERS + lane % KS_COUNTERS]++;
  }
}

/* Adds the counters to the counts, and starts them anew. */
static void collect(uint32_t *counters, int64_t cells, int64_t *counts) {
  for (int64_t cell = 0; cell < cells; cell++) {
    for (int k = 0; k < KS_COUNTERS; k++) counts[cell] += *counters++;
  }
  memset(counters - cells * KS_COUNTERS, 0,
         (size_t)cells * KS_COUNTERS * sizeof *counters);
}

static int cell_run(const ks_job *job, ks_block *block, const ks_run *run,
                    int32_t plain, uint16_t *cells, uint32_t *counters) {
  int contexts = job->near_distance || job->machine;
  int width = run->width, good = 1;
  uint32_t slots[KS_LANES];
  int32_t values[KS_LANES];
  ks_class_cache cache;
  memset(cache.known, 0, sizeof cache.known);
  for (int64_t row = 0; row < run->count; row++, cells += job->lanes) {
    const uint32_t *chosen =
        ks_cached_slots(job, run, run->position + row, width, &cache);
    if (contexts) {
      memcpy(slots, chosen, (size_t)width * sizeof *slots);
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
      cell_row(job, values, chosen, (uint32_t)plain, KS_LANES, cells);
      count_row(cells, KS_LANES, counters);
    } else {
      cell_row(job, values, chosen, (uint32_t)plain, width, cells);
      count_row(cells, width, counters);
    }
  }
  return good;
}

/* Finds the table and the token of each element of some blocks.

   job: what the tensor is; `out` is read, `low` the least value of token 0.
   first, last: the blocks, the last one not included. With a trellis, all.
   plain: how many tokens stand for values; `plain` itself stands for others.
   machines: of each block and lane, written for blocks after `first`.
   cells: rows x lanes, written: 256 times the table, and the token.
   tables: how many there are.
   counters: tables x 256 x 4, zeros; written.
   counts: tables x 256, added to.
   near: block_rows x 32 bytes, only used with neighbour classes.

   Returns 0, or 1 if codes are not those of the trellis. */
KS_EXPORT int ks_class_rans_cells(const ks_job *job, int64_t first,
                                  int64_t last, int32_t plain,
                                  uint8_t *machines, uint16_t *cells,
                                  int64_t tables, uint32_t *counters,
                                  int64_t *counts, uint8_t *near) {
  ks_block block;
  int good = 1;
  int64_t counted = 0, in_block = job->block_rows * job->lanes;
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
      good &= cell_run(job, &block, &run, plain, cells + row * job->lanes,
                       counters);
      row += run.count;
    }
    counted += in_block;
    if (counted > INT32_MAX || number == last - 1) {
      collect(counters, tables * 256, counts);
      counted = 0;
    }
  }
  return !good;
}

/* Replaces tokens that their table lacks by the escape token.

   cells: of the whole tensor.
   missing: tables x 256, 1 for such tokens.
   values: written, the values that are escaped.
   room: how many of them there is room for; the others are not written.

   Returns how many there are. */
KS_EXPORT int64_t ks_class_rans_escapes(const ks_job *job, int64_t first,
                                        int64_t last, uint16_t *cells,
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
          uint16_t *cell = cells + at + lane;
          if (!missing[*cell]) continue;
          *cell = (uint16_t)((*cell & 0xff00) | job->escape);
          if (!loaded) load_row(job, ks_offset(job, &run, i), run.width, all);
          loaded = 1;
          if (found < room) {
            int32_t code = all[lane];
            values[found] = job->machine ? ks_level_of(code) : code;
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
  int full = x > how->most;
  (*next)[-1] = (uint16_t)x;
  *next -= full;
  x = full ? x >> 16 : x;
  return x + how->bias + quotient_of(x, how->reciprocal) * how->complement;
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
                        const uint16_t *cells, const ks_encoding *escape,
                        int width, uint16_t **next) {
  int32_t values[KS_LANES];
  load_row(job, offset, width, values);
  if (job->machine) {
    for (int lane = 0; lane < width; lane++) {
      values[lane] = ks_level_of(values[lane]);
    }
  }
  for (int lane = width - 1; lane >= 0; lane--) {
    int escaped = (cells[lane] & 255) == job->escape;
    int bits = escaped ? job->escape_shift : job->shift;
    if (!bits) continue;
    int32_t low = escaped ? job->escape_low : job->low;
    uint32_t above = (uint32_t)values[lane] - (uint32_t)low;
    block->x[lane] =
        push_raw(block->x[lane], above & ((1u << bits) - 1), bits, next);
  }
  for (int lane = width - 1; lane >= 0; lane--) {
    if ((cells[lane] & 255) != job->escape) continue;
    uint32_t above = (uint32_t)values[lane] - (uint32_t)job->escape_low;
    const ks_encoding *how = escape + (above >> job->escape_shift & 255);
    block->x[lane] = push(block->x[lane], how, next);
  }
}

static int any_escape(const ks_job *job, const uint16_t *cells, int width) {
  int found = 0;
  for (int lane = 0; lane < width; lane++) {
    found |= (cells[lane] & 255) == job->escape;
  }
  return found;
}

static uint16_t *encode_run(const ks_job *job, ks_block *block,
                            const ks_run *run, const uint16_t *cells,
                            const ks_encoding *how, const ks_encoding *escape,
                            uint16_t *next) {
  int width = run->width;
  for (int64_t row = run->count - 1; row >= 0; row--) {
    const uint16_t *cell = cells + row * job->lanes;
    if (job->shift || (job->escape < 256 && any_escape(job, cell, width))) {
      encode_rest(job, block, ks_offset(job, run, row), cell, escape, width,
                  &next);
    }
    if (width == KS_LANES) {
      uint32_t *restrict x = block->x;
#if defined(__GNUC__)
#pragma GCC unroll 32
#endif
      for (int lane = KS_LANES - 1; lane >= 0; lane--) {
        x[lane] = push(x[lane], how + cell[lane], &next);
      }
    } else {
      for (int lane = width - 1; lane >= 0; lane--) {
        block->x[lane] = push(block->x[lane], how + cell[lane], &next);
      }
    }
  }
  return next;
}

/* How tokens of these frequencies are coded.

   frequencies: tables x tokens.
   out: tables x 256, written; tokens without a frequency cannot be coded. */
KS_EXPORT void ks_class_rans_encodings(const int64_t *frequencies,
                                       int64_t tables, int64_t tokens,
                                       ks_encoding *out) {
  for (int64_t table = 0; table < tables; table++, out += 256) {
    uint32_t start = 0;
    for (int64_t token = 0; token < tokens; token++) {
      uint32_t f = (uint32_t)*frequencies++;
      ks_encoding *how = out + token;
      how->reciprocal = f > 1 ? UINT64_MAX / f + 1 : UINT64_MAX;
      how->most = f < KS_TOTAL ? (f << (32 - KS_PRECISION)) - 1 : UINT32_MAX;
      how->complement = (uint16_t)(KS_TOTAL - f);
      how->bias = (uint16_t)(f == 1 ? start + how->complement : start);
      start += f;
    }
  }
}

/* Codes one block.

   job: what the tensor is; `out` is read.
   number: which block.
   cells: of the whole tensor, rows x lanes.
   how: tables x 256; a token that occurs has a frequency.
   escape: 256, of the escape table.
   states: of this block, written.
   words: room for one word more than there are steps, `room` words.

   Returns where in `words` those written begin; they end at the end. */
KS_EXPORT int64_t ks_class_rans_encode(const ks_job *job, int64_t number,
                                       const uint16_t *cells,
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
    next = encode_run(job, &block, &run, cells + row * job->lanes, how, escape,
                      next);
    stop = row;
  }
  for (int lane = 0; lane < job->lanes; lane++) states[lane] = block.x[lane];
  return next - words;
}
