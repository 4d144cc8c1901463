/* Eight contexts in eight lanes: the same integers as the portable build. */
#include <immintrin.h>

#undef INLINE
#define INLINE inline __attribute__((always_inline, target("avx2")))
#undef APART
#define APART __attribute__((noinline, target("avx2")))
#define SCAN(name) avx2_##name

typedef struct {
  __m256i all;
  uint32_t at[CONTEXTS];
} avx2_places;

static INLINE void avx2_place(avx2_places *places, const int32_t *contexts,
                              const int32_t *starts, int32_t nodes,
                              int decoding) {
  if (decoding) {
    for (int i = 0; i < CONTEXTS; i++)
      places->at[i] = (uint32_t)((contexts[i] + starts[i]) * nodes);
    return;
  }
  __m256i at = _mm256_setr_epi32(contexts[0], contexts[1], contexts[2],
                                 contexts[3], contexts[4], contexts[5],
                                 contexts[6], contexts[7]);
  at = _mm256_add_epi32(at, _mm256_loadu_si256((const __m256i *)starts));
  if (nodes != 1) at = _mm256_mullo_epi32(at, _mm256_set1_epi32(nodes));
  places->all = at;
  _mm256_storeu_si256((__m256i *)places->at, at);
}

/* Two sums whose sum is that of all lanes. */
static INLINE __m128i avx2_half_sum(__m256i x) {
  __m128i sum = _mm_add_epi32(_mm256_castsi256_si128(x),
                              _mm256_extracti128_si256(x, 1));
  return _mm_add_epi32(sum, _mm_shuffle_epi32(sum, 0x4e));
}

static INLINE int32_t avx2_sum(__m256i x) {
  __m128i sum = avx2_half_sum(x);
  return _mm_cvtsi128_si32(_mm_add_epi32(sum, _mm_shuffle_epi32(sum, 0xb1)));
}

static INLINE void avx2_filter(const int32_t *filter, const int32_t *around,
                               int32_t *expected, int32_t *power) {
  __m256i f = _mm256_loadu_si256((const __m256i *)filter);
  __m256i x = _mm256_setr_epi32(around[0], around[1], around[2], around[3],
                                around[4], around[5], around[6], around[7]);
  __m256i low = _mm256_and_si256(x, _mm256_set1_epi32(0xffff));
  f = _mm256_srai_epi32(f, 3);
  *expected = avx2_sum(_mm256_madd_epi16(f, low));
  *power = avx2_sum(_mm256_madd_epi16(x, low));
}

static INLINE void avx2_adapt(int32_t *filter, const int32_t *around,
                              int32_t error, int shift) {
  __m256i f = _mm256_loadu_si256((const __m256i *)filter);
  __m256i x = _mm256_loadu_si256((const __m256i *)around);
  __m256i step = _mm256_mullo_epi32(x, _mm256_set1_epi32(error));
  step = _mm256_sra_epi32(step, _mm_cvtsi32_si128(shift));
  f = _mm256_add_epi32(f, step);
  f = _mm256_min_epi32(f, _mm256_set1_epi32(FILTER_LIMIT));
  f = _mm256_max_epi32(f, _mm256_set1_epi32(-FILTER_LIMIT));
  _mm256_storeu_si256((__m256i *)filter, f);
}

typedef struct {
  __m256i slots, inputs;
  uint32_t *first;
  const uint32_t *at;
} avx2_mixture;

static INLINE void avx2_load(const ks_context_mixing_job *job,
                             uint32_t *slots, const avx2_places *places,
                             avx2_mixture *m, int decoding) {
  m->first = slots;
  m->at = places->at;
  if (!decoding) {
    m->slots = _mm256_i32gather_epi32((const int *)slots, places->all, 4);
    m->inputs = _mm256_i32gather_epi32(
        job->stretch, _mm256_srli_epi32(m->slots, 20), 4);
    return;
  }
  /* A decoder waits for every answer: loads one by one take longer together,
   * but each is there sooner. */
  const uint32_t *at = places->at;
  const int32_t *stretch = job->stretch;
  uint32_t x[CONTEXTS];
  for (int i = 0; i < CONTEXTS; i++) x[i] = slots[at[i]];
  m->slots = _mm256_setr_epi32((int)x[0], (int)x[1], (int)x[2], (int)x[3],
                               (int)x[4], (int)x[5], (int)x[6], (int)x[7]);
  m->inputs = _mm256_setr_epi32(
      stretch[x[0] >> 20], stretch[x[1] >> 20], stretch[x[2] >> 20],
      stretch[x[3] >> 20], stretch[x[4] >> 20], stretch[x[5] >> 20],
      stretch[x[6] >> 20], stretch[x[7] >> 20]);
}

static INLINE uint32_t avx2_mix(const ks_context_mixing_job *job,
                                const int32_t *weights,
                                const avx2_mixture *m) {
  __m256i w = _mm256_loadu_si256((const __m256i *)weights);
  /* Weights of 16 bits in the lower halves, zeros in the upper ones. */
  w = _mm256_srli_epi32(_mm256_slli_epi32(w, 8), 16);
  w = _mm256_madd_epi16(w, m->inputs);
  __m128i dot = avx2_half_sum(w);
  dot = _mm_add_epi32(dot, _mm_shuffle_epi32(dot, 0xb1));
  dot = _mm_srai_epi32(_mm_add_epi32(dot, _mm_set1_epi32(4096)), 13);
  dot = _mm_min_epi32(dot, _mm_set1_epi32(DOMAIN));
  dot = _mm_max_epi32(dot, _mm_set1_epi32(-DOMAIN));
  return (uint32_t)(job->squash + DOMAIN)[_mm_cvtsi128_si32(dot)];
}

static INLINE void avx2_learn(const ks_context_mixing_job *job,
                              int32_t *weights, const avx2_mixture *m, int bit,
                              int32_t error) {
  (void)job;
  __m256i w = _mm256_loadu_si256((const __m256i *)weights);
  __m256i step = _mm256_set1_epi32(error & 0xffff);
  step = _mm256_madd_epi16(m->inputs, step);
  step = _mm256_add_epi32(step, _mm256_set1_epi32(256));
  w = _mm256_add_epi32(w, _mm256_srai_epi32(step, 9));
  w = _mm256_min_epi32(w, _mm256_set1_epi32(8388607));
  w = _mm256_max_epi32(w, _mm256_set1_epi32(-8388607));
  _mm256_storeu_si256((__m256i *)weights, w);

  __m256i flip = _mm256_set1_epi32(bit ? 0xffffff : 0);
  __m256i ages = _mm256_and_si256(m->slots, _mm256_set1_epi32(255));
  /* Exact: the quotients are far from the next integer above them. */
  __m256 divisor = _mm256_cvtepi32_ps(_mm256_add_epi32(
      _mm256_add_epi32(ages, ages), _mm256_set1_epi32(3)));
  __m256i rates = _mm256_cvttps_epi32(
      _mm256_div_ps(_mm256_set1_ps(131072.0f), divisor));
  __m256i p = _mm256_xor_si256(_mm256_srli_epi32(m->slots, 8), flip);
  step = _mm256_mullo_epi32(_mm256_srli_epi32(p, 7), rates);
  p = _mm256_sub_epi32(p, _mm256_srli_epi32(step, 9));
  p = _mm256_slli_epi32(_mm256_xor_si256(p, flip), 8);
  ages = _mm256_sub_epi32(
      ages, _mm256_cmpgt_epi32(_mm256_set1_epi32(255), ages));
  uint32_t after[CONTEXTS];
  _mm256_storeu_si256((__m256i *)after, _mm256_or_si256(p, ages));
  for (int i = 0; i < CONTEXTS; i++) m->first[m->at[i]] = after[i];
}

#include "context_mixing_scan.h"
#undef SCAN

START(avx2)
#ifdef __clang__
#pragma clang attribute push(__attribute__((target("avx2"))), \
                             apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2")
#endif
RUN(avx2)
#ifdef __clang__
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
