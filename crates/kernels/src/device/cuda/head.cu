// The language-model head: log-sum-exp, targets and terminators from tiles of logits, and the logits' gradients.
//
// A tile is some rows by some of the vocabulary, in float32, written by a matrix product.

#include "elements.cuh"

struct HeadFold {
    const float* logits;           // (rows, columns), not capped yet
    const uint32_t* targets;       // (rows)
    const uint32_t* terminators;   // (terminator count)
    const float* bars;             // (rows): the likeliest terminator's logit, capped
    float* maxima;                 // (rows), and so are the next four
    float* sums;
    float* target_logits;
    float* above;                  // tokens above the bar
    float* terminator_sums;        // of e^(logit - bar)
    float* squares;                // sums of e^(2·(logit - maximum))
    float* shrinks;                // factors of the sums so far, by this tile's new maxima
    uint32_t rows;
    uint32_t columns;
    uint32_t first;                // the tile's first vocabulary entry
    uint32_t terminator_count;
    float cap;                     // 0: none
    uint32_t squared;              // 1: squares are wanted
};

// A block folds one row of a tile into the row's running state.
KERNEL(head_fold, HeadFold, 256) {
    const HeadFold& a = arguments;
    uint32_t row = blockIdx.x;
    const float* logits = a.logits + uint64_t(row) * a.columns;
    float best = -INFINITY, sum = 0;
    for (uint32_t i = threadIdx.x; i < a.columns; i += 256) {
        float logit = capped(logits[i], a.cap);
        if (logit > best) {
            sum = sum * __expf(best - logit) + 1.0f;
            best = logit;
        } else {
            sum += __expf(logit - best);
        }
    }
    float tile = group_max(best, 8);
    sum = group_sum(best == -INFINITY ? 0.0f : sum * __expf(best - tile), 8);
    float squares = 0;
    if (a.squared) {
        float top = fmaxf(a.maxima[row], tile);
        for (uint32_t i = threadIdx.x; i < a.columns; i += 256) {
            squares += __expf(2.0f * (capped(logits[i], a.cap) - top));
        }
        squares = group_sum(squares, 8);
    }
    float above = 0;
    if (a.terminator_count > 0) {
        float bar = a.bars[row];
        for (uint32_t i = threadIdx.x; i < a.columns; i += 256) {
            above += capped(logits[i], a.cap) > bar ? 1.0f : 0.0f;
        }
        above = group_sum(above, 8);
    }
    if (threadIdx.x != 0) {
        return;
    }
    float old = a.maxima[row];
    float best_so_far = fmaxf(old, tile);
    float shrink = old == -INFINITY ? 0.0f : expf(old - best_so_far);
    a.shrinks[row] = shrink;
    a.sums[row] = a.sums[row] * shrink + sum * expf(tile - best_so_far);
    if (a.squared) {
        a.squares[row] = (old == -INFINITY ? 0.0f : a.squares[row] * expf(2.0f * (old - best_so_far))) + squares;
    }
    a.maxima[row] = best_so_far;
    uint32_t target = a.targets[row] - a.first;
    if (a.targets[row] >= a.first && target < a.columns) {
        a.target_logits[row] = capped(logits[target], a.cap);
    }
    if (a.terminator_count > 0) {
        float bar = a.bars[row];
        float sum_here = 0;
        for (uint32_t i = 0; i < a.terminator_count; ++i) {
            uint32_t at = a.terminators[i] - a.first;
            if (a.terminators[i] >= a.first && at < a.columns) {
                float logit = capped(logits[at], a.cap);
                sum_here += expf(logit - bar);
                above -= logit > bar ? 1.0f : 0.0f;
            }
        }
        a.above[row] += above;
        a.terminator_sums[row] += sum_here;
    }
}

// Logits kept of a row: TOP_TOKENS of options/head.rs.
#define TOP_TOKENS 20

struct HeadTop {
    const float* logits; // (rows, columns), not capped yet
    float* tops;         // (rows, TOP_TOKENS)
    uint32_t columns;
    uint32_t first;      // the tile's first vocabulary entry
    float cap;
    uint32_t unused;
};

// A block merges one row of a tile into the row's largest logits, one distinct value after the other.
KERNEL(head_top, HeadTop, 256) {
    const HeadTop& a = arguments;
    const float* logits = a.logits + uint64_t(blockIdx.x) * a.columns;
    float* tops = a.tops + uint64_t(blockIdx.x) * TOP_TOKENS;
    float kept = a.first > 0 && threadIdx.x < TOP_TOKENS ? tops[threadIdx.x] : -INFINITY;
    uint32_t filled = 0;
    float last = INFINITY;
    while (filled < TOP_TOKENS) {
        float best = kept < last ? kept : -INFINITY;
        for (uint32_t i = threadIdx.x; i < a.columns; i += 256) {
            float logit = capped(logits[i], a.cap);
            best = logit < last ? fmaxf(best, logit) : best;
        }
        best = group_max(best, 8);
        float equal = kept == best ? 1.0f : 0.0f;
        for (uint32_t i = threadIdx.x; i < a.columns; i += 256) {
            equal += capped(logits[i], a.cap) == best ? 1.0f : 0.0f;
        }
        // Nothing finite is left: the rest is as likely as nothing.
        uint32_t count = best == -INFINITY ? TOP_TOKENS : uint32_t(group_sum(equal, 8));
        // The folds over the block have passed barriers: all that read the old ones have read them.
        for (; count > 0 && filled < TOP_TOKENS; --count, ++filled) {
            if (threadIdx.x == 0) {
                tops[filled] = best;
            }
        }
        last = best;
    }
}

struct HeadStart {
    const float* terminator_logits; // (rows, terminator count), not capped yet
    float* bars;
    float* maxima;
    float* sums;
    float* target_logits;
    float* above;
    float* terminator_sums;
    float* squares;
    uint32_t rows;
    uint32_t terminator_count;
    float cap;
    uint32_t unused;
};

KERNEL(head_start, HeadStart, 256) {
    const HeadStart& a = arguments;
    uint32_t row = blockIdx.x * 256 + threadIdx.x;
    if (row >= a.rows) {
        return;
    }
    float bar = -INFINITY;
    for (uint32_t i = 0; i < a.terminator_count; ++i) {
        bar = fmaxf(bar, capped(a.terminator_logits[uint64_t(row) * a.terminator_count + i], a.cap));
    }
    a.bars[row] = bar;
    a.maxima[row] = -INFINITY;
    a.sums[row] = 0;
    a.target_logits[row] = 0;
    a.above[row] = 0;
    a.terminator_sums[row] = 0;
    a.squares[row] = 0;
}

struct HeadFinish {
    const float* maxima;
    const float* sums;
    const float* target_logits;
    const float* bars;
    const float* terminator_sums;
    float* log_sums;  // (rows)
    float* log_probs; // (rows)
    float* terminator_log_probs; // (rows)
    uint32_t rows;
    uint32_t terminator_count;
};

KERNEL(head_finish, HeadFinish, 256) {
    const HeadFinish& a = arguments;
    uint32_t row = blockIdx.x * 256 + threadIdx.x;
    if (row >= a.rows) {
        return;
    }
    float log_of_sum = logf(a.sums[row]);
    a.log_sums[row] = a.maxima[row] + log_of_sum;
    // Differences first: logits are large, their differences are not.
    a.log_probs[row] = (a.target_logits[row] - a.maxima[row]) - log_of_sum;
    if (a.terminator_count > 0) {
        a.terminator_log_probs[row] = (a.bars[row] - a.maxima[row]) + logf(a.terminator_sums[row]) - log_of_sum;
    }
}

struct HeadGrads {
    const float* logits;     // (tile rows, columns), not capped yet
    const uint32_t* rows;    // (tile rows): index into the next three
    const uint32_t* targets;
    const float* log_sums;
    const float* weights;
    void* grads;             // (tile rows, columns); may be the logits themselves
    uint32_t columns;
    uint32_t first;
    float cap;
    uint32_t unused;
};

// dL/dlogits = w·(onehot − softmax), backward through the cap. A block takes 1,024 columns of a row.
template <class T> __device__ void head_grads(const HeadGrads& a) {
    uint32_t row = a.rows[blockIdx.y];
    uint32_t target = a.targets[row];
    float log_sum = a.log_sums[row], w = a.weights[row];
    const float* logits = a.logits + uint64_t(blockIdx.y) * a.columns;
    T* grads = static_cast<T*>(a.grads) + uint64_t(blockIdx.y) * a.columns;
#pragma unroll
    for (int step = 0; step < 4; ++step) {
        uint32_t i = blockIdx.x * 1024 + step * 256 + threadIdx.x;
        if (i < a.columns) {
            float logit = capped(logits[i], a.cap);
            float grad = -w * __expf(logit - log_sum);
            if (a.first + i == target) {
                grad += w;
            }
            if (a.cap > 0) {
                float t = logit / a.cap;
                grad *= 1.0f - t * t;
            }
            grads[i] = from_float<T>(grad);
        }
    }
}

KERNELS(head_grads, HeadGrads, 256, head_grads)

struct HeadExponentials {
    const float* logits;  // (tile rows, columns), not capped yet
    const float* maxima;  // (tile rows)
    void* exponentials;   // (tile rows, columns); may be the logits themselves
    uint32_t columns;
    float cap;
};

// e^(logit − maximum), times the cap's derivative. A block takes 1,024 columns of a row.
template <class T> __device__ void head_exponentials(const HeadExponentials& a) {
    float maximum = a.maxima[blockIdx.y];
    const float* logits = a.logits + uint64_t(blockIdx.y) * a.columns;
    T* exponentials = static_cast<T*>(a.exponentials) + uint64_t(blockIdx.y) * a.columns;
#pragma unroll
    for (int step = 0; step < 4; ++step) {
        uint32_t i = blockIdx.x * 1024 + step * 256 + threadIdx.x;
        if (i < a.columns) {
            float logit = capped(logits[i], a.cap);
            float exponential = __expf(logit - maximum);
            if (a.cap > 0) {
                float t = logit / a.cap;
                exponential *= 1.0f - t * t;
            }
            exponentials[i] = from_float<T>(exponential);
        }
    }
}

KERNELS(head_exponentials, HeadExponentials, 256, head_exponentials)

struct HeadShrink {
    float* sums;          // (rows, width)
    const float* shrinks; // (rows)
    uint32_t width;
    uint32_t unused;
};

// Multiplies each row by its factor, which mostly is 1: a block a row.
KERNEL(head_shrink, HeadShrink, 256) {
    float shrink = arguments.shrinks[blockIdx.x];
    if (shrink == 1.0f) {
        return;
    }
    float* sums = arguments.sums + uint64_t(blockIdx.x) * arguments.width;
    for (uint32_t i = threadIdx.x; i < arguments.width; i += 256) {
        sums[i] *= shrink;
    }
}

struct HeadDirections {
    const float* mixed;         // (rows, width): sums of e^(logit − maximum)·W
    const float* sums;          // (rows)
    const float* target_logits; // (rows), capped
    const uint32_t* targets;    // (rows)
    const void* weight;         // (vocabulary, width)
    void* directions;           // (rows, width)
    uint32_t width;
    float cap;
};

// dℓ/dh = W_y·(the cap's derivative) − Σ p·W: a block a row.
template <class T> __device__ void head_directions(const HeadDirections& a) {
    uint32_t row = blockIdx.x;
    float t = a.cap > 0 ? a.target_logits[row] / a.cap : 0.0f;
    float slope = 1.0f - t * t, share = 1.0f / a.sums[row];
    const T* entry = static_cast<const T*>(a.weight) + uint64_t(a.targets[row]) * a.width;
    const float* mixed = a.mixed + uint64_t(row) * a.width;
    T* directions = static_cast<T*>(a.directions) + uint64_t(row) * a.width;
    for (uint32_t i = threadIdx.x; i < a.width; i += 256) {
        directions[i] = from_float<T>(slope * to_float(entry[i]) - share * mixed[i]);
    }
}

KERNELS(head_directions, HeadDirections, 256, head_directions)

struct HeadScale {
    const void* directions; // (rows, width)
    const float* weights;   // (rows)
    void* grads;            // (rows, width)
    uint32_t width;
    uint32_t unused;
};

// dL/dh = w·dℓ/dh: a block a row.
template <class T> __device__ void head_scale(const HeadScale& a) {
    float w = a.weights[blockIdx.x];
    const T* directions = static_cast<const T*>(a.directions) + uint64_t(blockIdx.x) * a.width;
    T* grads = static_cast<T*>(a.grads) + uint64_t(blockIdx.x) * a.width;
    for (uint32_t i = threadIdx.x; i < a.width; i += 256) {
        grads[i] = from_float<T>(w * to_float(directions[i]));
    }
}

KERNELS(head_scale, HeadScale, 256, head_scale)

struct Scatter {
    const float* from;    // (count, width)
    const uint32_t* rows; // (count), rows of `to`, all different
    void* to;
    uint64_t count;
    uint32_t width;
    uint32_t accumulate;
};

template <class T> __device__ void scatter_rows(const Scatter& a) {
    uint64_t index = uint64_t(blockIdx.x) * 8 + threadIdx.x / 32;
    if (index >= a.count) {
        return;
    }
    const float* from = a.from + index * a.width;
    T* to = static_cast<T*>(a.to) + uint64_t(a.rows[index]) * a.width;
    for (uint32_t i = threadIdx.x % 32; i < a.width; i += 32) {
        to[i] = from_float<T>(a.accumulate ? to_float(to[i]) + from[i] : from[i]);
    }
}

KERNELS(scatter_rows, Scatter, 256, scatter_rows)
