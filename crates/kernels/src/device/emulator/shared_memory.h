// Shared memory of a block.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <vector>

namespace emulator {

// A part of shared memory between two guards. Under a sanitizer it has exactly its size and is fresh for each block.
class Area {
    struct Free {
        void operator()(unsigned char* memory) const;
    };
    std::unique_ptr<unsigned char, Free> memory;
    size_t capacity = 0;
    size_t bytes = 0;

public:
    // Makes it `size` bytes of NaN, so that a read before a write shows in the result.
    void reset(size_t size);
    unsigned char* start() const;
    size_t size() const { return bytes; }
    bool holds(const void* at, size_t count) const;
    // False if something has been written just before or behind it.
    bool intact() const;
};

class SharedMemory {
    // An array that a kernel declares, by its declaration.
    struct Array {
        const void* declaration;
        bool reached; // by this block
        Area area;
    };
    Area dynamic_area;
    std::vector<Array> arrays;
    std::vector<Area> retired;

public:
    void begin_block(size_t dynamic_bytes);
    // Frees what the sanitizers may still have looked at while blocks ran.
    void end_launch();
    unsigned char* dynamic() const { return dynamic_area.start(); }
    unsigned char* array(const void* declaration, size_t bytes);
    bool holds(const void* at, size_t count) const;
    // The block's fault; empty if there is none.
    std::string fault() const;
};

} // namespace emulator
