// Four-bit blocks, dequantised before a product.

#include "elements.cuh"

struct Dequantise {
    const uint32_t* codes;       // eight values a word, two a byte, the first in its upper half
    const float* scales;         // one a block; with double quantisation one for each `nested_block` of them
    const uint32_t* nested;      // the scales' codes, four a word; null without double quantisation
    const float* nested_numbers; // the number of each
    void* out;
    uint64_t count;
    float numbers[16];
    uint32_t block;
    uint32_t nested_block;
    float offset;
    uint32_t rounding; // values are rounded to: 0 float32, 1 bfloat16, 2 float16
};

__device__ float scale_of(const Dequantise& a, uint64_t block) {
    if (!a.nested) {
        return a.scales[block];
    }
    uint32_t code = a.nested[block / 4] >> (8 * (block % 4)) & 255;
    return a.nested_numbers[code] * a.scales[block / a.nested_block] + a.offset;
}

__device__ float rounded(float value, uint32_t rounding) {
    switch (rounding) {
    case 1:
        return to_float(from_float<bf16>(value));
    case 2:
        return to_float(from_float<f16>(value));
    default:
        return value;
    }
}

// A thread writes eight values. Blocks are of an even number of values, so the two of a byte share a scale.
template <class T> __device__ void dequantise(const Dequantise& a) {
    uint64_t word = uint64_t(blockIdx.x) * 256 + threadIdx.x;
    uint64_t first = word * 8;
    if (first >= a.count) {
        return;
    }
    uint32_t codes = a.codes[word];
    T* out = static_cast<T*>(a.out);
    for (uint32_t pair = 0; pair < 4; ++pair) {
        uint64_t i = first + 2 * pair;
        if (i >= a.count) {
            return;
        }
        uint32_t byte = codes >> (8 * pair) & 255;
        float scale = scale_of(a, i / a.block);
        out[i] = from_float<T>(rounded(a.numbers[byte >> 4] * scale, a.rounding));
        if (i + 1 < a.count) {
            out[i + 1] = from_float<T>(rounded(a.numbers[byte & 15] * scale, a.rounding));
        }
    }
}

KERNELS(dequantise, Dequantise, 256, dequantise)
