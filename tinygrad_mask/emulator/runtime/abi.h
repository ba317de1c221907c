// What translated kernels, the runtime and Python agree on. No includes: a kernel is compiled
// against this file and device.h alone, so that it compiles fast.
#pragma once

namespace emulator {

using s8 = signed char;
using u8 = unsigned char;
using s16 = short;
using u16 = unsigned short;
using s32 = int;
using u32 = unsigned;
using s64 = __INT64_TYPE__;
using u64 = __UINT64_TYPE__;

enum Mode : u32 { FAST, CHECK, COUNT };
enum Order : u32 { FORWARD, REVERSE, RANDOM };

enum Space : u32 { GLOBAL, SHARED, LOCAL, CONSTANT, GENERIC, PARAMETER };

// Bits: reads, writes, is ordered by the memory system and so does not race with its like.
enum Access : u32 {
    READ = 1,
    WRITE = 2,
    STRONG = 4,
    STRONG_READ = 5,
    STRONG_WRITE = 6,
    ATOMIC = 7,
    COMPARE_AND_SWAP = 15
};

// What a warp does together.
enum WarpOperation : u32 {
    WARP_SYNC,
    WARP_SHUFFLE,
    WARP_BALLOT,
    WARP_MATCH,
    WARP_ADD,
    WARP_AND,
    WARP_OR,
    WARP_XOR,
    WARP_MIN,
    WARP_MAX,
    WARP_MIN_SIGNED,
    WARP_MAX_SIGNED,
};

enum BarrierReduction : u32 { REDUCE_NONE, REDUCE_AND, REDUCE_OR, REDUCE_POPC };

// The kinds of findings; errors.py has their names in the same order.
enum Kind : u32 {
    NOTHING,
    OUT_OF_BOUNDS,
    MISALIGNED,
    UNINITIALISED,
    READ_ONLY,
    RACE,
    ASYNC_COPY,
    DIVERGENT_BARRIER,
    WARP_MASK,
    DIVERGENT_WARP,
    TRAP,
    ASSERTION,
    ENDLESS_LOOP,
    UNINITIALISED_GLOBAL,
};

struct Thread;

// So many times a thread goes back to the beginning of a loop before it tells the runtime.
constexpr u32 LOOPS = 1 << 16;

// The local arrays of one call of a function, for the bounds check.
struct LocalFrame {
    char* base;
    u64 bytes;
    LocalFrame* outer;
};

// What a kernel asks of the runtime. `site` numbers the instruction that asks.
struct Runtime {
    u32 (*barrier)(Thread*, u32 site, u32 id, u32 count, u32 reduction, u32 value);
    void (*arrive)(Thread*, u32 site, u32 id, u32 count);
    u64 (*meet)(Thread*, u32 site, u32 operation, u32 mask, u64 value, u32 source);
    // Where the access is to be made: elsewhere if it is wrong.
    char* (*access)(Thread*, u32 site, u64 address, u32 bytes, u32 space, u32 access);
    void (*copy)(Thread*, u32 site, u32 target, const char* source, u32 bytes, u32 used);
    void (*commit)(Thread*);
    void (*wait)(Thread*, u32 groups, u32 uncommitted);
    void (*give_way)(Thread*);
    void (*looped)(Thread*, u32 site);
    void (*fail)(Thread*, u32 site, u32 kind, const char* text);
    void (*assertion)(Thread*, u32 site, const char* condition, const char* file, u32 line,
                      const char* function);
    u32 (*print)(Thread*, u32 site, const char* format, const char* arguments);
};

// What all threads of a block share.
struct Block {
    u32 index[3], size[3], grid[3];
    u32 dynamic_bytes, shared_bytes;
    char* shared;  // shared addresses count from here
    const char* parameters;
    char* const* variables;  // the module's .global and .const variables
    const Runtime* runtime;
    u64* counters;  // count mode: one for each piece of straight code
};

struct Thread {
    const Block* block;
    u32 index[3];
    u32 lane, warp;
    LocalFrame* frames;
};

struct Buffer {
    char* address;
    u64 bytes;
    u32 granule;  // bytes of an element, 1, 2 or 4: what the race check tells apart at once
    u32 read_only;
    u32 stays;  // other memory points to it: it cannot be moved between guards
    u32 misalignment;  // of its first byte, from the multiple of 256 that an allocation begins at
    u8* unwritten;  // 1 for each byte that nobody has written yet; null if there is none
};

// The parameter at this offset points to the first byte of this buffer.
struct Pointer {
    u32 offset, buffer;
};

// A shared variable in shared memory, or a parameter in the parameter block.
struct Extent {
    u32 offset, bytes;
};

// What count mode finds at one instruction that touches memory.
struct MemoryCount {
    u64 shared;  // whether it is shared memory
    u64 requests;  // of warps
    u64 bytes;  // asked for by threads
    u64 moved;  // 32-byte sectors, or passes over the banks of shared memory
    u64 fewest;  // that would do
};

struct Launch {
    void (*entry)(Thread*);
    const char* parameters;
    u64 parameter_bytes;
    const Pointer* pointers;
    const Buffer* buffers;  // arguments, then what is reachable, then variables
    const Extent* shared;
    const Extent* parameter_extents;
    u64* counters;
    MemoryCount* memory;
    u64* sectors;  // count mode: distinct 32-byte sectors of global memory read, and written
    u32 parameter_count, pointer_count, buffer_count, variable_count, shared_count, counter_count, site_count;
    u32 grid[3], block[3];
    u32 arena_bytes, dynamic_bytes, stack_bytes;
    u32 mode, order, seed, workers;
    u32 suspends;  // threads may have to wait for one another
    u32 partial;  // some synchronisation is among a part of a block
    u32 flush;  // the host shall flush denormals to zero
    u32 warp_accesses;  // count mode: after so many accesses a thread lets the others catch up
    u32 interruptible;  // Ctrl-C shall end it
};

struct Finding {
    u32 kind, site;
    u32 block[3], thread[3];
    u32 space, access, bytes;
    s32 object;  // number of the buffer or shared variable, -1 if none is near
    s64 offset;  // in it
    u32 has_other, other_site, other_access;
    u32 other_block[3], other_thread[3];
    u32 threads, waiting, elsewhere, in_warp, exited;  // tally of a stuck block
    u32 mask, other_mask, lane;
    char text[256];
};

// What a launch gives. Of each kind of finding only the first at each instruction is recorded.
struct Result {
    Finding* findings;
    u32 limit;  // how many findings end the launch
    u32 count;
    char* printed;  // what the kernel printed; to be freed by emulator_free
    u64 printed_bytes;
};

}  // namespace emulator
