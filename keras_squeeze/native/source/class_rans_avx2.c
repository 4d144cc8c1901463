/* The row kernel of class_rans for AVX2. */
#include "class_rans.h"

#ifdef KS_X86
#include <immintrin.h>
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,popcnt"))), \
                             apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2,popcnt")
#endif

#define VECTORS 4
#define WIDE 8
#define INLINE static inline __attribute__((always_inline))

/* For each set of hungry lanes, which of the next words each one takes: eight
   numbers of four bits, lane 0 lowest. */
#define RANK(m, i) \
  ((uint32_t)((((m) >> 0) & ((i) > 0)) + (((m) >> 1) & ((i) > 1)) + \
              (((m) >> 2) & ((i) > 2)) + (((m) >> 3) & ((i) > 3)) + \
              (((m) >> 4) & ((i) > 4)) + (((m) >> 5) & ((i) > 5)) + \
              (((m) >> 6) & ((i) > 6))) \
   << (4 * (i)))
#define RANKS(m)                                                      \
  RANK(m, 0) | RANK(m, 1) | RANK(m, 2) | RANK(m, 3) | RANK(m, 4) |    \
      RANK(m, 5) | RANK(m, 6) | RANK(m, 7)
#define RANKS4(m) RANKS(m), RANKS(m + 1), RANKS(m + 2), RANKS(m + 3)
#define RANKS16(m) RANKS4(m), RANKS4(m + 4), RANKS4(m + 8), RANKS4(m + 12)
#define RANKS64(m) RANKS16(m), RANKS16(m + 16), RANKS16(m + 32), RANKS16(m + 48)
static const uint32_t word_ranks[256] = {RANKS64(0), RANKS64(64), RANKS64(128),
                                         RANKS64(192)};

/* A block in registers. */
typedef struct {
  __m256i x[VECTORS], machine[VECTORS];
  __m256 scale[VECTORS];
  const uint16_t *next, *end;
  uint8_t *out; /* where the row goes */
} lanes;

INLINE __m256i load(const void *from) {
  return _mm256_loadu_si256((const __m256i *)from);
}

INLINE void save(void *to, __m256i value) {
  _mm256_storeu_si256((__m256i *)to, value);
}

INLINE void load_lanes(lanes *all, const ks_job *job, const ks_block *block,
                       const ks_run *run, const int kind) {
  for (int v = 0; v < VECTORS; v++) {
    all->x[v] = load(block->x + WIDE * v);
    all->machine[v] = load(block->machine + WIDE * v);
    if (kind == KS_FLOAT32) {
      all->scale[v] = _mm256_loadu_ps(job->scale + run->channel + WIDE * v);
    }
  }
  all->next = block->next;
  all->end = block->end;
  all->out = (uint8_t *)job->out + ks_offset(job, run, 0) * ks_size(kind);
}

INLINE void store_lanes(const lanes *all, ks_block *block) {
  for (int v = 0; v < VECTORS; v++) {
    save(block->x + WIDE * v, all->x[v]);
    save(block->machine + WIDE * v, all->machine[v]);
  }
  block->next = all->next;
}

/* Where the table of each lane starts. */
INLINE __m256i slots_of(const ks_job *job, const ks_block *block,
                        const ks_run *run, const lanes *all,
                        const uint32_t *chosen, int64_t row, int v,
                        const int near, const int machine) {
  __m256i slots = load(chosen + WIDE * v);
  if (near) {
    __m256i kind = _mm256_set1_epi32(2);
    if (ks_near_there(job, run, row)) {
      int64_t before = run->first + row - job->near_distance;
      const uint8_t *from = block->near + before * KS_LANES + WIDE * v;
      kind = _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)from));
    }
    kind = _mm256_mullo_epi32(kind, _mm256_set1_epi32(job->near_stride));
    slots = _mm256_add_epi32(slots, kind);
  }
  if (machine) {
    __m256i grid = _mm256_and_si256(all->machine[v], _mm256_set1_epi32(1));
    slots = _mm256_add_epi32(slots, _mm256_slli_epi32(grid, KS_PRECISION));
  }
  return slots;
}

/* One step of 8 lanes; gives the entries they found. */
INLINE __m256i step(const uint32_t *tables, __m256i *state, __m256i slots,
                    const uint16_t **next) {
  const __m256i low12 = _mm256_set1_epi32(KS_TOTAL - 1);
  const __m256i places = _mm256_setr_epi32(0, 4, 8, 12, 16, 20, 24, 28);
  __m256i x = *state;
  __m256i index = _mm256_add_epi32(_mm256_and_si256(x, low12), slots);
  __m256i entry = _mm256_i32gather_epi32((const int *)tables, index, 4);
  __m256i f = _mm256_and_si256(_mm256_srli_epi32(entry, 8), low12);
  /* (f + 1) * q + place, as f * q + (q + place). */
  __m256i q = _mm256_srli_epi32(x, KS_PRECISION);
  __m256i rest = _mm256_add_epi32(q, _mm256_srli_epi32(entry, 20));
  x = _mm256_add_epi32(_mm256_mullo_epi32(f, q), rest);
  __m256i hungry = _mm256_cmpeq_epi32(_mm256_srli_epi32(x, 16),
                                      _mm256_setzero_si256());
  int mask = _mm256_movemask_ps(_mm256_castsi256_ps(hungry));
  __m256i rank = _mm256_srlv_epi32(
      _mm256_set1_epi32((int)word_ranks[mask]), places);
  __m256i words =
      _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)*next));
  words = _mm256_permutevar8x32_epi32(words, rank);
  words = _mm256_and_si256(words, hungry);
  x = _mm256_sllv_epi32(x, _mm256_and_si256(hungry, _mm256_set1_epi32(16)));
  *state = _mm256_or_si256(x, words);
  *next += __builtin_popcount((unsigned)mask);
  return entry;
}

INLINE __m256i near_class(__m256i value, int32_t threshold) {
  __m256i most = _mm256_set1_epi32(threshold);
  __m256i least = _mm256_set1_epi32(-threshold);
  __m256i zero = _mm256_setzero_si256();
  __m256i out = _mm256_set1_epi32(2);
  /* A comparison that holds is -1. */
  out = _mm256_sub_epi32(out, _mm256_cmpgt_epi32(value, zero));
  out = _mm256_sub_epi32(out, _mm256_cmpgt_epi32(value, most));
  out = _mm256_add_epi32(out, _mm256_cmpgt_epi32(zero, value));
  return _mm256_add_epi32(out, _mm256_cmpgt_epi32(least, value));
}

/* Levels to codes, and the machines one step on. */
INLINE __m256i follow(const ks_job *job, __m256i *machine, __m256i level) {
  const __m256i zero = _mm256_setzero_si256();
  const __m256i one = _mm256_set1_epi32(1);
  __m256i state = *machine;
  __m256i grid = _mm256_sub_epi32(zero, _mm256_and_si256(state, one));
  __m256i odd = _mm256_sub_epi32(zero, _mm256_and_si256(level, one));
  __m256i sign = _mm256_sign_epi32(one, level);
  __m256i after = _mm256_srli_epi32(state, 1);
  after = _mm256_xor_si256(
      after, _mm256_and_si256(grid, _mm256_set1_epi32(job->machine_grid)));
  *machine = _mm256_xor_si256(
      after, _mm256_and_si256(odd, _mm256_set1_epi32(job->machine_parity)));
  return _mm256_sub_epi32(_mm256_add_epi32(level, level),
                          _mm256_and_si256(sign, grid));
}

/* The lowest 16 bits of 16 lanes. */
INLINE __m256i low_halves(__m256i a, __m256i b) {
  const __m256i mask = _mm256_set1_epi32(0xffff);
  __m256i packed = _mm256_packus_epi32(_mm256_and_si256(a, mask),
                                       _mm256_and_si256(b, mask));
  return _mm256_permute4x64_epi64(packed, 0xd8);
}

/* The lowest 8 bits of all 32 lanes. */
INLINE __m256i low_bytes(const __m256i *values) {
  const __m256i mask = _mm256_set1_epi32(0xff);
  __m256i a = _mm256_packus_epi32(_mm256_and_si256(values[0], mask),
                                  _mm256_and_si256(values[1], mask));
  __m256i b = _mm256_packus_epi32(_mm256_and_si256(values[2], mask),
                                  _mm256_and_si256(values[3], mask));
  return _mm256_permutevar8x32_epi32(
      _mm256_packus_epi16(a, b), _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
}

INLINE void store_row(const lanes *all, const __m256i *values, const int kind,
                      const int streamed) {
  if (kind == KS_INT8) {
    save(all->out, low_bytes(values));
  } else if (kind == KS_INT16) {
    save(all->out, low_halves(values[0], values[1]));
    save(all->out + 4 * WIDE, low_halves(values[2], values[3]));
  } else {
    for (int v = 0; v < VECTORS; v++) {
      uint8_t *to = all->out + 4 * WIDE * v;
      if (kind == KS_INT32) {
        save(to, values[v]);
        continue;
      }
      __m256 scaled =
          _mm256_mul_ps(_mm256_cvtepi32_ps(values[v]), all->scale[v]);
      if (streamed) {
        _mm256_stream_ps((float *)to, scaled);
      } else {
        _mm256_storeu_ps((float *)to, scaled);
      }
    }
  }
}

/* A row with escapes or raw bits: all but its first step, lane by lane. */
INLINE void finish_row(const ks_job *job, ks_block *block, lanes *all,
                       __m256i tokens, __m256i *values) {
  uint8_t plain[KS_LANES];
  uint32_t out[KS_LANES];
  save(plain, tokens);
  store_lanes(all, block);
  ks_finish_apart(job, block, plain, out);
  for (int v = 0; v < VECTORS; v++) {
    all->x[v] = load(block->x + WIDE * v);
    values[v] = load(out + WIDE * v);
  }
  all->next = block->next;
}

INLINE void decode_row(const ks_job *job, ks_block *block, const ks_run *run,
                       lanes *all, ks_class_cache *cache, int64_t row,
                       const int kind, const int near, const int machine,
                       const int streamed) {
  const __m256i escape = _mm256_set1_epi32(job->escape);
  const __m256i low = _mm256_set1_epi32(job->low);
  const uint32_t *chosen =
      ks_cached_slots(job, run, run->position + row, KS_LANES, cache);
  __m256i entries[VECTORS], values[VECTORS];
  for (int v = 0; v < VECTORS; v++) {
    __m256i slots =
        slots_of(job, block, run, all, chosen, row, v, near, machine);
    entries[v] = step(job->tables, &all->x[v], slots, &all->next);
  }
  if (kind == KS_INT8 && !near && !machine) {
    /* Bytes do for all of it. */
    __m256i tokens = low_bytes(entries);
    __m256i found =
        _mm256_cmpeq_epi8(tokens, _mm256_set1_epi8((char)job->escape));
    int escaped = job->escape < 256 && _mm256_movemask_epi8(found);
    __m256i bytes =
        _mm256_add_epi8(tokens, _mm256_set1_epi8((char)job->low));
    if (job->shift || escaped) {
      finish_row(job, block, all, tokens, values);
      bytes = low_bytes(values);
    }
    save(all->out, bytes);
    all->out += job->channels;
    return;
  }
  __m256i escaped = _mm256_setzero_si256();
  for (int v = 0; v < VECTORS; v++) {
    __m256i token = _mm256_and_si256(entries[v], _mm256_set1_epi32(255));
    escaped = _mm256_or_si256(escaped, _mm256_cmpeq_epi32(token, escape));
    values[v] = _mm256_add_epi32(low, token);
  }
  if (job->shift || !_mm256_testz_si256(escaped, escaped)) {
    finish_row(job, block, all, low_bytes(entries), values);
  }
  if (near) {
    __m256i kinds[VECTORS];
    for (int v = 0; v < VECTORS; v++) {
      kinds[v] = near_class(values[v], job->near_threshold);
    }
    save(block->near + (run->first + row) * KS_LANES, low_bytes(kinds));
  }
  if (machine) {
    for (int v = 0; v < VECTORS; v++) {
      values[v] = follow(job, &all->machine[v], values[v]);
    }
  }
  store_row(all, values, kind, streamed);
  all->out += (size_t)job->channels * ks_size(kind);
}

#define KS_KERNEL ks_avx2_kernel
#include "class_rans_rows.h"

#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
#else
typedef int ks_no_avx2;
#endif
