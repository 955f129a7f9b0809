// The last of several blocks to finish, which goes on with what all of them have computed.
#pragma once

#include "platform.cuh"

// True in the last of the `blocks` blocks that share the word `finished`, which is 0 before and after: that block sees what all of them
// have written. All threads of a block call it together.
__device__ __forceinline__ bool comes_last(uint32_t* finished, uint32_t blocks) {
    DECLARED_SHARED(uint32_t, before, [1]);
    __syncthreads();
    if (threadIdx.x == 0) {
        __threadfence();
        before[0] = atomicAdd(finished, 1u);
        __threadfence();
    }
    __syncthreads();
    if (before[0] + 1 != blocks) {
        return false;
    }
    if (threadIdx.x == 0) {
        *finished = 0;
    }
    return true;
}
