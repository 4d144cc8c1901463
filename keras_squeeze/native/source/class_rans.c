/* Decoding blocks of class_rans: the portable kernel and the choice of one. */
#include "class_rans.h"

static void store(const ks_job *job, size_t offset, int64_t channel,
                  const uint32_t *values, int width) {
  switch (job->kind) {
    case KS_INT8: {
      uint8_t *out = (uint8_t *)job->out + offset;
      for (int lane = 0; lane < width; lane++) out[lane] = (uint8_t)values[lane];
      return;
    }
    case KS_INT16: {
      uint16_t *out = (uint16_t *)job->out + offset;
      for (int lane = 0; lane < width; lane++) {
        out[lane] = (uint16_t)values[lane];
      }
      return;
    }
    case KS_INT32: {
      uint32_t *out = (uint32_t *)job->out + offset;
      for (int lane = 0; lane < width; lane++) out[lane] = values[lane];
      return;
    }
    default: {
      float *out = (float *)job->out + offset;
      const float *scale = job->scale + channel;
      for (int lane = 0; lane < width; lane++) {
        out[lane] = (float)(int32_t)values[lane] * scale[lane];
      }
    }
  }
}

/* Levels to codes, and the machine one step on. */
static inline void follow(const ks_job *job, ks_block *block, int64_t row,
                          int width, uint32_t *values) {
  if (job->near_distance) {
    uint8_t *near = block->near + row * KS_LANES;
    for (int lane = 0; lane < width; lane++) {
      near[lane] = ks_near_class((int32_t)values[lane], job->near_threshold);
    }
  }
  if (!job->machine) return;
  for (int lane = 0; lane < width; lane++) {
    int32_t level = (int32_t)values[lane];
    int32_t state = block->machine[lane];
    int32_t grid = -(state & 1), odd = -(level & 1);
    int32_t sign = (level > 0) - (level < 0);
    values[lane] = 2u * values[lane] - ((uint32_t)sign & (uint32_t)grid);
    block->machine[lane] = state >> 1 ^ (grid & job->machine_grid) ^
                           (odd & job->machine_parity);
  }
}

/* The first step of all lanes of a row. */
static inline void careful_step(const ks_job *job, ks_block *block,
                                const uint32_t *slots, uint8_t *tokens,
                                int width) {
  for (int lane = 0; lane < width; lane++) {
    uint32_t x = block->x[lane];
    uint32_t entry = job->tables[slots[lane] + (x & (KS_TOTAL - 1))];
    tokens[lane] = (uint8_t)entry;
    x = ((entry >> 8 & (KS_TOTAL - 1)) + 1) * (x >> KS_PRECISION) +
        (entry >> 20);
    block->x[lane] = ks_feed(block, x);
  }
}

/* Keeps a value out of the hands of a vectorizer, where lanes are quicker one
   by one: gathering them costs more than it saves. */
#if defined(__GNUC__)
#define KS_ALONE(value) __asm__("" : "+r"(value))
#else
#define KS_ALONE(value) (void)(value)
#endif

static inline const uint16_t *quick_step(const uint32_t *restrict tables,
                                         uint32_t *restrict states,
                                         const uint32_t *restrict slots,
                                         const uint16_t *restrict next,
                                         uint8_t *restrict tokens, int width) {
#if defined(__GNUC__)
#pragma GCC unroll 32
#endif
  for (int lane = 0; lane < width; lane++) {
    uint32_t x = states[lane];
    uint32_t entry = tables[slots[lane] + (x & (KS_TOTAL - 1))];
    KS_ALONE(entry);
    tokens[lane] = (uint8_t)entry;
    x = ((entry >> 8 & (KS_TOTAL - 1)) + 1) * (x >> KS_PRECISION) +
        (entry >> 20);
    /* All ones if a word is needed: a branch would be mispredicted. */
    uint64_t hungry = 0 - (((uint64_t)x - KS_STATE_LOW) >> 63);
    uint32_t fed = x << 16 | *next;
    states[lane] = x ^ ((x ^ fed) & (uint32_t)hungry);
    next -= (int64_t)hungry;
  }
  return next;
}

static inline int any_escape(const ks_job *job, const uint8_t *tokens,
                             int width) {
  int found = 0;
  for (int lane = 0; lane < width; lane++) found |= tokens[lane] == job->escape;
  return found;
}

/* All of a row but its first step. */
static inline void end_row(const ks_job *job, ks_block *block,
                           const ks_run *run, int64_t row, const uint8_t *tokens,
                           int width) {
  uint32_t values[KS_LANES];
  size_t offset = ks_offset(job, run, row);
  int contexts = job->near_distance || job->machine;
  int rest = job->shift || (job->escape < 256 && any_escape(job, tokens, width));
  if (!rest && !contexts && job->kind == KS_INT8) {
    uint8_t *out = (uint8_t *)job->out + offset, low = (uint8_t)job->low;
    for (int lane = 0; lane < width; lane++) {
      out[lane] = (uint8_t)(tokens[lane] + low);
    }
    return;
  }
  if (rest) {
    ks_finish_row(job, block, tokens, values, width);
  } else {
    for (int lane = 0; lane < width; lane++) {
      values[lane] = (uint32_t)job->low + tokens[lane];
    }
  }
  if (contexts) follow(job, block, run->first + row, width, values);
  store(job, offset, run->channel, values, width);
}

static void portable_run(const ks_job *shared, ks_block *block,
                         const ks_run *run, int64_t row) {
  /* A copy that no store can change. */
  const ks_job own = *shared, *job = &own;
  int width = run->width;
  int contexts = job->near_distance || job->machine;
  uint32_t slots[KS_LANES];
  uint8_t tokens[KS_LANES];
  ks_class_cache cache;
  memset(cache.known, 0, sizeof cache.known);
  for (; row < run->count && !block->damaged; row++) {
    const uint32_t *chosen =
        ks_cached_slots(job, run, run->position + row, width, &cache);
    if (contexts) {
      memcpy(slots, chosen, (size_t)width * sizeof *slots);
      ks_context_slots(job, block, run, row, width, slots);
      chosen = slots;
    }
    if (block->end - block->next < KS_ROW_WORDS) {
      careful_step(job, block, chosen, tokens, width);
      end_row(job, block, run, row, tokens, width);
    } else if (width == KS_LANES) {
      block->next = quick_step(job->tables, block->x, chosen, block->next,
                               tokens, KS_LANES);
      end_row(job, block, run, row, tokens, KS_LANES);
    } else if (width == KS_LANES / 2) {
      block->next = quick_step(job->tables, block->x, chosen, block->next,
                               tokens, KS_LANES / 2);
      end_row(job, block, run, row, tokens, KS_LANES / 2);
    } else {
      block->next = quick_step(job->tables, block->x, chosen, block->next,
                               tokens, width);
      end_row(job, block, run, row, tokens, width);
    }
  }
}

#ifdef KS_X86
/* `ks_finish_row` of all lanes, for kernels that seldom need it. */
void ks_finish_apart(const ks_job *job, ks_block *block, const uint8_t *tokens,
                     uint32_t *values) {
  ks_finish_row(job, block, tokens, values, KS_LANES);
}
#endif

static ks_run_kernel kernel_for(const ks_job *job, int isa) {
#ifdef KS_X86
  if (isa == 2) return ks_avx512_kernel(job);
  if (isa == 1) return ks_avx2_kernel(job);
#endif
  (void)job;
  (void)isa;
  return NULL;
}

/* 2 with AVX-512, 1 with AVX2, 0 otherwise. */
KS_EXPORT int ks_class_rans_isa(void) {
#ifdef KS_X86
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512vl") &&
      __builtin_cpu_supports("avx512dq")) {
    return 2;
  }
  if (__builtin_cpu_supports("avx2")) return 1;
#endif
  return 0;
}

/* A block and the run that it is at. */
typedef struct {
  ks_block block;
  ks_run run;
  int64_t begun; /* the block's first row, in the tensor */
  int64_t row;   /* the next row */
  int64_t last;
} cursor;

static void start(cursor *at, const ks_job *job, int64_t number,
                  const uint32_t *states, const uint8_t *machines,
                  const uint16_t *words, const int64_t *ends, uint8_t *near) {
  memset(at, 0, sizeof *at);
  for (int lane = 0; lane < job->lanes; lane++) {
    at->block.x[lane] = states[number * job->lanes + lane];
    at->block.machine[lane] = machines[number * job->lanes + lane];
  }
  at->block.next = words + (number ? ends[number - 1] : 0);
  at->block.end = words + ends[number];
  at->block.near = near;
  at->begun = at->row = number * job->block_rows;
  at->last = at->begun + job->block_rows;
  if (at->last > job->rows) at->last = job->rows;
}

/* Whether there is more to do; then `run` says what comes next. */
static int has_run(cursor *at, const ks_job *job) {
  if (at->row >= at->last || at->block.damaged) return 0;
  at->run = ks_run_at(job, at->begun, at->row, at->last);
  return 1;
}

/* Two blocks side by side, as long as both have whole rows. */
static void decode_together(cursor *both, const ks_job *job,
                            ks_run_kernel kernel) {
  ks_block *const blocks[] = {&both[0].block, &both[1].block};
  const ks_run *const runs[] = {&both[0].run, &both[1].run};
  while (has_run(&both[0], job) && has_run(&both[1], job)) {
    if (runs[0]->width < KS_LANES || runs[1]->width < KS_LANES) return;
    int64_t count = runs[0]->count;
    if (runs[1]->count < count) count = runs[1]->count;
    int64_t done = kernel(job, blocks, runs, count, KS_TOGETHER);
    both[0].row += done;
    both[1].row += done;
    if (done < count) return;
  }
}

/* What is left of a block; whether it is damaged. */
static int decode_rest(cursor *at, const ks_job *job, ks_run_kernel kernel) {
  ks_block *const blocks[] = {&at->block};
  const ks_run *const runs[] = {&at->run};
  while (has_run(at, job)) {
    int64_t done = 0;
    if (kernel && at->run.width == KS_LANES) {
      done = kernel(job, blocks, runs, at->run.count, 1);
    }
    if (done < at->run.count) portable_run(job, &at->block, &at->run, done);
    at->row += at->run.count;
  }
  for (int lane = 0; lane < job->lanes; lane++) {
    at->block.damaged |= at->block.x[lane] != KS_STATE_LOW;
  }
  return at->block.damaged || at->block.next != at->block.end;
}

/* Decodes some blocks.

   job: what the tensor is, all of it checked.
   first, last: the blocks, the last one not included.
   states, machines: one for each of `lanes`, of all blocks.
   words: of all blocks.
   ends: where the words of each block end.
   near: 2 x block_rows x 32 bytes, only used with neighbour classes.
   isa: which kernel, at most what ks_class_rans_isa says.

   Returns 0, or 1 if a block is damaged. */
KS_EXPORT int ks_class_rans_decode(const ks_job *job, int64_t first,
                                   int64_t last, const uint32_t *states,
                                   const uint8_t *machines,
                                   const uint16_t *words, const int64_t *ends,
                                   uint8_t *near, int32_t isa) {
  ks_run_kernel kernel = job->lanes == KS_LANES ? kernel_for(job, isa) : NULL;
  int64_t rows = job->block_rows < job->rows ? job->block_rows : job->rows;
  cursor at[KS_TOGETHER];
  int damaged = 0;
  for (int64_t number = first; number < last && !damaged;) {
    int together = kernel && last - number >= KS_TOGETHER ? KS_TOGETHER : 1;
    for (int i = 0; i < together; i++) {
      uint8_t *own = job->near_distance ? near + i * rows * KS_LANES : near;
      start(&at[i], job, number + i, states, machines, words, ends, own);
    }
    if (together == KS_TOGETHER) decode_together(at, job, kernel);
    for (int i = 0; i < together; i++) {
      damaged |= decode_rest(&at[i], job, kernel);
    }
    number += together;
  }
  return damaged;
}

/* Turns frequencies into what decoders look up, one entry a slot.

   frequencies: tables x tokens, none negative; each table adds up to 4096.
   entries: tables x 4096, written. */
KS_EXPORT void ks_class_rans_expand(const int64_t *frequencies, int64_t tables,
                                    int64_t tokens, uint32_t *entries) {
  for (int64_t table = 0; table < tables; table++) {
    uint32_t room = KS_TOTAL;
    for (int64_t token = 0; token < tokens; token++) {
      uint32_t f = (uint32_t)*frequencies++;
      f = f < room ? f : room;
      uint32_t entry = (uint32_t)token | (f - 1) << 8;
      for (uint32_t place = 0; place < f; place++) {
        *entries++ = entry | place << 20;
      }
      room -= f;
    }
    for (; room > 0; room--) *entries++ = 0;
  }
}
