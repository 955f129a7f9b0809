// Queries, keys and values of a decode step out of one product: bias, norm of each head, rotation; keys and values go to
// their rows of the cache.
//
// A warp has one head of one token.

#include "elements.cuh"

constexpr uint32_t HEADS_THREADS = 128;

struct CachedHeads {
    const void* x;      // (rows, heads + 2·kv_heads, width): queries, keys, values
    const void* bias;   // (heads + 2·kv_heads, width), null: none
    const void* q_norm; // (width), null: none
    const void* k_norm;
    const float* cos; // (rows, half), null: no rotation
    const float* sin;
    void* queries;     // (rows, heads, width)
    void* cached_keys; // (…, kv_heads, width)
    void* cached_values;
    const uint32_t* places; // (rows): rows of the cache
    uint64_t rows;
    uint32_t heads;
    uint32_t kv_heads;
    uint32_t width;
    uint32_t half;
    uint32_t interleaved; // pairs are neighbours, not halves
    float eps;
    float offset; // added to the norms' weights
    uint32_t unused;
};

// A head's elements after bias and norm.
template <class T> struct Head {
    const T* x;
    const T* bias;
    const T* norm;
    float inverse;
    float offset;

    __device__ __forceinline__ float biased(uint32_t i) const {
        return to_float(x[i]) + (bias != nullptr ? to_float(bias[i]) : 0.0f);
    }

    __device__ __forceinline__ float at(uint32_t i) const {
        return norm != nullptr ? biased(i) * inverse * (to_float(norm[i]) + offset) : biased(i);
    }
};

template <class T> __device__ void cached_heads(const CachedHeads& a) {
    uint32_t all = a.heads + 2 * a.kv_heads, lane = threadIdx.x % 32;
    uint64_t unit = uint64_t(blockIdx.x) * (HEADS_THREADS / 32) + threadIdx.x / 32;
    if (unit >= a.rows * all) {
        return;
    }
    uint64_t row = unit / all;
    uint32_t index = uint32_t(unit - row * all);
    bool query = index < a.heads, value = index >= a.heads + a.kv_heads;
    uint64_t place = query ? row * a.heads + index : uint64_t(a.places[row]) * a.kv_heads + (index - a.heads) % a.kv_heads;
    T* out = static_cast<T*>(query ? a.queries : value ? a.cached_values : a.cached_keys) + place * a.width;
    const T* bias = static_cast<const T*>(a.bias);
    Head<T> head;
    head.x = static_cast<const T*>(a.x) + unit * a.width;
    head.bias = bias != nullptr ? bias + uint64_t(index) * a.width : nullptr;
    head.norm = static_cast<const T*>(value ? nullptr : query ? a.q_norm : a.k_norm);
    head.offset = a.offset;
    if (head.norm != nullptr) {
        float square = 0;
        for (uint32_t i = lane; i < a.width; i += 32) {
            square += head.biased(i) * head.biased(i);
        }
        head.inverse = 1.0f / sqrtf(warp_sum(square) / a.width + a.eps);
    }
    uint32_t half = value || a.cos == nullptr ? 0 : a.half;
    for (uint32_t i = lane; i < half; i += 32) {
        uint32_t first = a.interleaved ? 2 * i : i, second = a.interleaved ? 2 * i + 1 : i + half;
        float c = a.cos[row * half + i], s = a.sin[row * half + i], low = head.at(first), high = head.at(second);
        out[first] = from_float<T>(low * c - high * s);
        out[second] = from_float<T>(high * c + low * s);
    }
    for (uint32_t i = 2 * half + lane; i < a.width; i += 32) {
        out[i] = from_float<T>(head.at(i));
    }
}

KERNELS(cached_heads, CachedHeads, HEADS_THREADS, cached_heads)
