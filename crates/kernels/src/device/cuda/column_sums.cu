// Sums over rows in a fixed order: gradients of a norm's factors and of a bias.
//
// First every block sums its share of the rows for 32 columns, then the shares are added up.

#include "elements.cuh"

struct ColumnSums {
    const void* values;   // (rows, width)
    const void* factors;  // (rows, width), null: 1
    const float* scales;  // (rows), null: 1
    float* shares;        // (share count, width)
    uint64_t rows;
    uint64_t rows_each;
    uint32_t width;
    uint32_t unused;
};

template <class T> __device__ void column_sums(const ColumnSums& a) {
    DECLARED_SHARED(float, parts, [8][32]);
    uint32_t lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    uint32_t column = blockIdx.x * 32 + lane;
    uint64_t first = blockIdx.y * a.rows_each;
    uint64_t last = first + a.rows_each < a.rows ? first + a.rows_each : a.rows;
    float sum = 0;
    if (column < a.width) {
        for (uint64_t row = first + warp; row < last; row += 8) {
            float value = to_float(static_cast<const T*>(a.values)[row * a.width + column]);
            if (a.factors != nullptr) {
                value *= to_float(static_cast<const T*>(a.factors)[row * a.width + column]);
            }
            if (a.scales != nullptr) {
                value *= a.scales[row];
            }
            sum += value;
        }
    }
    parts[warp][lane] = sum;
    __syncthreads();
    if (warp == 0 && column < a.width) {
        for (int i = 1; i < 8; ++i) {
            sum += parts[i][lane];
        }
        a.shares[blockIdx.y * uint64_t(a.width) + column] = sum;
    }
}

KERNELS(column_sums, ColumnSums, 256, column_sums)

struct AddShares {
    const float* shares;
    float* out;
    uint32_t count;
    uint32_t width;
    uint32_t accumulate;
    uint32_t unused;
};

KERNEL(add_shares, AddShares, 256) {
    uint32_t column = blockIdx.x * 256 + threadIdx.x;
    if (column >= arguments.width) {
        return;
    }
    float sum = arguments.accumulate ? arguments.out[column] : 0.0f;
    for (uint32_t i = 0; i < arguments.count; ++i) {
        sum += arguments.shares[i * uint64_t(arguments.width) + column];
    }
    arguments.out[column] = sum;
}
