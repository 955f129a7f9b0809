#include "shared_memory.h"

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>

namespace emulator {

namespace {

// What a block may have on every supported GPU: compute capabilities 8.6, 8.9 and 12.0 have the least, 9.0 has 227 KB.
constexpr size_t LIMIT = 99 * 1024;
// What a kernel may declare.
constexpr size_t DECLARED_LIMIT = 48 * 1024;

// Of dynamic shared memory; more than any array needs.
constexpr size_t ALIGNMENT = 128;
constexpr unsigned char POISON = 0xff;

#if defined(SMPO_SANITIZED)
constexpr bool EXACT = true;
constexpr size_t GUARD = 0;
#else
constexpr bool EXACT = false;
constexpr size_t GUARD = ALIGNMENT;
#endif

bool poisoned(const unsigned char* from) {
    return std::all_of(from, from + GUARD, [](unsigned char byte) { return byte == POISON; });
}

} // namespace

void Area::Free::operator()(unsigned char* memory) const { std::free(memory); }

unsigned char* Area::start() const { return memory.get() + GUARD; }

void Area::reset(size_t size) {
    if (!memory || capacity < size || EXACT) {
        void* fresh = nullptr;
        if (posix_memalign(&fresh, ALIGNMENT, size + 2 * GUARD) != 0) {
            std::abort();
        }
        memory.reset(static_cast<unsigned char*>(fresh));
        capacity = size;
    }
    bytes = size;
    std::memset(memory.get(), POISON, size + 2 * GUARD);
}

bool Area::holds(const void* at, size_t count) const {
    auto first = reinterpret_cast<uintptr_t>(at), own = reinterpret_cast<uintptr_t>(start());
    return first >= own && first - own + count <= bytes;
}

bool Area::intact() const { return poisoned(memory.get()) && poisoned(start() + bytes); }

void SharedMemory::begin_block(size_t dynamic_bytes) {
    if (EXACT) {
        retired.push_back(std::move(dynamic_area));
        for (auto& array : arrays) {
            retired.push_back(std::move(array.area));
        }
        arrays.clear();
        dynamic_area = Area();
    }
    dynamic_area.reset(dynamic_bytes);
    for (auto& array : arrays) {
        array.reached = false;
    }
}

void SharedMemory::end_launch() { retired.clear(); }

unsigned char* SharedMemory::array(const void* declaration, size_t bytes) {
    auto found = std::find_if(arrays.begin(), arrays.end(),
                              [&](const Array& array) { return array.declaration == declaration; });
    if (found == arrays.end()) {
        found = arrays.insert(arrays.end(), Array{declaration, false, {}});
    }
    if (!found->reached) {
        found->reached = true;
        found->area.reset(bytes);
    }
    return found->area.start();
}

bool SharedMemory::holds(const void* at, size_t count) const {
    return dynamic_area.holds(at, count) || std::any_of(arrays.begin(), arrays.end(), [&](const Array& array) {
               return array.reached && array.area.holds(at, count);
           });
}

std::string SharedMemory::fault() const {
    size_t declared = 0;
    bool intact = dynamic_area.intact();
    for (auto& array : arrays) {
        declared += array.reached ? array.area.size() : 0;
        intact &= !array.reached || array.area.intact();
    }
    if (!intact) {
        return "a write outside of shared memory";
    }
    if (declared > DECLARED_LIMIT || declared + dynamic_area.size() > LIMIT) {
        return std::to_string(declared) + " bytes of declared and " + std::to_string(dynamic_area.size()) +
               " of dynamic shared memory; every GPU has " + std::to_string(DECLARED_LIMIT) + " declared and " +
               std::to_string(LIMIT) + " in all";
    }
    return {};
}

} // namespace emulator
