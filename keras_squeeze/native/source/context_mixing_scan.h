/* The scan over one block of levels, included once for each instruction set.
 *
 * The includer defines SCAN(name), the suffix of that set, INLINE and APART,
 * the attributes of its functions, and what is done to eight contexts at
 * once: the types SCAN(places) and SCAN(mixture) and the functions
 * SCAN(place), SCAN(load), SCAN(mix), SCAN(learn), SCAN(filter) and
 * SCAN(adapt). */

/* What is known of a weight before its tap is coded. */
typedef struct {
  int32_t column, second, kernel, neighbours;
} SCAN(plan);

/* Everything that changes while a block is coded. */
typedef struct {
  ks_context_mixing_job job;
  range_coder coder;
  /* Sums of magnitudes: by weight of a channel, by input, by tap, and by
   * input over the taps of this channel. */
  int64_t *columns, *inputs, *taps, *kernels;
  int64_t row, row_count, total, total_count, local;
  int64_t count; /* of weights coded */
  int foreign;   /* whether a value is none of the trellis */
  int32_t learning_rate;
  int32_t filter[NEIGHBOURS];
  uint32_t *node_slots, *half_slots, *sign_slots;
  SCAN(places) first_slot; /* of the nodes' contexts */
  /* Logarithms that hold for a channel, or for a tap of it. */
  int64_t mean;
  int32_t log_mean, log_channels, log_row;
  int32_t first_context[CONTEXTS];
  SCAN(plan) *plans;
  /* The components of the channels so far; empty unless signs need them. */
  int64_t places, channels_seen, energy, energies[COMPONENTS];
  int16_t *components, *parts, *rest;
  int32_t *turned;
  int32_t shift, left_shift, right_shift, most_unscaled, residual;
  int32_t ages[COMPONENTS], ease[COMPONENTS], gains[COMPONENTS];
  int32_t coefficients[COMPONENTS];
  /* Where other levels' costs are asked: what is quantized, and the costs. */
  const float *wanted;
  uint16_t *costs;
} SCAN(scan);

/* One weight: where it is, what surrounds it, what is expected of it. */
typedef struct {
  int64_t place, tap, input; /* place = tap * inputs + input */
  int32_t around[NEIGHBOURS];
  int32_t left, up;   /* whether these neighbours exist */
  /* In 2**-13; with components, all in 2**-4 of what is scaled. */
  int32_t expected, resembled;
  int32_t power; /* of the neighbours */
  int32_t scaled[NEIGHBOURS];
  int32_t log_scale, scale_class, mean_class, odd;
  /* What holds for a whole block: whether there is only one tap, and how
   * signs are coded. */
  int dense, sign_mode;
} SCAN(weight);

#include "context_mixing_prediction.h"

/* Learns from the answer to a question that was predicted with `p`. */
static INLINE void SCAN(learn_bit)(SCAN(scan) * s, int32_t *weights,
                                   const SCAN(mixture) * mixture, uint32_t p,
                                   int bit) {
  int32_t error = ((bit << 16) - (int32_t)p) * s->learning_rate;
  SCAN(learn)(&s->job, weights, mixture, bit, (error + 512) >> 10);
}

/* Codes a bit whose eight slots have been loaded. */
static INLINE int SCAN(bit)(SCAN(scan) * s, range_coder *coder,
                            SCAN(mixture) * mixture, int set, int bit,
                            int decoding) {
  int32_t *weights = s->job.weights + CONTEXTS * set;
  uint32_t p = SCAN(mix)(&s->job, weights, mixture);
  bit = coder_bit(coder, p, bit, decoding);
  SCAN(learn_bit)(s, weights, mixture, p, bit);
  return bit;
}

/* A bit with a single context. */
static INLINE int SCAN(plain_bit)(SCAN(scan) * s, range_coder *coder,
                                  uint32_t *slot, int bit, int decoding) {
  int32_t p = clip((int32_t)(*slot >> 16), 1, 65535);
  bit = coder_bit(coder, (uint32_t)p, bit, decoding);
  *slot = slot_after(&s->job, *slot, bit);
  return bit;
}

/* With a trellis, the first nodes differ between the grids. */
static INLINE int32_t SCAN(node)(const SCAN(scan) * s, const SCAN(weight) * w,
                                 int32_t node) {
  return w->odd && node < 12 ? node + 3 * s->job.buckets : node;
}

static INLINE int SCAN(node_bit)(SCAN(scan) * s, range_coder *coder,
                                 const SCAN(weight) * w, int32_t node, int bit,
                                 int decoding) {
  SCAN(mixture) mixture;
  node = SCAN(node)(s, w, node);
  SCAN(load)(&s->job, s->node_slots + node, &s->first_slot, &mixture, decoding);
  return SCAN(bit)(s, coder, &mixture, s->job.sets[node], bit, decoding);
}

/* Asks on from a bucket, upwards or downwards. */
static INLINE int32_t SCAN(walk)(SCAN(scan) * s, range_coder *coder,
                                 const SCAN(weight) * w, int32_t at, int up,
                                 int32_t bucket, int decoding) {
  int32_t step = up ? 1 : -1, end = up ? s->job.buckets - 1 : 0;
  int32_t kind = up ? 1 : 2;
  while (at != end &&
         SCAN(node_bit)(s, coder, w, 3 * at + kind,
                        bucket * step > at * step, decoding))
    at += step;
  return at;
}

/* Asks upwards or downwards from the likeliest bucket, which is never the
 * last one. */
static INLINE int32_t SCAN(bucket)(SCAN(scan) * s, range_coder *coder,
                                   const SCAN(weight) * w, int32_t bucket,
                                   int decoding) {
  int32_t at = s->job.starts[w->odd * s->job.classes + w->scale_class];
  int up = SCAN(node_bit)(s, coder, w, 3 * at, bucket > at, decoding);
  return SCAN(walk)(s, coder, w, at + up, up, bucket, decoding);
}

static INLINE uint32_t SCAN(level)(SCAN(scan) * s, range_coder *coder,
                                   const SCAN(weight) * w, uint32_t level,
                                   int decoding) {
  const ks_context_mixing_job *job = &s->job;
  int32_t bucket = decoding ? 0 : bucket_of((int32_t)level);
  if (job->top && (int32_t)level == job->top) bucket = job->buckets - 1;
  bucket = SCAN(bucket)(s, coder, w, bucket, decoding);
  if (job->top && bucket == job->buckets - 1) return (uint32_t)job->top;
  uint32_t first = bucket_start(bucket);
  if (bucket < 8) return first;
  uint32_t *half = s->half_slots + w->scale_class * job->buckets + bucket;
  int raw = (bucket >> 2) - 2;
  uint32_t rest = level - first;
  uint32_t upper = (uint32_t)SCAN(plain_bit)(
      s, coder, half, (int)(rest >> raw & 1), decoding);
  rest &= (UINT32_C(1) << raw) - 1;
  if (raw) rest = coder_raw(coder, rest, raw, decoding);
  level = first + (upper << raw) + rest;
  if (job->top && level >= (uint32_t)job->top) s->foreign = 1;
  return level;
}

static INLINE int32_t SCAN(class)(int32_t logarithm, int shift, int32_t count) {
  return clip(logarithm >> shift, 0, count - 1);
}

/* The magnitude of a neighbour beside the mean, in octaves, and its sign. */
static INLINE int32_t SCAN(near_class)(const SCAN(scan) * s, int32_t value) {
  if (value == 0) return 0;
  uint64_t size = 4 * (uint64_t)magnitude(value) + 1;
  int32_t size_class =
      clip((log_of(s->job.logarithms, size) - s->log_mean + 2560) >> 8, 1, 7);
  return 2 * size_class + (value > 0);
}

/* What is known of a tap's weights before the first of them is coded. */
static INLINE void SCAN(plan_tap)(SCAN(scan) * s, const SCAN(weight) * w,
                                  const int32_t *channel, int64_t index) {
  const ks_context_mixing_job *job = &s->job;
  const int32_t *logs = job->logarithms;
  int64_t inputs = job->inputs, first = w->tap * inputs, mean = s->mean;
  int64_t before = job->taps * inputs;
  int32_t tap = log_of(logs, (uint64_t)((s->taps[w->tap] << 10) + 8 * mean)) -
                log_of(logs, (uint64_t)(index * inputs + 8)) - s->log_mean -
                log_of(logs, (uint64_t)(index * job->taps + w->tap + 2));
  int32_t kernel = 768 - s->log_mean - log_of(logs, (uint64_t)(w->tap + 1));
  for (int64_t i = 0; i < inputs; i++) {
    const int32_t *here = channel + first + i;
    SCAN(plan) *plan = s->plans + i;
    plan->column = log_of(logs, (uint64_t)((s->columns[first + i] << 10) +
                                           mean + (mean >> 1))) -
                   s->log_channels;
    if (job->taps == 1) {
      int32_t last = index ? here[-before] : 0;
      uint64_t size = 4 * (uint64_t)magnitude(last) + 1;
      plan->second = plan->column - s->log_mean;
      plan->kernel = 0;
      plan->neighbours =
          2 * SCAN(class)(log_of(logs, size), 6, 128) + (last > 0);
      continue;
    }
    int32_t left = w->left ? here[-inputs] : 0;
    int32_t up = w->up ? here[-job->width * inputs] : 0;
    plan->second =
        tap - s->log_mean +
        log_of(logs, (uint64_t)((s->inputs[i] << 10) + 2 * mean));
    plan->kernel = 15;
    if (w->tap)
      plan->kernel = SCAN(class)(
          log_of(logs, (uint64_t)((s->kernels[i] << 10) + mean)) + kernel, 7,
          16);
    plan->neighbours =
        (SCAN(near_class)(s, left) * 16 + SCAN(near_class)(s, up)) * 3 +
        w->left + w->up;
  }
}

static INLINE void SCAN(set_contexts)(SCAN(scan) * s, SCAN(weight) * w,
                                       int decoding) {
  const ks_context_mixing_job *job = &s->job;
  const SCAN(plan) *plan = s->plans + w->input;
  int32_t classes = job->classes, halves = (classes + 1) / 2;
  if (s->row_count < 32 || s->row_count % 8 == 0)
    s->log_row = log_of(job->logarithms,
                        (uint64_t)((s->row << 10) + 3 * s->mean)) -
                 log_of(job->logarithms, (uint64_t)(s->row_count + 3));
  w->log_scale = s->log_row + plan->column - s->log_mean;
  w->scale_class = SCAN(class)(w->log_scale, 6, classes);
  int32_t kernel = plan->kernel;
  if (w->dense) {
    int64_t two = magnitude(w->around[2]) + magnitude(w->around[4]);
    kernel = SCAN(class)(log_of(job->logarithms, (uint64_t)((two << 9) + 64)) -
                             s->log_mean + 768, 7, 16);
  }
  SCAN(expect)(s, w);
  int32_t second = SCAN(class)(s->log_row + plan->second, 7, halves);
  int32_t row = SCAN(class)(s->log_row - s->log_mean + 1024, 7, 16);
  int32_t column = SCAN(class)(plan->column - s->log_mean + 1024, 7, 16);
  int32_t local = w->sign_mode == 3
      ? SCAN(residual_class)(s, w)
      : SCAN(class)(log_of(job->logarithms, (uint64_t)(s->local + 1)), 6,
                    classes);
  const int32_t contexts[CONTEXTS] = {
      w->scale_class,
      row * 16 + column,
      local,
      plan->neighbours,
      kernel * halves + second,
      w->mean_class * classes + w->scale_class,
      0,
      (int32_t)(w->place & (PLACES - 1)),
  };
  SCAN(place)(&s->first_slot, contexts, s->first_context, job->nodes,
              decoding);
}

static INLINE void SCAN(load_sign)(SCAN(scan) * s, const SCAN(weight) * w,
                                   uint32_t level, SCAN(places) * places,
                                   SCAN(mixture) * mixture, int decoding) {
  const int32_t *near = w->around;
  uint32_t before = sign_of(near[2]), left = sign_of(near[0]);
  uint32_t up = sign_of(near[1]), last = sign_of(near[3]);
  int32_t middle = w->sign_mode == 3 ? 64 : 32, most = middle / 8 - 1;
  uint32_t mean = (uint32_t)(w->expected < 0 ? middle - 4 * w->mean_class
                                             : middle + 4 * w->mean_class);
  uint32_t size = level > (uint32_t)most ? (uint32_t)most : level;
  uint32_t third = !w->dense
                       ? ((uint32_t)w->tap * 9 + left * 3 + up) % 576
                       : last * 3 + before;
  const int32_t contexts[CONTEXTS] = {
      0,
      (int32_t)(before * 9 + left * 3 + up),
      (int32_t)mean,
      (int32_t)w->place & 4095,
      (int32_t)third,
      (int32_t)(mean * 2 + size),
      (int32_t)(before * 27 + last * 9 + left * 3 + up),
      (int32_t)w->input & 1023,
  };
  SCAN(place)(places, contexts, SIGN_STARTS, 1, decoding);
  SCAN(load)(&s->job, s->sign_slots, places, mixture, decoding);
}

static INLINE int SCAN(sign)(SCAN(scan) * s, range_coder *coder,
                             const SCAN(weight) * w, uint32_t level,
                             int negative, int decoding) {
  if (w->sign_mode == 0)
    return (int)coder_raw(coder, (uint32_t)negative, 1, decoding);
  SCAN(places) places;
  SCAN(mixture) mixture;
  SCAN(load_sign)(s, w, level, &places, &mixture, decoding);
  return SCAN(bit)(s, coder, &mixture, 0, negative, decoding);
}

#include "context_mixing_costs.h"


static INLINE void SCAN(add)(SCAN(scan) * s, const SCAN(weight) * w,
                             int64_t size) {
  if (size > LARGEST_COUNTED) size = LARGEST_COUNTED;
  s->row += size;
  s->row_count++;
  s->columns[w->place] += size;
  s->inputs[w->input] += size;
  s->taps[w->tap] += size;
  s->kernels[w->input] += size;
  s->local += ((size << 10) - s->local) >> 3;
}

/* The magnitude of the value that a level stands for. */
static INLINE int32_t SCAN(size)(const ks_context_mixing_job *job,
                                 uint32_t level, int trellis, int odd) {
  if (level == 0) return 0;
  if (!trellis) return (int32_t)level + (job->hole - 1);
  return (int32_t)(2 * level) - odd;
}

static INLINE void SCAN(code)(SCAN(scan) * s, range_coder *coder,
                              SCAN(weight) * w, int32_t *channel,
                              uint8_t *state, int trellis, int decoding) {
  const ks_context_mixing_job *job = &s->job;
  SCAN(set_contexts)(s, w, decoding);
  w->odd = trellis ? *state & 1 : 0;
  if (!decoding && s->costs)
    SCAN(costs)(s, w, channel - job->levels + w->place);
  int32_t value = decoding ? 0 : channel[w->place];
  uint32_t level = (uint32_t)magnitude(value);
  if (trellis) level = (level + (uint32_t)w->odd) >> 1;
  uint32_t hole = level || decoding ? (uint32_t)job->hole - 1 : 0;
  level = SCAN(level)(s, coder, w, level - hole, decoding);
  int32_t size = SCAN(size)(job, level, trellis, w->odd);
  if (!decoding && size != magnitude(value)) s->foreign = 1;
  if (level) {
    int negative = SCAN(sign)(s, coder, w, level, value < 0, decoding);
    value = negative ? -size : size;
  }
  if (decoding) channel[w->place] = level ? value : 0;
  if (trellis) *state = job->next_states[2 * *state + (level & 1)];
  if (w->sign_mode == 2) SCAN(learn_filter)(s, w, level ? value : 0);
  if (w->sign_mode == 3) SCAN(learn_prediction)(s, w, level ? value : 0);
  SCAN(add)(s, w, size);
  s->count++;
  s->learning_rate = learning_rate(s->count);
}

static INLINE void SCAN(begin_channel)(SCAN(scan) * s, int64_t index) {
  const ks_context_mixing_job *job = &s->job;
  s->mean = s->total / s->total_count;
  if (s->mean < 1) s->mean = 1;
  s->log_mean = log_of(job->logarithms, (uint64_t)s->mean);
  s->log_channels =
      log_of(job->logarithms, (uint64_t)(2 * index + 3)) - 256;
  s->row = s->row_count = 0;
  s->local = s->mean;
  for (int64_t i = 0; i < job->inputs; i++) s->kernels[i] = 0;
  for (int j = 0; j < COMPONENTS; j++) s->coefficients[j] = 0;
}

static INLINE void SCAN(variant)(SCAN(scan) * s, int trellis, int dense,
                                 int sign_mode, int decoding) {
  const ks_context_mixing_job *job = &s->job;
  int64_t inputs = job->inputs;
  /* Its own copy, so that it stays in registers. */
  range_coder coder = s->coder;
  SCAN(weight) w = {.dense = dense, .sign_mode = sign_mode};
  for (int64_t index = 0; index < job->channels; index++) {
    int32_t *channel = job->levels + index * job->taps * inputs;
    uint8_t *state = trellis
        ? job->states + (job->first_channel + index) % job->chains : NULL;
    SCAN(begin_channel)(s, index);
    for (w.tap = 0; w.tap < job->taps; w.tap++) {
      w.left = !dense && w.tap % job->width != 0;
      w.up = !dense && w.tap >= job->width;
      SCAN(plan_tap)(s, &w, channel, index);
      for (w.input = 0; w.input < inputs; w.input++) {
        w.place = w.tap * inputs + w.input;
        SCAN(gather)(s, &w, channel, index);
        if (sign_mode == 3) SCAN(gather_scaled)(s, &w, channel, index);
        SCAN(code)(s, &coder, &w, channel, state, trellis, decoding);
      }
    }
    if (sign_mode == 3) SCAN(learn_components)(s, channel);
    s->total += s->row << 10;
    s->total_count += s->row_count;
  }
  s->coder = coder;
}

/* Decoding without a trellis is compiled apart, free of what it does not
 * need. */
static INLINE void SCAN(run)(SCAN(scan) * s, int decoding) {
  int trellis = s->job.next_states != NULL, dense = s->job.taps == 1;
  if (decoding && !trellis)
    SCAN(variant)(s, 0, dense, s->job.sign_mode, 1);
  else
    SCAN(variant)(s, trellis, dense, s->job.sign_mode, decoding);
}
