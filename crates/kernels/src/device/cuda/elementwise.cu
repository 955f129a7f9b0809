// Sums and conversions of whole tensors.

#include "elements.cuh"

struct Add {
    const void* a;
    const void* b;
    void* out;
    uint64_t count;
    uint32_t wide;
    uint32_t unused;
};

template <class T, int N> __device__ void add_elements(const Add& a) {
    uint64_t i = (uint64_t(blockIdx.x) * blockDim.x + threadIdx.x) * N;
    if (i >= a.count) {
        return;
    }
    float left[N], right[N];
    load<T, N>(static_cast<const T*>(a.a) + i, left);
    load<T, N>(static_cast<const T*>(a.b) + i, right);
#pragma unroll
    for (int j = 0; j < N; ++j) {
        left[j] += right[j];
    }
    store<T, N>(static_cast<T*>(a.out) + i, left);
}

KERNELS_WIDE(add, Add, 256, add_elements)

struct Convert {
    const void* from;
    void* to;
    uint64_t count;
    uint32_t accumulate;
    uint32_t unused;
};

// A block of 256 threads converts 1,024 elements.
template <class From, class To> __device__ void convert(const Convert& a) {
    uint64_t first = uint64_t(blockIdx.x) * 1024 + threadIdx.x;
    const From* from = static_cast<const From*>(a.from);
    To* to = static_cast<To*>(a.to);
#pragma unroll
    for (int step = 0; step < 4; ++step) {
        uint64_t i = first + step * 256;
        if (i < a.count) {
            float value = to_float(from[i]);
            to[i] = from_float<To>(a.accumulate ? to_float(to[i]) + value : value);
        }
    }
}

#define CONVERT(From, from, To, to)                                                                                    \
    KERNEL(convert_##from##_##to, Convert, 256) { convert<From, To>(arguments); }

CONVERT(float, f32, float, f32)
CONVERT(float, f32, bf16, bf16)
CONVERT(float, f32, f16, f16)
CONVERT(bf16, bf16, float, f32)
CONVERT(bf16, bf16, bf16, bf16)
CONVERT(f16, f16, float, f32)
CONVERT(f16, f16, f16, f16)
