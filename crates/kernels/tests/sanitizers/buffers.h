// Arguments of kernels, in allocations of exactly their size, and launches.
#pragma once

#include <cstdio>
#include <memory>
#include <random>
#include <string>
#include <vector>

namespace harness {

template <class T> class Buffer {
    std::unique_ptr<T[]> values;
    size_t count;

public:
    explicit Buffer(size_t count) : values(new T[count]), count(count) {}
    T* at() const { return values.get(); }
    size_t size() const { return count; }
    T& operator[](size_t index) const { return values[index]; }
};

inline std::mt19937 source(1);

template <class T> Buffer<T> normal(size_t count) {
    std::normal_distribution<float> distribution;
    Buffer<T> buffer(count);
    for (size_t i = 0; i < count; ++i) {
        buffer[i] = from_float<T>(distribution(source));
    }
    return buffer;
}

// Results not written yet.
template <class T> Buffer<T> empty(size_t count) {
    Buffer<T> buffer(count);
    std::memset(static_cast<void*>(buffer.at()), 0xff, count * sizeof(T));
    return buffer;
}

template <class T> Buffer<T> filled(size_t count, T value) {
    Buffer<T> buffer(count);
    std::fill(buffer.at(), buffer.at() + count, value);
    return buffer;
}

inline Buffer<uint32_t> ids(const std::vector<uint32_t>& values) {
    Buffer<uint32_t> buffer(values.size());
    std::copy(values.begin(), values.end(), buffer.at());
    return buffer;
}

inline emulator::Schedule schedule{};
inline bool failed = false;

inline void fail(const std::string& what) {
    std::printf("FAILED %s\n", what.c_str());
    failed = true;
}

struct Grid {
    unsigned blocks[3];
    unsigned threads;
    unsigned shared;
};

inline Grid grid_of(size_t count, unsigned each, unsigned threads = 256) {
    return {{unsigned((count + each - 1) / each), 1, 1}, threads, 0};
}

template <class Arguments> void launch(const std::string& kernel, const Grid& grid, const Arguments& arguments) {
    char reason[512];
    unsigned blocks = grid.blocks[0] * grid.blocks[1] * grid.blocks[2];
    if (!smpo_emulator_launch(kernel.c_str(), &arguments, sizeof arguments, grid.blocks, grid.threads, grid.shared, 0,
                              blocks, &schedule, reason, sizeof reason)) {
        fail(kernel + ": " + reason);
    }
}

inline double number(float value) { return value; }
inline double number(double value) { return value; }
inline double number(bf16 value) { return to_float(value); }
inline double number(f16 value) { return to_float(value); }

// All of a result is there.
template <class T> void expect(const char* kernel, const Buffer<T>& result) {
    for (size_t i = 0; i < result.size(); ++i) {
        if (!std::isfinite(number(result[i]))) {
            fail(std::string(kernel) + ": element " + std::to_string(i) + " is not finite");
            return;
        }
    }
}

template <class T> const char* dtype();
template <> inline const char* dtype<float>() { return "f32"; }
template <> inline const char* dtype<bf16>() { return "bf16"; }
template <> inline const char* dtype<f16>() { return "f16"; }

template <class T> std::string typed(const std::string& name) { return name + "_" + dtype<T>(); }

// 1 if rows of `width` elements can be read 16 bytes at a time; buffers of the heap start at multiples of 16.
template <class T> uint32_t wide(size_t width) { return width % (16 / sizeof(T)) == 0; }

} // namespace harness
