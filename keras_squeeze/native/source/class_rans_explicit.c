/* The best written-out table of class_rans for each row of counts: the same
   arithmetic as codecs/class_rans_explicit.py. */
#include <math.h>

#include "class_rans.h"
#include "class_rans_sums.h"

enum { KS_STRETCHES = 29, KS_EXACT = 11, KS_FORM_BITS = 6 };

/* Adding it rounds a small float to a whole number, half to even. */
#define KS_ROUNDER 12582912.0f

/* One row of counts on its way. */
typedef struct {
  const int64_t *counts;
  int tokens;
  int mode;
  float ideal[KS_TOKENS];  /* frequencies before rounding */
  float least[KS_TOKENS];  /* 1 where there is a count, else 0 */
  int32_t rounded[KS_TOKENS];
  int64_t frequencies[KS_TOKENS];
} explicit_row;

static void begin_row(explicit_row *row, const int64_t *counts, int tokens) {
  int64_t sum = 0;
  row->counts = counts;
  row->tokens = tokens;
  row->mode = 0;
  for (int i = 0; i < tokens; i++) {
    sum += counts[i];
    if (counts[i] > counts[row->mode]) row->mode = i;
  }
  double factor = (double)KS_TOTAL / (double)sum;
  for (int i = 0; i < tokens; i++) {
    row->ideal[i] = (float)((double)counts[i] * factor);
    row->least[i] = counts[i] > 0;
  }
}

/* Frequencies of so many bits after the leading one, stretched before; says
   what is left for the mode. Whole floats have their bits where a float has
   them, so that rounding those is rounding the number. */
static int32_t stretch_row(explicit_row *row, float stretch, int mantissa) {
  uint32_t half = 0, mask = ~0u;
  if (mantissa < KS_EXACT) {
    half = 1u << (22 - mantissa);
    mask = ~((half << 1) - 1);
  }
  int32_t sum = 0;
  int tokens = row->tokens;
  for (int i = 0; i < tokens; i++) {
    float whole = row->ideal[i] * stretch + KS_ROUNDER - KS_ROUNDER;
    whole = whole > row->least[i] ? whole : row->least[i];
    uint32_t bits;
    memcpy(&bits, &whole, sizeof bits);
    bits = (bits + half) & mask;
    memcpy(&whole, &bits, sizeof whole);
    row->rounded[i] = (int32_t)whole;
    sum += row->rounded[i];
  }
  return (int32_t)KS_TOTAL - (sum - row->rounded[row->mode]);
}

/* The frequencies after the stretch that leaves the mode most nearly what it
   should have; the mode has -1 if none leaves it anything. */
static void round_row(explicit_row *row, const float *stretches, int mantissa) {
  double least = INFINITY, ideal = (double)row->ideal[row->mode];
  int best = 0;
  for (int k = 0; k < KS_STRETCHES; k++) {
    int32_t share = stretch_row(row, stretches[k], mantissa);
    double left = share > 0 ? (double)share : 1e-3;
    double far = left < ideal ? ideal / left : left / ideal;
    if (far < least) {
      least = far;
      best = k;
    }
  }
  int32_t share = stretch_row(row, stretches[best], mantissa);
  for (int i = 0; i < row->tokens; i++) row->frequencies[i] = row->rounded[i];
  row->frequencies[row->mode] = share > 0 ? share : -1;
}

static int bit_length(uint64_t value) {
  int length = 0;
  for (; value; value >>= 1) length++;
  return length;
}

/* The bits that the frequencies of all tokens but the mode take. */
static int64_t size_of(const explicit_row *row, int mantissa) {
  int64_t size = row->tokens - 1;
  int before = 0;
  for (int i = 0; i < row->tokens; i++) {
    if (i == row->mode) continue;
    int length = bit_length((uint64_t)row->frequencies[i]);
    int step = length - before;
    size += step < 0 ? -2 * step - 1 : 2 * step;
    int width = length > 0 ? length - 1 : 0;
    size += width < mantissa ? width : mantissa;
    before = length;
  }
  return size;
}

/* Counts with rare tokens moved to the last one; says how many. */
static int64_t without_rare(const int64_t *counts, int tokens, int64_t *kept) {
  int64_t sum = 0, moved = 0;
  for (int i = 0; i < tokens; i++) sum += counts[i];
  for (int i = 0; i < tokens - 1; i++) {
    int rare = counts[i] < 2 || counts[i] * (2 * (int64_t)KS_TOTAL) < sum;
    kept[i] = rare ? 0 : counts[i];
    if (rare) moved += counts[i];
  }
  int64_t last = counts[tokens - 1] + moved;
  kept[tokens - 1] = last > 1 ? last : 1;
  return moved;
}

/* The logarithm of a number from 1 on, to about 12 digits: no library of
   mathematics is needed for that. */
static double log2_of(double value) {
  double whole = 0, sum = 0;
  while (value >= 65536) {
    value /= 65536;
    whole += 16;
  }
  while (value >= 1.5) {
    value /= 2;
    whole += 1;
  }
  double ratio = (value - 1) / (value + 1), power = ratio;
  for (int k = 1; k < 17; k += 2) {
    sum += power / k;
    power *= ratio * ratio;
  }
  return whole + sum * 2.8853900817779268;
}

/* What no explicit table of these counts can be below. */
static double least_bits(const int64_t *counts, int tokens) {
  double whole = 0, parts = 0;
  for (int i = 0; i < tokens; i++) {
    if (!counts[i]) continue;
    double count = (double)counts[i];
    whole += count;
    parts += count * log2_of(count);
  }
  double entropy = whole * log2_of(whole) - parts;
  /* Below it by more than rounding, here and of lengths, may have added. */
  return entropy - 1e-5 * whole + tokens - 1;
}

/* The best mantissa of a row; says what table and payload take. */
static double fit_row(explicit_row *row, const int64_t *mantissas,
                      int64_t tried, const float *stretches,
                      const double *lengths, int64_t *frequencies,
                      int64_t *size, int64_t *mantissa) {
  double least = INFINITY;
  int64_t fixed = KS_FORM_BITS + bit_length((uint64_t)row->tokens - 1);
  for (int64_t k = 0; k < tried; k++) {
    round_row(row, stretches, (int)mantissas[k]);
    if (row->frequencies[row->mode] < 0) continue;
    int64_t own = fixed + size_of(row, (int)mantissas[k]);
    double bits = (double)own + ks_code_bits(row->counts, row->frequencies,
                                             row->tokens, lengths);
    if (!(bits < least)) continue;
    least = bits;
    *size = own;
    *mantissa = mantissas[k];
    memcpy(frequencies, row->frequencies,
           (size_t)row->tokens * sizeof *frequencies);
  }
  return least;
}

/* Puts explicit tables where they take less than what is there.

   counts: tables x tokens.
   escape: whether the last token is the escape; escaped_bits: what an escaped
       token takes besides.
   mantissas: how exact tables may be, `tried` of them.
   stretches: 29 factors near 1.
   lengths: of frequencies 0..4096.
   frequencies, bits: of the tables that are there, and of the new ones.
   sizes, modes, chosen: of the new ones, written: the bits of the table, its
       mode and its mantissa, which is -1 where the old table stays. */
KS_EXPORT void ks_class_rans_explicit(
    const int64_t *counts, int64_t tables, int32_t tokens, int32_t escape,
    double escaped_bits, const int64_t *mantissas, int64_t tried,
    const float *stretches, const double *lengths, int64_t *frequencies,
    double *bits, int64_t *sizes, int64_t *modes, int64_t *chosen) {
  explicit_row row;
  int64_t kept[KS_TOKENS], found[KS_TOKENS];
  for (int64_t i = 0; i < tables; i++, counts += tokens) {
    const int64_t *own = counts;
    int64_t escaped = 0, any = 0;
    sizes[i] = modes[i] = 0;
    chosen[i] = -1;
    for (int token = 0; token < tokens; token++) any |= counts[token];
    if (!any) continue;
    if (escape) {
      escaped = without_rare(counts, tokens, kept);
      own = kept;
    }
    double extra = (double)escaped * escaped_bits;
    if (least_bits(own, tokens) + extra >= bits[i]) continue;
    begin_row(&row, own, tokens);
    int64_t size = 0, mantissa = 0;
    double all = fit_row(&row, mantissas, tried, stretches, lengths, found,
                         &size, &mantissa) + extra;
    if (!(all < bits[i])) continue;
    bits[i] = all;
    sizes[i] = size;
    modes[i] = row.mode;
    chosen[i] = mantissa;
    memcpy(frequencies + i * tokens, found, (size_t)tokens * sizeof *found);
  }
}
