// Rows moved: columns out of a wider matrix and back, rows by id and their sums by id, one row repeated.

#include "elements.cuh"

struct Columns {
    const void* from;
    void* to;
    uint64_t rows;
    uint64_t from_stride; // elements between rows
    uint64_t to_stride;
    uint32_t width;
    uint32_t accumulate;
};

// A block copies 8 rows, or adds them to what is there.
template <class T> __device__ void copy_columns(const Columns& a) {
    uint64_t row = uint64_t(blockIdx.x) * 8 + threadIdx.x / 32;
    if (row >= a.rows) {
        return;
    }
    const T* from = static_cast<const T*>(a.from) + row * a.from_stride;
    T* to = static_cast<T*>(a.to) + row * a.to_stride;
    for (uint32_t i = threadIdx.x % 32; i < a.width; i += 32) {
        to[i] = a.accumulate ? from_float<T>(to_float(to[i]) + to_float(from[i])) : from[i];
    }
}

KERNELS(copy_columns, Columns, 256, copy_columns)

// A warp copies a row.
template <class T> __device__ __forceinline__ void copy_row(const T* from, T* to, uint32_t width, uint32_t wide) {
    if (wide) {
        const uint4* from_wide = reinterpret_cast<const uint4*>(from);
        uint4* to_wide = reinterpret_cast<uint4*>(to);
        for (uint32_t i = threadIdx.x % 32; i < width / Wide<T>::count; i += 32) {
            to_wide[i] = from_wide[i];
        }
    } else {
        for (uint32_t i = threadIdx.x % 32; i < width; i += 32) {
            to[i] = from[i];
        }
    }
}

struct Gather {
    const void* table;
    const uint32_t* ids;
    void* out;
    uint64_t rows;
    uint32_t width;
    uint32_t wide;
};

template <class T> __device__ void gather_rows(const Gather& a) {
    uint64_t row = uint64_t(blockIdx.x) * 8 + threadIdx.x / 32;
    if (row >= a.rows) {
        return;
    }
    const T* from = static_cast<const T*>(a.table) + uint64_t(a.ids[row]) * a.width;
    copy_row(from, static_cast<T*>(a.out) + row * a.width, a.width, a.wide);
}

KERNELS(gather_rows, Gather, 256, gather_rows)

struct SumById {
    const void* rows;       // (…, width)
    const uint32_t* order;  // indices into `rows`, those of one id side by side and in order
    const uint32_t* starts; // first of each id in `order`, and the end
    const uint32_t* ids;
    void* table;
    uint32_t count; // of ids
    uint32_t width;
    uint32_t unused[2];
};

// A block owns one id's row of the table, so every element is summed by one thread, in the order of the rows.
template <class From, class To> __device__ void sum_by_id(const SumById& a) {
    uint32_t first = a.starts[blockIdx.x], last = a.starts[blockIdx.x + 1];
    To* to = static_cast<To*>(a.table) + uint64_t(a.ids[blockIdx.x]) * a.width;
    for (uint32_t i = threadIdx.x; i < a.width; i += 128) {
        float sum = to_float(to[i]);
        for (uint32_t n = first; n < last; ++n) {
            sum += to_float(static_cast<const From*>(a.rows)[uint64_t(a.order[n]) * a.width + i]);
        }
        to[i] = from_float<To>(sum);
    }
}

KERNEL(sum_by_id_f32_f32, SumById, 128) { sum_by_id<float, float>(arguments); }
KERNEL(sum_by_id_bf16_f32, SumById, 128) { sum_by_id<bf16, float>(arguments); }
KERNEL(sum_by_id_f16_f32, SumById, 128) { sum_by_id<f16, float>(arguments); }
KERNEL(sum_by_id_bf16_bf16, SumById, 128) { sum_by_id<bf16, bf16>(arguments); }
KERNEL(sum_by_id_f16_f16, SumById, 128) { sum_by_id<f16, f16>(arguments); }

struct Repeat {
    const void* row;
    void* out;
    uint64_t rows; // of `out`
    uint32_t width;
    uint32_t wide;
};

// A block writes 8 rows.
template <class T> __device__ void repeat_row(const Repeat& a) {
    uint64_t row = uint64_t(blockIdx.x) * 8 + threadIdx.x / 32;
    if (row >= a.rows) {
        return;
    }
    copy_row(static_cast<const T*>(a.row), static_cast<T*>(a.out) + row * a.width, a.width, a.wide);
}

KERNELS(repeat_row, Repeat, 256, repeat_row)
