/* Sums of lengths that decide sizes: counts times multiples of 2**-16, so that
   no order of adding rounds anything. */
#ifndef KS_CLASS_RANS_SUMS_H
#define KS_CLASS_RANS_SUMS_H

#include <stdint.h>

#include "class_rans.h"

/* What is not such a sum is rounded step by step, as NumPy rounds it. */
#if defined(__clang__)
#pragma STDC FP_CONTRACT OFF
#endif

/* Tokens of a table, the escape and what is no token included. */
enum { KS_TOKENS = 257 };

/* The ideal length of tokens with these counts; `lengths` of frequencies
   0..4096. */
static inline double ks_code_bits(const int64_t *counts,
                                  const int64_t *frequencies, int64_t tokens,
                                  const double *lengths) {
  double sum = 0;
  for (int64_t i = 0; i < tokens; i++) {
    int64_t f = frequencies[i] < 0 ? 0 : frequencies[i];
    if (f > KS_TOTAL) f = KS_TOTAL;
    if (counts[i] > 0) sum += (double)counts[i] * lengths[f];
  }
  return sum;
}

#endif
