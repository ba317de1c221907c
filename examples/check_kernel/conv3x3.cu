// A 3x3 convolution that can be read in a minute: NHWC images, HWIO weights, stride 1, padding 1.
//
//     tinygrad-mask kernels check examples/check_kernel/conv3x3.cu
//
// A block computes a tile of the result, 8x8 pixels of one image with 16 outputs each. To do so it
// needs a patch of the image, one pixel wider on every side, and all weights between these channels
// and these outputs. It brings both into shared memory, 4 channels at a time, since each pixel of the
// patch is wanted 9 * 16 times and each weight 64 times: without that, all would come from global
// memory as often.
//
//          patch: 10 x 10 pixels x 4 channels         tile: 8 x 8 pixels x 16 outputs
//          . . . . . . . . . .
//          . o o o o o o o o .                        o o o o o o o o    a thread has one pixel and
//          . o o o o o o o o .      weights:          o o o o o o o o    8 of its outputs, in registers:
//          . o o x x x o o o .    9 taps x 4 x 16     o o o X o o o o    per tap and channel it reads
//          . o o x x x o o o .   -----------------    o o o o o o o o    one value and 8 weights, and
//          . o o x x x o o o .                        o o o o o o o o    does 8 multiplications
//          . . . . . . . . . .                        ...
//
// The kernels of kernels/cuda work in the same way, with more pixels and outputs a thread.

#define SIDE 8       // pixels of a tile, down and across
#define OUTPUTS 16   // outputs of a tile
#define EACH 8       // outputs of a thread
#define CHANNELS 4   // channels in shared memory at a time
#define THREADS (SIDE * SIDE * OUTPUTS / EACH)

extern "C" __global__ void __launch_bounds__(THREADS)
conv3x3(const float* __restrict__ x, const float* __restrict__ weight, float* __restrict__ y,
        int height, int width, int channels, int outputs)
{
    __shared__ float patch[SIDE + 2][SIDE + 2][CHANNELS];
    __shared__ float taps[9][CHANNELS][OUTPUTS];

    // Which tile is the block's: x counts tiles of an image, y groups of outputs, z images.
    const int tiles_across = (width + SIDE - 1) / SIDE;
    const int top = blockIdx.x / tiles_across * SIDE, left = blockIdx.x % tiles_across * SIDE;
    const int first_output = blockIdx.y * OUTPUTS;
    const float* image = x + (long long)blockIdx.z * height * width * channels;

    // Which pixel and outputs are the thread's.
    const int row = threadIdx.x / SIDE % SIDE, column = threadIdx.x % SIDE;
    const int own = threadIdx.x / (SIDE * SIDE) * EACH;
    float sum[EACH] = {};

    for (int first = 0; first < channels; first += CHANNELS) {
        // All threads bring what all will need; zeros where the patch leaves the image.
        for (int i = threadIdx.x; i < (SIDE + 2) * (SIDE + 2) * CHANNELS; i += THREADS) {
            const int c = i % CHANNELS, w = i / CHANNELS % (SIDE + 2), h = i / CHANNELS / (SIDE + 2);
            const int pixel_row = top + h - 1, pixel_column = left + w - 1, channel = first + c;
            const bool inside = pixel_row >= 0 && pixel_row < height && pixel_column >= 0 &&
                                pixel_column < width && channel < channels;
            patch[h][w][c] = inside ? image[(pixel_row * width + pixel_column) * channels + channel] : 0;
        }
        for (int i = threadIdx.x; i < 9 * CHANNELS * OUTPUTS; i += THREADS) {
            const int o = i % OUTPUTS, c = i / OUTPUTS % CHANNELS, tap = i / OUTPUTS / CHANNELS;
            const bool inside = first + c < channels && first_output + o < outputs;
            taps[tap][c][o] =
                inside ? weight[(tap * channels + first + c) * outputs + first_output + o] : 0;
        }
        __syncthreads();  // all has arrived before any thread reads what others have brought

        for (int tap = 0; tap < 9; tap++)
            for (int c = 0; c < CHANNELS; c++) {
                const float value = patch[row + tap / 3][column + tap % 3][c];
                for (int o = 0; o < EACH; o++) sum[o] += value * taps[tap][c][own + o];
            }
        __syncthreads();  // nobody reads any more when the next channels overwrite these
    }

    if (top + row < height && left + column < width)
        for (int o = 0; o < EACH; o++)
            if (first_output + own + o < outputs)
                y[(((long long)blockIdx.z * height + top + row) * width + left + column) * outputs +
                  first_output + own + o] = sum[o];
}
