// Rotary position embedding.

#include "elements.cuh"

struct Rotary {
    const void* x;
    const float* cos; // (tokens, half)
    const float* sin;
    void* out;
    uint64_t count; // threads with work: tokens · heads · pairs, where a head has half + (width - 2·half) of them; or a part
    uint32_t heads;
    uint32_t width;
    uint32_t half;
    float sign;
    uint32_t interleaved; // pairs are neighbours, not halves
    uint32_t wide; // 16 bytes of pairs of halves at a time
};

// N neighbouring floats, whose address is a multiple of 16 bytes where they are more than one.
template <int N> __device__ __forceinline__ void load_floats(const float* from, float (&to)[N]) {
    if constexpr (N == 1) {
        to[0] = *from;
    } else {
#pragma unroll
        for (int first = 0; first < N; first += 4) {
            float four[4];
            load<float, 4>(from + first, four);
#pragma unroll
            for (int i = 0; i < 4; ++i) {
                to[first + i] = four[i];
            }
        }
    }
}

// A thread turns N pairs of a head, or copies N of the dimensions that are not turned.
template <class T, int N> __device__ void rotary_of(const Rotary& a) {
    uint64_t index = uint64_t(blockIdx.x) * 256 + threadIdx.x;
    if (index >= a.count) {
        return;
    }
    uint32_t each = (a.width - a.half) / N;
    uint64_t head = index / each;
    uint32_t i = uint32_t(index - head * each) * N;
    const T* x = static_cast<const T*>(a.x) + head * a.width;
    T* out = static_cast<T*>(a.out) + head * a.width;
    float low[N], high[N];
    if (i >= a.half) { // beyond the pairs
        load<T, N>(x + i + a.half, low);
        store<T, N>(out + i + a.half, low);
        return;
    }
    uint64_t angle = head / a.heads * a.half + i;
    float cos[N], sin[N];
    load_floats<N>(a.cos + angle, cos);
    load_floats<N>(a.sin + angle, sin);
    uint32_t first = a.interleaved ? 2 * i : i;
    uint32_t second = a.interleaved ? 2 * i + 1 : i + a.half;
    load<T, N>(x + first, low);
    load<T, N>(x + second, high);
#pragma unroll
    for (int k = 0; k < N; ++k) {
        float c = cos[k], s = a.sign * sin[k], old = low[k];
        low[k] = old * c - high[k] * s;
        high[k] = high[k] * c + old * s;
    }
    store<T, N>(out + first, low);
    store<T, N>(out + second, high);
}

KERNELS_WIDE(rotary, Rotary, 256, rotary_of)
