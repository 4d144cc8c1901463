/* Which edges of the instrumented kernels a call took: gcc calls
   `__sanitizer_cov_trace_pc` at every block of -fsanitize-coverage=trace-pc.
   Compiled into the library that is fuzzed. */
#include <stdint.h>
#include <string.h>

enum { CELLS = 1 << 16 };

static uint8_t taken[CELLS], seen[CELLS];
static uintptr_t before;

void __sanitizer_cov_trace_pc(void);
void ks_coverage_begin(void);
int64_t ks_coverage_new(void);
void ks_coverage_forget(void);

__attribute__((no_sanitize_coverage, no_sanitize("all"))) void
__sanitizer_cov_trace_pc(void) {
  uintptr_t here = (uintptr_t)__builtin_return_address(0);
  uintptr_t place = here * UINT64_C(0x9E3779B97F4A7C15) >> 48;
  uint8_t *cell = taken + ((place ^ before) & (CELLS - 1));
  if (*cell < 255) ++*cell;
  before = place >> 1;
}

__attribute__((no_sanitize_coverage)) void ks_coverage_begin(void) {
  memset(taken, 0, sizeof taken);
  before = 0;
}

/* How many edges have not been taken so often, in powers of two, before. */
__attribute__((no_sanitize_coverage, no_sanitize("all"))) int64_t
ks_coverage_new(void) {
  int64_t fresh = 0;
  for (int i = 0; i < CELLS; i += 8) {
    uint64_t eight;
    memcpy(&eight, taken + i, sizeof eight);
    for (int k = i; eight && k < i + 8; k++) {
      uint8_t bucket = 1;
      while (taken[k] >> 1 >= bucket && bucket < 128) bucket *= 2;
      if (!taken[k] || seen[k] & bucket) continue;
      fresh++;
      seen[k] |= bucket;
    }
  }
  return fresh;
}

__attribute__((no_sanitize_coverage)) void ks_coverage_forget(void) {
  memset(seen, 0, sizeof seen);
}
