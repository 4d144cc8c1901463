/* Kernels are nearly of low rank: what a channel resembles of the channels
 * before it, by their principal components. Included once for each instruction
 * set, like the scan; the specification is
 * keras_squeeze/codecs/context_mixing_components.py. */

/* A value in 2**-shift, which the filter and the components work with. First
 * clipped so that it stays within 32 bits. */
static INLINE int32_t SCAN(scaled)(const SCAN(scan) * s, int32_t value) {
  int32_t most = s->most_unscaled;
  int32_t x = clip(value >> s->right_shift, -most, most);
  return clip(x * (1 << s->left_shift), -LARGEST_SCALED, LARGEST_SCALED);
}

/* What the components say of a weight, in 1/16. */
static INLINE int32_t SCAN(resembled)(SCAN(scan) * s, int64_t place) {
  const int16_t *parts = s->parts + COMPONENTS * place;
  int32_t sum = 0;
  if (place < 16 || place % 8 == 0)
    for (int j = 0; j < COMPONENTS; j++)
      s->gains[j] = s->ease[j] ? 65536 / (s->ease[j] + (int32_t)place) : 0;
  for (int j = 0; j < COMPONENTS; j++)
    sum += (s->coefficients[j] >> 11) * parts[j];
  return sum >> 10;
}

/* Recursive least squares for components that do not correlate. */
static INLINE void SCAN(learn_coefficients)(SCAN(scan) * s, int64_t place,
                                            int32_t value, int32_t resembled) {
  const int16_t *parts = s->parts + COMPONENTS * place;
  int32_t error = clip(16 * value - resembled, -131071, 131071);
  for (int j = 0; j < COMPONENTS; j++) {
    int32_t step = clip(error * s->gains[j] >> 9, -131072, 131072);
    s->coefficients[j] = clip(s->coefficients[j] + (step * parts[j] >> 6),
                              -67106816, 67106816);
  }
}

static INLINE int64_t SCAN(dot)(const int16_t *a, const int16_t *b,
                                int64_t count) {
  int64_t sum = 0;
  for (int64_t k = 0; k < count; k++) sum += (int32_t)a[k] * b[k];
  return sum;
}

/* How much of a component the rest of a channel holds, in 1/16. */
static INLINE int32_t SCAN(share)(const SCAN(scan) * s,
                                  const int16_t *component) {
  int64_t sum = SCAN(dot)(component, s->rest, s->places);
  int64_t size = (sum < 0 ? -sum : sum) / (s->places << 6);
  if (size > 131071) size = 131071;
  return (int32_t)(sum < 0 ? -size : size);
}

/* Adds `b` times the rest of the channel to `a` times a component, and makes
 * its mean square that of 1024. */
static INLINE void SCAN(turn)(SCAN(scan) * s, int16_t *component, int32_t a,
                              int32_t b) {
  int64_t count = s->places, squares = 0;
  int32_t *turned = s->turned;
  const int16_t *rest = s->rest;
  for (int64_t k = 0; k < count; k++)
    turned[k] = (a * component[k] + b * rest[k]) >> 10;
  for (int64_t k = 0; k < count; k++)
    squares += (int64_t)turned[k] * turned[k];
  int32_t norm = (int32_t)root_of((uint64_t)(squares / count));
  if (norm == 0) return;
  int32_t most = 8 * norm - 1, factor = (1 << 24) / norm;
  for (int64_t k = 0; k < count; k++)
    component[k] = (int16_t)((clip(turned[k], -most, most) * factor) >> 14);
}

static INLINE void SCAN(learn_component)(SCAN(scan) * s, int j) {
  int64_t count = s->places;
  int16_t *component = s->components + j * count, *rest = s->rest;
  int64_t energy = s->energies[j];
  if (energy == 0) {
    for (int64_t k = 0; k < count; k++) component[k] = rest[k];
    SCAN(turn)(s, component, 16384, 0);
  }
  int32_t share = SCAN(share)(s, component);
  s->ages[j]++;
  s->energies[j] += (int64_t)share * share;
  if (energy) {
    int place = highest_bit((uint64_t)energy) - 13;
    int64_t a = place < 0 ? energy << -place : energy >> place;
    int64_t b = (int64_t)share * 16384;
    b = place < 0 ? b * (INT64_C(1) << -place) : b >> place;
    b = b < -131071 ? -131071 : b > 131071 ? 131071 : b;
    SCAN(turn)(s, component, (int32_t)a, (int32_t)b);
    share = SCAN(share)(s, component);
  }
  for (int64_t k = 0; k < count; k++)
    rest[k] = (int16_t)clip(rest[k] - (share * component[k] >> 14),
                            -LARGEST_SCALED, LARGEST_SCALED);
}

/* The fewer weights a coefficient needs, the more of the energy its component
 * holds. */
static INLINE int32_t SCAN(ease)(const SCAN(scan) * s, int j) {
  if (s->ages[j] == 0) return 0;
  int64_t mean = s->energy / s->channels_seen * 256;
  int64_t few = s->channels_seen < s->places ? s->channels_seen : s->places;
  int64_t part = s->energies[j] / s->ages[j] - mean / few;
  if (part < mean / 1024) part = mean / 1024;
  int64_t ease = part ? mean / part : 65535;
  return ease < 4 ? 4 : ease > 65535 ? 65535 : (int32_t)ease;
}

/* Learns from a whole channel. */
static INLINE void SCAN(learn_components)(SCAN(scan) * s,
                                          const int32_t *channel) {
  int64_t count = s->places;
  int16_t *rest = s->rest, *parts = s->parts;
  const int16_t *components = s->components;
  for (int64_t k = 0; k < count; k++)
    rest[k] = (int16_t)SCAN(scaled)(s, channel[k]);
  s->energy += SCAN(dot)(rest, rest, count) / count;
  s->channels_seen++;
  for (int j = 0; j < COMPONENTS && j < s->channels_seen; j++)
    SCAN(learn_component)(s, j);
  for (int j = 0; j < COMPONENTS; j++) s->ease[j] = SCAN(ease)(s, j);
  for (int64_t k = 0; k < count; k++)
    for (int j = 0; j < COMPONENTS; j++)
      parts[COMPONENTS * k + j] = components[j * count + k];
}
