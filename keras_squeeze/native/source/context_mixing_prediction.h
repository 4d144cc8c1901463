/* What surrounds a weight predicts it: the filters. Part of the scan. */
#include "context_mixing_components.h"

static INLINE void SCAN(gather)(const SCAN(scan) * s, SCAN(weight) * w,
                                const int32_t *channel, int64_t index) {
  const ks_context_mixing_job *job = &s->job;
  int64_t inputs = job->inputs, row = job->width * inputs;
  int64_t k = w->place, all = job->taps * inputs;
  w->around[0] = !w->dense && w->left ? channel[k - inputs] : 0;
  w->around[1] = !w->dense && w->up ? channel[k - row] : 0;
  w->around[2] = k > 0 ? channel[k - 1] : 0;
  w->around[3] = index > 0 ? channel[k - all] : 0;
  if (!w->dense && w->left && w->up)
    w->around[4] = channel[k - inputs - row];
  else
    w->around[4] = k > 1 ? channel[k - 2] : 0;
  if (w->sign_mode < 2) return;
  w->around[5] = w->dense && k >= 128 ? channel[k - 128] : 0;
  w->around[6] = index > 1 ? channel[k - 2 * all] : 0;
  w->around[7] = k > 3 ? channel[k - 4] : 0;
}

static INLINE void SCAN(gather_scaled)(SCAN(scan) * s, SCAN(weight) * w,
                                       const int32_t *channel, int64_t index) {
  int64_t all = s->job.taps * s->job.inputs;
  for (int i = 0; i < NEIGHBOURS; i++)
    w->scaled[i] = SCAN(scaled)(s, w->around[i]);
  w->resembled = SCAN(resembled)(s, w->place);
  int32_t resembled = clip(w->resembled >> 4, -LARGEST_SCALED, LARGEST_SCALED);
  if (!w->dense) {
    w->scaled[5] = resembled;
    return;
  }
  w->scaled[0] = resembled;
  if (index > 0 && w->place + 1 < all)
    w->scaled[1] = SCAN(scaled)(s, channel[w->place + 1 - all]);
}

/* The size of a prediction, in 1/16, as a logarithm like that of scales. */
static INLINE int32_t SCAN(log_scaled)(const SCAN(scan) * s, int32_t size) {
  return log_of(s->job.logarithms, (uint64_t)size) + 256 * (6 - s->shift);
}

static INLINE void SCAN(predict)(SCAN(scan) * s, SCAN(weight) * w) {
  int32_t sum = 0;
  SCAN(filter)(s->filter, w->scaled, &sum, &w->power);
  w->expected = w->resembled + (sum >> 9);
  int32_t size = w->expected < 0 ? -w->expected : w->expected;
  if (size)
    w->mean_class =
        clip((SCAN(log_scaled)(s, size) - w->log_scale + 1024) >> 7, 0, 11);
}

/* The size of the prediction, and of its errors, beside the mean. */
static INLINE int32_t SCAN(residual_class)(const SCAN(scan) * s,
                                           const SCAN(weight) * w) {
  int32_t size = w->expected < 0 ? -w->expected : w->expected;
  int32_t error = SCAN(log_scaled)(s, s->residual + 1) - 1024;
  size = SCAN(log_scaled)(s, size + 1) - s->log_mean + 1024;
  return 16 * clip(size >> 6, 0, 31) +
         clip((error - s->log_mean + 1024) >> 7, 0, 15);
}

static INLINE void SCAN(learn_prediction)(SCAN(scan) * s,
                                          const SCAN(weight) * w,
                                          int32_t value) {
  int32_t scaled = SCAN(scaled)(s, value);
  int32_t error = clip(16 * scaled - w->expected, -262143, 262143);
  s->residual += (16 * (error < 0 ? -error : error) - s->residual) >> 4;
  int place = highest_bit((uint64_t)(w->power + 1024));
  int half = (place + 2) >> 1;
  SCAN(adapt)(s->filter, w->scaled, error * 256 >> half, place + 4 - half);
  SCAN(learn_coefficients)(s, w->place, scaled, w->resembled);
}

static INLINE void SCAN(expect)(SCAN(scan) * s, SCAN(weight) * w) {
  w->expected = w->power = w->mean_class = 0;
  if (w->sign_mode == 3) SCAN(predict)(s, w);
  if (w->sign_mode != 2) return;
  SCAN(filter)(s->filter, w->around, &w->expected, &w->power);
  int32_t size = (w->expected < 0 ? -w->expected : w->expected) >> 3;
  if (size == 0) return;
  int32_t ratio = log_of(s->job.logarithms, (uint64_t)size) - w->log_scale;
  w->mean_class = clip((ratio + 1024) >> 7, 0, 7);
}

static INLINE void SCAN(learn_filter)(SCAN(scan) * s, const SCAN(weight) * w,
                                      int32_t value) {
  if (w->power == 0) return;
  int place = highest_bit((uint64_t)(w->power + (s->mean >> 6) + 1));
  /* No neighbour exceeds 2 ** half, so that no product exceeds the error. */
  int half = (place + 2) >> 1;
  int32_t error = (value * 8192 - w->expected) >> half;
  SCAN(adapt)(s->filter, w->around, error, place + 6 - half);
}
