/* The loop over rows and the choice of a kernel, for each instruction set
   anew: included where `lanes`, `load_lanes`, `store_lanes` and `decode_row`
   are defined, and KS_KERNEL is the name of the function that chooses. */

/* Rows of one block, or of two side by side: while the one waits for its
   tables, the other goes on. */
INLINE int64_t decode_rows(const ks_job *shared, ks_block *const *blocks,
                           const ks_run *const *runs, int64_t count,
                           const int two, const int kind, const int near,
                           const int machine, const int streamed) {
  /* A copy that no store can change. */
  const ks_job job = *shared;
  lanes first, second;
  ks_class_cache cache[KS_TOGETHER];
  for (int i = 0; i < KS_TOGETHER; i++) {
    memset(cache[i].known, 0, sizeof cache[i].known);
  }
  load_lanes(&first, &job, blocks[0], runs[0], kind);
  if (two) load_lanes(&second, &job, blocks[1], runs[1], kind);
  int64_t row = 0;
  for (; row < count; row++) {
    if (first.end - first.next < KS_ROW_WORDS) break;
    if (two && second.end - second.next < KS_ROW_WORDS) break;
    decode_row(&job, blocks[0], runs[0], &first, &cache[0], row, kind, near,
               machine, streamed);
    if (!two) continue;
    decode_row(&job, blocks[1], runs[1], &second, &cache[1], row, kind, near,
               machine, streamed);
  }
  store_lanes(&first, blocks[0]);
  if (two) store_lanes(&second, blocks[1]);
  return row;
}

#define KERNEL(NAME, KIND, NEAR, MACHINE)                                    \
  static int64_t NAME(const ks_job *job, ks_block *const *blocks,            \
                      const ks_run *const *runs, int64_t count, int together) { \
    if (together < KS_TOGETHER) {                                            \
      return decode_rows(job, blocks, runs, count, 0, KIND, NEAR, MACHINE, 0); \
    }                                                                        \
    if (KIND == KS_FLOAT32 && ks_is_streamed(job)) {                         \
      return decode_rows(job, blocks, runs, count, 1, KIND, NEAR, MACHINE, 1); \
    }                                                                        \
    return decode_rows(job, blocks, runs, count, 1, KIND, NEAR, MACHINE, 0); \
  }
#define KERNELS(KIND)                 \
  KERNEL(run_##KIND##_00, KIND, 0, 0) \
  KERNEL(run_##KIND##_01, KIND, 0, 1) \
  KERNEL(run_##KIND##_10, KIND, 1, 0) \
  KERNEL(run_##KIND##_11, KIND, 1, 1)
KERNELS(KS_INT8)
KERNELS(KS_INT16)
KERNELS(KS_INT32)
KERNELS(KS_FLOAT32)

#define ROW(KIND) \
  {{run_##KIND##_00, run_##KIND##_01}, {run_##KIND##_10, run_##KIND##_11}}

ks_run_kernel KS_KERNEL(const ks_job *job) {
  static const ks_run_kernel kernels[KS_KINDS][2][2] = {
      ROW(KS_INT8), ROW(KS_INT16), ROW(KS_INT32), ROW(KS_FLOAT32)};
  return kernels[job->kind][job->near_distance != 0][job->machine != 0];
}
