// Loads and stores of any dtype as floats, one by one or 16 bytes at a time, and sums over a block.
#pragma once

#include "platform.cuh"

// Number of elements in 16 bytes.
template <class T> struct Wide {
    static constexpr int count = 16 / sizeof(T);
};

template <class T> union WideBits {
    uint4 bits;
    T values[Wide<T>::count];
    __device__ WideBits() {}
};

// N elements from `from`: one, or as many as 16 bytes hold.
template <class T, int N> __device__ __forceinline__ void load(const T* from, float (&to)[N]) {
    if constexpr (N == 1) {
        to[0] = to_float(*from);
    } else {
        static_assert(N == Wide<T>::count);
        WideBits<T> wide;
        wide.bits = *reinterpret_cast<const uint4*>(from);
#pragma unroll
        for (int i = 0; i < N; ++i) {
            to[i] = to_float(wide.values[i]);
        }
    }
}

template <class T, int N> __device__ __forceinline__ void store(T* to, const float (&from)[N]) {
    if constexpr (N == 1) {
        *to = from_float<T>(from[0]);
    } else {
        static_assert(N == Wide<T>::count);
        WideBits<T> wide;
#pragma unroll
        for (int i = 0; i < N; ++i) {
            wide.values[i] = from_float<T>(from[i]);
        }
        *reinterpret_cast<uint4*>(to) = wide.bits;
    }
}

__device__ __forceinline__ float warp_sum(float value) {
#pragma unroll
    for (int step = 16; step > 0; step /= 2) {
        value += __shfl_xor_sync(0xffffffffu, value, step);
    }
    return value;
}

__device__ __forceinline__ float warp_max(float value) {
#pragma unroll
    for (int step = 16; step > 0; step /= 2) {
        value = fmaxf(value, __shfl_xor_sync(0xffffffffu, value, step));
    }
    return value;
}

// A soft cap; 0 is none.
__device__ __forceinline__ float capped(float logit, float cap) {
    return cap > 0 ? cap * tanhf(logit / cap) : logit;
}

// `fold` over the `warps` neighbouring warps of a block, each of which has folded its own into `value`; the result goes
// to all their threads. `warps` divides the block's warps, of which there are at most 32. All threads of the block call
// it together.
template <class Fold> __device__ __forceinline__ float group_fold(float value, int warps, Fold fold) {
    DECLARED_SHARED(float, parts, [32]);
    if (warps == 1) {
        return value;
    }
    int warp = threadIdx.x / 32;
    __syncthreads();
    if (threadIdx.x % 32 == 0) {
        parts[warp] = value;
    }
    __syncthreads();
    int first = warp / warps * warps;
    float folded = parts[first];
    for (int i = 1; i < warps; ++i) {
        folded = fold(folded, parts[first + i]);
    }
    return folded;
}

__device__ __forceinline__ float group_sum(float value, int warps) {
    return group_fold(warp_sum(value), warps, [](float a, float b) { return a + b; });
}

__device__ __forceinline__ float group_max(float value, int warps) {
    return group_fold(warp_max(value), warps, [](float a, float b) { return fmaxf(a, b); });
}

// A kernel for each dtype, of `body<T, N>`: 16 bytes at a time where `wide` is set.
#define KERNELS_WIDE(name, Arguments, threads, body)                                                                   \
    template <class T> __device__ void name(const Arguments& a) {                                                      \
        if (a.wide) {                                                                                                  \
            body<T, Wide<T>::count>(a);                                                                                \
        } else {                                                                                                       \
            body<T, 1>(a);                                                                                             \
        }                                                                                                              \
    }                                                                                                                  \
    KERNELS(name, Arguments, threads, name)
