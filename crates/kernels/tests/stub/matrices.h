// Matrices of cuBLAS in host memory: types by their numbers, elements as floats.
#pragma once

#include "../../src/device/cuda/platform.cuh"
#include "state.h"

#include <vector>

namespace stub {

enum Status { SUCCESS = 0, INVALID_VALUE = 7, EXECUTION_FAILED = 13, NOT_SUPPORTED = 15 };
enum Type { F32 = 0, F16 = 2, BF16 = 14 };
enum { NO_TRANSPOSE = 0, TRANSPOSE = 1, COMPUTE_F32 = 68 };

inline size_t bytes_of(int type) { return type == F32 ? 4 : 2; }

inline float value(const void* at, int type, size_t index) {
    switch (type) {
        case F32: return static_cast<const float*>(at)[index];
        case BF16: return to_float(static_cast<const bf16*>(at)[index]);
        default: return to_float(static_cast<const f16*>(at)[index]);
    }
}

inline void set(void* at, int type, size_t index, float value) {
    switch (type) {
        case F32: static_cast<float*>(at)[index] = value; break;
        case BF16: static_cast<bf16*>(at)[index] = from_float<bf16>(value); break;
        default: static_cast<f16*>(at)[index] = from_float<f16>(value);
    }
}

// A matrix of `rows` × `columns` as it lies, column by column, `stride` elements from one to the next.
inline bool fits(const void* at, int type, int rows, int columns, int stride) {
    return stride >= rows && stride > 0 &&
           holds(at, (size_t(columns - 1) * size_t(stride) + size_t(rows)) * bytes_of(type));
}

// Values of op(matrix), rows × columns, row by row.
inline std::vector<float> read(const void* at, int type, bool transposed, int rows, int columns, int stride) {
    std::vector<float> values(size_t(rows) * size_t(columns));
    for (int row = 0; row < rows; ++row) {
        for (int column = 0; column < columns; ++column) {
            size_t index = transposed ? size_t(row) * size_t(stride) + size_t(column) : size_t(column) * size_t(stride) + size_t(row);
            values[size_t(row) * size_t(columns) + size_t(column)] = value(at, type, index);
        }
    }
    return values;
}

// An element of a product: the sum over `inner` of x (rows × inner) and y (columns × inner), both row by row.
inline float product(const std::vector<float>& x, const std::vector<float>& y, int row, int column, int inner) {
    float sum = 0;
    for (int i = 0; i < inner; ++i) {
        sum += x[size_t(row) * size_t(inner) + size_t(i)] * y[size_t(column) * size_t(inner) + size_t(i)];
    }
    return sum;
}

} // namespace stub
