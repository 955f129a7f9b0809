// Attention over a prompt with two completions and a sequence beside them.
#pragma once

#include "buffers.h"

#include <algorithm>

namespace harness {
namespace { // as the types of the kernels are

// Tokens start..end that see themselves causally and all of a prompt.
struct Span {
    int start, end, prompt_first, prompt_last;
};

struct Pairs {
    Buffer<AttentionTile> tiles;
    Buffer<AttentionPair> pairs;
};

constexpr int FAR_OFF = 1 << 20;

std::vector<AttentionTile> tiles_of(const std::vector<Span>& spans) {
    std::vector<AttentionTile> tiles;
    for (auto& span : spans) {
        for (int first = span.start; first < span.end; first += ATTENTION_TILE) {
            tiles.push_back({first, std::min(span.end - first, ATTENTION_TILE), 0, 0});
        }
    }
    return tiles;
}

// The pairs that device/attention_plan.rs lists, for windows of tokens that stand side by side.
std::vector<AttentionPair> pairs_of(const std::vector<Span>& spans, const std::vector<AttentionTile>& tiles,
                                           int window) {
    std::vector<AttentionPair> pairs;
    for (auto& query : tiles) {
        int query_end = query.first + query.count;
        auto& span = *std::find_if(spans.begin(), spans.end(), [&](const Span& one) { return query.first < one.end; });
        for (bool own : {false, true}) {
            int first = own ? span.start : span.prompt_first, last = own ? query_end : span.prompt_last;
            for (auto& key : tiles) {
                int from = std::max(first, key.first) - key.first, to = std::min(last - key.first, key.count);
                int causal = own ? query.first - key.first : FAR_OFF;
                int near = window > 0 ? query.first - key.first - window + 1 : -FAR_OFF;
                if (from < to && near < to) {
                    pairs.push_back({query.first, query.count, key.first, key.count, from, to, causal, near});
                }
            }
        }
    }
    return pairs;
}

Pairs owned(const std::vector<AttentionTile>& tiles, const std::vector<AttentionPair>& pairs,
                   int AttentionPair::*owner) {
    Pairs list{Buffer<AttentionTile>(tiles.size()), Buffer<AttentionPair>(pairs.size())};
    int next = 0;
    for (size_t i = 0; i < tiles.size(); ++i) {
        list.tiles[i] = tiles[i];
        list.tiles[i].pairs_first = next;
        for (auto& pair : pairs) {
            if (pair.*owner == tiles[i].first) {
                list.pairs[next++] = pair;
            }
        }
        list.tiles[i].pairs_last = next;
    }
    return list;
}

template <class T, int PADDED> void attention(int width, int heads, int kv_heads, float cap, int window) {
    using Extents = AttentionExtents<T, PADDED>;
    const std::vector<Span> spans = {{0, 70, 0, 0}, {70, 103, 0, 70}, {103, 140, 0, 70}, {140, 150, 0, 0}};
    const int tokens = spans.back().end;
    const auto tiles = tiles_of(spans);
    const auto pairs = pairs_of(spans, tiles, window);
    const auto queries = owned(tiles, pairs, &AttentionPair::query_tile);
    const auto keys = owned(tiles, pairs, &AttentionPair::key_tile);
    const size_t rows = size_t(tokens) * heads, kv_rows = size_t(tokens) * kv_heads;
    auto q = normal<T>(rows * width), k = normal<T>(kv_rows * width), v = normal<T>(kv_rows * width);
    auto out = empty<T>(rows * width), d_out = normal<T>(rows * width);
    auto log_sums = empty<float>(rows), inner = empty<float>(rows);
    auto dq = empty<T>(rows * width);

    const std::string suffix = "_" + std::to_string(PADDED) + "_" + dtype<T>();
    const unsigned blocks = unsigned(tiles.size()) * (ATTENTION_TILE / Extents::rows), row = sizeof(T) * Extents::stride;
    AttentionForward forward{};
    forward.q = q.at();
    forward.k = k.at();
    forward.v = v.at();
    forward.out = out.at();
    forward.log_sums = log_sums.at();
    forward.tiles = queries.tiles.at();
    forward.pairs = queries.pairs.at();
    forward.heads = heads;
    forward.kv_heads = kv_heads;
    forward.width = width;
    forward.scale = 1 / std::sqrt(float(width));
    forward.cap = cap;
    Grid grid{{blocks, unsigned(heads), 1}, Extents::forward_threads,
              (Extents::rows + 2 * Extents::forward_step) * row};
    launch("attention_forward" + suffix, grid, forward);
    expect("attention_forward", out);
    grid.threads = Extents::threads;

    AttentionInner product{};
    product.out = out.at();
    product.d_out = d_out.at();
    product.inner = inner.at();
    product.rows = rows;
    product.width = width;
    launch(typed<T>("attention_inner"), grid_of(rows, 8), product);

    AttentionBackward backward{};
    backward.q = q.at();
    backward.k = k.at();
    backward.v = v.at();
    backward.d_out = d_out.at();
    backward.log_sums = log_sums.at();
    backward.inner = inner.at();
    backward.heads = heads;
    backward.kv_heads = kv_heads;
    backward.width = width;
    backward.scale = forward.scale;
    backward.cap = cap;
    backward.dq = dq.at();
    backward.tiles = queries.tiles.at();
    backward.pairs = queries.pairs.at();
    grid.shared = 2 * (Extents::rows + 2 * Extents::backward_step) * row;
    launch("attention_backward_queries" + suffix, grid, backward);
    expect("attention_backward_queries", dq);

    backward.dq = nullptr;
    backward.tiles = keys.tiles.at();
    backward.pairs = keys.pairs.at();
    grid.blocks[2] = Extents::keys_and_values_together ? 1 : 2;
    auto key_grads = [&](auto& dk, auto& dv, unsigned shares) {
        backward.dk = dk.at();
        backward.dv = dv.at();
        backward.shares = shares;
        grid.blocks[1] = kv_heads * shares;
        launch("attention_backward_keys" + suffix, grid, backward);
        expect("attention_backward_keys", dk);
        expect("attention_backward_keys", dv);
    };
    // All heads of a key in one block, and a block each, whose sums are added.
    auto dk = empty<T>(kv_rows * width), dv = empty<T>(kv_rows * width);
    key_grads(dk, dv, 1);
    auto dk_parts = empty<float>(rows * width), dv_parts = empty<float>(rows * width);
    key_grads(dk_parts, dv_parts, heads / kv_heads);
    AttentionShares shares{};
    shares.dk = dk_parts.at();
    shares.dv = dv_parts.at();
    auto dk_sum = empty<T>(kv_rows * width), dv_sum = empty<T>(kv_rows * width);
    shares.dk_out = dk_sum.at();
    shares.dv_out = dv_sum.at();
    shares.rows = kv_rows;
    shares.shares = heads / kv_heads;
    shares.width = width;
    launch(typed<T>("attention_add_shares"), {{unsigned(kv_rows + 7) / 8, 2, 1}, 256, 0}, shares);
    expect("attention_add_shares", dk_sum);
    expect("attention_add_shares", dv_sum);
}

} // namespace
} // namespace harness
