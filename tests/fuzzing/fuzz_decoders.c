/* Fuzz target: every kernel that decodes, called with arbitrary bytes.

   For libFuzzer, or for the driver in driver.c. What Python checks before it
   calls a kernel is made true here; all else comes from the bytes. Kernels for
   several instruction sets must find the same. `models.h` is written by
   tests/fuzzing/kernels.py. */
#include <stdlib.h>

#include "class_rans.h"
#include "context_mixing.h"
#include "models.h"

#define REQUIRE(condition) \
  if (!(condition)) abort()

int ks_rans_lanes_decode(const uint16_t *, int64_t, uint32_t *, int64_t,
                         int64_t, const uint32_t *, int, uint16_t *);
int64_t ks_class_rans_read_tables(const uint8_t *, int64_t, int64_t, int64_t,
                                  int32_t, int32_t, int32_t, const int64_t *,
                                  const int64_t *, int64_t *);
int64_t ks_class_rans_read_exponents(const uint8_t *, int64_t, int64_t, int64_t,
                                     int32_t, int64_t *);
void ks_class_rans_expand(const int64_t *, int64_t, int64_t, uint32_t *);
int ks_class_rans_isa(void);
int ks_class_rans_decode(const ks_job *, int64_t, int64_t, const uint32_t *,
                         const uint8_t *, const uint16_t *, const int64_t *,
                         uint8_t *, int32_t);
int64_t ks_context_mixing(ks_context_mixing_job *);
int LLVMFuzzerTestOneInput(const uint8_t *, size_t);

typedef struct {
  const uint8_t *data;
  size_t left;
} input;

/* A number from 0 to `most`. */
static int64_t take(input *in, int64_t most) {
  int64_t value = 0;
  for (int64_t reach = most; reach > 0 && in->left; reach >>= 8) {
    value = value << 8 | *in->data++;
    in->left--;
  }
  return value % (most + 1);
}

/* What is left, as memory of exactly that size. */
static void *rest_of(input *in, size_t unit, int64_t *count) {
  *count = (int64_t)(in->left / unit);
  void *copy = malloc((size_t)*count * unit + 1);
  memcpy(copy, in->data, (size_t)*count * unit);
  return realloc(copy, *count ? (size_t)*count * unit : 1);
}

static void *room(int64_t count, size_t unit) {
  return calloc((size_t)(count ? count : 1), unit);
}

static uint32_t *some_states(input *in, int64_t count) {
  uint32_t *states = room(count, sizeof *states);
  for (int64_t i = 0; i < count; i++) {
    states[i] = (uint32_t)take(in, 0xFFFFFFFF) | (i % 3 ? 65536 : 1u << 20);
  }
  return states;
}

static void fuzz_rans(input *in) {
  int precision = 1 + (int)take(in, 11);
  int64_t lanes = 1 + take(in, 39), steps = 1 + take(in, 60), words;
  uint32_t total = 1u << precision;
  uint32_t *table = room(total, sizeof *table);
  for (uint32_t at = 0; at < total;) {
    uint32_t share = 1 + (uint32_t)take(in, total - at - 1);
    for (uint32_t i = 0; i < share; i++) table[at + i] = share << 16 | i;
    at += share;
  }
  uint32_t *states = some_states(in, lanes);
  uint16_t *slots = room(lanes * steps, sizeof *slots);
  uint16_t *read = rest_of(in, sizeof *read, &words);
  ks_rans_lanes_decode(read, words, states, lanes, steps, table, precision,
                       slots);
  for (int64_t i = 0; i < lanes * steps; i++) REQUIRE(slots[i] < total);
  free(table);
  free(states);
  free(slots);
  free(read);
}

/* Weights like those of the family: falling, and gone at some distance. */
static void family(int64_t *weights, int64_t *totals) {
  for (int row = 0; row < 1024; row++) {
    totals[row] = 0;
    for (int distance = 0; distance < 256; distance++) {
      int64_t falls = (int64_t)distance * (1024 - row) / 128;
      int64_t weight = falls < 34 ? INT64_C(1) << (34 - falls) : 0;
      weights[row * 256 + distance] = weight;
      totals[row] += distance ? 2 * weight : weight;
    }
  }
}

/* Expanded tables that bytes describe; NULL where they describe none. */
static uint32_t *read_tables(input *in, int64_t count, int plain, int escape) {
  static int64_t weights[1024 * 256], totals[1024];
  if (!totals[0]) family(weights, totals);
  int64_t size, tokens = plain + escape, centre = take(in, plain - 1);
  uint8_t *data = rest_of(in, 1, &size);
  int64_t *found = room(count * tokens, sizeof *found);
  uint32_t *expanded = NULL;
  int64_t end = ks_class_rans_read_tables(data, size, 0, count, plain, escape,
                                          (int32_t)centre, weights, totals,
                                          found);
  if (end >= 0) {
    REQUIRE(end <= 8 * size);
    for (int64_t table = 0; table < count; table++) {
      int64_t sum = 0;
      for (int64_t i = 0; i < tokens; i++) {
        int64_t frequency = found[table * tokens + i];
        REQUIRE(frequency >= 0);
        sum += frequency;
      }
      REQUIRE(sum == 4096);
    }
    expanded = room(count * 4096, sizeof *expanded);
    ks_class_rans_expand(found, count, tokens, expanded);
    in->data += (end + 7) / 8;
    in->left -= (size_t)((end + 7) / 8);
  }
  free(data);
  free(found);
  return expanded;
}

static void fuzz_tables(input *in) {
  int plain = 1 + (int)take(in, 254), escape = (int)take(in, 1);
  free(read_tables(in, 1 + take(in, 7), plain, escape));
}

static void fuzz_exponents(input *in) {
  int64_t count = 1 + take(in, 300), size;
  int64_t *found = room(count, sizeof *found);
  uint8_t *data = rest_of(in, 1, &size);
  ks_class_rans_read_exponents(data, size, 0, count, 511, found);
  free(found);
  free(data);
}

static int32_t *exponents(input *in, int64_t count) {
  int64_t padded = (count + KS_LANES - 1) / KS_LANES * KS_LANES;
  int32_t *found = room(padded, sizeof *found);
  for (int64_t i = 0; i < count; i++) found[i] = (int32_t)take(in, 30) - 15;
  return found;
}

/* What a stream may be, but for its tables; see class_rans_native.make_job. */
static ks_job some_job(input *in, int64_t *tables, int *plain) {
  ks_job job = {.lanes = 1 << take(in, 5), .flat = (int)take(in, 1)};
  job.positions = 1 + take(in, 70);
  job.channels = job.flat ? job.lanes : 1 + take(in, 70);
  job.count = job.channels * job.positions;
  if (job.flat) job.count -= take(in, job.lanes - 1);
  job.rows = (job.channels + job.lanes - 1) / job.lanes * job.positions;
  job.block_rows = 1 + take(in, 90);
  int64_t classes = 1 + take(in, 3);
  job.merge = (int)take(in, 2);
  job.highest = (int32_t)(classes << job.merge) - 1;
  if (take(in, 1)) job.near_distance = 1 + take(in, 9);
  job.near_threshold = 1 + (int)take(in, 40);
  job.machine = (int)take(in, 1);
  /* The machine of four states. */
  job.machine_grid = job.machine ? 2 : 0;
  job.machine_parity = job.machine ? 1 : 0;
  int grids = job.machine ? 2 : 1;
  *tables = classes * grids * (job.near_distance ? 5 : 1);
  job.class_stride = (int32_t)(*tables / classes * 4096);
  job.near_stride = grids * 4096;
  *plain = 1 + (int)take(in, 39);
  job.low = (int)take(in, 300) - 150;
  job.shift = (int)take(in, 8);
  job.escape = take(in, 1) ? *plain : 256;
  job.escape_low = job.low - (int)take(in, 99);
  job.escape_shift = job.escape < 256 ? (int)take(in, 8) : 0;
  job.escape_base = (int32_t)(*tables * 4096);
  job.kind = (int)take(in, KS_KINDS - 1);
  return job;
}

/* Room for two runs of the same, which must write the same. */
static void compare_isas(ks_job *job, const uint32_t *states,
                         const uint8_t *machines, const uint16_t *words,
                         const int64_t *ends, int64_t blocks) {
  int64_t cells = job->positions * job->channels;
  uint8_t *near = room(2 * job->block_rows * KS_LANES, 1);
  void *out[2];
  int damaged[2], isa[2] = {0, ks_class_rans_isa()};
  for (int i = 0; i < 2; i++) {
    job->out = out[i] = room(cells, ks_size(job->kind));
    damaged[i] = ks_class_rans_decode(job, 0, blocks, states, machines, words,
                                      ends, near, isa[i]);
  }
  REQUIRE(damaged[0] == damaged[1]);
  if (!damaged[0]) {
    REQUIRE(!memcmp(out[0], out[1], (size_t)cells * ks_size(job->kind)));
  }
  free(near);
  free(out[0]);
  free(out[1]);
}

static void fuzz_class_rans(input *in) {
  int64_t tables, count, last = 0;
  int plain;
  ks_job job = some_job(in, &tables, &plain);
  int escape = job.escape < 256;
  int32_t *of_channels = exponents(in, job.channels);
  int32_t *of_positions = exponents(in, job.positions);
  int64_t blocks = (job.rows + job.block_rows - 1) / job.block_rows;
  uint32_t *expanded = read_tables(in, tables + escape, plain, escape);
  float *scale = room((job.channels + 31) / 32 * 32, sizeof *scale);
  uint32_t *states = some_states(in, blocks * job.lanes);
  uint8_t *machines = room(blocks * job.lanes, 1);
  int64_t *ends = room(blocks, sizeof *ends);
  for (int64_t i = 0; i < job.channels; i++) scale[i] = (float)(i + 1);
  for (int64_t i = 0; i < blocks; i++) last = ends[i] = last + take(in, 200);
  uint16_t *words = rest_of(in, sizeof *words, &count);
  for (int64_t i = 0; i < blocks; i++) {
    if (ends[i] > count || i == blocks - 1) ends[i] = count;
  }
  if (expanded) {
    job.tables = expanded;
    job.channel_exponents = of_channels;
    job.position_exponents = of_positions;
    job.scale = scale;
    compare_isas(&job, states, machines, words, ends, blocks);
  }
  free(of_channels);
  free(of_positions);
  free(expanded);
  free(scale);
  free(states);
  free(machines);
  free(ends);
  free(words);
}

static void fuzz_context_mixing(input *in) {
  ks_context_mixing_job job = MODELS[take(in, MODEL_COUNT - 1)];
  int64_t size = 1 + take(in, 11), used[2];
  job.taps = 1 + take(in, 3);
  job.width = 1 + take(in, job.taps - 1);
  job.inputs = 1 + take(in, 11);
  job.channels = size;
  job.chains = job.next_states ? 1 + take(in, 3) : 1;
  job.first_channel = (int32_t)take(in, 3);
  int64_t places = job.taps * job.inputs, count = places * size;
  uint8_t *states = room(job.chains, 1);
  job.bytes = rest_of(in, 1, &job.length);
  job.decoding = 1;
  int32_t *levels[2];
  for (int i = 0; i < 2; i++) {
    job.portable = i;
    job.states = job.next_states ? states : NULL;
    memset(states, 0, (size_t)job.chains);
    job.levels = levels[i] = room(count, sizeof(int32_t));
    job.slots = room(model_slots(&job), sizeof *job.slots);
    job.weights = room(SETS * CONTEXTS, sizeof *job.weights);
    job.sums = room(places + 4 * job.inputs + job.taps, sizeof *job.sums);
    job.parts = room((2 * COMPONENTS + 3) * places / 2 + 1, sizeof *job.parts);
    used[i] = ks_context_mixing(&job);
    free(job.slots);
    free(job.weights);
    free(job.sums);
    free(job.parts);
  }
  REQUIRE(used[0] == used[1]);
  REQUIRE(!memcmp(levels[0], levels[1], (size_t)count * sizeof(int32_t)));
  free(levels[0]);
  free(levels[1]);
  free(states);
  free(job.bytes);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  input in = {data, size};
  static void (*const targets[])(input *) = {
      fuzz_rans, fuzz_tables, fuzz_exponents, fuzz_class_rans,
      fuzz_context_mixing};
  targets[take(&in, 4)](&in);
  return 0;
}
