// AdamW in one pass over all parameters, and the sums of squares that clipping needs.

#include "elements.cuh"

// The values of a parameter, and the first of the blocks that are its own.
struct Values {
    const float* values;
    uint64_t count;
    uint32_t first_block;
    uint32_t unused;
};

// The last of `count` whose first block is not after this one. Every one has a block.
template <class Item> __device__ __forceinline__ const Item& owner(const Item* items, uint32_t count) {
    uint32_t low = 0;
    while (count > 1) {
        uint32_t half = count / 2;
        if (items[low + half].first_block <= blockIdx.x) {
            low += half;
            count -= half;
        } else {
            count = half;
        }
    }
    return items[low];
}

struct SquareSums {
    const Values* gradients;
    float* parts; // one a block
    uint32_t count; // of gradients
    uint32_t unused;
};

// A block of 256 threads takes 16,384 values of one gradient.
KERNEL(square_sums, SquareSums, 256) {
    const Values& own = owner(arguments.gradients, arguments.count);
    const float* values = own.values;
    uint64_t count = own.count, first = uint64_t(blockIdx.x - own.first_block) * 16384 + threadIdx.x;
    float sum = 0;
    for (int step = 0; step < 64; ++step) {
        uint64_t i = first + step * 256;
        if (i < count) {
            sum += values[i] * values[i];
        }
    }
    sum = group_sum(sum, 8);
    if (threadIdx.x == 0) {
        arguments.parts[blockIdx.x] = sum;
    }
}

struct AddParts {
    const float* parts;
    const uint32_t* starts; // (count + 1)
    double* sums;           // (count)
};

// A block adds the parts of one parameter, in float64: 32 running sums, then those in order.
KERNEL(add_parts, AddParts, 32) {
    DECLARED_SHARED(double, sums, [32]);
    uint32_t last = arguments.starts[blockIdx.x + 1];
    double sum = 0;
    for (uint32_t i = arguments.starts[blockIdx.x] + threadIdx.x; i < last; i += 32) {
        sum += double(arguments.parts[i]);
    }
    sums[threadIdx.x] = sum;
    __syncthreads();
    if (threadIdx.x == 0) {
        for (int i = 1; i < 32; ++i) {
            sum += sums[i];
        }
        arguments.sums[blockIdx.x] = sum;
    }
}

// A parameter with its state.
struct AdamWParameter {
    const float* gradient;
    float* first;
    float* second;
    float* master;   // null for a float32 parameter
    void* parameter;
    uint64_t count;
    uint32_t first_block;
    float keep; // 1 − η·λ
};

struct AdamW {
    const AdamWParameter* parameters; // of one dtype
    uint32_t count;
    float clip;
    float beta1;
    float one_minus_beta1;
    float beta2;
    float one_minus_beta2;
    float second_correction; // 1 / √(1 − β₂ᵗ)
    float eps;
    float rate; // η / (1 − β₁ᵗ)
    uint32_t unused;
};

// A block takes 2,048 values of one parameter.
template <class T> __device__ void adamw(const AdamW& a) {
    const AdamWParameter own = owner(a.parameters, a.count);
    T* parameter = static_cast<T*>(own.parameter);
    uint64_t start = uint64_t(blockIdx.x - own.first_block) * 2048 + threadIdx.x;
#pragma unroll
    for (int step = 0; step < 8; ++step) {
        uint64_t i = start + step * 256;
        if (i < own.count) {
            float g = own.gradient[i] * a.clip;
            float m = own.first[i] * a.beta1 + a.one_minus_beta1 * g;
            float v = own.second[i] * a.beta2 + a.one_minus_beta2 * g * g;
            own.first[i] = m;
            own.second[i] = v;
            float value = own.master != nullptr ? own.master[i] : to_float(parameter[i]);
            value = value * own.keep - a.rate * m / (sqrtf(v) * a.second_correction + a.eps);
            if (own.master != nullptr) {
                own.master[i] = value;
            }
            parameter[i] = from_float<T>(value);
        }
    }
}

KERNELS(adamw, AdamW, 256, adamw)
