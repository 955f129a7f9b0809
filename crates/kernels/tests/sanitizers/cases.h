// Every kernel but attention, at shapes with parts of blocks and rows.
#pragma once

#include "buffers.h"

namespace harness {

template <class T> void norm(size_t rows, uint32_t width) {
    auto x = normal<T>(rows * width), residual = normal<T>(rows * width), weight = normal<T>(width);
    auto sum = empty<T>(rows * width), normed = empty<T>(rows * width), dx = empty<T>(rows * width);
    auto inverse = empty<float>(rows);
    uint32_t warps = 1;
    while (warps * 512 < width && warps < 8) {
        warps *= 2;
    }
    Grid grid = grid_of(rows, 8 / warps);
    RmsNorm forward{};
    forward.x = x.at();
    forward.residual = residual.at();
    forward.weight = weight.at();
    forward.sum = sum.at();
    forward.normed = normed.at();
    forward.inverse = inverse.at();
    forward.rows = rows;
    forward.width = width;
    forward.warps = warps;
    forward.wide = wide<T>(width);
    forward.eps = 1e-6f;
    launch(typed<T>("rms_norm"), grid, forward);
    expect("rms_norm", normed);
    RmsNormBackward backward{};
    backward.x = sum.at();
    backward.weight = weight.at();
    backward.dy = x.at();
    backward.base = residual.at();
    backward.dx = dx.at();
    backward.inverse = inverse.at();
    backward.rows = rows;
    backward.width = width;
    backward.warps = warps;
    backward.wide = forward.wide;
    launch(typed<T>("rms_norm_backward"), grid, backward);
    expect("rms_norm_backward", dx);
}

inline void norms() {
    norm<float>(5, 33);
    norm<float>(3, 5000);
    norm<bf16>(19, 64);
    norm<bf16>(5, 1536);
    norm<f16>(3, 1000);
}

inline void head() {
    const uint32_t rows = 5, columns = 700;
    auto logits = normal<float>(2 * rows * columns), at_terminators = normal<float>(rows * 2);
    auto bars = empty<float>(rows), maxima = empty<float>(rows), sums = empty<float>(rows);
    auto target_logits = empty<float>(rows), above = empty<float>(rows), squares = empty<float>(rows);
    auto terminator_sums = empty<float>(rows), tops = empty<float>(rows * TOP_TOKENS), shrinks = empty<float>(rows);
    auto targets = ids({3, 699, 700, 1399, 12}), terminators = ids({3, 950});
    HeadStart start{};
    start.terminator_logits = at_terminators.at();
    start.bars = bars.at();
    start.maxima = maxima.at();
    start.sums = sums.at();
    start.target_logits = target_logits.at();
    start.above = above.at();
    start.terminator_sums = terminator_sums.at();
    start.squares = squares.at();
    start.rows = rows;
    start.terminator_count = 2;
    start.cap = 30;
    launch("head_start", grid_of(rows, 256), start);
    for (uint32_t tile = 0; tile < 2; ++tile) {
        HeadFold fold{};
        fold.logits = logits.at() + size_t(tile) * rows * columns;
        fold.targets = targets.at();
        fold.terminators = terminators.at();
        fold.bars = bars.at();
        fold.maxima = maxima.at();
        fold.sums = sums.at();
        fold.target_logits = target_logits.at();
        fold.above = above.at();
        fold.terminator_sums = terminator_sums.at();
        fold.squares = squares.at();
        fold.shrinks = shrinks.at();
        fold.rows = rows;
        fold.columns = columns;
        fold.first = tile * columns;
        fold.terminator_count = 2;
        fold.cap = 30;
        fold.squared = 1;
        launch("head_fold", {{rows, 1, 1}, 256, 0}, fold);
        HeadTop top{};
        top.logits = fold.logits;
        top.tops = tops.at();
        top.columns = columns;
        top.first = fold.first;
        top.cap = 30;
        launch("head_top", {{rows, 1, 1}, 256, 0}, top);
    }
    expect("head_fold", squares);
    expect("head_fold", shrinks);
    expect("head_top", tops);
    auto log_sums = empty<float>(rows), log_probs = empty<float>(rows), terminator_log_probs = empty<float>(rows);
    HeadFinish finish{};
    finish.maxima = maxima.at();
    finish.sums = sums.at();
    finish.target_logits = target_logits.at();
    finish.bars = bars.at();
    finish.terminator_sums = terminator_sums.at();
    finish.log_sums = log_sums.at();
    finish.log_probs = log_probs.at();
    finish.terminator_log_probs = terminator_log_probs.at();
    finish.rows = rows;
    finish.terminator_count = 2;
    launch("head_finish", grid_of(rows, 256), finish);
    expect("head_finish", terminator_log_probs);
}

template <class T> void head_backward() {
    const uint32_t rows = 3, columns = 1100, width = 40;
    auto logits = normal<float>(rows * columns), log_sums = normal<float>(5), weights = normal<float>(5);
    auto tile_rows = ids({4, 0, 2}), targets = ids({3, 9, 1099, 0, 12});
    auto grads = empty<T>(rows * columns);
    HeadGrads gradients{};
    gradients.logits = logits.at();
    gradients.rows = tile_rows.at();
    gradients.targets = targets.at();
    gradients.log_sums = log_sums.at();
    gradients.weights = weights.at();
    gradients.grads = grads.at();
    gradients.columns = columns;
    launch(typed<T>("head_grads"), {{(columns + 1023) / 1024, rows, 1}, 256, 0}, gradients);
    expect("head_grads", grads);
    auto to = normal<T>(5 * width);
    Scatter scatter{};
    scatter.from = logits.at();
    scatter.rows = tile_rows.at();
    scatter.to = to.at();
    scatter.count = rows;
    scatter.width = width;
    scatter.accumulate = 1;
    launch(typed<T>("scatter_rows"), grid_of(rows, 8), scatter);
}

template <class T> void head_directions_of() {
    const uint32_t rows = 3, columns = 1100, width = 300;
    auto logits = normal<float>(rows * columns), mixed = normal<float>(rows * width), target_logits = normal<float>(rows);
    auto maxima = filled<float>(rows, 4), sums = filled<float>(rows, 2), shrinks = filled<float>(rows, 0.5f);
    auto weight = normal<T>(5 * width);
    auto targets = ids({4, 0, 2});
    auto exponentials = empty<T>(rows * columns), directions = empty<T>(rows * width), grads = empty<T>(rows * width);
    HeadExponentials tile{logits.at(), maxima.at(), exponentials.at(), columns, 30};
    launch(typed<T>("head_exponentials"), {{(columns + 1023) / 1024, rows, 1}, 256, 0}, tile);
    expect("head_exponentials", exponentials);
    launch("head_shrink", {{rows, 1, 1}, 256, 0}, HeadShrink{mixed.at(), shrinks.at(), width, 0});
    HeadDirections last{};
    last.mixed = mixed.at();
    last.sums = sums.at();
    last.target_logits = target_logits.at();
    last.targets = targets.at();
    last.weight = weight.at();
    last.directions = directions.at();
    last.width = width;
    last.cap = 30;
    launch(typed<T>("head_directions"), {{rows, 1, 1}, 256, 0}, last);
    expect("head_directions", directions);
    HeadScale scale{directions.at(), target_logits.at(), grads.at(), width, 0};
    launch(typed<T>("head_scale"), {{rows, 1, 1}, 256, 0}, scale);
    expect("head_scale", grads);
}

template <class T> void column_sums_of() {
    const uint32_t rows = 300, width = 70, shares = 3;
    auto values = normal<T>(rows * width), factors = normal<T>(rows * width);
    auto scales = normal<float>(rows), parts = empty<float>(shares * width), out = normal<float>(width);
    ColumnSums sums{};
    sums.values = values.at();
    sums.factors = factors.at();
    sums.scales = scales.at();
    sums.shares = parts.at();
    sums.rows = rows;
    sums.rows_each = 128;
    sums.width = width;
    launch(typed<T>("column_sums"), {{(width + 31) / 32, shares, 1}, 256, 0}, sums);
    expect("column_sums", parts);
    AddShares add{};
    add.shares = parts.at();
    add.out = out.at();
    add.count = shares;
    add.width = width;
    add.accumulate = 1;
    launch("add_shares", grid_of(width, 256), add);
}

template <class T> void weighted_sums() {
    const size_t count = 2100;
    auto x = normal<T>(count), weights = normal<T>(count), dx = empty<T>(count);
    auto sum = empty<float>(1);
    WeightedSum forward{x.at(), weights.at(), sum.at(), count};
    launch(typed<T>("weighted_sum"), {{1, 1, 1}, 256, 0}, forward);
    expect("weighted_sum", sum);
    WeightedSum backward{sum.at(), weights.at(), dx.at(), count};
    launch(typed<T>("weighted_sum_backward"), grid_of(count, 256), backward);
    expect("weighted_sum_backward", dx);
}

inline void squares() {
    // Gradients of two blocks and of one.
    const size_t counts[2] = {17000, 5};
    auto first = normal<float>(counts[0]), second = normal<float>(counts[1]);
    Buffer<Values> gradients(2);
    gradients[0] = {first.at(), counts[0], 0, 0};
    gradients[1] = {second.at(), counts[1], 2, 0};
    auto parts = empty<float>(3);
    auto starts = ids({0, 2, 3});
    auto sums = empty<double>(2);
    launch("square_sums", {{3, 1, 1}, 256, 0}, SquareSums{gradients.at(), parts.at(), 2, 0});
    launch("add_parts", {{2, 1, 1}, 32, 0}, AddParts{parts.at(), starts.at(), sums.at()});
    expect("add_parts", sums);
}

template <class T> void optimizer(bool masters) {
    // Parameters of a block, of two and of a part of one.
    const size_t counts[3] = {2048, 2100, 7};
    std::vector<Buffer<float>> state;
    std::vector<Buffer<T>> values;
    Buffer<AdamWParameter> parameters(3);
    uint32_t blocks = 0;
    for (int i = 0; i < 3; ++i) {
        for (int part = 0; part < 4; ++part) {
            state.push_back(part == 2 ? filled<float>(counts[i], 0.5f) : normal<float>(counts[i]));
        }
        values.push_back(normal<T>(counts[i]));
        float* own[4];
        for (int part = 0; part < 4; ++part) {
            own[part] = state[4 * i + part].at();
        }
        float* master = masters ? own[3] : nullptr;
        parameters[i] = {own[0], own[1], own[2], master, values[i].at(), counts[i], blocks, 1};
        blocks += uint32_t(counts[i] + 2047) / 2048;
    }
    AdamW step{};
    step.parameters = parameters.at();
    step.count = 3;
    step.clip = step.second_correction = 1;
    step.beta1 = step.beta2 = 0.9f;
    step.one_minus_beta1 = step.one_minus_beta2 = 0.1f;
    step.eps = 1e-8f;
    step.rate = 0.01f;
    launch(typed<T>("adamw"), {{blocks, 1, 1}, 256, 0}, step);
    for (auto& parameter : values) {
        expect("adamw", parameter);
    }
}

template <class T> void elements(size_t count) {
    auto a = normal<T>(count), b = normal<T>(count), dy = normal<T>(count), out = empty<T>(count), up = empty<T>(count);
    uint32_t wide = harness::wide<T>(count);
    size_t each = wide ? 16 / sizeof(T) : 1;
    Add add{};
    add.a = a.at();
    add.b = b.at();
    add.out = out.at();
    add.count = count;
    add.wide = wide;
    launch(typed<T>("add"), grid_of(count / each, 256), add);
    expect("add", out);
    Gated gated{};
    gated.gate = a.at();
    gated.up = b.at();
    gated.dy = dy.at();
    gated.out = out.at();
    gated.out_up = up.at();
    gated.count = count;
    gated.wide = wide;
    for (const char* kernel : {"swiglu", "geglu", "swiglu_backward", "geglu_backward"}) {
        launch(typed<T>(kernel), grid_of(count / each, 256), gated);
        expect(kernel, out);
    }
    expect("geglu_backward", up);
    Dropout dropout{};
    dropout.x = a.at();
    dropout.out = out.at();
    dropout.count = count;
    dropout.first_word = 13;
    dropout.keep = 0.7f;
    launch(typed<T>("dropout"), grid_of((13 + count + 15) / 16, 256), dropout);
    expect("dropout", out);
}

template <class From, class To> void convert_elements() {
    const size_t count = 1030;
    auto from = normal<From>(count);
    auto to = normal<To>(count);
    Convert convert{};
    convert.from = from.at();
    convert.to = to.at();
    convert.count = count;
    convert.accumulate = 1;
    launch(std::string("convert_") + dtype<From>() + "_" + dtype<To>(), grid_of(count, 1024), convert);
    expect("convert", to);
}

inline void conversions() {
    convert_elements<float, float>();
    convert_elements<float, bf16>();
    convert_elements<float, f16>();
    convert_elements<bf16, float>();
    convert_elements<bf16, bf16>();
    convert_elements<f16, float>();
    convert_elements<f16, f16>();
}

template <class T> void turned(uint32_t width, uint32_t half, uint32_t interleaved) {
    const uint32_t tokens = 5, heads = 3;
    auto x = normal<T>(tokens * heads * width), out = empty<T>(tokens * heads * width);
    auto cos = normal<float>(tokens * half), sin = normal<float>(tokens * half);
    Rotary rotary{};
    rotary.x = x.at();
    rotary.cos = cos.at();
    rotary.sin = sin.at();
    rotary.out = out.at();
    rotary.wide = !interleaved && wide<T>(width) && wide<T>(half);
    rotary.count = tokens * heads * (width - half) / (rotary.wide ? 16 / sizeof(T) : 1);
    rotary.heads = heads;
    rotary.width = width;
    rotary.half = half;
    rotary.sign = 1;
    rotary.interleaved = interleaved;
    launch(typed<T>("rotary"), grid_of(rotary.count, 256), rotary);
    expect("rotary", out);
}

template <class T> void rows_moved(uint32_t width) {
    const uint32_t rows = 11;
    auto table = normal<T>(4 * width), out = empty<T>(rows * width), narrow = normal<T>(rows * (width - 3));
    auto indices = ids({0, 3, 3, 1, 0, 2, 2, 2, 3, 1, 0});
    Gather gather{};
    gather.table = table.at();
    gather.ids = indices.at();
    gather.out = out.at();
    gather.rows = rows;
    gather.width = width;
    gather.wide = wide<T>(width);
    launch(typed<T>("gather_rows"), grid_of(rows, 8), gather);
    expect("gather_rows", out);
    Columns columns{};
    columns.from = out.at() + 3;
    columns.to = narrow.at();
    columns.rows = rows;
    columns.from_stride = width;
    columns.to_stride = columns.width = width - 3;
    columns.accumulate = 1;
    launch(typed<T>("copy_columns"), grid_of(rows, 8), columns);
    Repeat repeat{};
    repeat.row = table.at();
    repeat.out = out.at();
    repeat.rows = rows;
    repeat.width = width;
    repeat.wide = wide<T>(width);
    launch(typed<T>("repeat_row"), grid_of(rows, 8), repeat);
    expect("repeat_row", out);
}

template <class From, class To> void summed_by_id() {
    const uint32_t width = 150;
    auto from = normal<From>(6 * width);
    auto table = normal<To>(4 * width);
    auto order = ids({0, 4, 1, 2, 3, 5}), starts = ids({0, 2, 6}), rows = ids({1, 3});
    SumById sum{};
    sum.rows = from.at();
    sum.order = order.at();
    sum.starts = starts.at();
    sum.ids = rows.at();
    sum.table = table.at();
    sum.count = 2;
    sum.width = width;
    launch(std::string("sum_by_id_") + dtype<From>() + "_" + dtype<To>(), {{2, 1, 1}, 128, 0}, sum);
    expect("sum_by_id", table);
}

inline void sums_by_id() {
    summed_by_id<float, float>();
    summed_by_id<bf16, float>();
    summed_by_id<f16, float>();
    summed_by_id<bf16, bf16>();
    summed_by_id<f16, f16>();
}

template <class T> void four_bits(bool nested) {
    const uint32_t count = 203, block = 64;
    auto codes = ids(std::vector<uint32_t>((count + 7) / 8, 0x1f2e3d4cu)), nested_codes = ids({0x10203040u});
    auto scales = normal<float>(nested ? 1 : (count + block - 1) / block), numbers = normal<float>(256);
    auto out = empty<T>(count);
    Dequantise four_bit{};
    four_bit.codes = codes.at();
    four_bit.scales = scales.at();
    four_bit.nested = nested ? nested_codes.at() : nullptr;
    four_bit.nested_numbers = nested ? numbers.at() : nullptr;
    four_bit.out = out.at();
    four_bit.count = count;
    four_bit.block = block;
    four_bit.nested_block = 256;
    launch(typed<T>("dequantise"), grid_of((count + 7) / 8, 256), four_bit);
    expect("dequantise", out);
}

template <class T> void of_dtype() {
    head_backward<T>();
    head_directions_of<T>();
    column_sums_of<T>();
    weighted_sums<T>();
    optimizer<T>(sizeof(T) == 2);
    elements<T>(2056);
    elements<T>(301);
    turned<T>(20, 7, 0);
    turned<T>(40, 16, 0);
    turned<T>(20, 7, 1);
    rows_moved<T>(48);
    rows_moved<T>(13);
    four_bits<T>(false);
    four_bits<T>(true);
}

} // namespace harness
