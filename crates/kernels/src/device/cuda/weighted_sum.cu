// Σ weights·x as a scalar, in float64, and its gradient.

#include "elements.cuh"

struct WeightedSum {
    const void* x; // backward: one float32, the sum's gradient
    const void* weights;
    void* out;
    uint64_t count;
};

// One block: 256 running sums, then those in order.
template <class T> __device__ void weighted_sum(const WeightedSum& a) {
    DECLARED_SHARED(double, sums, [256]);
    double sum = 0;
    for (uint64_t i = threadIdx.x; i < a.count; i += 256) {
        sum += double(to_float(static_cast<const T*>(a.x)[i])) * double(to_float(static_cast<const T*>(a.weights)[i]));
    }
    sums[threadIdx.x] = sum;
    __syncthreads();
    if (threadIdx.x == 0) {
        for (int i = 1; i < 256; ++i) {
            sum += sums[i];
        }
        *static_cast<float*>(a.out) = float(sum);
    }
}

KERNELS(weighted_sum, WeightedSum, 256, weighted_sum)

template <class T> __device__ void weighted_sum_backward(const WeightedSum& a) {
    uint64_t i = uint64_t(blockIdx.x) * 256 + threadIdx.x;
    if (i < a.count) {
        float weight = to_float(static_cast<const T*>(a.weights)[i]);
        static_cast<T*>(a.out)[i] = from_float<T>(*static_cast<const float*>(a.x) * weight);
    }
}

KERNELS(weighted_sum_backward, WeightedSum, 256, weighted_sum_backward)
