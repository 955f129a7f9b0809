// Shared by the forward and the backward pass of attention: tiles of tokens, their masks, and products of tiles.
//
// A tile is up to 64 neighbouring tokens of one span. A warp owns one or two slices of 16 rows of a tile and holds a
// product's sums as the tensor cores' m16n8k16 leaves them: with g = lane / 4 and t = lane % 4, element e of sums[n] is row
// g + 8·(e / 2), column 8n + 2t + e % 2; the second slice's follow the first's. Float32 is multiplied in the same places
// without tensor cores.
#pragma once

#include "elements.cuh"

constexpr int ATTENTION_TILE = 64;

// A tile whose rows a block owns, and its pairs.
struct AttentionTile {
    int32_t first; // token
    int32_t count;
    int32_t pairs_first;
    int32_t pairs_last;
};

// A tile of queries and a tile of keys with any visible to it. Key j is visible to query i, both counted from the
// tiles' starts, if key_first <= j < key_last and i + near <= j <= i + causal.
struct AttentionPair {
    int32_t query_tile; // first token
    int32_t query_count;
    int32_t key_tile; // first token
    int32_t key_count;
    int32_t key_first;
    int32_t key_last;
    int32_t causal;
    int32_t near;
};

__device__ __forceinline__ bool attention_sees(const AttentionPair& pair, int i, int j) {
    // Without branches: all four are cheap.
    return (j >= pair.key_first) & (j < pair.key_last) & (j <= i + pair.causal) & (j >= i + pair.near);
}

// True if some of `columns` keys from j may be visible to some of `rows` queries from i, each condition taken alone.
__device__ __forceinline__ bool attention_meets(const AttentionPair& pair, int i, int rows, int j, int columns) {
    return i < pair.query_count && j < pair.key_last && j + columns > pair.key_first &&
           j <= i + rows - 1 + pair.causal && j + columns - 1 >= i + pair.near;
}

// True if all of them are visible to all.
__device__ __forceinline__ bool attention_sees_all(const AttentionPair& pair, int i, int rows, int j, int columns) {
    return j >= pair.key_first && j + columns <= pair.key_last && j + columns - 1 <= i + pair.causal &&
           j >= i + rows - 1 + pair.near;
}

// Rows a block owns and rows it reads at a time; attention.rs has the same numbers for the launch. The backward pass holds
// two steps of rows, within the 99 KB that every GPU since Ampere has for a block.
template <class T, int WIDTH> struct AttentionExtents {
    static constexpr bool float32 = sizeof(T) == 4;
    static constexpr int rows = float32 && WIDTH == 256 ? 32 : 64;
    static constexpr int threads = 2 * rows;
    // Two slices of 16 rows a warp halve what is read from shared memory, where a thread's registers hold their sums.
    static constexpr int forward_slices = float32 || WIDTH == 256 ? 1 : 2;
    static constexpr int forward_threads = threads / forward_slices;
    static constexpr int forward_step = float32 ? (WIDTH == 256 ? 16 : 32) : (WIDTH >= 128 ? 32 : 64);
    static constexpr int backward_step = float32 ? (WIDTH == 256 ? 8 : 16) : (WIDTH == 256 ? 16 : 32);
    // 16 bytes more than a row keep neighbouring rows in different banks.
    static constexpr int stride = WIDTH + 16 / int(sizeof(T));
    // Sums of 2 · 256 columns do not fit a thread's registers.
    static constexpr bool keys_and_values_together = WIDTH < 256;
};

// The rows that a block owns, a part of a tile; warps own `warp_rows` of them each. A tile's last parts may have none.
template <int ROWS> struct AttentionRows {
    AttentionTile tile;
    int first;    // row of the tile
    int count;    // rows that exist, of ROWS
    int token;    // of the first row
    int lane;     // of the thread
    int warp_row; // first of the warp's rows, of ROWS

    __device__ __forceinline__ explicit AttentionRows(const AttentionTile* tiles, int warp_rows = 16) {
        constexpr int parts = ATTENTION_TILE / ROWS;
        tile = tiles[blockIdx.x / parts];
        first = int(blockIdx.x % parts) * ROWS;
        count = tile.count - first;
        token = tile.first + first;
        lane = threadIdx.x % 32;
        warp_row = int(threadIdx.x / 32) * warp_rows;
    }
};

// The steps of a block over the tiles that its own is paired with, those without a visible pair left out: over keys if it
// owns queries, else over queries.
template <int ROWS, int STEP, bool OWNS_QUERIES> struct AttentionSteps {
    const AttentionPair* pairs;
    int index, last; // of pairs
    int own;         // first row that the block owns
    int at;          // first row of the step, of the pair's other tile

    __device__ __forceinline__ AttentionSteps(const AttentionPair* all, const AttentionRows<ROWS>& rows)
        : pairs(all), last(rows.tile.pairs_last), own(rows.first) {
        rewind(rows.tile.pairs_first);
    }
    __device__ __forceinline__ void rewind(int first) {
        index = first;
        at = 0;
        settle();
    }
    __device__ __forceinline__ bool more() const { return index < last; }
    __device__ __forceinline__ void advance() {
        at += STEP;
        settle();
    }
    __device__ __forceinline__ void settle() {
        while (index < last && !meets(pairs[index])) {
            at += STEP;
            if (at >= ATTENTION_TILE) {
                at = 0;
                ++index;
            }
        }
    }
    __device__ __forceinline__ bool meets(const AttentionPair& pair) const {
        return OWNS_QUERIES ? attention_meets(pair, own, ROWS, at, STEP) : attention_meets(pair, at, STEP, own, ROWS);
    }
    // True if all of the step's pairs are visible.
    __device__ __forceinline__ bool whole() const {
        const AttentionPair& pair = pairs[index];
        return OWNS_QUERIES ? attention_sees_all(pair, own, ROWS, at, STEP)
                            : attention_sees_all(pair, at, STEP, own, ROWS);
    }
};

// Starts to copy `ROWS` rows from `first` of one head to shared memory; rows beyond `count` and columns beyond `width` are 0.
template <class T, int WIDTH, int ROWS, int THREADS = AttentionExtents<T, WIDTH>::threads>
__device__ __forceinline__ void attention_load(T* to, const void* from, int first, int count, uint32_t heads,
                                               uint32_t head, uint32_t width) {
    using Extents = AttentionExtents<T, WIDTH>;
    constexpr int each = Wide<T>::count, chunks = WIDTH / each;
    const T* base = static_cast<const T*>(from);
    const T* start = base + (uint64_t(first) * heads + head) * width;
// More copies at a time than two cost registers that the sums need.
#pragma unroll 2
    for (int index = threadIdx.x; index < ROWS * chunks; index += THREADS) {
        int row = index / chunks, column = index % chunks * each;
        bool there = row < count && column < int(width);
        const T* at = there ? start + uint64_t(row) * heads * width + column : base;
        copy_async_16(to + row * Extents::stride + column, at, there);
    }
}

template <int TILES> __device__ __forceinline__ void attention_clear(float (&sums)[TILES][4]) {
#pragma unroll
    for (int n = 0; n < TILES; ++n) {
#pragma unroll
        for (int e = 0; e < 4; ++e) {
            sums[n][e] = 0;
        }
    }
}

// sums = a · bᵀ with a (16 · SLICES, WIDTH) and b (8 · TILES, WIDTH) in shared memory.
template <class T, int WIDTH, int TILES, int SLICES = 1>
__device__ __forceinline__ void attention_scores(float (&sums)[SLICES * TILES][4], const T* a, const T* b) {
    constexpr int stride = AttentionExtents<T, WIDTH>::stride;
    int lane = threadIdx.x % 32;
    attention_clear(sums);
    if constexpr (sizeof(T) == 2) {
        const T* left_at = a + lane % 16 * stride + lane / 16 * 8;
        const T* right_at = b + (lane % 8 + lane / 16 * 8) * stride + lane / 8 % 2 * 8;
#pragma unroll
        for (int k = 0; k < WIDTH; k += 16) {
            uint32_t left[SLICES][4];
#pragma unroll
            for (int s = 0; s < SLICES; ++s) {
                load_matrix_x4(left[s], left_at + s * 16 * stride + k);
            }
#pragma unroll
            for (int n = 0; n < TILES; n += 2) {
                uint32_t right[4];
                load_matrix_x4(right, right_at + n * 8 * stride + k);
                const uint32_t low[2] = {right[0], right[1]}, high[2] = {right[2], right[3]};
#pragma unroll
                for (int s = 0; s < SLICES; ++s) {
                    mma_16816<T>(sums[s * TILES + n], left[s], low);
                    mma_16816<T>(sums[s * TILES + n + 1], left[s], high);
                }
            }
        }
    } else {
        static_assert(SLICES == 1);
        const T* left_at = a + lane / 4 * stride;
        const T* right_at = b + lane % 4 * 2 * stride;
#pragma unroll 2
        for (int k = 0; k < WIDTH; k += 4) {
            float top[4], bottom[4];
            load<T, 4>(left_at + k, top);
            load<T, 4>(left_at + 8 * stride + k, bottom);
#pragma unroll
            for (int n = 0; n < TILES; ++n) {
                float even[4], odd[4];
                load<T, 4>(right_at + n * 8 * stride + k, even);
                load<T, 4>(right_at + (n * 8 + 1) * stride + k, odd);
#pragma unroll
                for (int i = 0; i < 4; ++i) {
                    sums[n][0] += top[i] * even[i];
                    sums[n][1] += top[i] * odd[i];
                    sums[n][2] += bottom[i] * even[i];
                    sums[n][3] += bottom[i] * odd[i];
                }
            }
        }
    }
}

// sums (16 · SLICES, WIDTH) += weights · b with weights (16 · SLICES, 8 · TILES) in the places of sums and b (8 · TILES,
// WIDTH) in shared memory. Weights are rounded to T.
template <class T, int WIDTH, int TILES, int SLICES = 1>
__device__ __forceinline__ void attention_mix(float (&sums)[SLICES * (WIDTH / 8)][4],
                                              const float (&weights)[SLICES * TILES][4], const T* b) {
    constexpr int stride = AttentionExtents<T, WIDTH>::stride, columns = WIDTH / 8;
    int lane = threadIdx.x % 32;
    if constexpr (sizeof(T) == 2) {
        const T* right_at = b + lane % 16 * stride + lane / 16 * 8;
#pragma unroll
        for (int k = 0; k < TILES; k += 2) {
            // The sums of columns 16k.. are in the lanes where the left factor's columns belong.
            uint32_t left[SLICES][4];
#pragma unroll
            for (int s = 0; s < SLICES; ++s) {
#pragma unroll
                for (int i = 0; i < 4; ++i) {
                    const float(&pair)[4] = weights[s * TILES + k + i / 2];
                    left[s][i] = pack_two<T>(pair[i % 2 * 2], pair[i % 2 * 2 + 1]);
                }
            }
#pragma unroll
            for (int n = 0; n < columns; n += 2) {
                uint32_t right[4];
                load_matrix_x4_transposed(right, right_at + k * 8 * stride + n * 8);
                const uint32_t low[2] = {right[0], right[1]}, high[2] = {right[2], right[3]};
#pragma unroll
                for (int s = 0; s < SLICES; ++s) {
                    mma_16816<T>(sums[s * columns + n], left[s], low);
                    mma_16816<T>(sums[s * columns + n + 1], left[s], high);
                }
            }
        }
    } else {
        static_assert(SLICES == 1);
        const T* right_at = b + lane % 4 * 2;
#pragma unroll
        for (int k = 0; k < TILES; ++k) {
#pragma unroll
            for (int j = 0; j < 8; ++j) {
                // A row's weights are spread over four neighbouring lanes.
                int holder = lane / 4 * 4 + j / 2;
                float top = __shfl_sync(0xffffffffu, weights[k][j % 2], holder);
                float bottom = __shfl_sync(0xffffffffu, weights[k][2 + j % 2], holder);
                const T* right = right_at + (k * 8 + j) * stride;
#pragma unroll
                for (int n = 0; n < columns; ++n) {
                    float even = right[n * 8], odd = right[n * 8 + 1];
                    sums[n][0] += top * even;
                    sums[n][1] += top * odd;
                    sums[n][2] += bottom * even;
                    sums[n][3] += bottom * odd;
                }
            }
        }
    }
}

// Writes the warp's rows times `scales`, two of each slice: of row g and of row g + 8; `out` is the warp's first row, of
// which there are `count`.
template <class T, int WIDTH, int SLICES = 1>
__device__ __forceinline__ void attention_store(T* out, const float (&sums)[SLICES * (WIDTH / 8)][4],
                                                const float (&scales)[2 * SLICES], int count, uint64_t row_stride,
                                                uint32_t width) {
    int lane = threadIdx.x % 32;
#pragma unroll
    for (int part = 0; part < 2 * SLICES; ++part) {
        int row = lane / 4 + 8 * part;
        if (row >= count) {
            continue;
        }
        T* at = out + row * row_stride + lane % 4 * 2;
#pragma unroll
        for (int n = 0; n < WIDTH / 8; ++n) {
            if (n * 8 < int(width)) {
                const float(&pair)[4] = sums[part / 2 * (WIDTH / 8) + n];
                float low = pair[part % 2 * 2] * scales[part], high = pair[part % 2 * 2 + 1] * scales[part];
                if constexpr (sizeof(T) == 2) {
                    *reinterpret_cast<uint32_t*>(at + n * 8) = pack_two<T>(low, high);
                } else {
                    at[n * 8] = low;
                    at[n * 8 + 1] = high;
                }
            }
        }
    }
}

constexpr float LOG2_E = 1.44269504f;

// Puts `value` in the places of pairs that are not visible. A thread's first row and column are `row` and `column`; rows are
// queries if the block owns queries, else keys.
template <bool OWNS_QUERIES, int SLICES = 1, int TILES>
__device__ __forceinline__ void attention_mask(float (&scores)[TILES][4], const AttentionPair& pair, int row, int column,
                                               float value) {
    constexpr int each = TILES / SLICES;
    // In registers: one read for all elements.
    const AttentionPair bounds = pair;
#pragma unroll
    for (int n = 0; n < TILES; ++n) {
#pragma unroll
        for (int e = 0; e < 4; ++e) {
            int i = row + n / each * 16 + 8 * (e / 2), j = column + 8 * (n % each) + e % 2;
            bool seen = OWNS_QUERIES ? attention_sees(bounds, i, j) : attention_sees(bounds, j, i);
            scores[n][e] = seen ? scores[n][e] : value;
        }
    }
}

// A kernel for each width that heads are padded to with zeros. nvcc compiles a module for one of them at a time.
#define ATTENTION_KERNELS_OF(name, Arguments, padded)                                                                  \
    template <class T> __device__ void name##_##padded(const Arguments& a) { name<T, padded>(a); }                     \
    KERNELS(name##_##padded, Arguments, 128, name##_##padded)
#ifdef ATTENTION_WIDTH
#define ATTENTION_KERNELS_EXPANDED(name, Arguments, padded) ATTENTION_KERNELS_OF(name, Arguments, padded)
#define ATTENTION_KERNELS(name, Arguments) ATTENTION_KERNELS_EXPANDED(name, Arguments, ATTENTION_WIDTH)
#else
#define ATTENTION_KERNELS(name, Arguments)                                                                             \
    ATTENTION_KERNELS_OF(name, Arguments, 32)                                                                          \
    ATTENTION_KERNELS_OF(name, Arguments, 64)                                                                          \
    ATTENTION_KERNELS_OF(name, Arguments, 96)                                                                          \
    ATTENTION_KERNELS_OF(name, Arguments, 128)                                                                         \
    ATTENTION_KERNELS_OF(name, Arguments, 256)
#endif
