/* libFuzzer for kernels that gcc compiled: what gcc reports at every block
   becomes the counters that libFuzzer looks at. */
#include <stddef.h>
#include <stdint.h>

enum { CELLS = 1 << 16 };

static uint8_t counters[CELLS];
static uintptr_t before;

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerRunDriver(int *count, char ***words,
                        int (*target)(const uint8_t *, size_t));
void __sanitizer_cov_8bit_counters_init(uint8_t *start, uint8_t *stop);
void __sanitizer_cov_trace_pc(void);

__attribute__((no_sanitize_coverage, no_sanitize("all"))) void
__sanitizer_cov_trace_pc(void) {
  uintptr_t here = (uintptr_t)__builtin_return_address(0);
  uintptr_t place = here * UINT64_C(0x9E3779B97F4A7C15) >> 48;
  counters[(place ^ before) & (CELLS - 1)]++;
  before = place >> 1;
}

int main(int count, char **words) {
  __sanitizer_cov_8bit_counters_init(counters, counters + CELLS);
  return LLVMFuzzerRunDriver(&count, &words, LLVMFuzzerTestOneInput);
}
