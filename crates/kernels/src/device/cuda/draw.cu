// The draw of a token from logits, as crates/sampling draws it: the race of exponential numbers from a ChaCha stream, over
// the tokens that top-k, top-p and min-p keep; with the log-sum-exp of all logits and of the terminators.
//
// A row is cut into parts, whose results the last kernel joins in order. Sums are float64.

#include "elements.cuh"

constexpr uint32_t DRAW_THREADS = 256;
constexpr uint32_t DRAW_BINS = 16;

// Settings of a row, in words; numbers of float64 are two words each, the lower first.
enum DrawWord : uint32_t {
    DRAW_KEY = 0, // 8
    DRAW_STREAM = 8,
    DRAW_INVERSE_TEMPERATURE = 10,
    DRAW_TOP_P = 12, // at least 1: none
    DRAW_MIN_P = 14, // 0: none
    DRAW_TOP_K = 16, // 0: none
    DRAW_GREEDY = 17,
    DRAW_TERMINATORS = 18, // the first one's place in the list, and their number
    DRAW_WORDS = 20,
};

// Results of the parts of a row.
enum DrawPart : uint32_t {
    PART_LARGEST = 0,
    PART_LARGEST_ID = 1,
    PART_SUM = 2,     // of e^(logit - largest)
    PART_BROKEN = 3,  // the first token whose logit is NaN or +inf; -1: none
    PART_ARRIVAL = 4, // of the part's winner
    PART_WINNER = 5,
    PART_FIELDS = 6,
};

struct Draw {
    const float* logits;       // (rows, vocabulary), not capped yet
    const uint32_t* settings;  // (rows, DRAW_WORDS)
    const uint32_t* terminators;
    double* parts;             // (rows, parts, PART_FIELDS)
    uint64_t* bars;            // (rows): the lowest rank that is kept
    double* drawn;             // (rows, 6): token, its logit, log-sum-exp, that of the terminators, broken token, its logit
    uint32_t vocabulary;
    uint32_t count; // of parts
    uint32_t each;  // tokens of a part: a multiple of 8
    float cap;      // 0: none
};

__device__ __forceinline__ double double_of(const uint32_t* words) {
    uint64_t bits = uint64_t(words[1]) << 32 | words[0];
    double value;
    memcpy(&value, &bits, 8);
    return value;
}

// Ranks of tokens: by logit, and by id where two tie, the smaller one higher.
__device__ __forceinline__ uint64_t rank_of(float logit, uint32_t id) {
    float value = logit + 0.0f; // 0 for -0
    uint32_t bits;
    memcpy(&bits, &value, 4);
    bits = bits >> 31 ? ~bits : bits | 0x80000000u;
    return uint64_t(bits) << 32 | uint32_t(~id);
}

__device__ __forceinline__ uint32_t rotated(uint32_t value, int bits) { return value << bits | value >> (32 - bits); }

__device__ __forceinline__ void quarter_round(uint32_t& a, uint32_t& b, uint32_t& c, uint32_t& d) {
    d = rotated(d ^ (a += b), 16);
    b = rotated(b ^ (c += d), 12);
    d = rotated(d ^ (a += b), 8);
    b = rotated(b ^ (c += d), 7);
}

// Block `index` of the ChaCha8 stream of a row: eight numbers of 64 bits, one for each of eight neighbouring ids.
__device__ __forceinline__ void chacha8(const uint32_t* settings, uint64_t index, uint32_t (&out)[16]) {
    uint32_t x[16] = {0x61707865u, 0x3320646eu, 0x79622d32u, 0x6b206574u};
#pragma unroll
    for (int i = 0; i < 8; ++i) {
        x[4 + i] = settings[DRAW_KEY + i];
    }
    x[12] = uint32_t(index);
    x[13] = uint32_t(index >> 32);
    x[14] = settings[DRAW_STREAM];
    x[15] = settings[DRAW_STREAM + 1];
#pragma unroll
    for (int i = 0; i < 16; ++i) {
        out[i] = x[i];
    }
#pragma unroll
    for (int round = 0; round < 4; ++round) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
            quarter_round(x[i], x[4 + i], x[8 + i], x[12 + i]);
        }
#pragma unroll
        for (int i = 0; i < 4; ++i) {
            quarter_round(x[i], x[4 + (i + 1) % 4], x[8 + (i + 2) % 4], x[12 + (i + 3) % 4]);
        }
    }
#pragma unroll
    for (int i = 0; i < 16; ++i) {
        out[i] += x[i];
    }
}

// The largest logit of a row, and its id.
__device__ __forceinline__ void largest_of(const Draw& a, uint64_t row, float& largest, uint32_t& id) {
    const double* part = a.parts + row * a.count * PART_FIELDS;
    largest = -INFINITY;
    id = 0;
    for (uint32_t i = 0; i < a.count; ++i, part += PART_FIELDS) {
        if (part[PART_LARGEST] > largest) {
            largest = float(part[PART_LARGEST]);
            id = uint32_t(part[PART_LARGEST_ID]);
        }
    }
}

// A block for each part of each row: what the other kernels need of the logits.
KERNEL(draw_survey, Draw, DRAW_THREADS) {
    const Draw& a = arguments;
    DECLARED_SHARED(float, maxima, [DRAW_THREADS]);
    DECLARED_SHARED(double, sums, [DRAW_THREADS]);
    DECLARED_SHARED(uint32_t, ids, [DRAW_THREADS]);
    DECLARED_SHARED(uint32_t, broken, [DRAW_THREADS]);
    const float* logits = a.logits + uint64_t(blockIdx.y) * a.vocabulary;
    uint32_t first = blockIdx.x * a.each, last = a.vocabulary - first < a.each ? a.vocabulary : first + a.each;
    float largest = -INFINITY;
    uint32_t id = 0xffffffffu, bad = 0xffffffffu;
    for (uint32_t i = first + threadIdx.x; i < last; i += DRAW_THREADS) {
        float logit = capped(logits[i], a.cap);
        if (!(logit < INFINITY) && bad == 0xffffffffu) {
            bad = i;
        }
        if (logit > largest) {
            largest = logit;
            id = i;
        }
    }
    maxima[threadIdx.x] = largest;
    ids[threadIdx.x] = id;
    broken[threadIdx.x] = bad;
    __syncthreads();
    for (uint32_t i = 0; i < DRAW_THREADS; ++i) {
        if (maxima[i] > largest || (maxima[i] == largest && ids[i] < id)) {
            largest = maxima[i];
            id = ids[i];
        }
        bad = broken[i] < bad ? broken[i] : bad;
    }
    double sum = 0;
    for (uint32_t i = first + threadIdx.x; i < last && largest > -INFINITY; i += DRAW_THREADS) {
        sum += double(expf(capped(logits[i], a.cap) - largest));
    }
    sums[threadIdx.x] = sum;
    __syncthreads();
    if (threadIdx.x != 0) {
        return;
    }
    for (uint32_t i = 1; i < DRAW_THREADS; ++i) {
        sum += sums[i];
    }
    double* part = a.parts + (uint64_t(blockIdx.y) * a.count + blockIdx.x) * PART_FIELDS;
    part[PART_LARGEST] = largest;
    part[PART_LARGEST_ID] = id;
    part[PART_SUM] = sum;
    part[PART_BROKEN] = bad == 0xffffffffu ? -1.0 : double(bad);
}

struct Search {
    const float* logits;
    uint32_t vocabulary;
    float cap;
    float largest;
    double inverse_temperature;
};

// Weights and numbers of tokens by a digit of their rank: of each thread, then of 16, then of all.
struct Tally {
    double* weights; // (DRAW_BINS, DRAW_THREADS), shared
    uint32_t* counts;
};

__device__ __forceinline__ double weight_of(float logit, float largest, double inverse_temperature) {
    return exp(double(logit - largest) * inverse_temperature);
}

// Weight and number of the tokens of rank `bar` and above by the digit of four bits from bit `shift` on, among those that
// agree with `prefix` above it; all threads get them, added in one order.
__device__ __forceinline__ void tally(const Search& s, const Tally& shared, uint64_t bar, uint64_t prefix, int shift,
                                      double (&weights)[DRAW_BINS], uint32_t (&counts)[DRAW_BINS]) {
#pragma unroll
    for (uint32_t digit = 0; digit < DRAW_BINS; ++digit) {
        weights[digit] = 0;
        counts[digit] = 0;
    }
    for (uint32_t i = threadIdx.x; i < s.vocabulary; i += DRAW_THREADS) {
        float logit = capped(s.logits[i], s.cap);
        uint64_t rank = rank_of(logit, i);
        if (rank < bar || (shift < 60 && rank >> (shift + 4) != prefix >> (shift + 4))) {
            continue;
        }
        double weight = weight_of(logit, s.largest, s.inverse_temperature);
        uint32_t own = uint32_t(rank >> shift) % DRAW_BINS;
#pragma unroll
        for (uint32_t digit = 0; digit < DRAW_BINS; ++digit) {
            weights[digit] += digit == own ? weight : 0.0;
            counts[digit] += digit == own;
        }
    }
    __syncthreads();
#pragma unroll
    for (uint32_t digit = 0; digit < DRAW_BINS; ++digit) {
        shared.weights[digit * DRAW_THREADS + threadIdx.x] = weights[digit];
        shared.counts[digit * DRAW_THREADS + threadIdx.x] = counts[digit];
    }
    __syncthreads();
    uint32_t start = threadIdx.x * DRAW_BINS; // the shares of 16 threads in a digit
    double weight = 0;
    uint32_t count = 0;
    for (uint32_t i = 0; i < DRAW_BINS; ++i) {
        weight += shared.weights[start + i];
        count += shared.counts[start + i];
    }
    shared.weights[start] = weight;
    shared.counts[start] = count;
    __syncthreads();
#pragma unroll
    for (uint32_t digit = 0; digit < DRAW_BINS; ++digit) {
        weights[digit] = 0;
        counts[digit] = 0;
        for (uint32_t i = 0; i < DRAW_BINS; ++i) {
            weights[digit] += shared.weights[(digit * DRAW_BINS + i) * DRAW_BINS];
            counts[digit] += shared.counts[(digit * DRAW_BINS + i) * DRAW_BINS];
        }
    }
}

// The lowest rank of the smallest set of tokens, the highest ranks first, that has `number` tokens, or where that is 0
// weighs `mass`; among those of rank `bar` and above. The set's last token is found digit by digit.
__device__ __forceinline__ uint64_t lowest_kept(const Search& s, const Tally& shared, uint64_t bar, uint32_t number,
                                                double mass) {
    bool by_number = number > 0;
    uint64_t prefix = 0;
    for (int shift = 60; shift >= 0; shift -= 4) {
        double weights[DRAW_BINS];
        uint32_t counts[DRAW_BINS];
        tally(s, shared, bar, prefix, shift, weights, counts);
        bool found = false;
        uint32_t chosen = 0, inside = 0;
#pragma unroll
        for (int digit = DRAW_BINS - 1; digit >= 0; --digit) {
            if (found || counts[digit] == 0) {
                continue;
            }
            chosen = digit;
            inside = counts[digit];
            found = by_number ? inside >= number : weights[digit] >= mass;
            if (!found) {
                number -= by_number ? inside : 0;
                mass -= weights[digit];
            }
        }
        prefix |= uint64_t(chosen) << shift;
        if (!found && !by_number) {
            mass = INFINITY; // missed by rounding: the last token completes the set
        }
        if (inside <= 1 || (by_number && inside == number)) {
            break; // all with this prefix are in the set
        }
    }
    return prefix;
}

// A block for each row: the lowest rank that top-k and top-p keep.
KERNEL(draw_bar, Draw, DRAW_THREADS) {
    const Draw& a = arguments;
    DECLARED_SHARED(double, weights, [DRAW_BINS * DRAW_THREADS]);
    DECLARED_SHARED(uint32_t, counts, [DRAW_BINS * DRAW_THREADS]);
    const uint32_t* settings = a.settings + uint64_t(blockIdx.x) * DRAW_WORDS;
    uint32_t top_k = settings[DRAW_TOP_K];
    double top_p = double_of(settings + DRAW_TOP_P);
    uint64_t bar = 0;
    if (!settings[DRAW_GREEDY] && (top_k > 0 || top_p < 1)) {
        float largest;
        uint32_t id;
        largest_of(a, blockIdx.x, largest, id);
        const float* logits = a.logits + uint64_t(blockIdx.x) * a.vocabulary;
        Search search{logits, a.vocabulary, a.cap, largest, double_of(settings + DRAW_INVERSE_TEMPERATURE)};
        Tally shared{weights, counts};
        if (top_k > 0 && top_k < a.vocabulary) {
            bar = lowest_kept(search, shared, 0, top_k, 0);
        }
        if (top_p < 1) {
            double by_digit[DRAW_BINS], total = 0;
            uint32_t numbers[DRAW_BINS];
            tally(search, shared, bar, 0, 60, by_digit, numbers);
#pragma unroll
            for (uint32_t digit = 0; digit < DRAW_BINS; ++digit) {
                total += by_digit[digit];
            }
            uint64_t by_mass = lowest_kept(search, shared, bar, 0, top_p * total);
            bar = by_mass > bar ? by_mass : bar;
        }
    }
    if (threadIdx.x == 0) {
        a.bars[blockIdx.x] = bar;
    }
}

// A block for each part of each row: the first to arrive among the part's tokens. A thread draws for eight neighbours.
KERNEL(draw_race, Draw, DRAW_THREADS) {
    const Draw& a = arguments;
    DECLARED_SHARED(double, arrivals, [DRAW_THREADS]);
    DECLARED_SHARED(uint32_t, winners, [DRAW_THREADS]);
    const uint32_t* settings = a.settings + uint64_t(blockIdx.y) * DRAW_WORDS;
    double* part = a.parts + (uint64_t(blockIdx.y) * a.count + blockIdx.x) * PART_FIELDS;
    float largest;
    uint32_t winner;
    largest_of(a, blockIdx.y, largest, winner);
    double best = INFINITY;
    if (!settings[DRAW_GREEDY]) {
        const float* logits = a.logits + uint64_t(blockIdx.y) * a.vocabulary;
        double inverse_temperature = double_of(settings + DRAW_INVERSE_TEMPERATURE);
        double min_p = double_of(settings + DRAW_MIN_P);
        uint64_t bar = a.bars[blockIdx.y];
        uint32_t first = blockIdx.x * a.each, last = a.vocabulary - first < a.each ? a.vocabulary : first + a.each;
        for (uint32_t eight = first / 8 + threadIdx.x; eight * 8 < last; eight += DRAW_THREADS) {
            double weights[8];
            bool any = false;
#pragma unroll
            for (uint32_t i = 0; i < 8; ++i) {
                uint32_t id = eight * 8 + i;
                weights[i] = 0;
                if (id < last) {
                    float logit = capped(logits[id], a.cap);
                    double weight = weight_of(logit, largest, inverse_temperature);
                    weights[i] = rank_of(logit, id) >= bar && weight >= min_p ? weight : 0;
                }
                any = any || weights[i] > 0;
            }
            if (!any) {
                continue;
            }
            uint32_t words[16];
            chacha8(settings, eight, words);
#pragma unroll
            for (uint32_t i = 0; i < 8; ++i) {
                uint64_t bits = uint64_t(words[2 * i + 1]) << 32 | words[2 * i];
                double u = (double(bits >> 11) + 0.5) * (1.0 / 9007199254740992.0);
                // 1 - u is at most -ln u: most tokens lose without a logarithm.
                if (weights[i] > 0 && 1.0 - u < best * weights[i]) {
                    double arrival = -log(u) / weights[i];
                    if (arrival < best) {
                        best = arrival;
                        winner = eight * 8 + i;
                    }
                }
            }
        }
    }
    arrivals[threadIdx.x] = best;
    winners[threadIdx.x] = winner;
    __syncthreads();
    if (threadIdx.x != 0) {
        return;
    }
    for (uint32_t i = 1; i < DRAW_THREADS; ++i) {
        if (arrivals[i] < best || (arrivals[i] == best && winners[i] < winner)) {
            best = arrivals[i];
            winner = winners[i];
        }
    }
    part[PART_ARRIVAL] = best;
    part[PART_WINNER] = winner;
}

// A thread for each row: joins its parts.
KERNEL(draw_finish, Draw, 32) {
    const Draw& a = arguments;
    uint64_t row = uint64_t(blockIdx.x);
    if (threadIdx.x != 0) {
        return;
    }
    const uint32_t* settings = a.settings + row * DRAW_WORDS;
    const float* logits = a.logits + row * a.vocabulary;
    const double* parts = a.parts + row * a.count * PART_FIELDS;
    float largest;
    uint32_t winner;
    largest_of(a, row, largest, winner);
    double best = INFINITY, sum = 0, broken = -1;
    for (uint32_t i = 0; i < a.count; ++i) {
        const double* part = parts + i * PART_FIELDS;
        if (part[PART_ARRIVAL] < best) {
            best = part[PART_ARRIVAL];
            winner = uint32_t(part[PART_WINNER]);
        }
        if (part[PART_LARGEST] > -INFINITY) {
            sum += part[PART_SUM] * exp(part[PART_LARGEST] - double(largest));
        }
        broken = broken < 0 ? part[PART_BROKEN] : broken;
    }
    const uint32_t* ids = a.terminators + settings[DRAW_TERMINATORS];
    float bar = -INFINITY;
    for (uint32_t i = 0; i < settings[DRAW_TERMINATORS + 1]; ++i) {
        bar = ids[i] < a.vocabulary ? fmaxf(bar, capped(logits[ids[i]], a.cap)) : bar;
    }
    double terminating = 0;
    for (uint32_t i = 0; i < settings[DRAW_TERMINATORS + 1] && bar > -INFINITY; ++i) {
        terminating += ids[i] < a.vocabulary ? double(expf(capped(logits[ids[i]], a.cap) - bar)) : 0.0;
    }
    double* drawn = a.drawn + row * 6;
    drawn[0] = largest > -INFINITY ? double(winner) : -1.0;
    drawn[1] = largest > -INFINITY ? double(capped(logits[winner], a.cap)) : 0.0;
    drawn[2] = double(largest) + log(sum);
    drawn[3] = bar > -INFINITY ? double(bar) + log(terminating) : double(-INFINITY);
    drawn[4] = broken;
    drawn[5] = broken < 0 ? 0.0 : double(capped(logits[uint32_t(broken)], a.cap));
}
