// Softmax attention with a running maximum and sum (FlashAttention-2, arXiv 2307.08691); see attention.rs.

#include "attention.cuh"

struct AttentionForward {
    const void* q; // (tokens, heads, width)
    const void* k; // (tokens, kv_heads, width)
    const void* v;
    void* out;       // (tokens, heads, width)
    float* log_sums; // (tokens, heads), in base 2
    const AttentionTile* tiles;  // of queries
    const AttentionPair* pairs;
    uint32_t heads;
    uint32_t kv_heads;
    uint32_t width;
    float scale;
    float cap; // 0: none
    uint32_t unused;
};

// Turns products of queries and keys into logits in base 2: the capped score times log2 e.
template <int TILES>
__device__ __forceinline__ void attention_logits(float (&products)[TILES][4], float scale, float cap) {
    if (cap > 0) {
#pragma unroll
        for (int n = 0; n < TILES; ++n) {
#pragma unroll
            for (int e = 0; e < 4; ++e) {
                products[n][e] = cap * LOG2_E * tanhf(products[n][e] * scale / cap);
            }
        }
    } else {
        float factor = scale * LOG2_E;
#pragma unroll
        for (int n = 0; n < TILES; ++n) {
#pragma unroll
            for (int e = 0; e < 4; ++e) {
                products[n][e] *= factor;
            }
        }
    }
}

// A block owns queries of one head. Grid: parts of tiles of queries, heads.
template <class T, int WIDTH> __device__ void attention_forward(const AttentionForward& a) {
    using Extents = AttentionExtents<T, WIDTH>;
    constexpr int rows = Extents::rows, step = Extents::forward_step, stride = Extents::stride;
    constexpr int tiles = step / 8;
    DYNAMIC_SHARED(bytes);
    T* q = reinterpret_cast<T*>(bytes);
    T* k = q + rows * stride;
    T* v = k + step * stride;

    const AttentionRows<rows> own(a.tiles);
    if (own.count <= 0) {
        return;
    }
    uint32_t head = blockIdx.y, kv_head = head / (a.heads / a.kv_heads);
    const int first_row = own.first, count = own.count, lane = own.lane, warp_row = own.warp_row;

    AttentionSteps<rows, step, true> steps(a.pairs, own);
    attention_load<T, WIDTH, rows>(q, a.q, own.token, count, a.heads, head, a.width);
    auto load_keys = [&](T* to, const void* from) {
        const AttentionPair& pair = a.pairs[steps.index];
        attention_load<T, WIDTH, step>(to, from, pair.key_tile + steps.at, pair.key_count - steps.at, a.kv_heads,
                                       kv_head, a.width);
        copy_async_commit();
    };
    if (steps.more()) {
        load_keys(k, a.k);
    }

    float mixed[WIDTH / 8][4];
    attention_clear(mixed);
    float maxima[2] = {-INFINITY, -INFINITY}, sums[2] = {0, 0};
    while (steps.more()) {
        copy_async_wait<0>();
        __syncthreads();
        // The values come while the scores are computed.
        load_keys(v, a.v);
        float scores[tiles][4];
        attention_scores<T, WIDTH, tiles>(scores, q + warp_row * stride, k);

        attention_logits(scores, a.scale, a.cap);
        if (!steps.whole()) {
            int row = first_row + warp_row + lane / 4, column = steps.at + lane % 4 * 2;
            attention_mask<true>(scores, a.pairs[steps.index], row, column, -INFINITY);
        }
        float best[2] = {maxima[0], maxima[1]};
#pragma unroll
        for (int n = 0; n < tiles; ++n) {
#pragma unroll
            for (int e = 0; e < 4; ++e) {
                best[e / 2] = fmaxf(best[e / 2], scores[n][e]);
            }
        }
        float base[2];
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            best[half] = fmaxf(best[half], __shfl_xor_sync(0xffffffffu, best[half], 1));
            best[half] = fmaxf(best[half], __shfl_xor_sync(0xffffffffu, best[half], 2));
            // No visible key yet: no maximum to subtract.
            base[half] = best[half] == -INFINITY ? 0.0f : best[half];
            float shrink = exp2_fast(maxima[half] - base[half]);
            sums[half] *= shrink;
#pragma unroll
            for (int n = 0; n < WIDTH / 8; ++n) {
                mixed[n][2 * half] *= shrink;
                mixed[n][2 * half + 1] *= shrink;
            }
            maxima[half] = best[half];
        }
#pragma unroll
        for (int n = 0; n < tiles; ++n) {
#pragma unroll
            for (int e = 0; e < 4; ++e) {
                scores[n][e] = exp2_fast(scores[n][e] - base[e / 2]);
                sums[e / 2] += scores[n][e];
            }
        }

        copy_async_wait<0>();
        __syncthreads();
        // The next keys come while the values are mixed.
        steps.advance();
        if (steps.more()) {
            load_keys(k, a.k);
        }
        attention_mix<T, WIDTH, tiles>(mixed, scores, v);
    }

    float inverse[2];
#pragma unroll
    for (int half = 0; half < 2; ++half) {
        // Each of four lanes has summed its own columns.
        sums[half] += __shfl_xor_sync(0xffffffffu, sums[half], 1);
        sums[half] += __shfl_xor_sync(0xffffffffu, sums[half], 2);
        inverse[half] = 1.0f / sums[half];
        int row = warp_row + lane / 4 + 8 * half;
        if (lane % 4 == 0 && row < count) {
            a.log_sums[uint64_t(own.token + row) * a.heads + head] = maxima[half] + log2f(sums[half]);
        }
    }
    uint64_t row_stride = uint64_t(a.heads) * a.width;
    T* out = static_cast<T*>(a.out) + uint64_t(own.token + warp_row) * row_stride + head * a.width;
    attention_store<T, WIDTH>(out, mixed, inverse, count - warp_row, row_stride, a.width);
}

ATTENTION_KERNELS(attention_forward, AttentionForward)
