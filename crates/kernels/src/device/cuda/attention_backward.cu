// Gradients of attention: the weights are recomputed from the saved log-sums, tile by tile; see attention.rs.
//
// One kernel owns queries and runs over keys, one owns keys and runs over queries and over some of the heads that share
// the keys. Each sum is one thread's, in a fixed order; what blocks of one key head have summed is added by a third kernel.

#include "attention.cuh"

#include <type_traits>

struct AttentionInner {
    const void* out;
    const void* d_out;
    float* inner; // (rows)
    uint64_t rows;
    uint32_t width;
    uint32_t unused;
};

// The product of a result and its gradient, a warp a row.
template <class T> __device__ void attention_inner(const AttentionInner& a) {
    uint64_t row = uint64_t(blockIdx.x) * 8 + threadIdx.x / 32;
    if (row >= a.rows) {
        return;
    }
    const T* out = static_cast<const T*>(a.out) + row * a.width;
    const T* d_out = static_cast<const T*>(a.d_out) + row * a.width;
    float sum = 0;
    for (uint32_t i = threadIdx.x % 32; i < a.width; i += 32) {
        sum += to_float(out[i]) * to_float(d_out[i]);
    }
    sum = warp_sum(sum);
    if (threadIdx.x % 32 == 0) {
        a.inner[row] = sum;
    }
}

KERNELS(attention_inner, AttentionInner, 256, attention_inner)

struct AttentionBackward {
    const void* q; // (tokens, heads, width)
    const void* k; // (tokens, kv_heads, width)
    const void* v;
    const void* d_out;     // (tokens, heads, width)
    const float* log_sums; // (tokens, heads), in base 2
    const float* inner;
    void* dq;
    void* dk; // (tokens, kv_heads, width), or of several shares float32, (tokens, kv_heads, shares, width)
    void* dv;
    const AttentionTile* tiles; // of queries for dq, of keys for dk and dv
    const AttentionPair* pairs;
    uint32_t heads;
    uint32_t kv_heads;
    uint32_t width;
    float scale;
    float cap; // 0: none
    uint32_t shares; // of the heads that share a key head, for dk and dv
};

// Turns products q·k into weights, and the weights' gradients into those of the scores before the scale, up to the weight
// as a factor. `log_sum(n, e)` and `inner(n, e)` are those of an element's query.
template <int TILES, class LogSum, class Inner>
__device__ __forceinline__ void attention_weights(float (&products)[TILES][4], float (&grads)[TILES][4], LogSum log_sum,
                                                  Inner inner, float scale, float cap) {
    if (cap > 0) {
#pragma unroll
        for (int n = 0; n < TILES; ++n) {
#pragma unroll
            for (int e = 0; e < 4; ++e) {
                float share = tanhf(products[n][e] * scale / cap);
                products[n][e] = exp2_fast(share * (cap * LOG2_E) - log_sum(n, e));
                grads[n][e] = (grads[n][e] - inner(n, e)) * (1.0f - share * share);
            }
        }
    } else {
        float factor = scale * LOG2_E;
#pragma unroll
        for (int n = 0; n < TILES; ++n) {
#pragma unroll
            for (int e = 0; e < 4; ++e) {
                products[n][e] = exp2_fast(products[n][e] * factor - log_sum(n, e));
                grads[n][e] -= inner(n, e);
            }
        }
    }
}

template <int TILES>
__device__ __forceinline__ void attention_scale(float (&grads)[TILES][4], const float (&weights)[TILES][4]) {
#pragma unroll
    for (int n = 0; n < TILES; ++n) {
#pragma unroll
        for (int e = 0; e < 4; ++e) {
            grads[n][e] *= weights[n][e];
        }
    }
}

// A block owns queries of one head. Grid: parts of tiles of queries, heads.
template <class T, int WIDTH> __device__ void attention_backward_queries(const AttentionBackward& a) {
    using Extents = AttentionExtents<T, WIDTH>;
    constexpr int rows = Extents::rows, step = Extents::backward_step, stride = Extents::stride;
    constexpr int tiles = step / 8;
    DYNAMIC_SHARED(bytes);
    T* q = reinterpret_cast<T*>(bytes);
    T* d_out = q + rows * stride;
    // Keys and values of this step and of the next, in turn.
    T* stages = d_out + rows * stride;
    constexpr int stage = 2 * step * stride;
    int held = 0;

    const AttentionRows<rows> own(a.tiles);
    if (own.count <= 0) {
        return;
    }
    uint32_t head = blockIdx.y, kv_head = head / (a.heads / a.kv_heads);
    const int first_row = own.first, count = own.count, lane = own.lane, warp_row = own.warp_row;
    AttentionSteps<rows, step, true> steps(a.pairs, own);
    // Keys, and values behind them.
    auto load_keys = [&](T* to) {
        const AttentionPair& pair = a.pairs[steps.index];
        int first = pair.key_tile + steps.at, there = pair.key_count - steps.at;
        attention_load<T, WIDTH, step>(to, a.k, first, there, a.kv_heads, kv_head, a.width);
        attention_load<T, WIDTH, step>(to + step * stride, a.v, first, there, a.kv_heads, kv_head, a.width);
        copy_async_commit();
    };
    attention_load<T, WIDTH, rows>(q, a.q, own.token, count, a.heads, head, a.width);
    attention_load<T, WIDTH, rows>(d_out, a.d_out, own.token, count, a.heads, head, a.width);
    if (steps.more()) {
        load_keys(stages);
    }

    float log_sums[2], inner[2];
#pragma unroll
    for (int half = 0; half < 2; ++half) {
        int row = warp_row + lane / 4 + 8 * half;
        uint64_t at = uint64_t(own.token + row) * a.heads + head;
        // Rows that do not exist get weights of 0.
        log_sums[half] = row < count ? a.log_sums[at] : INFINITY;
        inner[half] = row < count ? a.inner[at] : 0.0f;
    }
    float dq[WIDTH / 8][4];
    attention_clear(dq);
    while (steps.more()) {
        copy_async_wait<0>();
        __syncthreads();
        const int index = steps.index, column = steps.at + lane % 4 * 2;
        const bool masked = !steps.whole();
        steps.advance();
        const T* k = stages + held;
        held = stage - held;
        // The next keys come while these are used.
        if (steps.more()) {
            load_keys(stages + held);
        }
        float weights[tiles][4], grads[tiles][4];
        attention_scores<T, WIDTH, tiles>(weights, q + warp_row * stride, k);
        attention_scores<T, WIDTH, tiles>(grads, d_out + warp_row * stride, k + step * stride);
        attention_weights(
            weights, grads, [&](int, int e) { return log_sums[e / 2]; }, [&](int, int e) { return inner[e / 2]; },
            a.scale, a.cap);
        if (masked) {
            attention_mask<true>(weights, a.pairs[index], first_row + warp_row + lane / 4, column, 0.0f);
        }
        attention_scale(grads, weights);
        attention_mix<T, WIDTH, tiles>(dq, grads, k);
    }
    const float scales[2] = {a.scale, a.scale};
    uint64_t row_stride = uint64_t(a.heads) * a.width;
    T* out = static_cast<T*>(a.dq) + uint64_t(own.token + warp_row) * row_stride + head * a.width;
    attention_store<T, WIDTH>(out, dq, scales, count - warp_row, row_stride, a.width);
}

ATTENTION_KERNELS(attention_backward_queries, AttentionBackward)

// The log-sum of a step's query and the inner product of its result lie behind its row, where banks are kept apart.
template <class T, int WIDTH> __device__ __forceinline__ float* attention_row_sums(T* queries, int row) {
    return reinterpret_cast<float*>(queries + row * AttentionExtents<T, WIDTH>::stride + WIDTH);
}

// Gradients of a block's keys, of its values, or both.
template <class T, int WIDTH, bool KEYS, bool VALUES>
__device__ __forceinline__ void attention_backward_owned_keys(const AttentionBackward& a) {
    using Extents = AttentionExtents<T, WIDTH>;
    constexpr int rows = Extents::rows, step = Extents::backward_step, stride = Extents::stride;
    constexpr int tiles = step / 8;
    DYNAMIC_SHARED(bytes);
    T* k = reinterpret_cast<T*>(bytes);
    T* v = k + rows * stride;
    // Queries and gradients of this step and of the next, in turn.
    T* stages = v + rows * stride;
    constexpr int stage = 2 * step * stride;
    int held = 0;

    const AttentionRows<rows> own(a.tiles);
    if (own.count <= 0) {
        return;
    }
    const uint32_t kv_head = blockIdx.y / a.shares, heads = a.heads / gridDim.y;
    uint32_t head = blockIdx.y * heads;
    const uint32_t last_head = head + heads - 1;
    const int first_row = own.first, count = own.count, lane = own.lane, warp_row = own.warp_row;
    AttentionSteps<rows, step, false> steps(a.pairs, own);
    float log_sum = 0, inner = 0;
    // Queries, and the results' gradients behind them; a thread also reads the sums of one query.
    auto load_queries = [&](T* to) {
        const AttentionPair& pair = a.pairs[steps.index];
        int first = pair.query_tile + steps.at, there = pair.query_count - steps.at;
        attention_load<T, WIDTH, step>(to, a.q, first, there, a.heads, head, a.width);
        attention_load<T, WIDTH, step>(to + step * stride, a.d_out, first, there, a.heads, head, a.width);
        copy_async_commit();
        if (int(threadIdx.x) < step) {
            bool exists = int(threadIdx.x) < there;
            uint64_t at = uint64_t(first + threadIdx.x) * a.heads + head;
            // Queries that do not exist get weights of 0.
            log_sum = exists ? a.log_sums[at] : INFINITY;
            inner = exists ? a.inner[at] : 0.0f;
        }
    };
    auto keep_sums = [&](T* to) {
        if (int(threadIdx.x) < step) {
            float* sums = attention_row_sums<T, WIDTH>(to, threadIdx.x);
            sums[0] = log_sum;
            sums[1] = inner;
        }
    };
    attention_load<T, WIDTH, rows>(k, a.k, own.token, count, a.kv_heads, kv_head, a.width);
    attention_load<T, WIDTH, rows>(v, a.v, own.token, count, a.kv_heads, kv_head, a.width);
    if (steps.more()) {
        load_queries(stages);
        keep_sums(stages);
    }

    float dk[KEYS ? WIDTH / 8 : 1][4], dv[VALUES ? WIDTH / 8 : 1][4];
    attention_clear(dk);
    attention_clear(dv);
    while (steps.more()) {
        copy_async_wait<0>();
        __syncthreads();
        const int index = steps.index, column = steps.at + lane % 4 * 2;
        const bool masked = !steps.whole();
        steps.advance();
        if (!steps.more() && head < last_head) {
            ++head;
            steps.rewind(own.tile.pairs_first);
        }
        T* q = stages + held;
        held = stage - held;
        // The next queries come while these are used.
        if (steps.more()) {
            load_queries(stages + held);
        }
        // Transposed: rows are keys, columns are queries.
        float weights[tiles][4], grads[tiles][4];
        attention_scores<T, WIDTH, tiles>(weights, k + warp_row * stride, q);
        if constexpr (KEYS) {
            attention_scores<T, WIDTH, tiles>(grads, v + warp_row * stride, q + step * stride);
        } else {
            attention_clear(grads);
        }
        auto sums = [&](int n, int e) { return attention_row_sums<T, WIDTH>(q, lane % 4 * 2 + 8 * n + e % 2); };
        attention_weights(
            weights, grads, [&](int n, int e) { return sums(n, e)[0]; }, [&](int n, int e) { return sums(n, e)[1]; },
            a.scale, a.cap);
        if (masked) {
            attention_mask<false>(weights, a.pairs[index], first_row + warp_row + lane / 4, column, 0.0f);
        }
        if constexpr (VALUES) {
            attention_mix<T, WIDTH, tiles>(dv, weights, q + step * stride);
        }
        if constexpr (KEYS) {
            attention_scale(grads, weights);
            attention_mix<T, WIDTH, tiles>(dk, grads, q);
        }
        if (steps.more()) {
            keep_sums(stages + held);
        }
    }
    const float one[2] = {1, 1}, scales[2] = {a.scale, a.scale};
    uint64_t row_stride = uint64_t(gridDim.y) * a.width;
    uint64_t at = uint64_t(own.token + warp_row) * row_stride + blockIdx.y * a.width;
    auto store = [&](auto* out, const auto& sums, const float (&factors)[2]) {
        attention_store<std::remove_pointer_t<decltype(out)>, WIDTH>(out + at, sums, factors, count - warp_row, row_stride,
                                                                      a.width);
    };
    if (a.shares > 1) {
        if constexpr (KEYS) {
            store(static_cast<float*>(a.dk), dk, scales);
        }
        if constexpr (VALUES) {
            store(static_cast<float*>(a.dv), dv, one);
        }
    } else {
        if constexpr (KEYS) {
            store(static_cast<T*>(a.dk), dk, scales);
        }
        if constexpr (VALUES) {
            store(static_cast<T*>(a.dv), dv, one);
        }
    }
}

// A block owns keys and values of one head, or of wide heads one of the two, and a share of the heads that share them.
// Grid: parts of tiles of keys, heads of keys times shares, 1 or 2.
template <class T, int WIDTH> __device__ void attention_backward_keys(const AttentionBackward& a) {
    if constexpr (AttentionExtents<T, WIDTH>::keys_and_values_together) {
        attention_backward_owned_keys<T, WIDTH, true, true>(a);
    } else if (blockIdx.z == 0) {
        attention_backward_owned_keys<T, WIDTH, true, false>(a);
    } else {
        attention_backward_owned_keys<T, WIDTH, false, true>(a);
    }
}

ATTENTION_KERNELS(attention_backward_keys, AttentionBackward)

struct AttentionShares {
    const float* dk; // (rows, shares, width)
    const float* dv;
    void* dk_out; // (rows, width)
    void* dv_out;
    uint64_t rows;
    uint32_t shares;
    uint32_t width;
};

// Adds the shares of dk, and where y is 1 those of dv, in order: a warp a row, four columns a thread at a time.
template <class T> __device__ void attention_add_shares(const AttentionShares& a) {
    uint64_t row = uint64_t(blockIdx.x) * 8 + threadIdx.x / 32;
    if (row >= a.rows) {
        return;
    }
    const float* from = (blockIdx.y == 0 ? a.dk : a.dv) + row * a.shares * a.width;
    T* to = static_cast<T*>(blockIdx.y == 0 ? a.dk_out : a.dv_out) + row * a.width;
    for (uint32_t i = threadIdx.x % 32 * 4; i < a.width; i += 128) {
        float sums[4] = {0, 0, 0, 0};
        for (uint32_t share = 0; share < a.shares; ++share) {
            float values[4];
            load<float, 4>(from + share * a.width + i, values);
#pragma unroll
            for (int e = 0; e < 4; ++e) {
                sums[e] += values[e];
            }
        }
        if constexpr (sizeof(T) == 2) {
            uint32_t* pairs = reinterpret_cast<uint32_t*>(to + i);
            pairs[0] = pack_two<T>(sums[0], sums[1]);
            pairs[1] = pack_two<T>(sums[2], sums[3]);
        } else {
            store<T, 4>(to + i, sums);
        }
    }
}

KERNELS(attention_add_shares, AttentionShares, 256, attention_add_shares)
