// Those kernels of candle that this project uses, on the host.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <functional>
#include <map>
#include <string>

namespace candle {

using Arguments = void**;
using Kernel = std::function<void(Arguments, unsigned blocks)>;

template <class T> T argument(Arguments arguments, int index) {
    T value;
    std::memcpy(&value, arguments[index], sizeof value);
    return value;
}

// Elements of any type as doubles, which hold all of them exactly but large integers.
template <class T> double load(const T* at, size_t index) { return double(at[index]); }
inline double load(const bf16* at, size_t index) { return to_float(at[index]); }
inline double load(const f16* at, size_t index) { return to_float(at[index]); }
template <class T> void store(T* at, size_t index, double value) { at[index] = T(value); }
inline void store(bf16* at, size_t index, double value) { at[index] = from_float<bf16>(float(value)); }
inline void store(f16* at, size_t index, double value) { at[index] = from_float<f16>(float(value)); }
template <class T> T rounded(double value) {
    T one;
    store(&one, 0, value);
    return one;
}

// Place in memory of the element `index` of a tensor, whose extents and strides are `info`; null: one after the other.
inline size_t place(size_t index, size_t dims, const size_t* info, size_t stride_set = 1) {
    if (!info) {
        return index;
    }
    size_t at = 0;
    for (size_t dim = dims; dim-- > 0;) {
        at += index % info[dim] * info[stride_set * dims + dim];
        index /= info[dim];
    }
    return at;
}

template <class From, class To, class F> Kernel map(F f) {
    return [f](Arguments a, unsigned) {
        auto count = argument<size_t>(a, 0), dims = argument<size_t>(a, 1);
        auto info = argument<const size_t*>(a, 2);
        auto from = argument<const From*>(a, 3);
        auto to = argument<To*>(a, 4);
        for (size_t index = 0; index < count; ++index) {
            size_t at = place(index, dims, info);
            store(to, index, f(from ? load(from, at) : load(to, index), a));
        }
    };
}

template <class T, class F> Kernel binary(F f) {
    return [f](Arguments a, unsigned) {
        auto count = argument<size_t>(a, 0), dims = argument<size_t>(a, 1);
        auto info = argument<const size_t*>(a, 2);
        auto left = argument<const T*>(a, 3), right = argument<const T*>(a, 4);
        auto to = argument<T*>(a, 5);
        for (size_t index = 0; index < count; ++index) {
            store(to, index, f(load(left, place(index, dims, info)), load(right, place(index, dims, info, 2))));
        }
    };
}

// Each block adds its part of the elements, in their own type as candle does.
template <class T> Kernel sum() {
    return [](Arguments a, unsigned blocks) {
        auto count = argument<size_t>(a, 0), each = argument<size_t>(a, 1), dims = argument<size_t>(a, 2);
        auto info = argument<const size_t*>(a, 3);
        auto from = argument<const T*>(a, 4);
        auto to = argument<T*>(a, 5);
        for (size_t block = 0; block < blocks; ++block) {
            T total = rounded<T>(0);
            for (size_t index = block * each; index < (block + 1) * each && index < count; ++index) {
                total = rounded<T>(load(&total, 0) + load(from, place(index, dims, info)));
            }
            to[block] = total;
        }
    };
}

template <class T> Kernel copy_rows() {
    return [](Arguments a, unsigned) {
        auto from = argument<const T*>(a, 0);
        auto to = argument<T*>(a, 1);
        auto rows = argument<uint32_t>(a, 2), columns = argument<uint32_t>(a, 3);
        auto from_stride = argument<uint32_t>(a, 4), to_stride = argument<uint32_t>(a, 5);
        for (size_t row = 0; row < rows; ++row) {
            std::memcpy(to + row * to_stride, from + row * from_stride, columns * sizeof(T));
        }
    };
}

template <class T> Kernel fill() {
    return [](Arguments a, unsigned) {
        auto count = argument<size_t>(a, 0), dims = argument<size_t>(a, 1);
        auto info = argument<const size_t*>(a, 2);
        auto value = argument<T>(a, 3);
        auto to = argument<T*>(a, 4);
        for (size_t index = 0; index < count; ++index) {
            to[place(index, dims, info)] = value;
        }
    };
}

using Kernels = std::map<std::string, Kernel>;

template <class T> void add_typed(Kernels& all, const std::string& type) {
    auto plain = [](double (*f)(double)) { return [f](double x, Arguments) { return f(x); }; };
    all["ucopy_" + type] = map<T, T>(plain([](double x) { return x; }));
    all["uneg_" + type] = map<T, T>(plain([](double x) { return -x; }));
    all["uabs_" + type] = map<T, T>(plain([](double x) { return std::abs(x); }));
    all["usqr_" + type] = map<T, T>(plain([](double x) { return x * x; }));
    all["usqrt_" + type] = map<T, T>(plain([](double x) { return std::sqrt(x); }));
    all["uexp_" + type] = map<T, T>(plain([](double x) { return std::exp(x); }));
    all["ulog_" + type] = map<T, T>(plain([](double x) { return std::log(x); }));
    all["affine_" + type] = map<T, T>([](double x, Arguments a) {
        T factor = argument<T>(a, 5), offset = argument<T>(a, 6);
        return x * load(&factor, 0) + load(&offset, 0);
    });
    all["badd_" + type] = binary<T>([](double x, double y) { return x + y; });
    all["bsub_" + type] = binary<T>([](double x, double y) { return x - y; });
    all["bmul_" + type] = binary<T>([](double x, double y) { return x * y; });
    all["bdiv_" + type] = binary<T>([](double x, double y) { return x / y; });
    all["fast_sum_" + type] = sum<T>();
    all["copy2d_" + type] = copy_rows<T>();
    all["const_set_" + type] = fill<T>();
}

template <class From> void add_casts(Kernels& all, const std::string& from) {
    auto same = [](double x, Arguments) { return x; };
    all["cast_" + from + "_f32"] = map<From, float>(same);
    all["cast_" + from + "_f64"] = map<From, double>(same);
    all["cast_" + from + "_bf16"] = map<From, bf16>(same);
    all["cast_" + from + "_f16"] = map<From, f16>(same);
    all["cast_" + from + "_u32"] = map<From, uint32_t>(same);
    all["cast_" + from + "_u8"] = map<From, uint8_t>(same);
}

inline const Kernels& kernels() {
    static const Kernels all = [] {
        Kernels all;
        add_typed<float>(all, "f32");
        add_typed<double>(all, "f64");
        add_typed<bf16>(all, "bf16");
        add_typed<f16>(all, "f16");
        add_typed<uint32_t>(all, "u32");
        add_typed<uint8_t>(all, "u8");
        add_casts<float>(all, "f32");
        add_casts<double>(all, "f64");
        add_casts<bf16>(all, "bf16");
        add_casts<f16>(all, "f16");
        add_casts<uint32_t>(all, "u32");
        add_casts<uint8_t>(all, "u8");
        return all;
    }();
    return all;
}

inline bool has(const std::string& name) { return kernels().count(name) > 0; }

inline bool run(const std::string& name, Arguments arguments, unsigned blocks) {
    kernels().at(name)(arguments, blocks);
    return true;
}

} // namespace candle
