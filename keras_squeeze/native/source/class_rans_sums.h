/* Sums of floats that decide sizes, added in the order in which NumPy adds. */
#ifndef KS_CLASS_RANS_SUMS_H
#define KS_CLASS_RANS_SUMS_H

#include <stdint.h>
#include <string.h>

#include "class_rans.h"

/* A product and a sum are rounded apart, as NumPy rounds them. */
#if defined(__clang__)
#pragma STDC FP_CONTRACT OFF
#endif

/* Tokens of a table, the escape and what is no token included. */
enum { KS_TOKENS = 257 };

static double ks_pairwise(const double *a, int64_t count) {
  if (count < 8) {
    double sum = 0;
    for (int64_t i = 0; i < count; i++) sum += a[i];
    return sum;
  }
  if (count > 128) {
    int64_t half = count / 2;
    half -= half % 8;
    return ks_pairwise(a, half) + ks_pairwise(a + half, count - half);
  }
  double r[8];
  int64_t i = 8;
  memcpy(r, a, sizeof r);
  for (; i + 8 <= count; i += 8) {
    for (int k = 0; k < 8; k++) r[k] += a[i + k];
  }
  double sum = ((r[0] + r[1]) + (r[2] + r[3])) + ((r[4] + r[5]) + (r[6] + r[7]));
  for (; i < count; i++) sum += a[i];
  return sum;
}

/* The ideal length of tokens with these counts; `lengths` of frequencies
   0..4096. */
static inline double ks_code_bits(const int64_t *counts,
                                  const int64_t *frequencies, int64_t tokens,
                                  const double *lengths) {
  double products[KS_TOKENS];
  for (int64_t i = 0; i < tokens; i++) {
    int64_t f = frequencies[i] < 0 ? 0 : frequencies[i];
    if (f > KS_TOTAL) f = KS_TOTAL;
    products[i] = counts[i] > 0 ? (double)counts[i] * lengths[f] : 0;
  }
  return ks_pairwise(products, tokens);
}

#endif
