// Attention of one query a sequence to the keys and values that a cache holds.
//
// A sequence's rows lie side by side in the cache. They are cut into splits by their positions alone, so that a result does
// not depend on the other sequences: a block computes one split for the query heads that share a key head, or for some of
// them. The last block of these heads to finish joins the splits by their log-sum-exp, in order, whichever block it is.

#include "elements.cuh"
#include "last_block.cuh"

constexpr uint32_t CACHE_SPLIT = 256; // tokens of a split
constexpr uint32_t CACHE_TILE = 64;   // of those in shared memory at once
constexpr uint32_t CACHE_HEADS = 8;   // query heads of a block at most
constexpr uint32_t CACHE_THREADS = 128;

struct CacheWrite {
    const void* keys; // (rows, width)
    const void* values;
    void* cached_keys; // (…, width)
    void* cached_values;
    const uint32_t* places; // (rows): rows of the cache
    uint64_t rows;
    uint32_t width; // a multiple of 16 bytes
    uint32_t unused;
};

// Two layers of blocks: of keys and of values. A thread copies 16 bytes.
template <class T> __device__ void cache_write(const CacheWrite& a) {
    uint32_t each = a.width / Wide<T>::count;
    uint64_t index = uint64_t(blockIdx.x) * 256 + threadIdx.x;
    if (index >= a.rows * each) {
        return;
    }
    uint64_t row = index / each;
    uint32_t column = uint32_t(index - row * each);
    const uint4* from = static_cast<const uint4*>(blockIdx.y == 0 ? a.keys : a.values);
    uint4* to = static_cast<uint4*>(blockIdx.y == 0 ? a.cached_keys : a.cached_values);
    to[uint64_t(a.places[row]) * each + column] = from[index];
}

KERNELS(cache_write, CacheWrite, 256, cache_write)

struct CachedAttention {
    const void* q;         // (sequences, heads, width)
    const void* keys;      // (…, kv_heads, width)
    const void* values;
    const uint32_t* spans; // (sequences, 3): first row in the cache, first and one past the last position that is seen
    float* parts;          // (sequences, heads, splits, width), not divided by their sums
    float* weights;        // (sequences, heads, splits, 2): the largest score, the sum of e^(score - largest)
    uint32_t* finished;    // (sequences, blocks of heads): blocks that have written their parts; 0 before and after
    void* out;             // (sequences, heads, width)
    uint32_t heads;
    uint32_t kv_heads;
    uint32_t width;  // of a head: a multiple of 8, up to 256
    uint32_t splits; // of the longest sequence
    uint32_t each;   // query heads of a block
    float scale;
    float cap;
    uint32_t unused;
};

// Rows `first`… of a head of the cache to shared memory, as many as a tile has; zeros from `count` on.
template <class T>
__device__ __forceinline__ void load_cached(const CachedAttention& a, const void* from, uint64_t first, uint32_t count,
                                            uint32_t head, unsigned char* tile) {
    uint32_t chunks = a.width / Wide<T>::count, stride = a.width * sizeof(T) + 16;
    for (uint32_t i = threadIdx.x; i < CACHE_TILE * chunks; i += CACHE_THREADS) {
        uint32_t row = i / chunks, chunk = i - row * chunks;
        bool there = row < count;
        uint64_t at = ((first + (there ? row : 0)) * a.kv_heads + head) * a.width + chunk * Wide<T>::count;
        copy_async_16(tile + row * stride + chunk * 16, static_cast<const T*>(from) + at, there);
    }
    copy_async_commit();
}

// Scores of a tile's tokens: a thread has one token and every second head, four of them at once.
template <class T>
__device__ __forceinline__ void score_tile(const CachedAttention& a, const unsigned char* tile, const float* queries,
                                           uint32_t heads, uint32_t count, float* scores) {
    uint32_t token = threadIdx.x % CACHE_TILE;
    const unsigned char* key = tile + token * (a.width * sizeof(T) + 16);
    for (uint32_t first = threadIdx.x / CACHE_TILE * 4; first < heads; first += 8) {
        float sums[4] = {0, 0, 0, 0};
        for (uint32_t d = 0; d < a.width; d += Wide<T>::count) {
            float k[Wide<T>::count];
            load<T, Wide<T>::count>(reinterpret_cast<const T*>(key) + d, k);
#pragma unroll
            for (uint32_t h = 0; h < 4; ++h) {
                if (first + h < heads) {
                    const float* q = queries + (first + h) * a.width + d;
#pragma unroll
                    for (int i = 0; i < Wide<T>::count; ++i) {
                        sums[h] += q[i] * k[i];
                    }
                }
            }
        }
#pragma unroll
        for (uint32_t h = 0; h < 4; ++h) {
            if (first + h < heads) {
                scores[(first + h) * CACHE_SPLIT + token] = token < count ? capped(sums[h] * a.scale, a.cap) : -INFINITY;
            }
        }
    }
}

// Scores of a split to e^(score - largest), a warp for each head; writes the largest and the sum.
__device__ __forceinline__ void weigh_split(uint32_t heads, float* scores, float* weights, uint32_t weights_stride) {
    uint32_t lane = threadIdx.x % 32;
    for (uint32_t head = threadIdx.x / 32; head < heads; head += CACHE_THREADS / 32) {
        float* own = scores + head * CACHE_SPLIT;
        float largest = -INFINITY, sum = 0;
        for (uint32_t i = lane; i < CACHE_SPLIT; i += 32) {
            largest = fmaxf(largest, own[i]);
        }
        largest = warp_max(largest);
        for (uint32_t i = lane; i < CACHE_SPLIT; i += 32) {
            float weight = __expf(own[i] - largest);
            own[i] = weight;
            sum += weight;
        }
        sum = warp_sum(sum);
        if (lane == 0) {
            weights[uint64_t(head) * weights_stride] = largest;
            weights[uint64_t(head) * weights_stride + 1] = sum;
        }
    }
}

// Results of `heads` heads from their splits, `first` to `last` - 1.
template <class T>
__device__ __forceinline__ void join_splits(const CachedAttention& a, uint64_t first_head, uint32_t heads, uint32_t first,
                                            uint32_t last) {
    for (uint32_t i = threadIdx.x; i < heads * a.width; i += CACHE_THREADS) {
        uint64_t head = first_head + i / a.width, part = head * a.splits;
        const float* weights = a.weights + part * 2;
        float largest = -INFINITY, sum = 0, total = 0;
        // Unrolled, these loops would cost the registers that the sums above need.
#pragma unroll 1
        for (uint32_t split = first; split < last; ++split) {
            largest = fmaxf(largest, weights[2 * split]);
        }
#pragma unroll 1
        for (uint32_t split = first; split < last; ++split) {
            float weight = __expf(weights[2 * split] - largest);
            sum += weight * a.parts[(part + split) * a.width + i % a.width];
            total += weight * weights[2 * split + 1];
        }
        static_cast<T*>(a.out)[head * a.width + i % a.width] = from_float<T>(sum / total);
    }
}

template <class T> __device__ void cached_attention(const CachedAttention& a) {
    DYNAMIC_SHARED(memory); // a tile, the queries, a split's scores
    constexpr int N = Wide<T>::count;
    constexpr int OWN = 256 / N * CACHE_HEADS / CACHE_THREADS; // 16-byte pieces of the result that a thread may own
    uint32_t group = a.heads / a.kv_heads, groups = (group + a.each - 1) / a.each;
    uint32_t head = blockIdx.y / groups, start = blockIdx.y % groups * a.each;
    uint32_t heads = group - start < a.each ? group - start : a.each;
    uint64_t first_head = uint64_t(blockIdx.z) * a.heads + head * group + start;
    const uint32_t* span = a.spans + 3 * blockIdx.z;
    uint32_t from = blockIdx.x * CACHE_SPLIT, to = from + CACHE_SPLIT;
    from = from < span[1] ? span[1] : from;
    to = to < span[2] ? to : span[2];
    if (from >= to) {
        return;
    }
    uint64_t row = uint64_t(span[0]) + from;
    uint32_t tokens = to - from;
    float* queries = reinterpret_cast<float*>(memory + CACHE_TILE * (a.width * sizeof(T) + 16));
    float* scores = queries + a.each * a.width;
    const T* q = static_cast<const T*>(a.q) + first_head * a.width;
    for (uint32_t i = threadIdx.x; i < heads * a.width; i += CACHE_THREADS) {
        queries[i] = to_float(q[i]);
    }
    for (uint32_t tile = 0; tile < CACHE_SPLIT; tile += CACHE_TILE) {
        uint32_t count = tile < tokens ? tokens - tile : 0;
        if (count > 0) {
            load_cached<T>(a, a.keys, row + tile, count, head, memory);
        }
        copy_async_wait<0>();
        __syncthreads();
        score_tile<T>(a, memory, queries, heads, count, scores + tile);
        __syncthreads();
    }
    uint64_t part = first_head * a.splits + blockIdx.x;
    weigh_split(heads, scores, a.weights + part * 2, a.splits * 2);
    float sums[OWN][N];
#pragma unroll
    for (int k = 0; k < OWN; ++k) {
#pragma unroll
        for (int i = 0; i < N; ++i) {
            sums[k][i] = 0;
        }
    }
    uint32_t chunks = a.width / N, stride = a.width * sizeof(T) + 16;
    for (uint32_t tile = 0; tile < tokens; tile += CACHE_TILE) {
        load_cached<T>(a, a.values, row + tile, tokens - tile, head, memory);
        copy_async_wait<0>();
        __syncthreads();
#pragma unroll
        for (int k = 0; k < OWN; ++k) {
            uint32_t piece = threadIdx.x + k * CACHE_THREADS;
            if (piece < chunks * heads) {
                const unsigned char* value = memory + piece % chunks * 16;
                const float* weight = scores + piece / chunks * CACHE_SPLIT + tile;
                for (uint32_t t = 0; t < CACHE_TILE; ++t) {
                    float v[N];
                    load<T, N>(reinterpret_cast<const T*>(value + t * stride), v);
#pragma unroll
                    for (int i = 0; i < N; ++i) {
                        sums[k][i] += weight[t] * v[i];
                    }
                }
            }
        }
        __syncthreads();
    }
#pragma unroll
    for (int k = 0; k < OWN; ++k) {
        uint32_t piece = threadIdx.x + k * CACHE_THREADS;
        if (piece < chunks * heads) {
            float* out = a.parts + (part + uint64_t(piece / chunks) * a.splits) * a.width + piece % chunks * N;
#pragma unroll
            for (int i = 0; i < N; ++i) {
                out[i] = sums[k][i];
            }
        }
    }
    uint32_t first = span[1] / CACHE_SPLIT, last = (span[2] + CACHE_SPLIT - 1) / CACHE_SPLIT;
    if (comes_last(a.finished + uint64_t(blockIdx.z) * gridDim.y + blockIdx.y, last - first)) {
        join_splits<T>(a, first_head, heads, first, last);
    }
}

KERNELS(cached_attention, CachedAttention, CACHE_THREADS, cached_attention)
