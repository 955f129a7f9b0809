// Gradients of attention: the weights are recomputed from the saved log-sums, tile by tile; see attention.rs.
//
// One kernel owns queries and runs over keys, one owns keys and runs over queries and the heads that share the keys, so
// each gradient is summed by one thread in a fixed order.

#include "attention.cuh"

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
    const float* log_sums; // (tokens, heads)
    const float* inner;
    void* dq;
    void* dk;
    void* dv;
    const AttentionTile* tiles; // of queries for dq, of keys for dk and dv
    const AttentionPair* pairs;
    uint32_t heads;
    uint32_t kv_heads;
    uint32_t width;
    float scale;
    float cap; // 0: none
    uint32_t unused;
};

// Turns q·k into the weight, and the weight's gradient into that of the score before the scale.
__device__ __forceinline__ void attention_score_grad(float& product, float& grad, bool seen, float log_sum, float inner,
                                                float scale, float cap) {
    float score = attention_capped(product * scale, cap);
    float weight = seen ? __expf(score - log_sum) : 0.0f;
    grad = weight * (grad - inner);
    if (cap > 0) {
        float share = score / cap;
        grad *= 1.0f - share * share;
    }
    product = weight;
}

// A block owns queries of one head. Grid: parts of tiles of queries, heads.
template <class T, int WIDTH> __device__ void attention_backward_queries(const AttentionBackward& a) {
    using Extents = AttentionExtents<T, WIDTH>;
    constexpr int rows = Extents::rows, step = Extents::backward_step, stride = Extents::stride;
    constexpr int tiles = step / 8;
    DYNAMIC_SHARED(bytes);
    T* q = reinterpret_cast<T*>(bytes);
    T* d_out = q + rows * stride;
    T* k = d_out + rows * stride;
    T* v = k + step * stride;

    const AttentionRows<rows> own(a.tiles);
    if (own.count <= 0) {
        return;
    }
    uint32_t head = blockIdx.y, kv_head = head / (a.heads / a.kv_heads);
    const int first_row = own.first, count = own.count, lane = own.lane, warp_row = own.warp_row;
    attention_load<T, WIDTH, rows>(q, a.q, own.token, count, a.heads, head, a.width);
    attention_load<T, WIDTH, rows>(d_out, a.d_out, own.token, count, a.heads, head, a.width);

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
    for (int index = own.tile.pairs_first; index < own.tile.pairs_last; ++index) {
        const AttentionPair pair = a.pairs[index];
        for (int key = 0; key < pair.key_last; key += step) {
            if (!attention_meets(pair, first_row, rows, key, step)) {
                continue;
            }
            __syncthreads();
            int first = pair.key_tile + key, there = pair.key_count - key;
            attention_load<T, WIDTH, step>(k, a.k, first, there, a.kv_heads, kv_head, a.width);
            attention_load<T, WIDTH, step>(v, a.v, first, there, a.kv_heads, kv_head, a.width);
            copy_async_commit();
            copy_async_wait<0>();
            __syncthreads();
            float weights[tiles][4], grads[tiles][4];
            attention_scores<T, WIDTH, tiles>(weights, q + warp_row * stride, k);
            attention_scores<T, WIDTH, tiles>(grads, d_out + warp_row * stride, v);
            int row = first_row + warp_row + lane / 4, column = key + lane % 4 * 2;
            bool masked = !attention_sees_all(pair, first_row, rows, key, step);
#pragma unroll
            for (int n = 0; n < tiles; ++n) {
#pragma unroll
                for (int e = 0; e < 4; ++e) {
                    bool seen = !masked || attention_sees(pair, row + 8 * (e / 2), column + 8 * n + e % 2);
                    attention_score_grad(weights[n][e], grads[n][e], seen, log_sums[e / 2], inner[e / 2], a.scale, a.cap);
                }
            }
            attention_mix<T, WIDTH, tiles>(dq, grads, k);
        }
    }
    const float scales[2] = {a.scale, a.scale};
    uint64_t row_stride = uint64_t(a.heads) * a.width;
    T* out = static_cast<T*>(a.dq) + uint64_t(own.token + warp_row) * row_stride + head * a.width;
    attention_store<T, WIDTH>(out, dq, scales, count - warp_row, row_stride, a.width);
}

ATTENTION_KERNELS(attention_backward_queries, AttentionBackward)

// Adds the part of a step of queries to the gradients of keys, of values, or both.
template <class T, int WIDTH, bool KEYS, bool VALUES>
__device__ __forceinline__ void attention_backward_owned_keys(const AttentionBackward& a) {
    using Extents = AttentionExtents<T, WIDTH>;
    constexpr int rows = Extents::rows, step = Extents::backward_step, stride = Extents::stride;
    constexpr int tiles = step / 8;
    DYNAMIC_SHARED(bytes);
    T* k = reinterpret_cast<T*>(bytes);
    T* v = k + rows * stride;
    T* q = v + rows * stride;
    T* d_out = q + step * stride;
    float* log_sums = reinterpret_cast<float*>(d_out + step * stride);
    float* inner = log_sums + step;

    const AttentionRows<rows> own(a.tiles);
    if (own.count <= 0) {
        return;
    }
    uint32_t kv_head = blockIdx.y, group = a.heads / a.kv_heads;
    const int first_row = own.first, count = own.count, lane = own.lane, warp_row = own.warp_row;
    attention_load<T, WIDTH, rows>(k, a.k, own.token, count, a.kv_heads, kv_head, a.width);
    attention_load<T, WIDTH, rows>(v, a.v, own.token, count, a.kv_heads, kv_head, a.width);

    float dk[KEYS ? WIDTH / 8 : 1][4], dv[VALUES ? WIDTH / 8 : 1][4];
    attention_clear(dk);
    attention_clear(dv);
    for (uint32_t head = kv_head * group; head < (kv_head + 1) * group; ++head) {
        for (int index = own.tile.pairs_first; index < own.tile.pairs_last; ++index) {
            const AttentionPair pair = a.pairs[index];
            for (int query = 0; query < pair.query_count; query += step) {
                if (!attention_meets(pair, query, step, first_row, rows)) {
                    continue;
                }
                __syncthreads();
                int first = pair.query_tile + query, there = pair.query_count - query;
                attention_load<T, WIDTH, step>(q, a.q, first, there, a.heads, head, a.width);
                attention_load<T, WIDTH, step>(d_out, a.d_out, first, there, a.heads, head, a.width);
                copy_async_commit();
                for (int i = threadIdx.x; i < step; i += Extents::threads) {
                    uint64_t at = uint64_t(first + i) * a.heads + head;
                    // Queries that do not exist get weights of 0.
                    log_sums[i] = i < there ? a.log_sums[at] : INFINITY;
                    inner[i] = i < there ? a.inner[at] : 0.0f;
                }
                copy_async_wait<0>();
                __syncthreads();
                // Transposed: rows are keys, columns are queries.
                float weights[tiles][4], grads[tiles][4];
                attention_scores<T, WIDTH, tiles>(weights, k + warp_row * stride, q);
                if constexpr (KEYS) {
                    attention_scores<T, WIDTH, tiles>(grads, v + warp_row * stride, d_out);
                } else {
                    attention_clear(grads);
                }
                int row = first_row + warp_row + lane / 4, column = lane % 4 * 2;
                bool masked = !attention_sees_all(pair, query, step, first_row, rows);
#pragma unroll
                for (int n = 0; n < tiles; ++n) {
#pragma unroll
                    for (int e = 0; e < 4; ++e) {
                        int i = column + 8 * n + e % 2;
                        bool seen = !masked || attention_sees(pair, query + i, row + 8 * (e / 2));
                        attention_score_grad(weights[n][e], grads[n][e], seen, log_sums[i], inner[i], a.scale, a.cap);
                    }
                }
                if constexpr (VALUES) {
                    attention_mix<T, WIDTH, tiles>(dv, weights, d_out);
                }
                if constexpr (KEYS) {
                    attention_mix<T, WIDTH, tiles>(dk, grads, q);
                }
            }
        }
    }
    const float one[2] = {1, 1}, scales[2] = {a.scale, a.scale};
    uint64_t row_stride = uint64_t(a.kv_heads) * a.width;
    uint64_t at = uint64_t(own.token + warp_row) * row_stride + kv_head * a.width;
    if constexpr (KEYS) {
        attention_store<T, WIDTH>(static_cast<T*>(a.dk) + at, dk, scales, count - warp_row, row_stride, a.width);
    }
    if constexpr (VALUES) {
        attention_store<T, WIDTH>(static_cast<T*>(a.dv) + at, dv, one, count - warp_row, row_stride, a.width);
    }
}

// A block owns keys and values of one head, or of wide heads one of the two. Grid: parts of tiles of keys, heads of
// keys, 1 or 2.
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
