// Count mode: what the memory system would have to do. The n-th time, since they last synchronised,
// that the lanes of a warp come to an instruction counts as one request of that warp.
#pragma once
#include <vector>

#include "worker.h"

namespace emulator {

class Counter {
public:
    explicit Counter(const Launch& launch);
    ~Counter();
    Counter(const Counter&) = delete;
    Counter& operator=(const Counter&) = delete;

    void access(Fiber&, u32 site, u64 address, u32 bytes, Space, Access);
    void synchronise();
    void end_block() { synchronise(); }

private:
    struct Request {
        u32 came, lanes;  // lanes, and those of them that ask for something
        u64 address[32];
        u8 bytes[32];
    };
    // The requests of a warp at one instruction that not all lanes have come to.
    struct Open {
        u32 first = 0;  // number of the oldest
        std::vector<Request> requests;
    };
    struct Site {
        u32 bytes = 0;  // that a lane asks for at most
        bool shared = false;
        u32 buffer = 0;  // that it last touched
        std::vector<u32> visits;  // of each thread
        std::vector<Open> open;  // of each warp
    };

    void close(const Site&, const Request&, MemoryCount&) const;
    // The address on a device where every buffer's memory begins at a multiple of 256 bytes; the
    // sectors that it is in are marked as read or written.
    u64 touch(Site&, u64 address, u32 bytes, Access);

    const Launch& launch_;
    u32 threads_;
    std::vector<Site> sites_;
    std::vector<std::vector<u8>> sectors_;  // of each buffer: READ, WRITE
};

}  // namespace emulator
