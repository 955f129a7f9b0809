// Root-mean-square normalisation, alone and after a residual sum; see cpu/norm.rs for the formulas.
//
// A row belongs to 1, 2, 4 or 8 warps of a block of 256 threads.

#include "elements.cuh"

struct RmsNorm {
    const void* x;
    const void* residual; // null: no sum
    const void* weight;
    void* sum; // null: no sum
    void* normed;
    float* inverse; // (rows)
    uint64_t rows;
    uint32_t width;
    uint32_t warps; // of a row
    uint32_t wide;  // 1 if rows start at multiples of 16 bytes and their length is one
    float eps;
    float offset;
    uint32_t unused;
};

template <class T, int N> __device__ void rms_norm_rows(const RmsNorm& a) {
    int threads = a.warps * 32, lane = threadIdx.x % threads;
    uint64_t row = uint64_t(blockIdx.x) * (256 / threads) + threadIdx.x / threads;
    bool there = row < a.rows;
    const T* x = static_cast<const T*>(a.x) + row * a.width;
    const T* residual = static_cast<const T*>(a.residual);
    T* total = static_cast<T*>(a.sum);
    float square = 0;
    for (uint32_t i = lane * N; there && i < a.width; i += threads * N) {
        float v[N];
        load<T, N>(x + i, v);
        if (residual != nullptr) {
            float r[N];
            load<T, N>(residual + row * a.width + i, r);
#pragma unroll
            for (int j = 0; j < N; ++j) {
                // Rounded, as later readers of the sum get it.
                v[j] = to_float(from_float<T>(v[j] + r[j]));
            }
            store<T, N>(total + row * a.width + i, v);
        }
#pragma unroll
        for (int j = 0; j < N; ++j) {
            square += v[j] * v[j];
        }
    }
    square = group_sum(square, a.warps);
    if (!there) {
        return;
    }
    float r = 1.0f / sqrtf(square / a.width + a.eps);
    if (lane == 0) {
        a.inverse[row] = r;
    }
    const T* from = residual != nullptr ? total + row * a.width : x;
    T* normed = static_cast<T*>(a.normed) + row * a.width;
    for (uint32_t i = lane * N; i < a.width; i += threads * N) {
        float v[N], g[N];
        // A thread reads only what it wrote itself.
        load<T, N>(from + i, v);
        load<T, N>(static_cast<const T*>(a.weight) + i, g);
#pragma unroll
        for (int j = 0; j < N; ++j) {
            v[j] = v[j] * r * (g[j] + a.offset);
        }
        store<T, N>(normed + i, v);
    }
}

KERNELS_WIDE(rms_norm, RmsNorm, 256, rms_norm_rows)

struct RmsNormBackward {
    const void* x;
    const void* weight;
    const void* dy;
    const void* base; // added to dx; null: nothing
    void* dx;
    const float* inverse;
    uint64_t rows;
    uint32_t width;
    uint32_t warps;
    uint32_t wide;
    float offset;
};

template <class T, int N> __device__ void rms_norm_backward_rows(const RmsNormBackward& a) {
    int threads = a.warps * 32, lane = threadIdx.x % threads;
    uint64_t row = uint64_t(blockIdx.x) * (256 / threads) + threadIdx.x / threads;
    bool there = row < a.rows;
    const T* x = static_cast<const T*>(a.x) + row * a.width;
    const T* dy = static_cast<const T*>(a.dy) + row * a.width;
    const T* weight = static_cast<const T*>(a.weight);
    float inner = 0;
    for (uint32_t i = lane * N; there && i < a.width; i += threads * N) {
        float v[N], d[N], g[N];
        load<T, N>(x + i, v);
        load<T, N>(dy + i, d);
        load<T, N>(weight + i, g);
#pragma unroll
        for (int j = 0; j < N; ++j) {
            inner += d[j] * (g[j] + a.offset) * v[j];
        }
    }
    inner = group_sum(inner, a.warps);
    if (!there) {
        return;
    }
    float r = a.inverse[row];
    float through_root = -inner * r * r * r / a.width;
    const T* base = static_cast<const T*>(a.base);
    T* dx = static_cast<T*>(a.dx) + row * a.width;
    for (uint32_t i = lane * N; i < a.width; i += threads * N) {
        float v[N], d[N], g[N], b[N];
        load<T, N>(x + i, v);
        load<T, N>(dy + i, d);
        load<T, N>(weight + i, g);
#pragma unroll
        for (int j = 0; j < N; ++j) {
            b[j] = 0;
        }
        if (base != nullptr) {
            load<T, N>(base + row * a.width + i, b);
        }
#pragma unroll
        for (int j = 0; j < N; ++j) {
            b[j] += v[j] * through_root + r * (g[j] + a.offset) * d[j];
        }
        store<T, N>(dx + i, b);
    }
}

KERNELS_WIDE(rms_norm_backward, RmsNormBackward, 256, rms_norm_backward_rows)
