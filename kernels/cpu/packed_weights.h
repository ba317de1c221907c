// Weights in the order in which a kernel reads them. A network that is run many times keeps them; a
// single call packs them for itself.
#pragma once

#include <memory>
#include <mutex>

#include "scratch.h"

template <class T>
class PackedWeights {
public:
    enum Layout { panels, winograd };  // of direct convolution, and of Winograd's algorithm

    // The weights in a layout: `size` elements that pack(to) writes at the first call. Several threads
    // may call it at once.
    template <class Pack>
    const T* get(Layout layout, long size, Pack pack) {
        Slot& slot = slots_[layout];
        std::call_once(slot.once, [&] {
            auto memory = std::make_unique<Scratch<T>>(size);
            pack((T*)*memory);
            slot.memory = std::move(memory);
        });
        return *slot.memory;
    }

private:
    struct Slot {
        std::once_flag once;
        std::unique_ptr<Scratch<T>> memory;
    };
    Slot slots_[2];
};
