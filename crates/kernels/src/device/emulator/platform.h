// The part of CUDA C++ that the kernels use, on the host.
//
// The same .cu files are compiled by nvcc for a GPU and, with this header in place of CUDA's own, by a C++ compiler for
// the CPU. A block's threads are fibers of one thread of the operating system; blocks are independent.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#define __device__ inline
#define __host__
#define __forceinline__ __attribute__((always_inline))
#define __restrict__ __restrict
// Fibers of a block never leave their thread, and other threads run other blocks.
#define __shared__ static thread_local

using std::uint16_t;
using std::uint32_t;
using std::uint64_t;

namespace emulator {

struct Index {
    unsigned x, y, z;
};

// Indices of the running fiber, set by the scheduler.
extern thread_local Index thread_index, block_index, block_extent, grid_extent;

// Waits for all threads of the block, or of the warp, that still run.
void wait_for_block();
void wait_for_warp();

// Exchanges one word a thread within a warp; two buffers in turn, so that one wait is enough.
uint32_t exchange(uint32_t value, unsigned from_lane);

// Dynamic shared memory of the block.
unsigned char* dynamic_shared();

// One warp's d += a·b of the tensor cores; one thread computes for all.
void multiply_tiles(float* d, const uint32_t* a, const uint32_t* b, bool is_bf16);

// Four 8 × 8 matrices of 16-bit elements: thread i names the address of row i % 8 of matrix i / 8.
void load_matrices(uint32_t* registers, const void* row, bool transposed);

using Entry = void (*)(const void* arguments);
struct Registration {
    Registration(const char* name, unsigned size, Entry entry);
};

} // namespace emulator

#define threadIdx emulator::thread_index
#define blockIdx emulator::block_index
#define blockDim emulator::block_extent
#define gridDim emulator::grid_extent

inline void __syncthreads() { emulator::wait_for_block(); }
inline void __syncwarp() { emulator::wait_for_warp(); }

inline uint32_t bits_of(float value) {
    uint32_t bits;
    std::memcpy(&bits, &value, 4);
    return bits;
}

inline float float_of(uint32_t bits) {
    float value;
    std::memcpy(&value, &bits, 4);
    return value;
}

inline float __shfl_xor_sync(unsigned, float value, int mask) {
    return float_of(emulator::exchange(bits_of(value), (threadIdx.x % 32) ^ unsigned(mask)));
}

inline float __shfl_sync(unsigned, float value, int lane) {
    return float_of(emulator::exchange(bits_of(value), unsigned(lane)));
}

inline float __expf(float x) { return std::exp(x); }
inline float rsqrtf(float x) { return 1.0f / std::sqrt(x); }
inline float __fdividef(float a, float b) { return a / b; }
using std::exp;
using std::isfinite;
using std::log;

struct alignas(16) uint4 {
    uint32_t x, y, z, w;
};

// bfloat16: the upper half of a float, rounded to nearest, ties to even.
struct bf16 {
    uint16_t bits;
};

// IEEE half precision.
struct f16 {
    uint16_t bits;
};

inline float to_float(float value) { return value; }
inline float to_float(bf16 value) { return float_of(uint32_t(value.bits) << 16); }
inline float to_float(f16 value) {
    uint32_t sign = uint32_t(value.bits & 0x8000u) << 16;
    uint32_t magnitude = value.bits & 0x7fffu;
    if (magnitude >= 0x7c00u) {
        return float_of(sign | 0x7f800000u | ((magnitude & 0x3ffu) << 13));
    }
    // Halves and floats differ in their exponent's bias by 112; the product also makes subnormals right.
    return float_of(sign | bits_of(float_of(magnitude << 13) * float_of(0x77800000u)));
}

template <class T> T from_float(float value);
template <> inline float from_float<float>(float value) { return value; }
template <> inline bf16 from_float<bf16>(float value) {
    uint32_t bits = bits_of(value);
    if (value != value) {
        return bf16{uint16_t((bits >> 16) | 0x40u)};
    }
    return bf16{uint16_t((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16)};
}
template <> inline f16 from_float<f16>(float value) {
    uint32_t bits = bits_of(value);
    uint32_t sign = (bits >> 16) & 0x8000u;
    uint32_t magnitude = bits & 0x7fffffffu;
    if (magnitude > 0x7f800000u) {
        return f16{uint16_t(sign | 0x7e00u)};
    }
    if (magnitude >= 0x477ff000u) { // rounds to 2^16 or is infinite
        return f16{uint16_t(sign | 0x7c00u)};
    }
    if (magnitude < 0x38800000u) { // subnormal: a unit is 2^-24, and adding 0.5 rounds to it
        return f16{uint16_t(sign | (bits_of(float_of(magnitude) + 0.5f) - 0x3f000000u))};
    }
    uint32_t rounded = magnitude + 0xfffu + ((magnitude >> 13) & 1u);
    return f16{uint16_t(sign | ((rounded - 0x38000000u) >> 13))};
}

template <class T> inline uint32_t pack_two(float low, float high) {
    return uint32_t(from_float<T>(low).bits) | uint32_t(from_float<T>(high).bits) << 16;
}

template <class T> struct IsBf16 {
    static constexpr bool value = false;
};
template <> struct IsBf16<bf16> {
    static constexpr bool value = true;
};

template <class T> inline void mma_16816(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
    emulator::multiply_tiles(d, a, b, IsBf16<T>::value);
}
inline void load_matrix_x4(uint32_t (&r)[4], const void* row) { emulator::load_matrices(r, row, false); }
inline void load_matrix_x4_transposed(uint32_t (&r)[4], const void* row) { emulator::load_matrices(r, row, true); }

inline void copy_async_16(void* shared, const void* global, bool there) {
    if (there) {
        std::memcpy(shared, global, 16);
    } else {
        std::memset(shared, 0, 16);
    }
}
inline void copy_async_commit() {}
template <int PENDING> inline void copy_async_wait() {}

#define DYNAMIC_SHARED(name) unsigned char* name = emulator::dynamic_shared()

#define KERNEL(name, Arguments, threads)                                                                               \
    static void name(const Arguments&);                                                                                \
    static emulator::Registration name##_registration(                                                                 \
        #name, sizeof(Arguments), [](const void* p) { name(*static_cast<const Arguments*>(p)); });                     \
    static void name(const Arguments& arguments)
