/* The codec `context_mixing`: encode and decode one block. */
#include <string.h>

#include "context_mixing.h"


enum { FILTER_LIMIT = 262136 };

static inline int64_t magnitude(int32_t x) { return x < 0 ? -(int64_t)x : x; }

/* Where the slots of each context for signs start. */
static const int32_t SIGN_STARTS[CONTEXTS] = {0,    64,   128,  256,
                                              4352, 5120, 5376, 5632};

static inline uint32_t sign_of(int32_t x) { return x > 0 ? 1 : x < 0 ? 2 : 0; }

static inline int32_t learning_rate(int64_t count) {
  return count < 4000 ? 384 - 16 * (int32_t)(count / 250) : 128;
}

static inline void context_sizes(const ks_context_mixing_job *job,
                                 uint32_t *sizes) {
  uint32_t classes = (uint32_t)job->classes, halves = (classes + 1) / 2;
  sizes[0] = classes;
  sizes[1] = 256;
  sizes[2] = job->sign_mode == 3 ? 512 : classes;
  sizes[3] = job->taps > 1 ? 768 : 256;
  sizes[4] = 16 * halves;
  sizes[5] = (job->sign_mode == 3 ? 12 : 8) * classes;
  sizes[6] = 1;
  int64_t places = job->taps * job->inputs;
  sizes[7] = places < PLACES ? (uint32_t)places : PLACES;
}

/* A slot is a probability of 24 bits and an age of 8. */
static inline uint32_t slot_after(const ks_context_mixing_job *job,
                                  uint32_t slot, int bit) {
  uint32_t age = slot & 255, flip = bit ? 0xffffff : 0;
  uint32_t p = slot >> 8 ^ flip;
  p -= (p >> 7) * (uint32_t)job->rates[age] >> 9;
  if (age < 255) age++;
  return (p ^ flip) << 8 | age;
}

#define INLINE inline __attribute__((always_inline))
#define APART __attribute__((noinline))
#define SCAN(name) portable_##name

typedef struct {
  uint32_t at[CONTEXTS];
} portable_places;

static INLINE void portable_place(portable_places *places,
                                  const int32_t *contexts,
                                  const int32_t *starts, int32_t nodes,
                                  int decoding) {
  (void)decoding;
  for (int i = 0; i < CONTEXTS; i++)
    places->at[i] = (uint32_t)((contexts[i] + starts[i]) * nodes);
}

static INLINE void portable_filter(const int32_t *filter,
                                   const int32_t *around, int32_t *expected,
                                   int32_t *power) {
  for (int i = 0; i < NEIGHBOURS; i++) {
    *expected += (filter[i] >> 3) * around[i];
    *power += around[i] * around[i];
  }
}

static INLINE void portable_adapt(int32_t *filter, const int32_t *around,
                                  int32_t error, int shift) {
  for (int i = 0; i < NEIGHBOURS; i++)
    filter[i] = clip(filter[i] + (error * around[i] >> shift), -FILTER_LIMIT,
                     FILTER_LIMIT);
}

typedef struct {
  uint32_t *slot[CONTEXTS];
  int32_t input[CONTEXTS];
} portable_mixture;

static INLINE void portable_load(const ks_context_mixing_job *job,
                                 uint32_t *slots,
                                 const portable_places *places,
                                 portable_mixture *m, int decoding) {
  (void)decoding;
  for (int i = 0; i < CONTEXTS; i++) {
    m->slot[i] = slots + places->at[i];
    m->input[i] = job->stretch[*m->slot[i] >> 20];
  }
}

static INLINE uint32_t portable_mix(const ks_context_mixing_job *job,
                                    const int32_t *weights,
                                    const portable_mixture *m) {
  int32_t dot = 4096;
  for (int i = 0; i < CONTEXTS; i++) dot += (weights[i] >> 8) * m->input[i];
  return (uint32_t)job->squash[clip(dot >> 13, -DOMAIN, DOMAIN) + DOMAIN];
}

static INLINE void portable_learn(const ks_context_mixing_job *job,
                                  int32_t *weights, const portable_mixture *m,
                                  int bit, int32_t error) {
  for (int i = 0; i < CONTEXTS; i++) {
    int32_t step = (m->input[i] * error + 256) >> 9;
    weights[i] = clip(weights[i] + step, -8388607, 8388607);
    *m->slot[i] = slot_after(job, *m->slot[i], bit);
  }
}

#include "context_mixing_scan.h"
#undef SCAN

/* Where every context that stands for a scale class starts. */
static int32_t prior_class(const ks_context_mixing_job *job, int context,
                           int32_t at) {
  int32_t classes = job->classes, halves = (classes + 1) / 2;
  if (context == 2 && job->sign_mode == 3) return job->mean_class;
  if (context == 0 || context == 2) return at;
  if (context == 1)
    return job->mean_class + 2 * (at / 16) + 2 * (at % 16) - 31;
  if (context == 4) return 2 * (at % halves);
  if (context == 5) return at % classes;
  return job->mean_class;
}

static uint32_t prior_age(const ks_context_mixing_job *job, int context) {
  static const uint32_t ages[CONTEXTS] = {8, 6, 6, 1, 6, 6, 1, 1};
  return context == 2 && job->sign_mode == 3 ? 1 : ages[context];
}

static void start_context(const ks_context_mixing_job *job, int context,
                          uint32_t size, uint32_t *slots) {
  for (uint32_t at = 0; at < size; at++) {
    int32_t scale = prior_class(job, context, (int32_t)at);
    scale = clip(scale, 0, job->classes - 1);
    const uint32_t *prior = job->prior_nodes + (size_t)scale * (size_t)job->nodes;
    for (int32_t node = 0; node < job->nodes; node++)
      *slots++ = prior[node] | prior_age(job, context);
  }
}

#define START(name)                                                           \
  static INLINE void start_##name(name##_scan *s, ks_context_mixing_job *job) {      \
    uint32_t sizes[CONTEXTS];                                                 \
    memset(s, 0, sizeof *s);                                                  \
    s->job = *job;                                                            \
    s->coder = (range_coder){0, UINT64_MAX, 0, job->bytes, 0, job->length};   \
    s->columns = job->sums;                                                   \
    s->inputs = s->columns + job->taps * job->inputs;                         \
    s->kernels = s->inputs + job->inputs;                                     \
    s->taps = s->kernels + job->inputs;                                       \
    memset(job->sums, 0, sizeof(int64_t) * (size_t)(s->taps + job->taps - job->sums)); \
    s->plans = (name##_plan *)(s->taps + job->taps);                          \
    s->total = job->mean * 32;                                                \
    s->total_count = 32;                                                      \
    s->learning_rate = learning_rate(0);                                      \
    if (job->sign_mode == 3) {                                                \
      s->places = job->taps * job->inputs;                                    \
      s->shift = 17 - highest_bit((uint64_t)job->mean);                       \
      s->left_shift = s->shift > 0 ? s->shift : 0;                            \
      s->right_shift = s->shift < 0 ? -s->shift : 0;                          \
      s->most_unscaled = (LARGEST_SCALED >> s->left_shift) + 1;               \
      s->residual = 49152;                                                    \
      s->turned = job->parts;                                                 \
      s->parts = (int16_t *)(s->turned + s->places);                          \
      s->components = s->parts + COMPONENTS * s->places;                      \
      s->rest = s->components + COMPONENTS * s->places;                       \
      memset(s->parts, 0, 2 * sizeof(int16_t) * COMPONENTS * (size_t)s->places); \
    }                                                                         \
    context_sizes(job, sizes);                                                \
    s->node_slots = job->slots;                                               \
    uint32_t *slot = job->slots;                                              \
    for (int i = 0; i < CONTEXTS; i++) {                                      \
      start_context(job, i, sizes[i], slot);                                  \
      slot += (size_t)sizes[i] * (size_t)job->nodes;                          \
      s->first_context[i] =                                                   \
          i ? s->first_context[i - 1] + (int32_t)sizes[i - 1] : 0;            \
    }                                                                         \
    s->half_slots = slot;                                                     \
    memcpy(slot, job->prior_halves, 4 * (size_t)job->classes * (size_t)job->buckets); \
    slot += (size_t)job->classes * (size_t)job->buckets;                      \
    s->sign_slots = slot;                                                     \
    for (int i = 0; i < SIGN_SLOTS; i++) slot[i] = UINT32_C(1) << 31 | 1;     \
    for (int i = 0; i < SETS * CONTEXTS; i++)                                 \
      job->weights[i] = 2097152 / CONTEXTS;                       \
  }

START(portable)

#define RUN(name)                                                             \
  static int64_t encode_##name(ks_context_mixing_job *job) {                  \
    name##_scan s;                                                            \
    start_##name(&s, job);                                                    \
    name##_run(&s, 0);                                                        \
    coder_raw(&s.coder, TERMINATOR, 8, 0);                                    \
    uint64_t last = coder_last(&s.coder);                                     \
    if (last < s.coder.low) coder_carry(&s.coder);                            \
    s.coder.low = last; coder_put(&s.coder);                                  \
    s.coder.low = last << 32; coder_put(&s.coder);                            \
    return s.foreign ? -1 : s.coder.position;                                            \
  }                                                                           \
  static int64_t weigh_##name(ks_context_mixing_job *job,                     \
                              const float *wanted, uint16_t *costs) {         \
    name##_scan s;                                                            \
    start_##name(&s, job);                                                    \
    s.wanted = wanted;                                                        \
    s.costs = costs;                                                          \
    name##_run(&s, 0);                                                        \
    return s.foreign ? -1 : s.coder.position;                                 \
  }                                                                           \
  static int64_t decode_##name(ks_context_mixing_job *job) {                  \
    name##_scan s;                                                            \
    start_##name(&s, job);                                                    \
    s.coder.code = coder_word(&s.coder) << 32;                                \
    s.coder.code |= coder_word(&s.coder);                                     \
    name##_run(&s, 1);                                                        \
    if (coder_raw(&s.coder, 0, 8, 1) != TERMINATOR) return -1;                \
    coder_find_low(&s.coder);                                                 \
    return !s.foreign && s.coder.code == coder_last(&s.coder) - s.coder.low ? s.coder.position : -1; \
  }

RUN(portable)

#if defined(__x86_64__) && defined(__GNUC__)
#include "context_mixing_avx2.h"
#endif

int64_t ks_context_mixing(ks_context_mixing_job *job) {
#if defined(__x86_64__) && defined(__GNUC__)
  if (!job->portable && __builtin_cpu_supports("avx2"))
    return job->decoding ? decode_avx2(job) : encode_avx2(job);
#endif
  return job->decoding ? decode_portable(job) : encode_portable(job);
}

/* What the levels around each weight would cost, while others are coded.
 * `wanted` are the weights in steps, `costs` has room for eight of each. */
int64_t ks_context_mixing_costs(ks_context_mixing_job *job,
                                const float *wanted, uint16_t *costs) {
#if defined(__x86_64__) && defined(__GNUC__)
  if (!job->portable && __builtin_cpu_supports("avx2"))
    return weigh_avx2(job, wanted, costs);
#endif
  return weigh_portable(job, wanted, costs);
}
