/* What the kernels of class_rans share. See codecs/class_rans_lanes.py for the
   specification; these are the same steps for one block at a time. */
#ifndef KS_CLASS_RANS_H
#define KS_CLASS_RANS_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if defined(_WIN32)
#define KS_EXPORT __declspec(dllexport)
#elif defined(__GNUC__)
#define KS_EXPORT __attribute__((visibility("default")))
#else
#define KS_EXPORT
#endif

#define KS_PRECISION 12
#define KS_TOTAL (1u << KS_PRECISION)
#define KS_STATE_LOW 65536u
#define KS_LANES 32
/* Words that a row's first step may touch: one a lane, and what the last
   vector reads beyond them. */
#define KS_ROW_WORDS 48

enum { KS_INT8, KS_INT16, KS_INT32, KS_FLOAT32, KS_KINDS };

/* One tensor; the fields are those of class_rans_native._Job. */
typedef struct {
  const uint32_t *tables;
  const int32_t *channel_exponents; /* channels, a multiple of 32 allocated */
  const int32_t *position_exponents; /* positions */
  const float *scale;                /* channels, a multiple of 32 allocated */
  void *out;                         /* positions x channels, or fewer (flat) */
  int64_t channels;
  int64_t positions;
  int64_t count;
  int64_t rows;
  int64_t block_rows;
  int64_t near_distance; /* 0 without neighbour classes */
  int32_t lanes;
  int32_t highest; /* the greatest exponent */
  int32_t merge;
  int32_t class_stride; /* slots from the tables of a class to the next */
  int32_t near_stride;
  int32_t near_threshold;
  int32_t machine; /* whether there is a trellis */
  int32_t machine_grid; /* what state bit 0 adds to the next state */
  int32_t machine_parity; /* what an odd level adds to it */
  int32_t flat;
  int32_t low;
  int32_t shift;
  int32_t escape; /* 256 without */
  int32_t escape_low;
  int32_t escape_shift;
  int32_t escape_base; /* the first slot of the escape table */
  int32_t kind;
} ks_job;

/* A block on its way. */
typedef struct {
  uint32_t x[KS_LANES];
  int32_t machine[KS_LANES];
  const uint16_t *next;
  const uint16_t *end;
  uint8_t *near; /* block_rows x 32 neighbour classes, if there are any */
  int damaged;
} ks_block;

/* Consecutive rows of one group of channels. */
typedef struct {
  int64_t first;    /* row within the block */
  int64_t count;    /* rows */
  int64_t position; /* of the first row */
  int64_t channel;  /* of lane 0 */
  int width;        /* lanes that take part */
} ks_run;

/* Blocks that a kernel may decode side by side. */
#define KS_TOGETHER 2

/* A kernel decodes the first `count` rows of one run of each of `blocks`
   blocks, 1 or KS_TOGETHER, while each block has KS_ROW_WORDS words. Says how
   many rows it has done. */
typedef int64_t (*ks_run_kernel)(const ks_job *, ks_block *const *,
                                 const ks_run *const *, int64_t count,
                                 int blocks);

#if defined(__x86_64__) && defined(__GNUC__)
#define KS_X86 1
void ks_finish_apart(const ks_job *job, ks_block *block, const uint8_t *tokens,
                     uint32_t *values);
ks_run_kernel ks_avx2_kernel(const ks_job *job);
ks_run_kernel ks_avx512_kernel(const ks_job *job);
#endif

/* Takes one step of a lane that needs care: any table, any words. */
static inline uint32_t ks_feed(ks_block *block, uint32_t x) {
  if (x < KS_STATE_LOW) {
    uint32_t word = 0;
    if (block->next < block->end) {
      word = *block->next++;
    } else {
      block->damaged = 1;
    }
    x = x << 16 | word;
  }
  return x;
}

/* The second and third steps of a row: escapes, and the bits that tokens
   leave open. `values` is written: what the tokens stand for. */
static inline void ks_finish_row(const ks_job *job, ks_block *block,
                                 const uint8_t *tokens, uint32_t *values,
                                 int width) {
  int bits[KS_LANES];
  for (int lane = 0; lane < width; lane++) {
    bits[lane] = job->shift;
    values[lane] = (uint32_t)job->low + ((uint32_t)tokens[lane] << job->shift);
    if (tokens[lane] == job->escape) {
      uint32_t x = block->x[lane];
      uint32_t entry = job->tables[(uint32_t)job->escape_base +
                                   (x & (KS_TOTAL - 1))];
      x = ((entry >> 8 & (KS_TOTAL - 1)) + 1) * (x >> KS_PRECISION) +
          (entry >> 20);
      block->x[lane] = ks_feed(block, x);
      bits[lane] = job->escape_shift;
      values[lane] =
          (uint32_t)job->escape_low + ((entry & 255) << job->escape_shift);
    }
  }
  if (!(job->shift | job->escape_shift)) return;
  for (int lane = 0; lane < width; lane++) {
    if (!bits[lane]) continue;
    int below = KS_PRECISION - bits[lane];
    uint32_t x = block->x[lane];
    uint32_t slot = x & (KS_TOTAL - 1);
    x = ((x >> KS_PRECISION) << below) + (slot & ((1u << below) - 1));
    block->x[lane] = ks_feed(block, x);
    values[lane] += slot >> below;
  }
}

/* The level of a trellis' code. */
static inline int32_t ks_level_of(int32_t code) {
  int32_t half = ((code < 0 ? -code : code) + 1) >> 1;
  return code < 0 ? -half : half;
}

/* The neighbour class of a value. */
static inline uint8_t ks_near_class(int32_t value, int32_t threshold) {
  return (uint8_t)(2 + (value > 0) + (value > threshold) - (value < 0) -
                   (value < -threshold));
}

/* The run that starts at a row of the tensor, bounded by the block. */
static inline ks_run ks_run_at(const ks_job *job, int64_t begun, int64_t row,
                               int64_t last) {
  ks_run run;
  int64_t group = row / job->positions;
  run.first = row - begun;
  run.position = row - group * job->positions;
  run.channel = group * job->lanes;
  run.count = job->positions - run.position;
  int64_t width = job->channels - run.channel;
  run.width = (int)(width < job->lanes ? width : job->lanes);
  int64_t whole = job->flat ? job->count / job->lanes : job->rows;
  if (row >= whole) {
    run.width = (int)(job->count - whole * job->lanes);
  } else if (row + run.count > whole) {
    run.count = whole - row;
  }
  if (row + run.count > last) run.count = last - row;
  return run;
}

/* Whether the neighbours of a row are there. */
static inline int ks_near_there(const ks_job *job, const ks_run *run,
                                int64_t row) {
  int64_t position = run->position + row;
  int64_t in_block = run->first + row;
  return position >= job->near_distance && in_block >= job->near_distance;
}

static inline size_t ks_offset(const ks_job *job, const ks_run *run,
                               int64_t row) {
  return (size_t)((run->position + row) * job->channels + run->channel);
}

/* Bytes of an element. */
static inline size_t ks_size(int kind) {
  return kind == KS_INT8 ? 1 : kind == KS_INT16 ? 2 : 4;
}

/* Whether rows of floats are best written past the caches: many of them, of
   whole lines. Lines far apart cost the caches several times as much. */
static inline int ks_is_streamed(const ks_job *job) {
  int64_t row_bytes = job->channels * 4;
  return !(((uintptr_t)job->out | (uintptr_t)row_bytes) % 64) &&
         row_bytes * job->positions >= 1 << 20;
}

/* Where the tables of each lane start, without neighbour and grid. */
static inline void ks_class_slots(const ks_job *job, const ks_run *run,
                               int64_t position, int width, uint32_t *slots) {
  const int32_t *channels = job->channel_exponents + run->channel;
  int32_t here = job->position_exponents[position];
  for (int lane = 0; lane < width; lane++) {
    int32_t exponent = here + channels[lane];
    exponent = exponent < 0 ? 0 : exponent;
    exponent = exponent > job->highest ? job->highest : exponent;
    slots[lane] = (uint32_t)((exponent >> job->merge) * job->class_stride);
  }
}

/* Exponents of positions are few and come again and again. */
#define KS_CACHED 64
typedef struct {
  uint32_t slots[KS_CACHED][KS_LANES];
  int32_t exponent[KS_CACHED];
  uint8_t known[KS_CACHED];
} ks_class_cache;

static inline const uint32_t *ks_cached_slots(const ks_job *job,
                                           const ks_run *run,
                                           int64_t position, int width,
                                           ks_class_cache *cache) {
  int32_t here = job->position_exponents[position];
  uint32_t place = (uint32_t)here % KS_CACHED;
  if (!cache->known[place] || cache->exponent[place] != here) {
    ks_class_slots(job, run, position, width, cache->slots[place]);
    cache->exponent[place] = here;
    cache->known[place] = 1;
  }
  return cache->slots[place];
}

/* Adds what neighbours and the trellis say to where the tables start. */
static inline void ks_context_slots(const ks_job *job, const ks_block *block,
                                 const ks_run *run, int64_t row, int width,
                                 uint32_t *slots) {
  if (job->near_distance) {
    int64_t before = run->first + row - job->near_distance;
    int there = ks_near_there(job, run, row);
    const uint8_t *near = there ? block->near + before * KS_LANES : NULL;
    for (int lane = 0; lane < width; lane++) {
      slots[lane] += (uint32_t)(job->near_stride * (near ? near[lane] : 2));
    }
  }
  if (job->machine) {
    for (int lane = 0; lane < width; lane++) {
      slots[lane] += (uint32_t)(block->machine[lane] & 1) << KS_PRECISION;
    }
  }
}

#endif
