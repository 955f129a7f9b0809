// The differences between a GPU and the emulator: dtypes, tensor-core instructions, declaration of kernels.
//
// A kernel takes one struct of arguments, so that the host's twin of that struct is all that has to agree with it.
#pragma once

#ifdef SMPO_EMULATOR
#include "../emulator/platform.h"
#else

#include <cstdint>
#include <cuda_bf16.h>
#include <cuda_fp16.h>

using bf16 = __nv_bfloat16;
using f16 = __half;

__device__ __forceinline__ float to_float(float value) { return value; }
__device__ __forceinline__ float to_float(bf16 value) { return __bfloat162float(value); }
__device__ __forceinline__ float to_float(f16 value) { return __half2float(value); }

template <class T> __device__ __forceinline__ T from_float(float value);
template <> __device__ __forceinline__ float from_float<float>(float value) { return value; }
template <> __device__ __forceinline__ bf16 from_float<bf16>(float value) { return __float2bfloat16_rn(value); }
template <> __device__ __forceinline__ f16 from_float<f16>(float value) { return __float2half_rn(value); }

// Two elements in one register, `low` in its lower half.
template <class T> __device__ __forceinline__ uint32_t pack_two(float low, float high);
template <> __device__ __forceinline__ uint32_t pack_two<bf16>(float low, float high) {
    __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
    return reinterpret_cast<uint32_t&>(pair);
}
template <> __device__ __forceinline__ uint32_t pack_two<f16>(float low, float high) {
    __half2 pair = __floats2half2_rn(low, high);
    return reinterpret_cast<uint32_t&>(pair);
}

// d += a·b, (16, 8) += (16, 16)·(16, 8), on tensor cores; fragments as the PTX ISA lays them out.
template <class T> __device__ __forceinline__ void mma_16816(float (&d)[4], const uint32_t (&a)[4],
                                                             const uint32_t (&b)[2]);
template <> __device__ __forceinline__ void mma_16816<bf16>(float (&d)[4], const uint32_t (&a)[4],
                                                            const uint32_t (&b)[2]) {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
                 "{%0,%1,%2,%3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
template <> __device__ __forceinline__ void mma_16816<f16>(float (&d)[4], const uint32_t (&a)[4],
                                                           const uint32_t (&b)[2]) {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
                 "{%0,%1,%2,%3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

// Four 8 × 8 matrices of 16-bit elements from shared memory: thread i names row i % 8 of matrix i / 8.
__device__ __forceinline__ void load_matrix_x4(uint32_t (&r)[4], const void* row) {
    uint32_t address = static_cast<uint32_t>(__cvta_generic_to_shared(row));
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(address)
                 : "memory");
}
__device__ __forceinline__ void load_matrix_x4_transposed(uint32_t (&r)[4], const void* row) {
    uint32_t address = static_cast<uint32_t>(__cvta_generic_to_shared(row));
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(address)
                 : "memory");
}

// 2^x by the special function unit; what is below the normal numbers is 0.
__device__ __forceinline__ float exp2_fast(float x) {
    float power;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(power) : "f"(x));
    return power;
}

// Asynchronous copy of 16 bytes from global to shared memory; zeros unless `there`.
__device__ __forceinline__ void copy_async_16(void* shared, const void* global, bool there) {
    uint32_t address = static_cast<uint32_t>(__cvta_generic_to_shared(shared));
    int bytes = there ? 16 : 0;
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(address), "l"(global), "r"(bytes) : "memory");
}
__device__ __forceinline__ void copy_async_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
// Waits until at most PENDING of the last groups are incomplete.
template <int PENDING> __device__ __forceinline__ void copy_async_wait() {
    asm volatile("cp.async.wait_group %0;" ::"n"(PENDING) : "memory");
}

// Shared memory of a size that the launch gives, and an array; `__shared__` itself is unknown to the emulator.
#define DYNAMIC_SHARED(name) extern __shared__ __align__(128) unsigned char name[]
#define DECLARED_SHARED(type, name, extents) __shared__ type name extents

#define KERNEL(name, Arguments, threads)                                                                               \
    extern "C" __global__ void __launch_bounds__(threads) name(const __grid_constant__ Arguments arguments)

#endif

// A kernel for each dtype.
#define KERNELS(name, Arguments, threads, body)                                                                        \
    KERNEL(name##_f32, Arguments, threads) { body<float>(arguments); }                                                 \
    KERNEL(name##_bf16, Arguments, threads) { body<bf16>(arguments); }                                                 \
    KERNEL(name##_f16, Arguments, threads) { body<f16>(arguments); }
