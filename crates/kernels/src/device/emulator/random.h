// Random numbers of a schedule.
#pragma once

#include <cstdint>

namespace emulator {

// SplitMix64 (Steele, Lea and Flood 2014).
class Random {
    uint64_t state;

public:
    explicit Random(uint64_t seed = 0) : state(seed) {}

    uint32_t next() {
        uint64_t z = state += 0x9e3779b97f4a7c15u;
        z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
        z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
        return uint32_t((z ^ (z >> 31)) >> 32);
    }

    uint32_t below(uint32_t count) { return uint32_t(uint64_t(next()) * count >> 32); }
};

} // namespace emulator
