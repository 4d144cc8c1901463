/* What the search for the contexts of class_rans asks of a sample: tokens,
   magnitudes, and how often each token occurs with each table. See
   codecs/class_rans_sample.py for the same in NumPy. */
#include "class_rans.h"

enum { KS_READ_UINT8 = KS_KINDS, KS_PIECE = 256, KS_ROWS = 32, KS_STEPS = 21 };
enum { KS_SETS = 4, KS_FEW_CELLS = 4096 };

/* Elements at even distances, as 32-bit integers; side by side they are read
   at once. */
#define LOAD(TYPE)                                                \
  if (apart == (int64_t)sizeof(TYPE)) {                           \
    const TYPE *beside = (const TYPE *)(const void *)from;        \
    for (int64_t i = 0; i < count; i++) out[i] = beside[i];       \
    return;                                                       \
  }                                                               \
  for (int64_t i = 0; i < count; i++, from += apart) {            \
    out[i] = *(const TYPE *)(const void *)from;                   \
  }                                                               \
  return;

static void load_apart(const char *from, int64_t apart, int64_t count, int kind,
                       int32_t *restrict out) {
  if (kind == KS_INT8) {
    LOAD(int8_t)
  }
  if (kind == KS_READ_UINT8) {
    LOAD(uint8_t)
  }
  if (kind == KS_INT16) {
    LOAD(int16_t)
  }
  LOAD(int32_t)
}

/* Values and tokens of a matrix whose elements are anywhere.

   data, kind, row_bytes, column_bytes: where and what the elements are.
   is_trellis: whether they are codes, whose levels count.
   low, shift, plain: the tokens; `plain` itself stands for others.
   values, tokens: rows x columns, written. */
KS_EXPORT void ks_class_rans_sample(const char *data, int32_t kind,
                                    int64_t row_bytes, int64_t column_bytes,
                                    int64_t rows, int64_t columns,
                                    int32_t is_trellis, int32_t low,
                                    int32_t shift, int32_t plain,
                                    int32_t *values, int16_t *tokens) {
  for (int64_t row = 0; row < rows; row++) {
    load_apart(data + row * row_bytes, column_bytes, columns, kind, values);
    if (is_trellis) {
      for (int64_t i = 0; i < columns; i++) values[i] = ks_level_of(values[i]);
    }
    for (int64_t i = 0; i < columns; i++) {
      uint32_t above = (uint32_t)values[i] - (uint32_t)low;
      uint32_t token = (uint32_t)((int32_t)above >> shift);
      tokens[i] = (int16_t)(token < (uint32_t)plain ? token : (uint32_t)plain);
    }
    values += columns;
    tokens += columns;
  }
}

/* Sums of magnitudes of each column.

   sums: columns, added to. */
KS_EXPORT void ks_class_rans_column_sums(const char *data, int32_t kind,
                                         int64_t row_bytes,
                                         int64_t column_bytes, int64_t rows,
                                         int64_t columns, int64_t *sums) {
  int32_t piece[KS_PIECE], kept[KS_PIECE];
  for (int64_t first = 0; first < columns; first += KS_PIECE) {
    int64_t count = columns - first < KS_PIECE ? columns - first : KS_PIECE;
    const char *from = data + first * column_bytes;
    memset(kept, 0, sizeof kept);
    for (int64_t row = 0; row < rows; row++) {
      load_apart(from + row * row_bytes, column_bytes, count, kind, piece);
      for (int64_t i = 0; i < count; i++) {
        kept[i] += piece[i] < 0 ? -piece[i] : piece[i];
      }
      /* Magnitudes are at most 2**17. */
      if (row % 8192 < 8191 && row < rows - 1) continue;
      for (int64_t i = 0; i < count; i++) sums[first + i] += kept[i];
      memset(kept, 0, sizeof kept);
    }
  }
}

static inline int32_t magnitude(int32_t value) {
  return value < 0 ? -value : value;
}

/* Adds magnitudes of some rows and columns to sums by row and by the exponent
   of the column. Rows side by side are added at once. */
static void add_tile(const char *from, int64_t row_bytes, int64_t column_bytes,
                     int64_t rows, int64_t columns, int kind,
                     const uint8_t *steps, int32_t kept[][KS_ROWS]) {
  int32_t tile[KS_ROWS][KS_PIECE], line[KS_ROWS];
  if (row_bytes < column_bytes) {
    for (int64_t i = 0; i < columns; i++) {
      load_apart(from + i * column_bytes, row_bytes, rows, kind, line);
      for (int64_t row = 0; row < rows; row++) {
        kept[steps[i]][row] += line[row] < 0 ? -line[row] : line[row];
      }
    }
    return;
  }
  for (int64_t row = 0; row < rows; row++) {
    load_apart(from + row * row_bytes, column_bytes, columns, kind, tile[row]);
  }
  for (int64_t i = 0; i < columns; i++) {
    int32_t *into = kept[steps[i]];
    for (int64_t row = 0; row < rows; row++) {
      into[row] += tile[row][i] < 0 ? -tile[row][i] : tile[row][i];
    }
  }
}

/* Sums of magnitudes of each row, apart by the exponent of the column.

   steps: columns, the exponents, 0..20.
   sums: rows x 21, written. */
KS_EXPORT void ks_class_rans_row_sums(const char *data, int32_t kind,
                                      int64_t row_bytes, int64_t column_bytes,
                                      int64_t rows, int64_t columns,
                                      const uint8_t *steps, double *sums) {
  /* Magnitudes are at most 2**17, and columns fewer than 2**13. */
  int32_t kept[KS_STEPS][KS_ROWS];
  for (int64_t first = 0; first < rows; first += KS_ROWS) {
    int64_t count = rows - first < KS_ROWS ? rows - first : KS_ROWS;
    const char *from = data + first * row_bytes;
    memset(kept, 0, sizeof kept);
    for (int64_t at = 0; at < columns; at += KS_PIECE) {
      int64_t width = columns - at < KS_PIECE ? columns - at : KS_PIECE;
      add_tile(from + at * column_bytes, row_bytes, column_bytes, count, width,
               kind, steps + at, kept);
    }
    for (int64_t row = 0; row < count; row++) {
      for (int k = 0; k < KS_STEPS; k++) *sums++ = (double)kept[k][row];
    }
  }
}

/* How sums of exponents become classes, and these cells. */
typedef struct {
  int32_t start;   /* the first sum of the first class */
  int32_t highest; /* the last sum of the last class, counted from there */
  int32_t merge;   /* the logarithm of how many sums share a class */
  uint16_t per_class;
  uint16_t per_near;
} cells_of;

/* The cells of some columns of a row. */
static void cell_row(const cells_of *how, const int16_t *tokens, int32_t of_row,
                     const int16_t *of_columns, int64_t columns,
                     uint16_t *restrict cells) {
  int16_t before = (int16_t)(of_row - how->start);
  int16_t highest = (int16_t)how->highest;
  for (int64_t i = 0; i < columns; i++) {
    int16_t sum = (int16_t)(of_columns[i] + before);
    sum = sum < 0 ? 0 : sum;
    sum = sum > highest ? highest : sum;
    uint16_t class = (uint16_t)(sum >> how->merge);
    cells[i] = (uint16_t)(class * how->per_class + (uint16_t)tokens[i]);
  }
}

/* What neighbours add to the cells, `before` being their values. */
static void near_row(const cells_of *how, const int32_t *before,
                     int32_t threshold, int64_t columns,
                     uint16_t *restrict cells) {
  for (int64_t i = 0; i < columns; i++) {
    uint16_t near = before ? ks_near_class(before[i], threshold) : 2;
    cells[i] = (uint16_t)(cells[i] + near * how->per_near);
  }
}

/* Counts cells in four sets, so that equal ones that follow each other need not
   wait for each other. */
static void count_few(const uint16_t *own, int64_t width, int64_t cells,
                      uint32_t *restrict counters) {
  int64_t i = 0;
  for (; i + KS_SETS <= width; i += KS_SETS) {
    for (int k = 0; k < KS_SETS; k++) {
      if (own[i + k] < cells) counters[k * cells + own[i + k]]++;
    }
  }
  for (; i < width; i++) {
    if (own[i] < cells) counters[own[i]]++;
  }
}

/* Counts tokens by table: (class * 5 + neighbour) * 2 + grid, without the
   factors that are not there.

   tokens, values: rows x columns.
   grids: of each element, or NULL.
   of_rows, of_columns: exponents; their sum says the class.
   start, highest, merge: how it does: see cells_of.
   distance: to the neighbour, or 0; threshold: of its class.
   size, cells: how many cells a table has, and all tables: at most 65536.
   counters: 4 x cells, zeros, and zeros again when done.
   counts: cells, written. */
KS_EXPORT void ks_class_rans_count(
    const int16_t *tokens, const int32_t *values, const uint8_t *grids,
    int64_t rows, int64_t columns, const int16_t *of_rows,
    const int16_t *of_columns, int32_t start, int32_t highest, int32_t merge,
    int64_t distance, int32_t threshold, int64_t size, int64_t cells,
    uint32_t *counters, int64_t *counts) {
  uint16_t own[KS_PIECE];
  int64_t per_near = size * (grids ? 2 : 1);
  cells_of how = {start, highest, merge,
                  (uint16_t)(per_near * (distance ? 5 : 1)),
                  (uint16_t)per_near};
  for (int64_t at = 0; at < rows * columns;) {
    int64_t row = at / columns, first = at % columns;
    int64_t width = columns - first < KS_PIECE ? columns - first : KS_PIECE;
    cell_row(&how, tokens + at, of_rows[row], of_columns + first, width, own);
    if (distance) {
      const int32_t *before = values + at - distance * columns;
      near_row(&how, row < distance ? NULL : before, threshold, width, own);
    }
    for (int64_t i = 0; grids && i < width; i++) {
      own[i] = (uint16_t)(own[i] + grids[at + i] * size);
    }
    if (cells <= KS_FEW_CELLS) {
      count_few(own, width, cells, counters);
    } else {
      for (int64_t i = 0; i < width; i++) {
        if (own[i] < cells) counters[own[i]]++;
      }
    }
    at += width;
  }
  int sets = cells <= KS_FEW_CELLS ? KS_SETS : 1;
  for (int64_t i = 0; i < cells; i++) {
    counts[i] = 0;
    for (int k = 0; k < sets; k++) counts[i] += counters[k * cells + i];
  }
  memset(counters, 0, (size_t)(sets * cells) * sizeof *counters);
}
