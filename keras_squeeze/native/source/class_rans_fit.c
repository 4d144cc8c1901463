/* Fitting the tables of class_rans: what tables and payload take, as
   codecs/class_rans_estimates.py and class_rans_fitting.py have it in NumPy.
   Lengths are multiples of 2**-16, so that their sums are exact. */
#include <math.h>

#include "class_rans.h"
#include "class_rans_family.h"
#include "class_rans_sums.h"

enum { KS_MOST_SUMS = 64 };

/* About 3.4. */
#define KS_EXPLICIT_TOKEN_BITS (222822.0 / 65536)

/* Half to even, as NumPy rounds; of what is not negative and below 2**53. */
static double nearest_even(double value) {
  int64_t below = (int64_t)value;
  double rest = value - (double)below;
  int up = rest > 0.5 || (rest == 0.5 && below % 2);
  return (double)(below + up);
}

/* Counts by distance to a centre; says how far they reach. The distance is
   below 256, `width` of which are written. */
static int64_t fold(const int64_t *counts, int plain, int64_t center,
                    int64_t width, double *folded) {
  int64_t sums[KS_DISTANCES] = {0}, reach = 1;
  for (int token = 0; token < plain; token++) {
    int64_t distance = token < center ? center - token : token - center;
    if (distance >= KS_DISTANCES) distance = KS_DISTANCES - 1;
    sums[distance] += counts[token];
    if (counts[token] && distance >= reach) reach = distance + 1;
  }
  for (int64_t i = 0; i < width; i++) folded[i] = (double)sums[i];
  return reach;
}

/* What one table takes if written out, and if its zeros are; `half_logs` are
   logarithms of 0, 1/2, 1, 3/2, ... */
static void entropy_bits(const int64_t *counts, int64_t size, int64_t total,
                         int64_t zeros, const double *half_logs,
                         double *explicit_bits, double *split) {
  double parts = 0;
  int64_t several = 0, once = 0;
  for (int64_t i = 0; i < size; i++) {
    int64_t count = counts[i];
    if (count) parts += (double)count * half_logs[2 * count];
    several += count > 1;
    once += count == 1;
  }
  double whole = (double)total * half_logs[2 * total];
  double bits = whole - parts;
  bits += 14;
  bits += KS_EXPLICIT_TOKEN_BITS * (double)several;
  bits += 3.0 * (double)once;
  *explicit_bits = bits;
  int64_t twice = 2 * zeros < 1 ? 1 : 2 * zeros;
  if (twice > 2 * total - 1) twice = 2 * total - 1;
  double first = (double)twice / 2;
  double rest = (double)total - first;
  whole -= first * half_logs[twice];
  whole -= rest * half_logs[2 * total - twice];
  *split = whole;
}

/* The distance from the centre that a table's mean suggests. */
static int64_t center_of(const int64_t *counts, int plain, int64_t total,
                         int64_t usual) {
  int64_t weighted = 0;
  for (int i = 0; i < plain; i++) weighted += counts[i] * i;
  double mean = (double)weighted / (double)total;
  double off = mean - (double)usual;
  if (off < 0.5 && off > -0.5) return usual;
  return (int64_t)nearest_even(mean);
}

/* What is asked of all estimates of a tensor. */
typedef struct {
  const double *half_logs; /* of 0, 1/2, 1, 3/2, ...: `known` of them */
  double *explicit_bits;   /* of each table that is used, written, as all: */
  double *split;
  double *folded; /* counts by distance, `plain` of them */
  int64_t *merged; /* room for the tables of one estimate */
  int64_t known;
  int64_t size; /* cells of a table */
  int64_t reach; /* one more than the farthest distance so far */
  int64_t used;  /* tables so far */
  int64_t room;  /* for so many */
  int32_t plain;
  int32_t center;
} ks_estimate;

/* Takes tables into the estimate; says how many there are up to the last one
   used, or -1 if a total has no logarithm. */
static int64_t take_tables(ks_estimate *all, const int64_t *counts,
                           int64_t tables) {
  int64_t last = 0;
  for (int64_t table = 0; table < tables; table++, counts += all->size) {
    int64_t total = 0;
    for (int64_t i = 0; i < all->size; i++) total += counts[i];
    if (!total) continue;
    if (2 * total >= all->known || all->used >= all->room) return -1;
    double *own = all->folded + all->used * all->plain;
    int64_t center = center_of(counts, all->plain, total, all->center);
    int64_t reach = fold(counts, all->plain, center, all->plain, own);
    if (reach > all->reach) all->reach = reach;
    entropy_bits(counts, all->size, total, (int64_t)own[0], all->half_logs,
                 all->explicit_bits + all->used, all->split + all->used);
    all->used++;
    last = table + 1;
  }
  return last;
}

/* Takes tables into the estimate; see `take_tables`. */
KS_EXPORT int64_t ks_class_rans_take(ks_estimate *all, const int64_t *counts,
                                     int64_t tables) {
  return all->size > KS_TOKENS ? -1 : take_tables(all, counts, tables);
}

/* The exponents that most weights have, the least and the greatest; `sums` of
   rows are written. */
static void middle_part(const int64_t *counts, int64_t span, int64_t step,
                        int64_t *sums, int64_t *low, int64_t *high) {
  int64_t total = 0, sum = 0;
  for (int64_t row = 0; row < span; row++) {
    sums[row] = 0;
    for (int64_t i = 0; i < step; i++) sums[row] += *counts++;
    total += sums[row];
  }
  *low = *high = -1;
  for (int64_t row = 0; row < span; row++) {
    sum += sums[row];
    if (*low < 0 && (double)sum >= 0.01 * (double)total) *low = row;
    if (*high < 0 && (double)sum >= 0.99 * (double)total) *high = row;
  }
}

/* Takes the tables of several partitions into scale classes.

   counts: span x per x size, by the sum of exponents.
   most_classes, most_tables: of a partition.
   found: 5 numbers a partition, written: the classes, the merge, the sum where
       they start, the tables used, and those up to the last one used.

   Returns how many partitions there are, at most 3, or -1 if a total has no
   logarithm. */
KS_EXPORT int64_t ks_class_rans_partitions(ks_estimate *all,
                                           const int64_t *counts, int64_t span,
                                           int64_t per, int64_t most_classes,
                                           int64_t most_tables,
                                           int64_t *found) {
  int64_t low, high, partitions = 0, step = per * all->size;
  int64_t sums[KS_MOST_SUMS];
  if (all->size > KS_TOKENS || span > KS_MOST_SUMS) return -1;
  middle_part(counts, span, step, sums, &low, &high);
  for (int merge = 0; merge < 3; merge++) {
    int64_t width = high - low + 1;
    int64_t classes = (width + (1 << merge) - 1) >> merge;
    if (classes > most_classes) classes = most_classes;
    if (classes < 2) break;
    if (classes * per > most_tables) continue;
    /* Rounded down, as Python divides. */
    int64_t spare = width - (classes << merge);
    int64_t start = low + (spare < 0 ? -((1 - spare) / 2) : spare / 2);
    memset(all->merged, 0, (size_t)(classes * step) * sizeof *all->merged);
    for (int64_t row = 0; row < span; row++) {
      if (!sums[row]) continue;
      int64_t place = row - start, most = (classes << merge) - 1;
      place = place < 0 ? 0 : place > most ? most : place;
      int64_t *into = all->merged + (place >> merge) * step;
      for (int64_t i = 0; i < step; i++) into[i] += counts[row * step + i];
    }
    int64_t before = all->used;
    int64_t last = take_tables(all, all->merged, classes * per);
    if (last < 0) return -1;
    int64_t one[] = {classes, merge, start, all->used - before, last};
    memcpy(found + 5 * partitions++, one, sizeof one);
  }
  return partitions;
}

/* Ends an estimate.

   bits: tables x 2 * rows: what each takes under each distribution, zeros
       included, then zeros apart.
   first, used, last: the estimate's first table in `all`, how many there are,
       and how many with the empty ones, which take 2 bits. */
KS_EXPORT double ks_class_rans_estimated(const ks_estimate *all,
                                         const double *bits, int64_t rows,
                                         int64_t first, int64_t used,
                                         int64_t last) {
  double sum = 2 * (double)(last - used);
  bits += first * 2 * rows;
  for (int64_t i = 0; i < used; i++, bits += 2 * rows) {
    double named = bits[0], apart = bits[rows];
    for (int64_t row = 1; row < rows; row++) {
      named = bits[row] < named ? bits[row] : named;
      apart = bits[rows + row] < apart ? bits[rows + row] : apart;
    }
    named += 12;
    double other = apart + all->split[first + i] + 24;
    double least = named < other ? named : other;
    double written = all->explicit_bits[first + i];
    sum += written < least ? written : least;
  }
  return sum;
}

/* What the parametric tables of rows of counts are to be like.

   counts: tables x size, of which `plain` stand for values.
   usual, shifted: tables x 256, written: counts by distance to the usual
       centre and to the one the mean suggests.
   zeros: written, the share of the centre; shifts: how far the mean is off.
   reach: written, how far either reaches. */
KS_EXPORT void ks_class_rans_moments(const int64_t *counts, int64_t tables,
                                     int64_t size, int32_t plain,
                                     int32_t center, int32_t most_shift,
                                     double *usual, double *shifted,
                                     int64_t *zeros, int64_t *shifts,
                                     int64_t *reach) {
  reach[0] = reach[1] = 1;
  for (int64_t table = 0; table < tables; table++, counts += size) {
    int64_t total = 0, weighted = 0;
    for (int i = 0; i < plain; i++) {
      total += counts[i];
      weighted += counts[i] * i;
    }
    double whole = total ? (double)total : 1e-9;
    double mean = total ? nearest_even((double)weighted / whole) : center;
    double shift = mean - center;
    if (shift < -most_shift) shift = -most_shift;
    if (shift > most_shift - 1) shift = most_shift - 1;
    shifts[table] = (int64_t)shift;
    double share = (double)counts[center] / whole;
    double zero = nearest_even(share * KS_TOTAL);
    zeros[table] = (int64_t)(zero < 1 ? 1 : zero > KS_TOTAL - 1 ? KS_TOTAL - 1 : zero);
    int64_t far = fold(counts, plain, center, KS_DISTANCES,
                       usual + table * KS_DISTANCES);
    if (far > reach[0]) reach[0] = far;
    far = fold(counts, plain, center + shifts[table], KS_DISTANCES,
               shifted + table * KS_DISTANCES);
    if (far > reach[1]) reach[1] = far;
  }
}

/* What the payload takes with one table, tokens without a frequency escaped. */
static double payload_bits(const int64_t *counts, const int64_t *frequencies,
                           int64_t tokens, int escape, double escaped_bits,
                           const double *lengths) {
  int64_t kept[KS_TOKENS], escaped = 0;
  for (int64_t i = 0; i < tokens; i++) {
    if (frequencies[i] < 0) return INFINITY;
    int missing = escape && i < tokens - 1 && !frequencies[i];
    kept[i] = missing ? 0 : counts[i];
    if (missing) escaped += counts[i];
  }
  kept[tokens - 1] += escaped;
  double bits = ks_code_bits(kept, frequencies, tokens, lengths);
  return bits + (double)escaped * escaped_bits;
}

/* For each row of counts the best of some tables of the family.

   counts: tables x tokens.
   tried: how many candidates each row has.
   rows, zeros, shifts: tried x tables.
   sizes: of each candidate, the bits it is written in.
   escaped_bits: what an escaped token takes besides.
   weights, totals: the family; lengths: of frequencies 0..4096.
   frequencies: tables x tokens, bits and best: tables; all written. */
KS_EXPORT void ks_class_rans_named(
    const int64_t *counts, int64_t tables, int32_t plain, int32_t escape,
    int32_t center, int64_t tried, const int64_t *rows, const int64_t *zeros,
    const int64_t *shifts, const int64_t *sizes, double escaped_bits,
    const int64_t *weights, const int64_t *totals, const double *lengths,
    int64_t *frequencies, double *bits, int64_t *best) {
  int64_t tokens = plain + escape, found[KS_TOKENS];
  for (int64_t table = 0; table < tables; table++) {
    for (int64_t k = 0; k < tried; k++) {
      int64_t at = k * tables + table, row = rows[at];
      ks_family_row(weights + row * KS_DISTANCES, totals[row], zeros[at],
                 center + shifts[at], plain, escape, found);
      double payload = payload_bits(counts, found, tokens, escape,
                                    escaped_bits, lengths);
      double all = (double)sizes[k] + payload;
      if (k && !(all < bits[table])) continue;
      bits[table] = all;
      best[table] = k;
      memcpy(frequencies, found, (size_t)tokens * sizeof *found);
    }
    counts += tokens;
    frequencies += tokens;
  }
}
