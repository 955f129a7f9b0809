// The kernels of a decoding step, at shapes with parts of tiles, splits and blocks.
#pragma once

#include "buffers.h"

namespace harness {

template <class T> void cached(uint32_t heads, uint32_t kv_heads, uint32_t width, uint32_t window, float cap) {
    const std::vector<uint32_t> lengths = {1, 130, 300};
    const uint32_t sequences = 3, rows = 431, splits = 2, kv_width = kv_heads * width;
    std::vector<uint32_t> spans;
    uint32_t first = 0;
    for (uint32_t length : lengths) {
        spans.insert(spans.end(), {first, window > 0 && length > window ? length - window : 0, length});
        first += length;
    }
    auto keys = normal<T>(3 * kv_width), values = normal<T>(3 * kv_width), q = normal<T>(sequences * heads * width);
    auto cached_keys = normal<T>(rows * kv_width), cached_values = normal<T>(rows * kv_width);
    auto to = ids({0, 130, 430}), seen = ids(spans);
    CacheWrite write{};
    write.keys = keys.at();
    write.values = values.at();
    write.cached_keys = cached_keys.at();
    write.cached_values = cached_values.at();
    write.places = to.at();
    write.rows = 3;
    write.width = kv_width;
    Grid copies = grid_of(size_t(3) * kv_width * sizeof(T) / 16, 256);
    copies.blocks[1] = 2;
    launch(typed<T>("cache_write"), copies, write);
    expect("cache_write", cached_values);
    auto parts = filled<float>(sequences * heads * splits * width, 0), weights = filled<float>(sequences * heads * splits * 2, 0);
    auto out = empty<T>(sequences * heads * width);
    CachedAttention attend{};
    attend.q = q.at();
    attend.keys = cached_keys.at();
    attend.values = cached_values.at();
    attend.spans = seen.at();
    attend.parts = parts.at();
    attend.weights = weights.at();
    attend.out = out.at();
    attend.heads = heads;
    attend.kv_heads = kv_heads;
    attend.width = width;
    attend.splits = splits;
    attend.each = heads / kv_heads < CACHE_HEADS ? heads / kv_heads : CACHE_HEADS;
    attend.scale = 0.2f;
    attend.cap = cap;
    uint32_t layers = kv_heads * ((heads / kv_heads + attend.each - 1) / attend.each);
    auto finished = filled<uint32_t>(sequences * layers, 0);
    attend.finished = finished.at();
    unsigned shared = CACHE_TILE * (width * sizeof(T) + 16) + 4 * attend.each * (width + CACHE_SPLIT);
    // Two layers of a model, which share the memory of their parts.
    for (int layer = 0; layer < 2; ++layer) {
        launch(typed<T>("cached_attention"), {{splits, layers, sequences}, CACHE_THREADS, shared}, attend);
        expect("cached_attention", out);
    }
}

// Norms and bias, or neither; pairs that turn by halves or by neighbours, some elements left as they are.
template <class T> void stacked_heads(bool with_norms, uint32_t interleaved) {
    const uint32_t rows = 3, heads = 5, kv_heads = 2, width = 40, half = 14, all = heads + 2 * kv_heads, places = 7;
    auto x = normal<T>(rows * all * width), bias = normal<T>(all * width), q_norm = normal<T>(width), k_norm = normal<T>(width);
    auto cos = normal<float>(rows * half), sin = normal<float>(rows * half);
    auto queries = empty<T>(rows * heads * width);
    auto keys = filled<T>(places * kv_heads * width, from_float<T>(0)), values = filled<T>(places * kv_heads * width, from_float<T>(0));
    auto to = ids({6, 0, 3});
    CachedHeads stacked{};
    stacked.x = x.at();
    stacked.bias = with_norms ? bias.at() : nullptr;
    stacked.q_norm = with_norms ? q_norm.at() : nullptr;
    stacked.k_norm = with_norms ? k_norm.at() : nullptr;
    stacked.cos = cos.at();
    stacked.sin = sin.at();
    stacked.queries = queries.at();
    stacked.cached_keys = keys.at();
    stacked.cached_values = values.at();
    stacked.places = to.at();
    stacked.rows = rows;
    stacked.heads = heads;
    stacked.kv_heads = kv_heads;
    stacked.width = width;
    stacked.half = half;
    stacked.interleaved = interleaved;
    stacked.eps = 1e-6f;
    stacked.offset = 1;
    launch(typed<T>("cached_heads"), grid_of(rows * all, HEADS_THREADS / 32, HEADS_THREADS), stacked);
    expect("cached_heads", queries);
    expect("cached_heads", keys);
    expect("cached_heads", values);
}

inline void cached_heads_of_all() {
    stacked_heads<float>(true, 0);
    stacked_heads<bf16>(false, 1);
    stacked_heads<f16>(true, 1);
}

inline void cached_attentions() {
    cached<float>(2, 1, 24, 0, 0);
    cached<float>(11, 1, 256, 70, 5);
    cached<bf16>(6, 2, 64, 0, 0);
    cached<bf16>(2, 2, 128, 200, 0);
    cached<f16>(4, 2, 80, 0, 30);
}

inline uint32_t half_of(double value, int half) {
    uint64_t bits;
    std::memcpy(&bits, &value, 8);
    return uint32_t(half ? bits >> 32 : bits);
}

inline void draws() {
    const uint32_t vocabulary = 4501, each = 2048, count = 3;
    struct Sampler {
        double inverse_temperature, top_p, min_p;
        uint32_t top_k, greedy;
    };
    const std::vector<Sampler> samplers = {{1, 1, 0, 0, 0}, {1, 1, 0, 0, 1}, {0.5, 0.9, 0.01, 200, 0}, {2, 0.3, 0, 0, 0}};
    const uint32_t rows = uint32_t(samplers.size());
    std::vector<uint32_t> words;
    for (auto& sampler : samplers) {
        for (uint32_t i = 0; i < 10; ++i) {
            words.push_back(source());
        }
        for (double number : {sampler.inverse_temperature, sampler.top_p, sampler.min_p}) {
            words.push_back(half_of(number, 0));
            words.push_back(half_of(number, 1));
        }
        words.insert(words.end(), {sampler.top_k, sampler.greedy, 0, 2});
    }
    auto logits = normal<float>(rows * vocabulary);
    auto settings = ids(words), terminators = ids({3, 4600});
    auto parts = empty<double>(rows * count * PART_FIELDS), drawn = empty<double>(rows * 6);
    auto bars = empty<uint64_t>(rows);
    Draw draw{logits.at(), settings.at(), terminators.at(), parts.at(), bars.at(), drawn.at(), vocabulary, count, each, 0};
    launch("draw_survey", {{count, rows, 1}, DRAW_THREADS, 0}, draw);
    launch("draw_bar", {{rows, 1, 1}, DRAW_THREADS, 0}, draw);
    launch("draw_race", {{count, rows, 1}, DRAW_THREADS, 0}, draw);
    launch("draw_finish", {{rows, 1, 1}, 32, 0}, draw);
    expect("draw_finish", drawn);
}

} // namespace harness
