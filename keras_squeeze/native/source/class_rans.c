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

static inline const uint16_t *quick_step(const uint32_t *restrict tables,
                                         uint32_t *restrict states,
                                         const uint32_t *restrict slots,
                                         const uint16_t *restrict next,
                                         uint8_t *restrict tokens) {
#if defined(__GNUC__)
#pragma GCC unroll 32
#endif
  for (int lane = 0; lane < KS_LANES; lane++) {
    uint32_t x = states[lane];
    uint32_t entry = tables[slots[lane] + (x & (KS_TOTAL - 1))];
    tokens[lane] = (uint8_t)entry;
    x = ((entry >> 8 & (KS_TOTAL - 1)) + 1) * (x >> KS_PRECISION) +
        (entry >> 20);
    uint32_t hungry = x < KS_STATE_LOW;
    x = x << (hungry << 4) | (*next & (0u - hungry));
    next += hungry;
    states[lane] = x;
  }
  return next;
}

static inline int any_escape(const ks_job *job, const uint8_t *tokens,
                             int width) {
  int found = 0;
  for (int lane = 0; lane < width; lane++) found |= tokens[lane] == job->escape;
  return found;
}

static void portable_run(const ks_job *job, ks_block *block, const ks_run *run,
                         int64_t row) {
  int width = run->width;
  int contexts = job->near_distance || job->machine;
  uint32_t slots[KS_LANES], values[KS_LANES];
  uint8_t tokens[KS_LANES];
  ks_class_cache cache;
  memset(&cache, 0, sizeof cache);
  for (; row < run->count && !block->damaged; row++) {
    const uint32_t *chosen =
        ks_cached_slots(job, run, run->position + row, width, &cache);
    if (contexts) {
      memcpy(slots, chosen, sizeof slots);
      ks_context_slots(job, block, run, row, width, slots);
      chosen = slots;
    }
    if (width == KS_LANES && block->end - block->next >= KS_ROW_WORDS) {
      block->next =
          quick_step(job->tables, block->x, chosen, block->next, tokens);
    } else {
      careful_step(job, block, chosen, tokens, width);
    }
    for (int lane = 0; lane < width; lane++) {
      values[lane] =
          (uint32_t)job->low + ((uint32_t)tokens[lane] << job->shift);
    }
    if (job->shift || (job->escape < 256 && any_escape(job, tokens, width))) {
      ks_finish_row(job, block, tokens, values, width);
    }
    if (contexts) follow(job, block, run->first + row, width, values);
    store(job, ks_offset(job, run, row), run->channel, values, width);
  }
}

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

static int decode_block(const ks_job *job, int64_t number,
                        const uint32_t *states, const uint8_t *machines,
                        const uint16_t *words, const uint16_t *end,
                        uint8_t *near, int isa) {
  ks_block block;
  memset(&block, 0, sizeof block);
  for (int lane = 0; lane < job->lanes; lane++) {
    block.x[lane] = states[lane];
    block.machine[lane] = machines[lane];
  }
  block.next = words;
  block.end = end;
  block.near = near;
  ks_run_kernel kernel = job->lanes == KS_LANES ? kernel_for(job, isa) : NULL;
  int64_t begun = number * job->block_rows;
  int64_t last = begun + job->block_rows;
  if (last > job->rows) last = job->rows;
  for (int64_t row = begun; row < last && !block.damaged;) {
    ks_run run = ks_run_at(job, begun, row, last);
    int64_t done = 0;
    if (kernel && run.width == KS_LANES) done = kernel(job, &block, &run);
    if (done < run.count) portable_run(job, &block, &run, done);
    row += run.count;
  }
  for (int lane = 0; lane < job->lanes; lane++) {
    block.damaged |= block.x[lane] != KS_STATE_LOW;
  }
  return block.damaged || block.next != block.end;
}

/* Decodes some blocks.

   job: what the tensor is, all of it checked.
   first, last: the blocks, the last one not included.
   states, machines: one for each of `lanes`, of all blocks.
   words: of all blocks.
   ends: where the words of each block end.
   near: block_rows x 32 bytes, only used with neighbour classes.
   isa: as ks_class_rans_isa says, or less.

   Returns 0, or 1 if a block is damaged. */
KS_EXPORT int ks_class_rans_decode(const ks_job *job, int64_t first,
                                   int64_t last, const uint32_t *states,
                                   const uint8_t *machines,
                                   const uint16_t *words, const int64_t *ends,
                                   uint8_t *near, int isa) {
  for (int64_t number = first; number < last; number++) {
    int64_t begun = number ? ends[number - 1] : 0;
    int64_t lane = number * job->lanes;
    if (decode_block(job, number, states + lane, machines + lane,
                     words + begun, words + ends[number], near, isa)) {
      return 1;
    }
  }
  return 0;
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
