/* What other levels would cost in place of the coded one. Part of the scan.
 *
 * The specification is keras_squeeze/codecs/context_mixing_costs.py; costs
 * are in 1/256 bit, those of a weight on grid 0, then on grid 1: the levels
 * zero, below, nearest and above. */

static INLINE int32_t SCAN(bit_cost)(const ks_context_mixing_job *job,
                                     uint32_t p) {
  return 4096 - log_of(job->logarithms, p);
}

/* The cost of a yes, and of a no, to what a node asks. */
static INLINE void SCAN(node_costs)(SCAN(scan) * s, const SCAN(weight) * w,
                                    int32_t node, int32_t *yes, int32_t *no) {
  SCAN(mixture) mixture;
  node = SCAN(node)(s, w, node);
  SCAN(load)(&s->job, s->node_slots + node, &s->first_slot, &mixture, 0);
  const int32_t *weights = s->job.weights + CONTEXTS * s->job.sets[node];
  uint32_t p = SCAN(mix)(&s->job, weights, &mixture);
  *yes = SCAN(bit_cost)(&s->job, p);
  *no = SCAN(bit_cost)(&s->job, 65536 - p);
}

/* The costs of all buckets from `low` to `high`. */
static INLINE void SCAN(bucket_costs)(SCAN(scan) * s, const SCAN(weight) * w,
                                      int32_t low, int32_t high,
                                      int32_t *costs) {
  int32_t at = s->job.starts[w->odd * s->job.classes + w->scale_class];
  int32_t up, down, yes, no;
  SCAN(node_costs)(s, w, 3 * at, &up, &down);
  for (int32_t bucket = at + 1; bucket <= high; bucket++) {
    yes = no = 0;
    if (bucket < s->job.buckets - 1)
      SCAN(node_costs)(s, w, 3 * bucket + 1, &yes, &no);
    costs[bucket] = up + no;
    up += yes;
  }
  for (int32_t bucket = at; bucket >= low; bucket--) {
    yes = no = 0;
    if (bucket > 0) SCAN(node_costs)(s, w, 3 * bucket + 2, &yes, &no);
    costs[bucket] = down + no;
    down += yes;
  }
}

/* The bucket of a level, the last one for those beyond. */
static INLINE int32_t SCAN(known_bucket)(const SCAN(scan) * s, int32_t level) {
  int32_t bucket = level > 0 ? bucket_of(level) : 0;
  return clip(bucket, 0, s->job.buckets - 1);
}

static INLINE void SCAN(grid_costs)(SCAN(scan) * s, const SCAN(weight) * w,
                                    int32_t nearest, int32_t sign_cost,
                                    uint16_t *out) {
  int32_t costs[MOST_BUCKETS];
  int32_t low = nearest < FAR ? 0 : SCAN(known_bucket)(s, nearest - 1);
  int32_t high = SCAN(known_bucket)(s, nearest + 1);
  SCAN(bucket_costs)(s, w, low, high, costs);
  for (int32_t choice = 0; choice < COST_CHOICES; choice++) {
    int32_t level = choice ? nearest + choice - 2 : 0;
    int32_t cost = LARGEST_COST;
    if (level >= 0 && (level || low == 0)) {
      int32_t bucket = SCAN(known_bucket)(s, level);
      cost = costs[bucket] + (level ? sign_cost : 0);
      if (bucket >= 8) cost += 256 * ((bucket >> 2) - 1);
    }
    out[choice] = (uint16_t)(cost < LARGEST_COST ? cost : LARGEST_COST);
  }
}

static APART void SCAN(costs)(SCAN(scan) * s, const SCAN(weight) * coded,
                        int64_t index) {
  SCAN(weight) w = *coded;
  float value = s->wanted[index];
  float size = value < 0.0f ? -value : value;
  int32_t nearest[2];
  for (int grid = 0; grid < 2; grid++)
    nearest[grid] = (int32_t)((size + (float)grid) * 0.5f);
  int32_t sign_cost = 256;
  if (w.sign_mode) {
    uint32_t level = nearest[1] > 1 ? (uint32_t)nearest[1] : 1;
    SCAN(places) places;
    SCAN(mixture) mixture;
    SCAN(load_sign)(s, &w, level, &places, &mixture, 0);
    uint32_t p = SCAN(mix)(&s->job, s->job.weights, &mixture);
    sign_cost = SCAN(bit_cost)(&s->job, value < 0.0f ? p : 65536 - p);
  }
  for (int grid = 0; grid < 2; grid++) {
    w.odd = grid;
    SCAN(grid_costs)(s, &w, nearest[grid], sign_cost,
                     s->costs + COST_CHOICES * (2 * index + grid));
  }
}
