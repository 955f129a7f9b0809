// Kernels with one fault each, and what the emulator has to say about it.

#include "../../src/device/emulator/block.h"
#include "../../src/device/emulator/kernels.cpp"

extern "C" bool smpo_emulator_launch(const char* name, const void* arguments, unsigned size, const unsigned* grid,
                                     unsigned threads, unsigned shared_bytes, unsigned first, unsigned last,
                                     const emulator::Schedule* schedule, char* reason, unsigned reason_bytes);

#include <cstdio>

struct Arguments {
    alignas(16) unsigned char global[64];
};

KERNEL(no_fault, Arguments, 64) {
    DYNAMIC_SHARED(bytes);
    copy_async_16(bytes + 16 * (threadIdx.x % 4), arguments.global + 16 * (threadIdx.x % 4), threadIdx.x < 4);
    copy_async_commit();
    copy_async_wait<0>();
    __syncthreads();
    uint32_t words[4];
    load_matrix_x4(words, bytes + 16 * (threadIdx.x % 4));
    __shfl_xor_sync(0xffffffffu, 1.0f, 1);
}
KERNEL(another_operation, Arguments, 64) {
    if (threadIdx.x == 5) {
        __syncwarp();
    } else {
        __shfl_xor_sync(0xffffffffu, 1.0f, 1);
    }
}
KERNEL(another_line, Arguments, 64) {
    if (threadIdx.x == 5) {
        __shfl_xor_sync(0xffffffffu, 1.0f, 1);
    } else {
        __shfl_xor_sync(0xffffffffu, 1.0f, 1);
    }
}
KERNEL(lane_returned, Arguments, 64) {
    if (threadIdx.x != 40) {
        __shfl_xor_sync(0xffffffffu, 1.0f, 1);
    }
}
KERNEL(part_of_a_mask, Arguments, 64) { __shfl_xor_sync(0xffffu, 1.0f, 1); }
KERNEL(warp_returned, Arguments, 64) {
    if (threadIdx.x < 32) {
        __syncthreads();
    }
}
KERNEL(another_barrier, Arguments, 64) {
    if (threadIdx.x < 32) {
        __syncthreads();
    } else {
        __syncthreads();
    }
}
KERNEL(copy_misaligned, Arguments, 64) {
    DYNAMIC_SHARED(bytes);
    copy_async_16(bytes + 8, arguments.global, true);
}
KERNEL(copy_from_misaligned, Arguments, 64) {
    DYNAMIC_SHARED(bytes);
    copy_async_16(bytes, arguments.global + 4, true);
}
KERNEL(copy_out_of_bounds, Arguments, 64) {
    DYNAMIC_SHARED(bytes);
    copy_async_16(bytes + 64, arguments.global, true);
}
KERNEL(load_misaligned, Arguments, 64) {
    DYNAMIC_SHARED(bytes);
    uint32_t words[4];
    load_matrix_x4(words, bytes + 2 * (threadIdx.x % 32));
}
KERNEL(load_out_of_bounds, Arguments, 64) {
    DYNAMIC_SHARED(bytes);
    uint32_t words[4];
    load_matrix_x4(words, bytes + 16 * (threadIdx.x % 32));
}
KERNEL(write_behind, Arguments, 64) {
    DYNAMIC_SHARED(bytes);
    bytes[64 + threadIdx.x] = 1;
}
KERNEL(write_before, Arguments, 64) {
    DYNAMIC_SHARED(bytes);
    *(bytes - 1 - threadIdx.x) = 1;
}
KERNEL(write_behind_array, Arguments, 64) {
    DECLARED_SHARED(float, array, [8]);
    float* at = array;
    at[threadIdx.x % 9] = 1;
}
KERNEL(large_array, Arguments, 64) {
    DECLARED_SHARED(double, array, [8192]);
    array[threadIdx.x] = 1;
}

struct Fault {
    const char* kernel;
    unsigned threads, shared;
    const char* expected; // empty: none
};

const Fault FAULTS[] = {
    {"no_fault", 64, 64, ""},
    {"no_fault", 32, 64, ""},
    {"no_fault", 96, 64, "it is for at most 64 threads a block, not 96"},
    {"no_fault", 64, 99 * 1024, ""},
    {"no_fault", 64, 99 * 1024 + 16, "bytes of declared and 101392 of dynamic shared memory"},
    {"another_operation", 64, 0, "lanes of a warp are at different operations: thread 0 is at a shuffle"},
    {"another_line", 64, 0, "lanes of a warp are at different operations"},
    {"lane_returned", 64, 0, "thread 40 is at its end"},
    {"part_of_a_mask", 64, 0, "expected a mask of all lanes"},
    {"warp_returned", 64, 0, "threads of a block wait for others that never come"},
    {"another_barrier", 64, 0, "threads of a block wait for others that never come"},
    {"copy_misaligned", 64, 64, "expected a copy between multiples of 16 bytes"},
    {"copy_from_misaligned", 64, 64, "expected a copy between multiples of 16 bytes"},
    {"copy_out_of_bounds", 64, 64, "expected a copy to shared memory"},
    {"load_misaligned", 64, 80, "expected a row that starts at a multiple of 16 bytes"},
    {"load_out_of_bounds", 64, 64, "expected a row in shared memory"},
    {"write_behind", 64, 64, "a write outside of shared memory"},
    {"write_before", 64, 64, "a write outside of shared memory"},
    {"write_behind_array", 64, 0, "a write outside of shared memory"},
    {"large_array", 64, 0, "65536 bytes of declared"},
};

int main() {
    const unsigned grid[] = {2, 1, 1};
    Arguments arguments{};
    unsigned failed = 0;
    for (auto& fault : FAULTS) {
        for (uint64_t seed = 0; seed < 5; ++seed) {
            emulator::Schedule schedule{seed, nullptr, 0, 0};
            char reason[512];
            bool passed = smpo_emulator_launch(fault.kernel, &arguments, sizeof arguments, grid, fault.threads, fault.shared, 0,
                                               2, &schedule, reason, sizeof reason);
            bool right = *fault.expected == 0 ? passed : !passed && std::strstr(reason, fault.expected) != nullptr;
            if (!right) {
                std::printf("%s: expected `%s`, got `%s`\n", fault.kernel, fault.expected, reason);
                ++failed;
            }
        }
    }
    return failed == 0 ? 0 : 1;
}
