// All kernels, and what the emulator itself reads and writes on their behalf: the part that sanitizers watch.

#include "platform.h"

namespace emulator {

void load_matrices(uint32_t* registers, const void* row, bool transposed, Site site) {
    unsigned lane = thread_index.x % 32;
    const void* const* rows = show_row(row, site);
    for (unsigned matrix = 0; matrix < 4; ++matrix) {
        uint16_t pair[2];
        for (unsigned half = 0; half < 2; ++half) {
            unsigned i = lane / 4, j = 2 * (lane % 4) + half;
            unsigned from = transposed ? j : i, at = transposed ? i : j;
            pair[half] = static_cast<const uint16_t*>(rows[8 * matrix + from])[at];
        }
        registers[matrix] = uint32_t(pair[0]) | uint32_t(pair[1]) << 16;
    }
}

void copy_now(void* shared, const void* global, bool there) {
    *static_cast<uint4*>(shared) = there ? *static_cast<const uint4*>(global) : uint4{0, 0, 0, 0};
}

} // namespace emulator

namespace {
// All .cu files; written by the build script.
#include "kernels.cuh"
} // namespace
