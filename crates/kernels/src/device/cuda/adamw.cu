// AdamW in one pass over each parameter, and the sums of squares that clipping needs.

#include "elements.cuh"

struct SquareSums {
    const float* values;
    float* parts; // one a block
    uint64_t count;
};

// A block of 256 threads takes 16,384 values.
KERNEL(square_sums, SquareSums, 256) {
    uint64_t first = uint64_t(blockIdx.x) * 16384;
    float sum = 0;
    for (int step = 0; step < 64; ++step) {
        uint64_t i = first + step * 256 + threadIdx.x;
        if (i < arguments.count) {
            sum += arguments.values[i] * arguments.values[i];
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

struct AdamW {
    const float* gradient;
    float* first;
    float* second;
    float* master;   // null for a float32 parameter
    void* parameter;
    uint64_t count;
    float clip;
    float beta1;
    float one_minus_beta1;
    float beta2;
    float one_minus_beta2;
    float second_correction; // 1 / √(1 − β₂ᵗ)
    float eps;
    float rate; // η / (1 − β₁ᵗ)
    float keep; // 1 − η·λ
    uint32_t unused;
};

template <class T> __device__ void adamw(const AdamW& a) {
    uint64_t i = uint64_t(blockIdx.x) * 256 + threadIdx.x;
    if (i >= a.count) {
        return;
    }
    float g = a.gradient[i] * a.clip;
    float m = a.first[i] * a.beta1 + a.one_minus_beta1 * g;
    float v = a.second[i] * a.beta2 + a.one_minus_beta2 * g * g;
    a.first[i] = m;
    a.second[i] = v;
    T* parameter = static_cast<T*>(a.parameter);
    float value = a.master != nullptr ? a.master[i] : to_float(parameter[i]);
    value = value * a.keep - a.rate * m / (sqrtf(v) * a.second_correction + a.eps);
    if (a.master != nullptr) {
        a.master[i] = value;
    }
    parameter[i] = from_float<T>(value);
}

KERNELS(adamw, AdamW, 256, adamw)
