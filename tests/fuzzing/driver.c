/* A driver for fuzz targets where there is no libFuzzer: gcc alone will do.

       driver FOLDER SECONDS SEED

   Mutates the files of the folder; what takes new edges is mutated further, and
   written there. The input at which a sanitizer ends the process is written to
   FOLDER/crash. */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { MOST_INPUTS = 1 << 16, MOST_BYTES = 2048, MOST_PATH = 4096 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
void __sanitizer_set_death_callback(void (*callback)(void));
void ks_coverage_begin(void);
int64_t ks_coverage_new(void);

typedef struct {
  uint8_t *data;
  size_t size;
} entry;

static entry inputs[MOST_INPUTS], now;
static size_t input_count;
static const char *folder;
static uint64_t random_state;

static uint64_t draw(uint64_t below) {
  random_state ^= random_state << 13;
  random_state ^= random_state >> 7;
  random_state ^= random_state << 17;
  return below ? (random_state * UINT64_C(0x9E3779B97F4A7C15) >> 11) % below : 0;
}

static void save(const char *name) {
  char path[MOST_PATH];
  snprintf(path, sizeof path, "%s/%s", folder, name);
  FILE *file = fopen(path, "wb");
  if (!file) return;
  fwrite(now.data, 1, now.size, file);
  fclose(file);
}

static void save_crash(void) { save("crash"); }

static void keep(void) {
  if (input_count == MOST_INPUTS) return;
  entry *next = &inputs[input_count++];
  next->size = now.size;
  next->data = malloc(now.size + 1);
  memcpy(next->data, now.data, now.size);
}

/* Decodes the present input; says whether it took new edges. */
static int run(void) {
  /* In memory of its own size, so that reading beyond it is seen. */
  uint8_t *copy = malloc(now.size ? now.size : 1);
  memcpy(copy, now.data, now.size);
  ks_coverage_begin();
  LLVMFuzzerTestOneInput(copy, now.size);
  free(copy);
  return ks_coverage_new() > 0;
}

static void change_byte(void) {
  if (!now.size) return;
  /* The first bytes choose most. */
  size_t reach = draw(2) && now.size > 24 ? 24 : now.size;
  uint8_t *at = now.data + draw(reach);
  switch (draw(4)) {
    case 0: *at = (uint8_t)draw(256); break;
    case 1: *at = (uint8_t)(*at ^ 1u << draw(8)); break;
    case 2: *at = (uint8_t)(*at + (draw(2) ? 1 : 255)); break;
    default: *at = draw(2) ? 0 : 255;
  }
}

static void insert(const uint8_t *data, size_t size) {
  if (now.size + size > MOST_BYTES) return;
  size_t at = draw(now.size + 1);
  memmove(now.data + at + size, now.data + at, now.size - at);
  memcpy(now.data + at, data, size);
  now.size += size;
}

static void mutate(void) {
  uint8_t noise[16];
  for (uint64_t rounds = 1 + draw(4); rounds; rounds--) {
    uint64_t kind = draw(12);
    if (kind == 0) {
      now.size = draw(now.size + 1);
    } else if (kind == 1) {
      for (size_t i = 0; i < sizeof noise; i++) noise[i] = (uint8_t)draw(256);
      insert(noise, 1 + draw(sizeof noise));
    } else if (kind == 2) {
      const entry *other = &inputs[draw(input_count)];
      size_t from = draw(other->size + 1), size = draw(other->size - from + 1);
      uint8_t part[MOST_BYTES];
      memcpy(part, other->data + from, size);
      insert(part, size);
    } else {
      change_byte();
    }
  }
}

static void read_folder(void) {
  DIR *open = opendir(folder);
  if (!open) exit(2);
  for (struct dirent *each; (each = readdir(open));) {
    char path[MOST_PATH];
    snprintf(path, sizeof path, "%s/%s", folder, each->d_name);
    FILE *file = each->d_name[0] == '.' ? NULL : fopen(path, "rb");
    if (!file) continue;
    now.size = fread(now.data, 1, MOST_BYTES, file);
    fclose(file);
    run();
    keep();
  }
  closedir(open);
}

int main(int count, char **words) {
  if (count < 4) return 2;
  folder = words[1];
  random_state = strtoull(words[3], NULL, 10) * 2 + 88172645463325253u;
  uint8_t buffer[MOST_BYTES];
  now.data = buffer;
  __sanitizer_set_death_callback(save_crash);
  read_folder();
  if (!input_count) keep();
  time_t end = time(NULL) + atoi(words[2]);
  uint64_t runs = 0, found = 0;
  for (; time(NULL) < end; runs++) {
    const entry *from = &inputs[draw(input_count)];
    now.size = from->size;
    memcpy(now.data, from->data, from->size);
    mutate();
    if (!run()) continue;
    char name[64];
    snprintf(name, sizeof name, "%s-%llu", words[3], (unsigned long long)found++);
    keep();
    save(name);
  }
  printf("%llu inputs, %llu of them took new edges\n", (unsigned long long)runs,
         (unsigned long long)found);
  return 0;
}
