// Rotary position embedding.

#include "elements.cuh"

struct Rotary {
    const void* x;
    const float* cos; // (tokens, half)
    const float* sin;
    void* out;
    uint64_t count; // tokens · heads · pairs, where a head has half + (width - 2·half) of them
    uint32_t heads;
    uint32_t width;
    uint32_t half;
    float sign;
    uint32_t interleaved; // pairs are neighbours, not halves
    uint32_t unused;
};

// A thread turns one pair of a head, or copies one of the dimensions that are not turned.
template <class T> __device__ void rotary(const Rotary& a) {
    uint64_t index = uint64_t(blockIdx.x) * 256 + threadIdx.x;
    if (index >= a.count) {
        return;
    }
    uint32_t each = a.width - a.half;
    uint32_t i = uint32_t(index % each);
    uint64_t head = index / each;
    const T* x = static_cast<const T*>(a.x) + head * a.width;
    T* out = static_cast<T*>(a.out) + head * a.width;
    if (i >= a.half) { // beyond the pairs
        out[i + a.half] = x[i + a.half];
        return;
    }
    uint64_t angle = head / a.heads * a.half + i;
    float c = a.cos[angle], s = a.sign * a.sin[angle];
    uint32_t first = a.interleaved ? 2 * i : i;
    uint32_t second = a.interleaved ? 2 * i + 1 : i + a.half;
    float low = to_float(x[first]), high = to_float(x[second]);
    out[first] = from_float<T>(low * c - high * s);
    out[second] = from_float<T>(high * c + low * s);
}

KERNELS(rotary, Rotary, 256, rotary)
