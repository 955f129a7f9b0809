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

using std::uint16_t;
using std::uint32_t;
using std::uint64_t;

namespace emulator {

struct Index {
    unsigned x, y, z;
};

// Indices of the running thread, set by the scheduler.
extern __thread Index thread_index, block_index, block_extent, grid_extent;

// A line of a kernel.
struct Site {
    const char* file;
    int line;
};

// Waits for all threads of the block, or of the warp.
void block_barrier(Site site);
void warp_barrier(unsigned mask, Site site);

// Orders the thread's accesses before it, for all threads of the grid, before those after it.
void fence(Site site);

// Adds to a word that blocks share, without an order to any other access but by fences; the word before.
uint32_t add_atomically(uint32_t* word, uint32_t value);

// Exchanges one word a thread within a warp.
uint32_t exchange(unsigned mask, uint32_t value, unsigned from_lane, Site site);

// Dynamic shared memory of the block, and an array that it declares.
unsigned char* dynamic_shared();
void* declared_shared(const void* declaration, size_t bytes);

// One warp's d += a·b of the tensor cores; one thread computes for all.
void multiply_tiles(float* d, const uint32_t* a, const uint32_t* b, bool is_bf16, Site site);

// Four 8 × 8 matrices of 16-bit elements: thread i names the address of row i % 8 of matrix i / 8.
void load_matrices(uint32_t* registers, const void* row, bool transposed, Site site);
// The rows that the lanes of the warp have named.
const void* const* show_row(const void* row, Site site);

// 16 bytes from global to shared memory; zeros unless `there`.
struct Copy {
    void* shared;
    const void* global;
    bool there;
};
void copy_now(void* shared, const void* global, bool there);
void start_copy(const Copy& copy, Site site);
void commit_copies(Site site);
void wait_for_copies(unsigned incomplete, Site site);

using Entry = void (*)(const void* arguments);
struct Registration {
    Registration(const char* name, unsigned size, unsigned most_threads, Entry entry);
};

} // namespace emulator

#define threadIdx emulator::thread_index
#define blockIdx emulator::block_index
#define blockDim emulator::block_extent
#define gridDim emulator::grid_extent

// Parameters of the line that calls.
#define CALLER const char *file = __builtin_FILE(), int line = __builtin_LINE()
#define CALLER_SITE emulator::Site { file, line }

inline void __syncthreads(CALLER) { emulator::block_barrier(CALLER_SITE); }
inline void __syncwarp(unsigned mask = 0xffffffffu, CALLER) { emulator::warp_barrier(mask, CALLER_SITE); }
inline void __threadfence(CALLER) { emulator::fence(CALLER_SITE); }
inline uint32_t atomicAdd(uint32_t* word, uint32_t value) { return emulator::add_atomically(word, value); }

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

inline float __shfl_xor_sync(unsigned mask, float value, int lanes, CALLER) {
    return float_of(emulator::exchange(mask, bits_of(value), (threadIdx.x % 32) ^ unsigned(lanes), CALLER_SITE));
}

inline float __shfl_sync(unsigned mask, float value, int lane, CALLER) {
    return float_of(emulator::exchange(mask, bits_of(value), unsigned(lane), CALLER_SITE));
}

inline float __expf(float x) { return std::exp(x); }
inline float exp2_fast(float x) { return std::exp2(x); }
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

template <class T> inline void mma_16816(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], CALLER) {
    emulator::multiply_tiles(d, a, b, IsBf16<T>::value, CALLER_SITE);
}
inline void load_matrix_x4(uint32_t (&r)[4], const void* row, CALLER) {
    emulator::load_matrices(r, row, false, CALLER_SITE);
}
inline void load_matrix_x4_transposed(uint32_t (&r)[4], const void* row, CALLER) {
    emulator::load_matrices(r, row, true, CALLER_SITE);
}

inline void copy_async_16(void* shared, const void* global, bool there, CALLER) {
    emulator::start_copy({shared, global, there}, CALLER_SITE);
}
inline void copy_async_commit(CALLER) { emulator::commit_copies(CALLER_SITE); }
template <int PENDING> inline void copy_async_wait(CALLER) { emulator::wait_for_copies(PENDING, CALLER_SITE); }

#define DYNAMIC_SHARED(name) unsigned char* name = emulator::dynamic_shared()
#define DECLARED_SHARED(type, name, extents)                                                                           \
    typedef type name##_array extents;                                                                                 \
    static char name##_declaration;                                                                                    \
    name##_array& name = *static_cast<name##_array*>(emulator::declared_shared(&name##_declaration, sizeof(name##_array)))

#define KERNEL(name, Arguments, threads)                                                                               \
    static void name(const Arguments&);                                                                                \
    static emulator::Registration name##_registration(                                                                 \
        #name, sizeof(Arguments), threads, [](const void* p) { name(*static_cast<const Arguments*>(p)); });            \
    static void name([[maybe_unused]] const Arguments& arguments)
