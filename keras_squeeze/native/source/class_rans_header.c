/* Reading the side information of class_rans, bit by bit. What is damaged is
   only noticed here: the Python code says what is wrong. */
#include "class_rans.h"
#include "class_rans_family.h"

enum {
  KS_EXPLICIT,
  KS_NAMED,
  KS_WITH_ZERO,
  KS_SHIFTED,
  KS_MOST_SHIFT = 64,
  KS_MOST_TOKENS = 256
};

/* Bits, the most significant of a byte first. */
typedef struct {
  const uint8_t *data;
  int64_t size; /* in bits */
  int64_t position;
  int damaged;
} bit_reader;

static uint32_t read_bits(bit_reader *reader, int width) {
  uint32_t value = 0;
  if (reader->size - reader->position < width) {
    reader->damaged = 1;
    return 0;
  }
  while (width > 0) {
    int used = (int)(reader->position & 7), here = 8 - used;
    int taken = width < here ? width : here;
    uint32_t byte = reader->data[reader->position >> 3];
    value = value << taken | (byte >> (here - taken) & ((1u << taken) - 1));
    reader->position += taken;
    width -= taken;
  }
  return value;
}

/* So many zeros, and a one; none above `longest`. */
static int32_t read_unary(bit_reader *reader, int32_t longest) {
  for (int32_t zeros = 0; zeros <= longest; zeros++) {
    if (reader->position >= reader->size) break;
    int shift = 7 - (int)(reader->position & 7);
    uint32_t byte = reader->data[reader->position++ >> 3];
    if (byte >> shift & 1) return zeros;
  }
  reader->damaged = 1;
  return 0;
}

static int32_t unzigzag(int32_t value) {
  return value & 1 ? -((value + 1) >> 1) : value >> 1;
}

/* The frequencies of a table that is written out. */
static void read_explicit(bit_reader *reader, int tokens, int64_t *out) {
  int32_t lengths[KS_MOST_TOKENS];
  int mode_bits = 0, length = 0;
  while ((tokens - 1) >> mode_bits) mode_bits++;
  int mantissa = (int)read_bits(reader, 4);
  int mode = (int)read_bits(reader, mode_bits);
  for (int i = 0; i < tokens - 1 && !reader->damaged; i++) {
    length += unzigzag(read_unary(reader, 2 * KS_PRECISION + 1));
    lengths[i] = length;
    reader->damaged |= length < 0 || length > KS_PRECISION;
  }
  if (mode >= tokens) reader->damaged = 1;
  int64_t share = KS_TOTAL;
  for (int i = 0; i < tokens - 1 && !reader->damaged; i++) {
    int below = lengths[i] > 0 ? lengths[i] - 1 : 0;
    int width = below < mantissa ? below : mantissa;
    uint32_t f = read_bits(reader, width) + ((lengths[i] > 0 ? 1u : 0u) << width);
    f <<= below - width;
    share -= f;
    out[i + (i >= mode)] = f;
  }
  if (reader->damaged) return;
  out[mode] = share;
  reader->damaged |= share < 1;
}

/* The frequencies of a table that numbers describe. */
static void read_named(bit_reader *reader, int kind, int plain, int escape,
                       int center, const int64_t *weights,
                       const int64_t *totals, int64_t *out) {
  int64_t zero = kind == KS_WITH_ZERO ? read_bits(reader, KS_PRECISION) : 0;
  int64_t row = read_bits(reader, 10), shift = 0;
  if (kind == KS_SHIFTED) shift = (int64_t)read_bits(reader, 7) - KS_MOST_SHIFT;
  if (kind == KS_WITH_ZERO && !zero) reader->damaged = 1;
  if (reader->damaged) return;
  ks_family_row(weights + row * KS_DISTANCES, totals[row], zero, center + shift,
                plain, escape, out);
  for (int i = 0; i < plain + escape; i++) reader->damaged |= out[i] < 0;
}

/* Reads frequency tables.

   data, size, position: the bits, how many there are, and the first to read.
   count: of tables.
   plain, escape, center: the alphabet, of at most 256 tokens.
   weights, totals: the family.
   out: count x tokens, written.

   Returns the position behind them, or -1 if they are damaged. */
KS_EXPORT int64_t ks_class_rans_read_tables(const uint8_t *data, int64_t size,
                                            int64_t position, int64_t count,
                                            int32_t plain, int32_t escape,
                                            int32_t center,
                                            const int64_t *weights,
                                            const int64_t *totals,
                                            int64_t *out) {
  bit_reader reader = {data, size, position, 0};
  int tokens = plain + escape;
  if (tokens < 1 || tokens > KS_MOST_TOKENS) return -1;
  for (int64_t i = 0; i < count && !reader.damaged; i++, out += tokens) {
    int kind = (int)read_bits(&reader, 2);
    if (kind == KS_EXPLICIT) {
      read_explicit(&reader, tokens, out);
    } else {
      read_named(&reader, kind, plain, escape, center, weights, totals, out);
    }
  }
  return reader.damaged ? -1 : reader.position;
}

/* Reads a list of exponents, as a Rice code.

   data, size, position: as of tables.
   count: of exponents, written to `out`.
   most: how large an exponent may be.

   Returns the position behind them, or -1 if they are damaged. */
KS_EXPORT int64_t ks_class_rans_read_exponents(const uint8_t *data,
                                               int64_t size, int64_t position,
                                               int64_t count, int32_t most,
                                               int64_t *out) {
  bit_reader reader = {data, size, position, 0};
  int width = (int)read_bits(&reader, 3);
  int32_t middle = (int32_t)read_bits(&reader, 8) - 128;
  for (int64_t i = 0; i < count && !reader.damaged; i++) {
    out[i] = (int64_t)read_unary(&reader, most >> width) << width;
  }
  for (int64_t i = 0; i < count && !reader.damaged; i++) {
    int32_t mapped = (int32_t)out[i] + (int32_t)read_bits(&reader, width);
    out[i] = unzigzag(mapped) + middle;
  }
  return reader.damaged ? -1 : reader.position;
}
