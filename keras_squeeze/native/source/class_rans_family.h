/* Frequencies of tables that a stream of class_rans names by numbers. */
#ifndef KS_CLASS_RANS_FAMILY_H
#define KS_CLASS_RANS_FAMILY_H

#include "class_rans.h"

enum { KS_DISTANCES = 256 };

/* The frequencies of one table of the family; see family_frequencies in
   codecs/class_rans_table.py. */
static inline void ks_family_row(const int64_t *weights, int64_t total,
                                 int64_t zero, int64_t center, int plain,
                                 int escape, int64_t *out) {
  int64_t whole = 0, sum = 0, room = (int64_t)KS_TOTAL - zero;
  int tokens = plain + escape, largest = 0;
  for (int token = 0; token < plain; token++) {
    int64_t distance = token < center ? center - token : token - center;
    out[token] = weights[distance < KS_DISTANCES ? distance : KS_DISTANCES - 1];
    if (zero && !distance) out[token] = 0;
    whole += out[token];
  }
  if (escape) {
    int64_t left = total - (zero ? weights[0] : 0) - whole;
    out[plain] = left > 0 ? left : 0;
    whole += out[plain];
  }
  if (!whole) {
    for (int token = 0; token < tokens; token++) out[token] = -1;
    return;
  }
  for (int token = 0; token < tokens; token++) {
    out[token] = (out[token] * room + whole / 2) / whole;
  }
  if (escape && out[plain] < 1) out[plain] = 1;
  for (int token = 0; token < tokens; token++) {
    sum += out[token];
    if (out[token] > out[largest]) largest = token;
  }
  out[largest] += room - sum;
  if (zero) out[center] += zero;
}

#endif
