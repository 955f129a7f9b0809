// Operations that the lanes of a warp do together.

#include "block.h"

namespace emulator {

namespace {

constexpr unsigned ALL_LANES = 0xffffffffu;

void check_mask(unsigned mask, Site site) {
    if (mask != ALL_LANES) {
        current->fail(site, "expected a mask of all lanes");
    }
}

float element(uint32_t word, unsigned half, bool is_bf16) {
    uint16_t bits = uint16_t(word >> (16 * half));
    return is_bf16 ? to_float(bf16{bits}) : to_float(f16{bits});
}

// mma.sync.aligned.m16n8k16.row.col, its fragments as the PTX ISA lays them out: with g = lane / 4 and t = lane % 4,
// register r of a holds row g + 8·(r % 2), columns 2t + 8·(r / 2) and the next; register r of b rows 2t + 8r and the
// next of column g; element e of d row g + 8·(e / 2), column 2t + e % 2.
void multiply_warp(const Warp& warp, bool is_bf16) {
    float a[16][16], b[16][8], d[16][8];
    for (unsigned lane = 0; lane < WARP; ++lane) {
        unsigned g = lane / 4, t = lane % 4;
        for (unsigned r = 0; r < 4; ++r) {
            for (unsigned half = 0; half < 2; ++half) {
                a[g + 8 * (r % 2)][2 * t + 8 * (r / 2) + half] = element(warp.left[lane][r], half, is_bf16);
            }
        }
        for (unsigned r = 0; r < 2; ++r) {
            for (unsigned half = 0; half < 2; ++half) {
                b[2 * t + 8 * r + half][g] = element(warp.right[lane][r], half, is_bf16);
            }
        }
        for (unsigned e = 0; e < 4; ++e) {
            d[g + 8 * (e / 2)][2 * t + e % 2] = warp.sums[lane][e];
        }
    }
    for (unsigned i = 0; i < 16; ++i) {
        for (unsigned k = 0; k < 16; ++k) {
            for (unsigned j = 0; j < 8; ++j) {
                d[i][j] += a[i][k] * b[k][j];
            }
        }
    }
    for (unsigned lane = 0; lane < WARP; ++lane) {
        unsigned g = lane / 4, t = lane % 4;
        for (unsigned e = 0; e < 4; ++e) {
            warp.sums[lane][e] = d[g + 8 * (e / 2)][2 * t + e % 2];
        }
    }
}

} // namespace

void warp_barrier(unsigned mask, Site site) {
    check_mask(mask, site);
    if (!current->omits(site)) {
        current->wait(Operation::WarpBarrier, site);
    }
}

uint32_t exchange(unsigned mask, uint32_t value, unsigned from_lane, Site site) {
    check_mask(mask, site);
    Warp& warp = current->warp();
    unsigned lane = current->lane(), turn = warp.turn[lane] ^= 1;
    warp.words[turn][lane] = value;
    current->wait(Operation::Shuffle, site);
    return warp.words[turn][from_lane % WARP];
}

void multiply_tiles(float* d, const uint32_t* a, const uint32_t* b, bool is_bf16, Site site) {
    Warp& warp = current->warp();
    unsigned lane = current->lane();
    warp.sums[lane] = d;
    warp.left[lane] = a;
    warp.right[lane] = b;
    current->wait(Operation::MatrixProduct, site);
    // All registers are set. The first thread to resume computes for all.
    if (warp.sums[lane] != nullptr) {
        multiply_warp(warp, is_bf16);
        for (auto& sums : warp.sums) {
            sums = nullptr;
        }
    }
}

const void* const* show_row(const void* row, Site site) {
    if (reinterpret_cast<uintptr_t>(row) % 16 != 0) {
        current->fail(site, "expected a row that starts at a multiple of 16 bytes");
    }
    if (!current->shared.holds(row, 16)) {
        current->fail(site, "expected a row in shared memory");
    }
    Warp& warp = current->warp();
    unsigned lane = current->lane(), turn = warp.turn[lane] ^= 1;
    warp.rows[turn][lane] = row;
    current->wait(Operation::MatrixLoad, site);
    return warp.rows[turn];
}

} // namespace emulator
