/* The row kernel of class_rans for AVX-512. */
#include "class_rans.h"

#ifdef KS_X86
#include <immintrin.h>
#if defined(__clang__)
#pragma clang attribute push( \
    __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq"))), \
    apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512vl,avx512dq,avx2")
#endif

#define VECTORS 2
#define WIDE 16
#define INLINE static inline __attribute__((always_inline))

/* A block in registers. */
typedef struct {
  __m512i x[VECTORS], machine[VECTORS];
  __m512 scale[VECTORS];
  const uint16_t *next, *end;
  uint8_t *out; /* where the row goes */
} lanes;

INLINE void load_lanes(lanes *all, const ks_job *job, const ks_block *block,
                       const ks_run *run, const int kind) {
  for (int v = 0; v < VECTORS; v++) {
    all->x[v] = _mm512_loadu_si512(block->x + WIDE * v);
    all->machine[v] = _mm512_loadu_si512(block->machine + WIDE * v);
    if (kind == KS_FLOAT32) {
      all->scale[v] = _mm512_loadu_ps(job->scale + run->channel + WIDE * v);
    }
  }
  all->next = block->next;
  all->end = block->end;
  all->out = (uint8_t *)job->out + ks_offset(job, run, 0) * ks_size(kind);
}

INLINE void store_lanes(const lanes *all, ks_block *block) {
  for (int v = 0; v < VECTORS; v++) {
    _mm512_storeu_si512(block->x + WIDE * v, all->x[v]);
    _mm512_storeu_si512(block->machine + WIDE * v, all->machine[v]);
  }
  block->next = all->next;
}

/* Where the table of each lane starts. */
INLINE __m512i slots_of(const ks_job *job, const ks_block *block,
                        const ks_run *run, const lanes *all,
                        const uint32_t *chosen, int64_t row, int v,
                        const int near, const int machine) {
  __m512i slots = _mm512_loadu_si512(chosen + WIDE * v);
  if (near) {
    __m512i kind = _mm512_set1_epi32(2);
    if (ks_near_there(job, run, row)) {
      int64_t before = run->first + row - job->near_distance;
      const uint8_t *from = block->near + before * KS_LANES + WIDE * v;
      kind = _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)from));
    }
    kind = _mm512_mullo_epi32(kind, _mm512_set1_epi32(job->near_stride));
    slots = _mm512_add_epi32(slots, kind);
  }
  if (machine) {
    __m512i grid = _mm512_and_si512(all->machine[v], _mm512_set1_epi32(1));
    slots = _mm512_add_epi32(slots, _mm512_slli_epi32(grid, KS_PRECISION));
  }
  return slots;
}

/* One step of 16 lanes; gives the entries they found. */
INLINE __m512i step(const uint32_t *tables, __m512i *state, __m512i slots,
                    const uint16_t **next) {
  const __m512i low12 = _mm512_set1_epi32(KS_TOTAL - 1);
  __m512i x = *state;
  /* Tables start at multiples of 4096: slots | (x & low12). */
  __m512i index = _mm512_ternarylogic_epi32(slots, x, low12, 0xf8);
  __m512i entry = _mm512_i32gather_epi32(index, tables, 4);
  __m512i f = _mm512_and_si512(_mm512_srli_epi32(entry, 8), low12);
  /* (f + 1) * q + place, as f * q + (q + place). */
  __m512i q = _mm512_srli_epi32(x, KS_PRECISION);
  __m512i rest = _mm512_add_epi32(q, _mm512_srli_epi32(entry, 20));
  x = _mm512_add_epi32(_mm512_mullo_epi32(f, q), rest);
  __mmask16 hungry = _mm512_cmplt_epu32_mask(
      x, _mm512_set1_epi32((int)KS_STATE_LOW));
  __m512i words = _mm512_cvtepu16_epi32(
      _mm256_loadu_si256((const __m256i *)*next));
  words = _mm512_maskz_expand_epi32(hungry, words);
  *state = _mm512_mask_or_epi32(x, hungry, _mm512_slli_epi32(x, 16), words);
  *next += __builtin_popcount(hungry);
  return entry;
}

INLINE __m512i near_class(__m512i value, int32_t threshold) {
  const __m512i zero = _mm512_setzero_si512();
  const __m512i one = _mm512_set1_epi32(1);
  const __m512i most = _mm512_set1_epi32(threshold);
  const __m512i least = _mm512_set1_epi32(-threshold);
  __m512i out = _mm512_set1_epi32(2);
  out = _mm512_mask_add_epi32(out, _mm512_cmpgt_epi32_mask(value, zero), out,
                              one);
  out = _mm512_mask_add_epi32(out, _mm512_cmpgt_epi32_mask(value, most), out,
                              one);
  out = _mm512_mask_sub_epi32(out, _mm512_cmplt_epi32_mask(value, zero), out,
                              one);
  return _mm512_mask_sub_epi32(out, _mm512_cmplt_epi32_mask(value, least), out,
                               one);
}

/* Levels to codes, and the machines one step on. */
INLINE __m512i follow(const ks_job *job, __m512i *machine, __m512i level) {
  const __m512i zero = _mm512_setzero_si512();
  const __m512i one = _mm512_set1_epi32(1);
  __m512i state = *machine;
  __m512i grid = _mm512_sub_epi32(zero, _mm512_and_si512(state, one));
  __m512i odd = _mm512_sub_epi32(zero, _mm512_and_si512(level, one));
  __m512i sign = _mm512_or_si512(
      _mm512_srai_epi32(level, 31),
      _mm512_srli_epi32(_mm512_sub_epi32(zero, level), 31));
  __m512i after = _mm512_srli_epi32(state, 1);
  after = _mm512_xor_si512(
      after, _mm512_and_si512(grid, _mm512_set1_epi32(job->machine_grid)));
  *machine = _mm512_xor_si512(
      after, _mm512_and_si512(odd, _mm512_set1_epi32(job->machine_parity)));
  return _mm512_sub_epi32(_mm512_add_epi32(level, level),
                          _mm512_and_si512(sign, grid));
}

INLINE void store_row(const lanes *all, const __m512i *values, const int kind,
                      const int streamed) {
  for (int v = 0; v < VECTORS; v++) {
    uint8_t *to = all->out + (size_t)(WIDE * v) * ks_size(kind);
    if (kind == KS_INT8) {
      _mm_storeu_si128((__m128i *)to, _mm512_cvtepi32_epi8(values[v]));
    } else if (kind == KS_INT16) {
      _mm256_storeu_si256((__m256i *)to, _mm512_cvtepi32_epi16(values[v]));
    } else if (kind == KS_INT32) {
      _mm512_storeu_si512(to, values[v]);
    } else {
      __m512 scaled =
          _mm512_mul_ps(_mm512_cvtepi32_ps(values[v]), all->scale[v]);
      if (streamed) {
        _mm512_stream_ps((float *)to, scaled);
      } else {
        _mm512_storeu_ps(to, scaled);
      }
    }
  }
}

/* A row with escapes or raw bits: all but its first step, lane by lane. */
INLINE void finish_row(const ks_job *job, ks_block *block, lanes *all,
                       const __m512i *tokens, __m512i *values) {
  uint8_t plain[KS_LANES];
  uint32_t out[KS_LANES];
  for (int v = 0; v < VECTORS; v++) {
    _mm_storeu_si128((__m128i *)(plain + WIDE * v),
                     _mm512_cvtepi32_epi8(tokens[v]));
  }
  store_lanes(all, block);
  ks_finish_apart(job, block, plain, out);
  for (int v = 0; v < VECTORS; v++) {
    all->x[v] = _mm512_loadu_si512(block->x + WIDE * v);
    values[v] = _mm512_loadu_si512(out + WIDE * v);
  }
  all->next = block->next;
}

INLINE void decode_row(const ks_job *job, ks_block *block, const ks_run *run,
                       lanes *all, ks_class_cache *cache, int64_t row,
                       const int kind, const int near, const int machine,
                       const int streamed) {
  const __m512i escape = _mm512_set1_epi32(job->escape);
  const __m512i low = _mm512_set1_epi32(job->low);
  const uint32_t *chosen =
      ks_cached_slots(job, run, run->position + row, KS_LANES, cache);
  __m512i tokens[VECTORS], values[VECTORS];
  __mmask16 escaped = 0;
  for (int v = 0; v < VECTORS; v++) {
    __m512i slots =
        slots_of(job, block, run, all, chosen, row, v, near, machine);
    __m512i entry = step(job->tables, &all->x[v], slots, &all->next);
    tokens[v] = _mm512_and_si512(entry, _mm512_set1_epi32(255));
    escaped |= _mm512_cmpeq_epi32_mask(tokens[v], escape);
    values[v] = _mm512_add_epi32(low, tokens[v]);
  }
  if (job->shift || escaped) finish_row(job, block, all, tokens, values);
  for (int v = 0; v < VECTORS; v++) {
    if (near) {
      uint8_t *to = block->near + (run->first + row) * KS_LANES + WIDE * v;
      __m512i kinds = near_class(values[v], job->near_threshold);
      _mm_storeu_si128((__m128i *)to, _mm512_cvtepi32_epi8(kinds));
    }
    if (machine) values[v] = follow(job, &all->machine[v], values[v]);
  }
  store_row(all, values, kind, streamed);
  all->out += (size_t)job->channels * ks_size(kind);
}

#define KS_KERNEL ks_avx512_kernel
#include "class_rans_rows.h"

#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
#else
typedef int ks_no_avx512;
#endif
