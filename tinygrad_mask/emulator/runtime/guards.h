// Moves a launch's buffers apart for the time it runs, with nothing mapped between them: what is read
// or written past the end of one array is then not by chance another array.
#pragma once
#include <vector>

#include "abi.h"

namespace emulator {

class Guards {
public:
    explicit Guards(const Launch& launch);
    ~Guards();
    Guards(const Guards&) = delete;
    Guards& operator=(const Guards&) = delete;

    // Where the kernel finds a buffer.
    char* address(u32 buffer) const { return addresses_[buffer]; }
    // Brings what the kernel wrote back to where the caller keeps it.
    void copy_back() const;

    static constexpr u64 WIDTH = u64(1) << 26;  // bytes of nothing on either side

private:
    struct Moved {
        char *home, *address;
        u64 bytes;
        bool read_only;
    };
    std::vector<char*> addresses_;
    std::vector<Moved> moved_;
    char* reserved_ = nullptr;
    u64 reserved_bytes_ = 0;
};

}  // namespace emulator
