/* Viterbi search of trellis-coded quantization.
 *
 * Sixteen chains advance side by side, one a vector lane. Costs are single
 * precision floats that only ever meet additions, multiplications and minima
 * in a fixed order, so the reference in NumPy takes the same decisions.
 */
#include <stddef.h>
#include <stdint.h>

#if defined(__GNUC__)
#define ALWAYS_INLINE static inline __attribute__((always_inline))
#else
#define ALWAYS_INLINE static inline
#endif

enum {
    LANES = 16,
    MAX_STATES = 256,
    WORD_BITS = 32,
    RENORMALIZE_MASK = 15,
    LARGEST_LEVEL = 1 << 16,
    PICK_ZERO = 0,
    PICK_BELOW = 1,
    PICK_NEAR = 2,
    PICK_ABOVE = 3,
    PICKS = 4,
    NO_COST = 65535,
    ERROR_ARGUMENT = -1
};

/* Dearer than any path, and summable twice without leaving float. */
static const float UNREACHABLE = 1e30f;

/* Levels of larger values would not fit codes of 16 bits. */
static const float LARGEST_VALUE = 65536.0f;

/* The two ways into every state. A branch is 2 * grid + parity. */
typedef struct {
    int states;
    uint8_t origin[MAX_STATES][2];
    uint8_t branch[MAX_STATES][2];
} Machine;

/* The results. States are where every chain begins, and then where it ends. */
typedef struct {
    uint8_t *states; /* chains */
    int32_t *codes;  /* steps x chains */
    uint8_t *grids;  /* the same shape */
} Found;

/* One step of all lanes. */
typedef struct {
    float magnitudes[LANES];
    float weights[LANES];
    int32_t rows[LANES]; /* where in the rates each lane's table begins */
    const uint16_t *costs; /* those of the lanes, or NULL where rates serve */
    float cost_unit;
} Lanes;

/* The caller's room for one group of lanes. */
typedef struct {
    uint32_t (*decisions)[LANES]; /* steps x words of states */
    uint8_t (*picks)[LANES];      /* steps */
} Memory;

typedef struct {
    const float *values;      /* steps x chains, in steps of the grid */
    const float *importance;  /* the same shape, or NULL for all ones */
    const uint8_t *classes;   /* the same shape */
    const float *rates;       /* classes x 2 grids x (largest + 1) */
    int64_t steps;
    int64_t chains;
    int32_t class_count;
    int32_t largest;
    const uint16_t *costs; /* instead of rates: steps x chains x 2 x PICKS */
    float cost_unit;
} Problem;

ALWAYS_INLINE int32_t nearest_level(float magnitude, int grid) {
    return (int32_t)((magnitude + (float)grid) * 0.5f);
}

/* What levels cost, for all lanes. A level is `follow` times the magnitude's
 * plus an offset; levels below zero stand for zero. The loop with the look-ups
 * is apart so that the other ones become vectors. */
ALWAYS_INLINE void level_costs(const Lanes *lanes, const float *restrict rates,
                               int32_t largest, int grid, int follow,
                               int offset, float *restrict costs) {
    int32_t places[LANES], points[LANES];
    float looked_up[LANES];
    for (int lane = 0; lane < LANES; lane++) {
        int32_t near = nearest_level(lanes->magnitudes[lane], grid);
        int32_t level = follow * near + offset;
        level = level > 0 ? level : 0;
        places[lane] =
            lanes->rows[lane] + (level < largest ? level : largest);
        points[lane] = 2 * level - (grid & -(level > 0));
    }
    if (lanes->costs) {
        int pick = follow ? PICK_NEAR + offset : PICK_ZERO;
        const uint16_t *known = lanes->costs + PICKS * grid + pick;
        for (int lane = 0; lane < LANES; lane++) {
            int32_t cost = known[2 * PICKS * lane];
            looked_up[lane] = cost == NO_COST
                ? UNREACHABLE : (float)cost * lanes->cost_unit;
        }
    }
    for (int lane = 0; lane < LANES && !lanes->costs; lane++)
        looked_up[lane] = rates[places[lane]];
    for (int lane = 0; lane < LANES; lane++) {
        float error = lanes->magnitudes[lane] - (float)points[lane];
        costs[lane] =
            lanes->weights[lane] * (error * error) + looked_up[lane];
    }
}

/* The cheapest level of both parities of a grid, without branches so that
 * compilers make vectors of it. */
ALWAYS_INLINE void grid_costs(const Lanes *lanes, const float *restrict rates,
                              int32_t largest, int grid, float *restrict even,
                              float *restrict odd, int32_t *restrict picks) {
    float costs[4][LANES];
    level_costs(lanes, rates, largest, grid, 0, 0, costs[PICK_ZERO]);
    level_costs(lanes, rates, largest, grid, 1, -1, costs[PICK_BELOW]);
    level_costs(lanes, rates, largest, grid, 1, 0, costs[PICK_NEAR]);
    level_costs(lanes, rates, largest, grid, 1, 1, costs[PICK_ABOVE]);
    for (int lane = 0; lane < LANES; lane++) {
        float magnitude = lanes->magnitudes[lane];
        int32_t level = nearest_level(magnitude, grid);
        float below = level > 0 ? costs[PICK_BELOW][lane] : UNREACHABLE;
        float above = costs[PICK_ABOVE][lane];
        float near = costs[PICK_NEAR][lane];
        float beside = below < above ? below : above;
        int32_t pick_beside = below < above ? PICK_BELOW : PICK_ABOVE;
        int32_t swap = level & 1;
        float even_cost = swap ? beside : near;
        float odd_cost = swap ? near : beside;
        int32_t pick_even = swap ? pick_beside : PICK_NEAR;
        int32_t pick_odd = swap ? PICK_NEAR : pick_beside;
        float zero = costs[PICK_ZERO][lane];
        even[lane] = zero < even_cost ? zero : even_cost;
        pick_even = zero < even_cost ? PICK_ZERO : pick_even;
        /* A pruned weight stays pruned. */
        odd[lane] = magnitude == 0.0f ? UNREACHABLE : odd_cost;
        picks[lane] |= (pick_even | pick_odd << 2) << 4 * grid;
    }
}

ALWAYS_INLINE void branch_costs(const Problem *problem, int64_t index,
                                float (*restrict branches)[LANES],
                                uint8_t *restrict picks) {
    Lanes lanes;
    int32_t picked[LANES] = {0};
    int32_t row = problem->largest + 1;
    const float *even = problem->rates, *odd = even ? even + row : NULL;
    for (int lane = 0; lane < LANES; lane++) {
        float value = problem->values[index + lane];
        lanes.magnitudes[lane] = value < 0.0f ? -value : value;
        lanes.rows[lane] = 0;
        lanes.weights[lane] = 1.0f;
    }
    lanes.cost_unit = problem->cost_unit;
    lanes.costs = problem->costs ? problem->costs + 2 * PICKS * index : NULL;
    for (int lane = 0; lane < LANES && problem->classes; lane++)
        lanes.rows[lane] = problem->classes[index + lane] * 2 * row;
    if (problem->importance)
        for (int lane = 0; lane < LANES; lane++)
            lanes.weights[lane] = problem->importance[index + lane];
    grid_costs(&lanes, even, problem->largest, 0, branches[0], branches[1],
               picked);
    grid_costs(&lanes, odd, problem->largest, 1, branches[2], branches[3],
               picked);
    for (int lane = 0; lane < LANES; lane++)
        picks[lane] = (uint8_t)picked[lane];
}

/* The level a branch took, from what was picked for it. */
ALWAYS_INLINE int32_t picked_level(float value, int branch, int picks) {
    float magnitude = value < 0.0f ? -value : value;
    int32_t level = nearest_level(magnitude, branch >> 1);
    int pick = picks >> 2 * branch & 3;
    return pick == PICK_ZERO ? 0 : level + pick - PICK_NEAR;
}

/* Add, compare, select: one step of all states of all lanes. */
ALWAYS_INLINE void advance(const Machine *machine,
                           float (*restrict before)[LANES],
                           float (*restrict after)[LANES],
                           float (*restrict branches)[LANES],
                           uint32_t (*restrict decisions)[LANES]) {
    uint32_t taken[LANES] = {0};
    for (int state = 0; state < machine->states; state++) {
        const float *first = before[machine->origin[state][0]];
        const float *second = before[machine->origin[state][1]];
        const float *first_cost = branches[machine->branch[state][0]];
        const float *second_cost = branches[machine->branch[state][1]];
        uint32_t bit = (uint32_t)1 << (state % WORD_BITS);
        for (int lane = 0; lane < LANES; lane++) {
            float a = first[lane] + first_cost[lane];
            float b = second[lane] + second_cost[lane];
            taken[lane] |= bit & (uint32_t)-(b < a);
            after[state][lane] = b < a ? b : a;
        }
        if ((state + 1) % WORD_BITS == 0 || state + 1 == machine->states) {
            for (int lane = 0; lane < LANES; lane++) {
                decisions[state / WORD_BITS][lane] = taken[lane];
                taken[lane] = 0;
            }
        }
    }
}

/* Costs grow without end: only their differences matter. */
ALWAYS_INLINE void renormalize(const Machine *machine,
                               float (*restrict costs)[LANES]) {
    float least[LANES];
    for (int lane = 0; lane < LANES; lane++) least[lane] = costs[0][lane];
    for (int state = 1; state < machine->states; state++)
        for (int lane = 0; lane < LANES; lane++)
            least[lane] = costs[state][lane] < least[lane]
                              ? costs[state][lane] : least[lane];
    for (int state = 0; state < machine->states; state++)
        for (int lane = 0; lane < LANES; lane++)
            costs[state][lane] -= least[lane];
}

/* The lanes go back side by side: their data lies side by side. */
ALWAYS_INLINE void trace_back(const Problem *problem, const Machine *machine,
                              float (*costs)[LANES], int words,
                              int64_t chain, const Memory *memory,
                              const Found *found) {
    int states[LANES] = {0};
    for (int lane = 0; lane < LANES; lane++) {
        for (int other = 1; other < machine->states; other++)
            if (costs[other][lane] < costs[states[lane]][lane])
                states[lane] = other;
        found->states[chain + lane] = (uint8_t)states[lane];
    }
    for (int64_t step = problem->steps - 1; step >= 0; step--) {
        for (int lane = 0; lane < LANES; lane++) {
            int state = states[lane];
            uint32_t word =
                memory->decisions[step * words + state / WORD_BITS][lane];
            int taken = word >> (state % WORD_BITS) & 1;
            int branch = machine->branch[state][taken];
            int64_t index = step * problem->chains + chain + lane;
            float value = problem->values[index];
            int32_t level =
                picked_level(value, branch, memory->picks[step][lane]);
            int32_t code = level ? 2 * level - (branch >> 1) : 0;
            found->codes[index] = value < 0.0f ? -code : code;
            found->grids[index] = (uint8_t)(branch >> 1);
            states[lane] = machine->origin[state][taken];
        }
    }
}

ALWAYS_INLINE void search_lanes(const Problem *problem,
                                const Machine *machine, int64_t chain,
                                const Memory *memory, const Found *found) {
    float costs[2][MAX_STATES][LANES];
    float branches[4][LANES];
    int words = (machine->states + WORD_BITS - 1) / WORD_BITS;
    for (int state = 0; state < machine->states; state++)
        for (int lane = 0; lane < LANES; lane++)
            costs[0][state][lane] =
                state == found->states[chain + lane] ? 0.0f : UNREACHABLE;
    int now = 0;
    for (int64_t step = 0; step < problem->steps; step++) {
        int64_t index = step * problem->chains + chain;
        branch_costs(problem, index, branches, memory->picks[step]);
        advance(machine, costs[now], costs[1 - now], branches,
                memory->decisions + step * words);
        now = 1 - now;
        if ((step & RENORMALIZE_MASK) == RENORMALIZE_MASK)
            renormalize(machine, costs[now]);
    }
    trace_back(problem, machine, costs[now], words, chain, memory, found);
}

typedef void Search(const Problem *, const Machine *, int64_t,
                    const Memory *, const Found *);

static void search_portable(const Problem *problem, const Machine *machine,
                            int64_t chain, const Memory *memory,
                            const Found *found) {
    search_lanes(problem, machine, chain, memory, found);
}

#if defined(__x86_64__) && defined(__GNUC__)
__attribute__((target("avx2"))) static void
search_avx2(const Problem *problem, const Machine *machine, int64_t chain,
            const Memory *memory, const Found *found) {
    search_lanes(problem, machine, chain, memory, found);
}

__attribute__((target("avx512f,avx512bw,avx512vl"))) static void
search_avx512(const Problem *problem, const Machine *machine, int64_t chain,
              const Memory *memory, const Found *found) {
    search_lanes(problem, machine, chain, memory, found);
}
#endif

static Search *fastest_search(void) {
#if defined(__x86_64__) && defined(__GNUC__)
    if (__builtin_cpu_supports("avx512f") &&
        __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512vl"))
        return search_avx512;
    if (__builtin_cpu_supports("avx2")) return search_avx2;
#endif
    return search_portable;
}

/* Inverts the table of the states after each state and parity. */
static int build_machine(const uint8_t *next_states, int32_t states,
                         Machine *machine) {
    uint8_t found[MAX_STATES] = {0};
    machine->states = states;
    for (int state = 0; state < states; state++) {
        for (int parity = 0; parity < 2; parity++) {
            int after = next_states[2 * state + parity];
            if (after >= states || found[after] == 2) return ERROR_ARGUMENT;
            machine->origin[after][found[after]] = (uint8_t)state;
            machine->branch[after][found[after]++] =
                (uint8_t)(2 * (state & 1) + parity);
        }
    }
    return 0;
}

static int valid(const Problem *problem) {
    if (problem->steps < 0 || problem->chains < 0 ||
        problem->chains % LANES || problem->largest < 0 ||
        problem->largest > LARGEST_LEVEL)
        return 0;
    for (int64_t i = 0; i < problem->steps * problem->chains; i++) {
        /* The comparison also refuses NaN. */
        if (!(problem->values[i] >= -LARGEST_VALUE &&
              problem->values[i] <= LARGEST_VALUE))
            return 0;
        if (problem->classes && problem->classes[i] >= problem->class_count)
            return 0;
    }
    return 1;
}

static int search_all(const Problem *problem, const uint8_t *next_states,
                      int32_t states, const Memory *memory,
                      const Found *found) {
    Machine machine;
    if (states < 2 || states > MAX_STATES || !valid(problem))
        return ERROR_ARGUMENT;
    for (int64_t chain = 0; chain < problem->chains; chain++)
        if (found->states[chain] >= states) return ERROR_ARGUMENT;
    if (build_machine(next_states, states, &machine)) return ERROR_ARGUMENT;
    Search *search = fastest_search();
    for (int64_t chain = 0; chain < problem->chains; chain += LANES)
        search(problem, &machine, chain, memory, found);
    return 0;
}

/* Finds the codes of least cost.
 *
 * `chains` is a multiple of 16. The caller gives room: `decisions` for
 * steps * 16 * ceil(states / 32) words, `picks` for steps * 16 bytes.
 * `chain_states` holds the state each chain begins in, then the one it ends
 * in. Returns 0, or -1 for arguments that do not fit together.
 */
int ks_trellis_search(const float *values, const float *importance,
                      const uint8_t *classes, const float *rates,
                      int64_t steps, int64_t chains, int32_t class_count,
                      int32_t largest, const uint8_t *next_states,
                      int32_t states, uint32_t *decisions, uint8_t *picks,
                      uint8_t *chain_states, int32_t *codes,
                      uint8_t *grids) {
    Found found = {chain_states, codes, grids};
    Memory memory = {(void *)decisions, (void *)picks};
    Problem problem = {values, importance, classes, rates, steps, chains,
                       class_count, largest, NULL, 0.0f};
    return search_all(&problem, next_states, states, &memory, &found);
}

/* The same where the cost of every level around each weight is known, in
 * units of `cost_unit`: on either grid of level zero, of the level below the
 * nearest, of the nearest and of that above. 65535 forbids a level. */
int ks_trellis_search_costs(const float *values, const float *importance,
                            const uint16_t *costs, float cost_unit,
                            int64_t steps, int64_t chains,
                            const uint8_t *next_states, int32_t states,
                            uint32_t *decisions, uint8_t *picks,
                            uint8_t *chain_states, int32_t *codes,
                            uint8_t *grids) {
    Found found = {chain_states, codes, grids};
    Memory memory = {(void *)decisions, (void *)picks};
    Problem problem = {values, importance, NULL, NULL, steps, chains,
                       0, 0, costs, cost_unit};
    return search_all(&problem, next_states, states, &memory, &found);
}
