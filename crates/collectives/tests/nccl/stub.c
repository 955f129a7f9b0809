// A stand-in for libnccl.so.2 and libcuda.so.1: the memory of the GPU is that of the process, ranks exchange values through
// files, and every call is written to a log. Compiled by tests/nccl.rs.
//
// STUB_DIR      directory of messages and logs
// STUB_FAIL     name of the function that fails when it is called, from its second call on with STUB_FAIL_AT=2
// STUB_SILENT   name of the operation after which nothing is ever done
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <stdarg.h>
#include <stdint.h>
#include <time.h>
#include <unistd.h>

enum { SUCCESS = 0, INTERNAL = 3, IN_PROGRESS = 7, NOT_READY = 600 };
typedef struct { int rank, world, operations, joined; } Communicator;
typedef struct { char bytes[128]; } UniqueId;
typedef struct { size_t size; unsigned magic, version; int blocking; } Config;
static int silent, queries, pending;
static Communicator *last;

static void note(const char *format, ...) {
    char path[4096];
    snprintf(path, sizeof path, "%s/log-%s", getenv("STUB_DIR"), getenv("RANK"));
    FILE *file = fopen(path, "a");
    va_list all;
    va_start(all, format);
    vfprintf(file, format, all);
    va_end(all);
    fputc('\n', file);
    fclose(file);
}

static int fails(const char *name) {
    static int calls;
    const char *wanted = getenv("STUB_FAIL"), *at = getenv("STUB_FAIL_AT");
    if (!wanted || strcmp(wanted, name) || getenv("STUB_FAIL_RANK") && strcmp(getenv("STUB_FAIL_RANK"), getenv("RANK"))) return 0;
    return ++calls >= (at ? atoi(at) : 1);
}

// The values of every rank, one after the other; NULL once a rank has been away for too long.
static char *exchange(Communicator *comm, const void *own, size_t bytes) {
    char path[4096], partial[4200];
    int number = comm->operations++;
    snprintf(path, sizeof path, "%s/message-%d-%d", getenv("STUB_DIR"), number, comm->rank);
    snprintf(partial, sizeof partial, "%s.partial", path);
    FILE *file = fopen(partial, "w");
    fwrite(own, 1, bytes, file);
    fclose(file);
    rename(partial, path);
    char *all = malloc(bytes * comm->world + 1);
    for (int rank = 0; rank < comm->world; rank++) {
        snprintf(path, sizeof path, "%s/message-%d-%d", getenv("STUB_DIR"), number, rank);
        int tries = 0;
        while (!(file = fopen(path, "r"))) {
            usleep(1000);
            if (++tries > 20000 || silent || access(getenv("STUB_DIR"), F_OK)) { silent = 1; free(all); return NULL; }
        }
        size_t got = fread(all + bytes * rank, 1, bytes, file);
        fclose(file);
        if (got != bytes) { note("rank %d brought %zu bytes, not %zu", rank, got, bytes); abort(); }
    }
    return all;
}

static int size_of(int dtype) { return dtype == 1 ? 1 : dtype == 7 ? 4 : 2; }

static int begun(const char *name, const char *arguments) {
    note("%s%s", name, arguments);
    if (fails(name)) return INTERNAL;
    if (getenv("STUB_SILENT") && !strcmp(getenv("STUB_SILENT"), name)) { silent = 1; return IN_PROGRESS; }
    queries = 3;
    return SUCCESS;
}

const char *ncclGetErrorString(int code) { return code == INTERNAL ? "internal error" : "unhandled system error"; }
int ncclGetVersion(int *version) { *version = 22800; return SUCCESS; }
int ncclGetUniqueId(UniqueId *id) {
    note("ncclGetUniqueId %s", getenv("NCCL_COMM_ID"));
    memset(id, 0, sizeof *id);
    strncpy(id->bytes, getenv("NCCL_COMM_ID"), 127);
    return fails("ncclGetUniqueId") ? INTERNAL : SUCCESS;
}
int ncclCommInitRankConfig(Communicator **comm, int world, UniqueId id, int rank, Config *config) {
    note("ncclCommInitRankConfig world %d id %s rank %d blocking %d size %zu version %u", world, id.bytes, rank, config->blocking,
         config->size, config->version);
    if (config->magic != 0xcafebeef || fails("ncclCommInitRankConfig")) return INTERNAL;
    *comm = last = calloc(1, sizeof **comm);
    (*comm)->rank = rank, (*comm)->world = world;
    pending = 3;
    if (getenv("STUB_SILENT") && !strcmp(getenv("STUB_SILENT"), "ncclCommInitRankConfig")) silent = 1;
    return IN_PROGRESS;
}
int ncclCommGetAsyncError(Communicator *comm, int *code) {
    *code = silent || pending > 0 ? IN_PROGRESS : SUCCESS;
    if (!silent && pending > 0) pending--;
    if (fails("async")) *code = INTERNAL;
    return SUCCESS;
}
int ncclCommAbort(Communicator *comm) { note("ncclCommAbort"); free(comm); return SUCCESS; }
int ncclCommFinalize(Communicator *comm) { note("ncclCommFinalize"); pending = 2; return IN_PROGRESS; }
int ncclCommDestroy(Communicator *comm) { note("ncclCommDestroy"); free(comm); return SUCCESS; }
int ncclGroupStart(void) { note("ncclGroupStart"); return SUCCESS; }
int ncclGroupEnd(void) { note("ncclGroupEnd"); return fails("ncclGroupEnd") ? INTERNAL : SUCCESS; }

static float number(const char *at, int dtype) {
    if (dtype == 7) { float value; memcpy(&value, at, 4); return value; }
    uint16_t half; // bfloat16
    memcpy(&half, at, 2);
    uint32_t bits = (uint32_t)half << 16;
    float value;
    memcpy(&value, &bits, 4);
    return value;
}

static int sum(const char *name, const char *from, char *to, size_t count, int dtype, int op, int root, Communicator *comm) {
    char text[200];
    snprintf(text, sizeof text, " count %zu dtype %d op %d root %d in place %d", count, dtype, op, root, from == to);
    int code = begun(name, text);
    if (code) return code;
    char *all = exchange(comm, from, count * size_of(dtype));
    if (!all) return IN_PROGRESS;
    for (size_t at = 0; at < count && (root < 0 || root == comm->rank); at++) {
        float value = 0;
        for (int rank = 0; rank < comm->world; rank++) value += number(all + (rank * count + at) * size_of(dtype), dtype);
        if (dtype == 7) memcpy(to + 4 * at, &value, 4);
        else { uint32_t bits; memcpy(&bits, &value, 4); uint16_t half = bits >> 16; memcpy(to + 2 * at, &half, 2); }
    }
    free(all);
    return SUCCESS;
}

int ncclAllReduce(const char *from, char *to, size_t count, int dtype, int op, Communicator *comm, void *stream) {
    return sum("ncclAllReduce", from, to, count, dtype, op, -1, comm);
}
int ncclReduce(const char *from, char *to, size_t count, int dtype, int op, int root, Communicator *comm, void *stream) {
    return sum("ncclReduce", from, to, count, dtype, op, root, comm);
}
int ncclBroadcast(const char *from, char *to, size_t count, int dtype, int root, Communicator *comm, void *stream) {
    char text[200];
    snprintf(text, sizeof text, " count %zu dtype %d root %d in place %d", count, dtype, root, from == to);
    int code = begun("ncclBroadcast", text);
    if (code) return code;
    size_t bytes = count * size_of(dtype);
    char *all = exchange(comm, from, bytes);
    if (!all) return IN_PROGRESS;
    memcpy(to, all + bytes * root, bytes);
    free(all);
    return SUCCESS;
}
int ncclAllGather(const char *from, char *to, size_t count, int dtype, Communicator *comm, void *stream) {
    char text[200];
    snprintf(text, sizeof text, " count %zu dtype %d", count, dtype);
    int code = begun("ncclAllGather", text);
    if (code) return code;
    char *all = exchange(comm, from, count * size_of(dtype));
    if (!all) return IN_PROGRESS;
    memcpy(to, all, count * size_of(dtype) * comm->world);
    free(all);
    return SUCCESS;
}

int cuInit(unsigned flags) { return fails("cuInit") ? 100 : 0; }
int cuGetErrorName(int code, const char **name) { *name = code == 100 ? "CUDA_ERROR_NO_DEVICE" : NULL; return 0; }
int cuDeviceGet(int *device, int ordinal) { note("cuDeviceGet %d", ordinal); *device = ordinal; return 0; }
int cuDevicePrimaryCtxRetain(void **context, int device) { *context = malloc(1); return 0; }
int cuCtxSetCurrent(void *context) { return context ? 0 : 201; }
int cuEventCreate(void **event, unsigned flags) { note("cuEventCreate %u", flags); *event = malloc(1); return 0; }
int cuEventRecord(void *event, void *stream) { note("cuEventRecord of %s", stream ? "a stream" : "the default stream"); return 0; }
int cuStreamWaitEvent(void *stream, void *event, unsigned flags) { note("cuStreamWaitEvent"); return stream ? 0 : 400; }
int cuStreamCreate(void **stream, unsigned flags) { note("cuStreamCreate %u", flags); *stream = malloc(1); return 0; }
int cuStreamQuery(void *stream) { note("cuStreamQuery"); return silent || queries-- > 0 ? NOT_READY : 0; }
int cuMemAlloc_v2(uint64_t *address, size_t bytes) { *address = (uint64_t)malloc(bytes); return *address ? 0 : 2; }
int cuMemFree_v2(uint64_t address) { free((void *)address); return 0; }
int cuMemcpyHtoD_v2(uint64_t to, const void *from, size_t bytes) { memcpy((void *)to, from, bytes); return 0; }
int cuMemcpyDtoH_v2(void *to, uint64_t from, size_t bytes) { memcpy(to, (void *)from, bytes); return 0; }
