// Dropout whose mask is a function of seed and index: the same as on the CPU, recomputed in the backward pass.
//
// The random words are ChaCha's with 8 rounds (Bernstein, 2008), 64-bit counter and 64-bit stream; a thread computes one
// block of 16 words for 16 elements. A word's upper 24 bits make a float32 in [0, 1).

#include "elements.cuh"

struct Dropout {
    const void* x;
    void* out;
    uint64_t count;
    uint64_t first_word;
    uint64_t stream;
    uint32_t key[8];
    float keep;
    uint32_t unused;
};

__device__ __forceinline__ uint32_t rotate(uint32_t x, int by) { return (x << by) | (x >> (32 - by)); }

__device__ __forceinline__ void quarter(uint32_t& a, uint32_t& b, uint32_t& c, uint32_t& d) {
    a += b;
    d = rotate(d ^ a, 16);
    c += d;
    b = rotate(b ^ c, 12);
    a += b;
    d = rotate(d ^ a, 8);
    c += d;
    b = rotate(b ^ c, 7);
}

template <class T> __device__ void dropout(const Dropout& a) {
    uint64_t block = a.first_word / 16 + uint64_t(blockIdx.x) * 256 + threadIdx.x;
    uint64_t end = a.first_word + a.count;
    if (block * 16 >= end) {
        return;
    }
    uint32_t start[16] = {0x61707865u, 0x3320646eu, 0x79622d32u, 0x6b206574u,
                          a.key[0], a.key[1], a.key[2], a.key[3], a.key[4], a.key[5], a.key[6], a.key[7],
                          uint32_t(block), uint32_t(block >> 32), uint32_t(a.stream), uint32_t(a.stream >> 32)};
    uint32_t w[16];
#pragma unroll
    for (int i = 0; i < 16; ++i) {
        w[i] = start[i];
    }
#pragma unroll
    for (int round = 0; round < 4; ++round) {
        quarter(w[0], w[4], w[8], w[12]);
        quarter(w[1], w[5], w[9], w[13]);
        quarter(w[2], w[6], w[10], w[14]);
        quarter(w[3], w[7], w[11], w[15]);
        quarter(w[0], w[5], w[10], w[15]);
        quarter(w[1], w[6], w[11], w[12]);
        quarter(w[2], w[7], w[8], w[13]);
        quarter(w[3], w[4], w[9], w[14]);
    }
    const T* x = static_cast<const T*>(a.x);
    T* out = static_cast<T*>(a.out);
    float scale = 1.0f / a.keep;
#pragma unroll
    for (int i = 0; i < 16; ++i) {
        uint64_t word = block * 16 + i;
        if (word >= a.first_word && word < end) {
            float drawn = float((w[i] + start[i]) >> 8) * (1.0f / 16777216.0f);
            uint64_t at = word - a.first_word;
            out[at] = from_float<T>(drawn < a.keep ? to_float(x[at]) * scale : 0.0f);
        }
    }
}

KERNELS(dropout, Dropout, 256, dropout)
