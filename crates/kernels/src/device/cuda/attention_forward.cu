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
    constexpr int threads = Extents::forward_threads, slices = Extents::forward_slices, parts = 2 * slices;
    constexpr int tiles = step / 8, columns = WIDTH / 8;
    DYNAMIC_SHARED(bytes);
    T* q = reinterpret_cast<T*>(bytes);
    T* k = q + rows * stride;
    T* v = k + step * stride;

    const AttentionRows<rows> own(a.tiles, 16 * slices);
    if (own.count <= 0) {
        return;
    }
    uint32_t head = blockIdx.y, kv_head = head / (a.heads / a.kv_heads);
    const int first_row = own.first, count = own.count, lane = own.lane, warp_row = own.warp_row;

    AttentionSteps<rows, step, true> steps(a.pairs, own);
    attention_load<T, WIDTH, rows, threads>(q, a.q, own.token, count, a.heads, head, a.width);
    auto load_keys = [&](T* to, const void* from) {
        const AttentionPair& pair = a.pairs[steps.index];
        attention_load<T, WIDTH, step, threads>(to, from, pair.key_tile + steps.at, pair.key_count - steps.at,
                                                a.kv_heads, kv_head, a.width);
        copy_async_commit();
    };
    if (steps.more()) {
        load_keys(k, a.k);
    }

    float mixed[slices * columns][4];
    attention_clear(mixed);
    // Of the rows 8 apart that the thread holds elements of.
    float maxima[parts], sums[parts];
#pragma unroll
    for (int part = 0; part < parts; ++part) {
        maxima[part] = -INFINITY;
        sums[part] = 0;
    }
    while (steps.more()) {
        copy_async_wait<0>();
        __syncthreads();
        // The values come while the scores are computed.
        load_keys(v, a.v);
        float scores[slices * tiles][4];
        attention_scores<T, WIDTH, tiles, slices>(scores, q + warp_row * stride, k);

        attention_logits(scores, a.scale, a.cap);
        if (!steps.whole()) {
            int row = first_row + warp_row + lane / 4, column = steps.at + lane % 4 * 2;
            attention_mask<true, slices>(scores, a.pairs[steps.index], row, column, -INFINITY);
        }
#pragma unroll
        for (int part = 0; part < parts; ++part) {
            float(*of)[4] = scores + part / 2 * tiles;
            const int e = part % 2 * 2;
            float best = maxima[part];
#pragma unroll
            for (int n = 0; n < tiles; ++n) {
                best = fmaxf(best, fmaxf(of[n][e], of[n][e + 1]));
            }
            best = fmaxf(best, __shfl_xor_sync(0xffffffffu, best, 1));
            best = fmaxf(best, __shfl_xor_sync(0xffffffffu, best, 2));
            // No visible key yet: no maximum to subtract.
            float base = best == -INFINITY ? 0.0f : best;
            float shrink = exp2_fast(maxima[part] - base);
            maxima[part] = best;
            sums[part] *= shrink;
#pragma unroll
            for (int n = 0; n < columns; ++n) {
                mixed[part / 2 * columns + n][e] *= shrink;
                mixed[part / 2 * columns + n][e + 1] *= shrink;
            }
#pragma unroll
            for (int n = 0; n < tiles; ++n) {
                of[n][e] = exp2_fast(of[n][e] - base);
                of[n][e + 1] = exp2_fast(of[n][e + 1] - base);
                sums[part] += of[n][e];
                sums[part] += of[n][e + 1];
            }
        }

        copy_async_wait<0>();
        __syncthreads();
        // The next keys come while the values are mixed.
        steps.advance();
        if (steps.more()) {
            load_keys(k, a.k);
        }
        attention_mix<T, WIDTH, tiles, slices>(mixed, scores, v);
    }

    float inverse[parts];
#pragma unroll
    for (int part = 0; part < parts; ++part) {
        // Each of four lanes has summed its own columns.
        sums[part] += __shfl_xor_sync(0xffffffffu, sums[part], 1);
        sums[part] += __shfl_xor_sync(0xffffffffu, sums[part], 2);
        inverse[part] = 1.0f / sums[part];
        int row = warp_row + lane / 4 + 8 * part;
        if (lane % 4 == 0 && row < count) {
            a.log_sums[uint64_t(own.token + row) * a.heads + head] = maxima[part] + log2f(sums[part]);
        }
    }
    uint64_t row_stride = uint64_t(a.heads) * a.width;
    T* out = static_cast<T*>(a.out) + uint64_t(own.token + warp_row) * row_stride + head * a.width;
    attention_store<T, WIDTH, slices>(out, mixed, inverse, count - warp_row, row_stride, a.width);
}

ATTENTION_KERNELS(attention_forward, AttentionForward)
