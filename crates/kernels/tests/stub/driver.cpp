// A CUDA driver without a GPU: host memory plays the device's, the emulator runs this project's kernels, and candle.h those
// of candle. Calls come back as they do from NVIDIA's, wrong ones with its errors.
//
// SMPO_STUB_RECORD       file that gets a line for each call that matters
// SMPO_STUB_DEVICES      number of GPUs [1]
// SMPO_STUB_VERSION      CUDA version of the driver, such as 12080 [that of the build]
// SMPO_STUB_CAPABILITY   compute capability, such as 75 [80]
// SMPO_STUB_MEBIBYTES    memory of a GPU [8192]
// SMPO_STUB_TAKEN        of which other processes have so much [0]
// SMPO_STUB_EXCLUSIVE    1: another process has the GPU for itself
// SMPO_STUB_INIT         error of cuInit [0]
// SMPO_STUB_EMPTY        1: allocations of no bytes succeed, as with memory pools
// SMPO_STUB_LOST_AFTER   kernels and products after which the GPU is lost [never]

#include "../../src/device/emulator/launch.cpp"
#include "candle.h"
#include "state.h"

#include <cstdarg>
#include <cstdlib>
#include <map>
#include <mutex>
#include <thread>
#include <vector>

namespace {

enum Error {
    SUCCESS = 0,
    INVALID_VALUE = 1,
    OUT_OF_MEMORY = 2,
    DEVICE_UNAVAILABLE = 46,
    NO_DEVICE = 100,
    INVALID_DEVICE = 101,
    INVALID_IMAGE = 200,
    INVALID_CONTEXT = 201,
    NOT_FOUND = 500,
    LAUNCH_FAILED = 719,
};

// Memory that was never written reads as NaN, and memory that was freed as another one.
constexpr int UNWRITTEN = 0xff, FREED = 0xfe;

std::recursive_mutex lock;
struct Allocation {
    size_t bytes;
    stub::Handle context;
};
std::map<uintptr_t, Allocation> allocations;
size_t used = 0, most_used = 0;
long work = 0;
thread_local stub::Handle bound = nullptr;
char contexts[64];

// Notes at the end how much memory was used at most.
struct Peak {
    ~Peak() { stub::record("peak %zu", most_used); }
};

struct Module {
    bool machine_code;
};

struct Function {
    std::string name;
    bool own;
    unsigned shared = 48 * 1024;
};

size_t total() { return size_t(stub::setting("MEBIBYTES", 8192)) << 20; }
size_t taken() { return size_t(stub::setting("TAKEN", 0)) << 20; }

int allocate(uintptr_t* address, size_t bytes) {
    if (int error = stub::refusal()) {
        return error;
    }
    if (bytes == 0) {
        stub::record("fault allocation of no bytes"); // refused without memory pools
        if (!stub::setting("EMPTY", 0)) {
            return INVALID_VALUE;
        }
    }
    std::lock_guard<std::recursive_mutex> guard(lock);
    if (used + taken() + bytes > total()) {
        return OUT_OF_MEMORY;
    }
    void* memory = std::aligned_alloc(256, (bytes + 255) / 256 * 256);
    std::memset(memory, UNWRITTEN, bytes);
    *address = reinterpret_cast<uintptr_t>(memory);
    allocations[*address] = {bytes, bound};
    used += bytes;
    most_used = std::max(most_used, used);
    stub::record("allocate %zu", bytes);
    return SUCCESS;
}

int release(uintptr_t address) {
    std::lock_guard<std::recursive_mutex> guard(lock);
    auto found = allocations.find(address);
    if (found == allocations.end()) {
        return INVALID_VALUE;
    }
    std::memset(reinterpret_cast<void*>(address), FREED, found->second.bytes);
    used -= found->second.bytes;
    allocations.erase(found);
    std::free(reinterpret_cast<void*>(address));
    return SUCCESS;
}

int copy(void* to, const void* from, size_t bytes, bool to_device, bool from_device, const char* kind) {
    if (int error = stub::refusal()) {
        return error;
    }
    if ((to_device && !stub::holds(to, bytes)) || (from_device && !stub::holds(from, bytes))) {
        stub::record("fault copy %s %zu", kind, bytes);
        return INVALID_VALUE;
    }
    std::memmove(to, from, bytes);
    stub::record("copy %s %zu", kind, bytes);
    return SUCCESS;
}

// Runs a kernel of this project on as many threads as the machine has.
int run_own(const Function& function, const unsigned (&grid)[3], unsigned threads, unsigned shared, void* argument) {
    unsigned blocks = grid[0] * grid[1] * grid[2];
    unsigned workers = std::min(blocks, std::max(1u, std::thread::hardware_concurrency()));
    unsigned size = emulator::kernels()[function.name].size;
    emulator::Schedule schedule{0, nullptr, 0, 0};
    std::vector<std::thread> pool;
    std::vector<std::string> faults(workers);
    for (unsigned worker = 0; worker < workers; ++worker) {
        unsigned first = uint64_t(blocks) * worker / workers, last = uint64_t(blocks) * (worker + 1) / workers;
        pool.emplace_back([&, worker, first, last] {
            char reason[512];
            if (!smpo_emulator_launch(function.name.c_str(), argument, size, grid, threads, shared, first, last,
                                      &schedule, reason, sizeof reason)) {
                faults[worker] = reason;
            }
        });
    }
    for (auto& thread : pool) {
        thread.join();
    }
    for (auto& fault : faults) {
        if (!fault.empty()) {
            stub::record("fault %s: %s", function.name.c_str(), fault.c_str());
            return LAUNCH_FAILED;
        }
    }
    return SUCCESS;
}

} // namespace

namespace stub {

long setting(const char* name, long otherwise) {
    const char* text = std::getenv((std::string("SMPO_STUB_") + name).c_str());
    return text && *text ? std::atol(text) : otherwise;
}

void record(const char* format, ...) {
    static FILE* file = [] {
        const char* path = std::getenv("SMPO_STUB_RECORD");
        return path && *path ? std::fopen(path, "a") : nullptr;
    }();
    if (file) {
        std::lock_guard<std::recursive_mutex> guard(lock);
        va_list arguments;
        va_start(arguments, format);
        std::vfprintf(file, format, arguments);
        va_end(arguments);
        std::fputc('\n', file);
        std::fflush(file);
    }
}

bool holds(const void* at, size_t bytes) {
    std::lock_guard<std::recursive_mutex> guard(lock);
    auto address = reinterpret_cast<uintptr_t>(at);
    auto found = allocations.upper_bound(address);
    if (found == allocations.begin()) {
        return false;
    }
    auto& [start, allocation] = *std::prev(found);
    return allocation.context == bound && address + bytes <= start + allocation.bytes;
}

int refusal() {
    static const long limit = setting("LOST_AFTER", -1);
    if (limit >= 0 && work > limit) {
        return LAUNCH_FAILED;
    }
    return bound ? SUCCESS : INVALID_CONTEXT;
}

void count_work() { ++work; }

} // namespace stub

extern "C" {

int cuInit(unsigned) {
    static Peak peak;
    return int(stub::setting("INIT", SUCCESS));
}
int cuDriverGetVersion(int* version) {
    *version = int(stub::setting("VERSION", 13000));
    return SUCCESS;
}
int cuGetErrorName(int error, const char** name) {
    static thread_local char text[32];
    std::snprintf(text, sizeof text, "CUDA_ERROR %d", error);
    *name = text;
    return SUCCESS;
}
int cuGetErrorString(int error, const char** text) { return cuGetErrorName(error, text); }

int cuDeviceGetCount(int* count) {
    *count = int(stub::setting("DEVICES", 1));
    return *count > 0 ? SUCCESS : NO_DEVICE;
}
int cuDeviceGet(int* device, int index) {
    *device = index;
    return index < stub::setting("DEVICES", 1) ? SUCCESS : INVALID_DEVICE;
}
int cuDeviceGetName(char* name, int length, int) {
    std::snprintf(name, size_t(length), "Stub GPU");
    return SUCCESS;
}
int cuDeviceGetAttribute(int* value, int attribute, int) {
    long capability = stub::setting("CAPABILITY", 80);
    switch (attribute) {
        case 75: *value = int(capability / 10); break;
        case 76: *value = int(capability % 10); break;
        case 115: *value = 1; break; // memory pools
        default: *value = 0;
    }
    return SUCCESS;
}
int cuDeviceTotalMem_v2(size_t* bytes, int) {
    *bytes = total();
    return SUCCESS;
}
int cuDevicePrimaryCtxRetain(stub::Handle* context, int device) {
    if (stub::setting("EXCLUSIVE", 0)) {
        return DEVICE_UNAVAILABLE;
    }
    if (taken() >= total()) {
        return OUT_OF_MEMORY;
    }
    *context = &contexts[device % 64];
    return SUCCESS;
}
int cuDevicePrimaryCtxRelease_v2(int) { return SUCCESS; }
int cuCtxSetCurrent(stub::Handle context) {
    bound = context;
    return SUCCESS;
}
int cuCtxGetCurrent(stub::Handle* context) {
    *context = bound;
    return SUCCESS;
}
int cuCtxSynchronize() { return stub::refusal(); }

int cuMemGetInfo_v2(size_t* free, size_t* all) {
    if (int error = stub::refusal()) {
        return error;
    }
    *free = total() - taken() - used;
    *all = total();
    return SUCCESS;
}
int cuDeviceGetDefaultMemPool(stub::Handle* pool, int) {
    *pool = &most_used;
    return SUCCESS;
}
int cuMemPoolGetAttribute(stub::Handle, int attribute, uint64_t* value) {
    // reserved and used, now and at most
    *value = attribute == 6 || attribute == 8 ? most_used : used;
    return SUCCESS;
}
int cuMemPoolSetAttribute(stub::Handle, int attribute, const uint64_t* value) {
    if (attribute == 8 && *value == 0) {
        most_used = used;
    }
    return SUCCESS;
}
int cuMemAllocAsync(uintptr_t* address, size_t bytes, stub::Handle stream) {
    return stream ? INVALID_VALUE : allocate(address, bytes);
}
int cuMemAlloc_v2(uintptr_t* address, size_t bytes) { return allocate(address, bytes); }
int cuMemFreeAsync(uintptr_t address, stub::Handle) { return release(address); }
int cuMemFree_v2(uintptr_t address) { return release(address); }
int cuMemsetD8Async(uintptr_t address, unsigned char value, size_t bytes, stub::Handle) {
    if (int error = stub::refusal()) {
        return error;
    }
    void* memory = reinterpret_cast<void*>(address);
    if (!stub::holds(memory, bytes)) {
        return INVALID_VALUE;
    }
    std::memset(memory, value, bytes);
    return SUCCESS;
}
int cuMemcpyHtoDAsync_v2(uintptr_t to, const void* from, size_t bytes, stub::Handle) {
    return copy(reinterpret_cast<void*>(to), from, bytes, true, false, "to device");
}
int cuMemcpyDtoHAsync_v2(void* to, uintptr_t from, size_t bytes, stub::Handle) {
    return copy(to, reinterpret_cast<void*>(from), bytes, false, true, "to host");
}
int cuMemcpyDtoDAsync_v2(uintptr_t to, uintptr_t from, size_t bytes, stub::Handle) {
    return copy(reinterpret_cast<void*>(to), reinterpret_cast<void*>(from), bytes, true, true, "on device");
}

int cuStreamSynchronize(stub::Handle) { return stub::refusal(); }
int cuStreamWaitEvent(stub::Handle, stub::Handle, unsigned) { return SUCCESS; }
int cuEventCreate(stub::Handle* event, unsigned) {
    *event = contexts;
    return stub::refusal();
}
int cuEventRecord(stub::Handle, stub::Handle) { return stub::refusal(); }
int cuEventDestroy_v2(stub::Handle) { return SUCCESS; }
int cuEventSynchronize(stub::Handle) { return stub::refusal(); }

int cuModuleLoadData(stub::Handle* module, const void* image) {
    if (int error = stub::refusal()) {
        return error;
    }
    uint32_t magic;
    std::memcpy(&magic, image, 4);
    bool machine_code = magic == 0xba55ed50; // a fatbin
    if (!machine_code && !std::strstr(static_cast<const char*>(image), ".version")) {
        return INVALID_IMAGE;
    }
    stub::record("module %s", machine_code ? "machine code" : "PTX");
    *module = new Module{machine_code};
    return SUCCESS;
}
int cuModuleUnload(stub::Handle module) {
    delete static_cast<Module*>(module);
    return SUCCESS;
}
int cuModuleGetFunction(stub::Handle* function, stub::Handle module, const char* name) {
    bool own = static_cast<Module*>(module)->machine_code;
    if (own ? !emulator::kernels().count(name) : !candle::has(name)) {
        stub::record("missing %s", name);
        return NOT_FOUND;
    }
    *function = new Function{name, own}; // a handful for each kernel, as long as the process
    return SUCCESS;
}
int cuFuncSetAttribute(stub::Handle function, int attribute, int value) {
    if (attribute != 8 || value > 99 * 1024) {
        return INVALID_VALUE;
    }
    static_cast<Function*>(function)->shared = unsigned(value);
    return SUCCESS;
}
int cuLaunchKernel(stub::Handle handle, unsigned x, unsigned y, unsigned z, unsigned threads, unsigned threads_y,
                   unsigned threads_z, unsigned shared, stub::Handle stream, void** arguments, void** extra) {
    if (int error = stub::refusal()) {
        return error;
    }
    auto& function = *static_cast<Function*>(handle);
    stub::record("launch %s grid %u %u %u threads %u shared %u", function.name.c_str(), x, y, z, threads, shared);
    bool valid = x && y && z && threads && y <= 65535 && z <= 65535 && threads * threads_y * threads_z <= 1024;
    if (!valid || stream || extra || shared > function.shared) {
        stub::record("fault launch %s", function.name.c_str());
        return INVALID_VALUE;
    }
    stub::count_work();
    if (!function.own) {
        return candle::run(function.name, arguments, x) ? SUCCESS : LAUNCH_FAILED;
    }
    return run_own(function, {x, y, z}, threads, shared, arguments[0]);
}

} // extern "C"
