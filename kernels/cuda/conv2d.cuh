// The geometry of a two-dimensional convolution, NHWC by HWIO, and what its kernels share.
#pragma once

#include "loaders.cuh"

// N images of H x W pixels with C channels; a window of KH x KW taps; O outputs of P x Q pixels.
// Groups divide the channels: each part is seen by its own part of the outputs. One image, with its
// padding, has less than 2^31 elements, so that offsets within it fit an int; so do the numbers of
// all pixels, and of taps times channels (the launch code sees to it).
struct Conv2dShape {
    int n, h, w, c;
    int kh, kw, o;
    int p, q;
    int stride_h, stride_w;
    int top, left;  // padding
    int dilation_h, dilation_w;
    int groups;

    __device__ int group_channels() const { return c / groups; }
    __device__ int group_outputs() const { return o / groups; }
};

// The taps of a window and the channels that each of them sees. Along k they follow on each other
// tap by tap, channels innermost.
struct Taps {
    int rows, columns, channels;

    __device__ int depth() const { return rows * columns * channels; }
};

// Where one k is among them.
struct TapWalk {
    int row, column, channel;

    static __device__ __forceinline__ TapWalk at(const Taps& taps, int k) {
        if (taps.depth() == 0) return {taps.rows, 0, 0};
        const int tap = k / taps.channels, row = tap / taps.columns;
        return {row, tap - row * taps.columns, k - tap * taps.channels};
    }
    // Goes on to what this thread copies, in packs of N, of the slice that begins here.
    template <class Tile, int N>
    __device__ __forceinline__ TapWalk of_thread(const Taps& taps) const {
        TapWalk walk = *this;
        walk.move(taps, Along<Tile, Tile::rows, N>::line());
        return walk;
    }
    __device__ __forceinline__ bool inside(const Taps& taps) const { return row < taps.rows; }
    // Returns whether that is another tap.
    __device__ __forceinline__ bool move(const Taps& taps, int k) {
        channel += k;
        const bool leaves = channel >= taps.channels;
        while (channel >= taps.channels && row < taps.rows) {
            channel -= taps.channels;
            if (++column == taps.columns) column = 0, row++;
        }
        return leaves;
    }
};

// --- loaders ---------------------------------------------------------------------------------------

// Images, and a window that slides over them, its taps `step_h` and `step_w` pixels apart.
struct SlidingWindow {
    int height, width, pitch;  // of the images; `pitch` elements a pixel
    Taps taps;
    int step_h, step_w;
};

// Row m of A is what the window meets in its m-th place, 0 where a tap lies beyond the image's edge.
// The matrix exists nowhere: each element is fetched from the image when its slice is due. A pack of
// N channels never crosses a tap (N divides their number), so one test of the pixel will do for it.
template <class Tile, int N, bool Gated>
class WindowLoader : public Transposer<Tile, Tile::rows, N, Gated> {
    typedef typename Tile::type T;
    typedef Along<Tile, Tile::rows, N> Part;

    const SlidingWindow window;
    TapWalk& walk;
    int top[Part::copies], left[Part::copies];  // where the window lies, of each row
    const T* corner[Part::copies];              // and that pixel; perhaps beyond the image's edge
    int offset;                                 // from there to what the tap sees
    unsigned seen;                              // a bit a row: whether the tap lies in the image

    __device__ __forceinline__ void find_tap() {
        const int down = walk.row * window.step_h, across = walk.column * window.step_w;
        offset = (down * window.width + across) * window.pitch;
        seen = 0;
#pragma unroll
        for (int copy = 0; copy < Part::copies; copy++)
            if (walk.inside(window.taps) && unsigned(top[copy] + down) < unsigned(window.height) &&
                unsigned(left[copy] + across) < unsigned(window.width))
                seen |= 1u << copy;
    }

  public:
    // `place(row, image, top, left)` says in which image the window of the tile's `row` lies, and
    // where its first tap is; it returns false if there is no such row. The `walk` of this thread's k
    // is moved on by this loader.
    template <class Place>
    __device__ __forceinline__ WindowLoader(const SlidingWindow& window, const Source<T>& images,
                                            TapWalk& walk, Place place)
        : Transposer<Tile, Tile::rows, N, Gated>(images), window(window), walk(walk) {
#pragma unroll
        for (int copy = 0; copy < Part::copies; copy++) {
            int image;
            corner[copy] = nullptr;
            if (Part::exists(copy) && place(Part::row(copy), image, top[copy], left[copy]))
                corner[copy] = images.values +
                               (Index(image) * window.height * window.width +
                                Index(top[copy]) * window.width + left[copy]) * window.pitch;
            else
                top[copy] = -(1 << 30), left[copy] = 0;  // above the image, whatever the tap
        }
        find_tap();
    }

    template <int Width>
    __device__ __forceinline__ void begin(T (*slice)[Width]) {
#pragma unroll
        for (int copy = 0; copy < Part::copies; copy++)
            Transposer<Tile, Tile::rows, N, Gated>::begin(
                copy, slice, corner[copy] + (offset + walk.channel), seen >> copy & 1);
        if (walk.move(window.taps, SLICE)) find_tap();
    }
};
