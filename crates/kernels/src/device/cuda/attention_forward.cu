// Softmax attention with a running maximum and sum (FlashAttention-2, arXiv 2307.08691); see attention.rs.

#include "attention.cuh"

struct AttentionForward {
    const void* q; // (tokens, heads, width)
    const void* k; // (tokens, kv_heads, width)
    const void* v;
    void* out;       // (tokens, heads, width)
    float* log_sums; // (tokens, heads)
    const AttentionTile* tiles;  // of queries
    const AttentionPair* pairs;
    uint32_t heads;
    uint32_t kv_heads;
    uint32_t width;
    float scale;
    float cap; // 0: none
    uint32_t unused;
};

// The steps of a block of queries over the keys, those without a visible pair left out.
template <int ROWS, int STEP> struct AttentionKeySteps {
    const AttentionPair* pairs;
    int index, last, row, key;

    __device__ __forceinline__ AttentionKeySteps(const AttentionPair* all, const AttentionRows<ROWS>& own)
        : pairs(all), index(own.tile.pairs_first), last(own.tile.pairs_last), row(own.first), key(0) {
        settle();
    }
    __device__ __forceinline__ bool more() const { return index < last; }
    __device__ __forceinline__ void advance() {
        key += STEP;
        settle();
    }
    __device__ __forceinline__ void settle() {
        while (index < last && !attention_meets(pairs[index], row, ROWS, key, STEP)) {
            key += STEP;
            if (key >= ATTENTION_TILE) {
                key = 0;
                ++index;
            }
        }
    }
};

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

    AttentionKeySteps<rows, step> steps(a.pairs, own);
    attention_load<T, WIDTH, rows>(q, a.q, own.token, count, a.heads, head, a.width);
    auto load_keys = [&](T* to, const void* from) {
        const AttentionPair& pair = a.pairs[steps.index];
        attention_load<T, WIDTH, step>(to, from, pair.key_tile + steps.key, pair.key_count - steps.key, a.kv_heads,
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

        const AttentionPair pair = a.pairs[steps.index];
        int row = first_row + warp_row + lane / 4, column = steps.key + lane % 4 * 2;
        bool masked = !attention_sees_all(pair, first_row, rows, steps.key, step);
        float best[2] = {maxima[0], maxima[1]};
#pragma unroll
        for (int n = 0; n < tiles; ++n) {
#pragma unroll
            for (int e = 0; e < 4; ++e) {
                float score = attention_capped(scores[n][e] * a.scale, a.cap);
                bool seen = !masked || attention_sees(pair, row + 8 * (e / 2), column + 8 * n + e % 2);
                scores[n][e] = seen ? score : -INFINITY;
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
            float shrink = __expf(maxima[half] - base[half]);
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
                scores[n][e] = __expf(scores[n][e] - base[e / 2]);
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
            a.log_sums[uint64_t(own.token + row) * a.heads + head] = maxima[half] + logf(sums[half]);
        }
    }
    uint64_t row_stride = uint64_t(a.heads) * a.width;
    T* out = static_cast<T*>(a.out) + uint64_t(own.token + warp_row) * row_stride + head * a.width;
    attention_store<T, WIDTH>(out, mixed, inverse, count - warp_row, row_stride, a.width);
}

ATTENTION_KERNELS(attention_forward, AttentionForward)
