// Kernels that are wrong where BUG is defined, each in one way, and right where it is not.
//
// A finding is expected at a line that is marked FOUND; where two lines race, which of them it is
// depends on the order in which threads run. test_planted_bugs.py launches them.

#ifdef BUG
#define WRONG(wrong, right) wrong
#else
#define WRONG(wrong, right) right
#endif
#define KERNEL extern "C" __global__ void
#define FULL 0xffffffffu

// ---- bounds

KERNEL read_past_end(const float* x, float* y, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i WRONG(<=, <) n) y[i % n] = x[i];  // FOUND
}

KERNEL write_before_begin(const float* x, float* y, int n) {
    int i = threadIdx.x;
    if (i < n) y[i WRONG(- 1, + 0)] = x[i];  // FOUND
}

KERNEL write_into_another_array(const float* x, float* y, int n) {
    int i = threadIdx.x;
    if (i < n) y[i WRONG(* 1000, * 1)] = x[i];  // FOUND
}

KERNEL vector_past_end(const float* x, float* y, int n) {
    int i = threadIdx.x;
    if (4 * i WRONG(+ 0, + 3) < n) {
        float4 v = ((const float4*)x)[i];  // FOUND
        y[i] = v.x + v.y + v.z + v.w;
    }
}

KERNEL null_pointer(const float* const* table, float* y, int n) {
    y[threadIdx.x] = table[WRONG(2, 0)][threadIdx.x];  // FOUND
}

KERNEL unknown_array(const float* const* table, float* y, int n) {
    y[threadIdx.x] = table[WRONG(1, 0)][threadIdx.x];  // FOUND
}

KERNEL shared_past_end(const float* x, float* y, int n) {
    __shared__ float a[64];
    __shared__ float b[64];
    a[threadIdx.x] = x[threadIdx.x];
    b[threadIdx.x] = 1;
    __syncthreads();
    float* p = n > 1000 ? b : a;
    y[threadIdx.x] = p[threadIdx.x WRONG(+ 1, + 0)];  // FOUND
}

KERNEL shared_before_begin(const float* x, float* y, int n) {
    __shared__ float a[64];
    a[threadIdx.x] = x[threadIdx.x];
    __syncthreads();
    y[threadIdx.x] = a[(int)threadIdx.x - WRONG(1, 0)];  // FOUND
}

KERNEL dynamic_shared_past_end(const float* x, float* y, int n) {
    extern __shared__ float dynamic[];
    dynamic[threadIdx.x WRONG(+ 1, + 0)] = x[threadIdx.x];  // FOUND
    __syncthreads();
    y[threadIdx.x] = dynamic[threadIdx.x];
}

KERNEL local_past_end(const float* x, float* y, int n) {
    float a[8];
    for (int i = 0; i < 8; ++i) a[i] = x[i];
    int at = (int)y[threadIdx.x] WRONG(+ 8, + 7);
    y[threadIdx.x] = a[at];  // FOUND
    a[at & 7] = 0;
    y[threadIdx.x] += a[(at + 1) & 7];
}

__device__ float variable[8];
KERNEL variable_past_end(const float* x, float* y, int n) {
    int i = threadIdx.x;
    if (i < WRONG(9, 8)) variable[i] = x[i];  // FOUND
}

__constant__ float constants[4] = {1, 2, 3, 4};
KERNEL generic_pointer(const float* x, float* y, int n) {
    __shared__ float a[64];
    a[threadIdx.x] = x[threadIdx.x];
    __syncthreads();
    const float* p = n == 64 ? a : x;  // which of the two is known only as it runs
    y[threadIdx.x] = p[threadIdx.x WRONG(+ 1, + 0)] * constants[threadIdx.x & 3];  // FOUND
}

// ---- alignment

KERNEL misaligned_global(const float* x, float* y, int n) {
    float4 v = *(const float4*)(x + 4 * threadIdx.x WRONG(+ 1, + 0));  // FOUND
    y[threadIdx.x] = v.x + v.y + v.z + v.w;
}

KERNEL misaligned_shared(const float* x, float* y, int n) {
    __shared__ WRONG(, __align__(16)) float a[256];
    a[threadIdx.x] = x[threadIdx.x];
    __syncthreads();
    if (threadIdx.x >= 16) return;
    float4 v = ((float4*)a)[threadIdx.x];  // FOUND
    y[threadIdx.x] = v.x + v.y + v.z + v.w;
}

// ---- initialisation, read-only memory

KERNEL never_written(const float* x, float* y, int n) {
    __shared__ float a[64];
    if (threadIdx.x < WRONG(32, 64)) a[threadIdx.x] = x[threadIdx.x];
    __syncthreads();
    y[threadIdx.x] = a[threadIdx.x];  // FOUND
}

KERNEL one_byte_never_written(const float* x, float* y, int n) {
    __shared__ __align__(4) unsigned char a[256];
    for (int i = 0; i < 4; ++i)
        if (4 * threadIdx.x + i != WRONG(17, 999)) a[4 * threadIdx.x + i] = i;
    __syncthreads();
    y[threadIdx.x] = *(int*)(a + 4 * threadIdx.x);  // FOUND
}

KERNEL writes_its_input(float* x, float* y, int n) {
    y[threadIdx.x] = x[threadIdx.x];
    WRONG(x, y)[threadIdx.x] = 0;  // FOUND
}

KERNEL atomic_on_its_input(float* x, float* y, int n) {
    atomicAdd(WRONG(x, y), 1.0f);  // FOUND
}

// ---- races

KERNEL no_barrier_before_read(const float* x, float* y, int n) {
    __shared__ float a[64];
    a[threadIdx.x] = 0;
    __syncthreads();
    a[threadIdx.x] = x[threadIdx.x];  // FOUND
    WRONG(, __syncthreads());
    y[threadIdx.x] = a[63 - threadIdx.x];  // FOUND
}

KERNEL no_barrier_before_write(const float* x, float* y, int n) {
    __shared__ float a[64];
    a[threadIdx.x] = x[threadIdx.x];
    __syncthreads();
    float value = a[63 - threadIdx.x];  // FOUND
    WRONG(, __syncthreads());
    a[threadIdx.x] = 2 * value;  // FOUND
    __syncthreads();
    y[threadIdx.x] = a[threadIdx.x];
}

KERNEL no_barrier_in_loop(const float* x, float* y, int n) {
    __shared__ float a[64];
    float sum = 0;
    for (int k = 0; k < n; ++k) {
        a[threadIdx.x] = x[64 * k + threadIdx.x];  // FOUND
        __syncthreads();
        sum += a[63 - threadIdx.x];  // FOUND
        WRONG(, __syncthreads());
    }
    y[threadIdx.x] = sum;
}

KERNEL all_write_one(const float* x, float* y, int n) {
    __shared__ int flag;
    if (threadIdx.x < WRONG(2, 1)) flag = threadIdx.x;  // FOUND
    __syncthreads();
    y[threadIdx.x] = flag;
}

KERNEL third_reader(const float* x, float* y, int n) {
    __shared__ float a;
    if (threadIdx.x == 0) a = x[0];
    __syncthreads();
    float value = 0;
    if (threadIdx.x == 40 || threadIdx.x < 2) value = a;  // FOUND
    __syncwarp();
    WRONG(, __syncthreads());
    if (threadIdx.x == 1) a = value + 1;  // FOUND
}

KERNEL neighbouring_bytes(const float* x, float* y, int n) {
    __shared__ unsigned char a[64];
    a[threadIdx.x] = 0;
    __syncthreads();
    a[threadIdx.x] = threadIdx.x;  // FOUND
    a[threadIdx.x WRONG(^ 1, ^ 0)] += 1;  // FOUND
    __syncthreads();
    y[threadIdx.x] = a[threadIdx.x];
}

KERNEL neighbouring_shorts(short* x, float* y, int n) {
    x[threadIdx.x] = threadIdx.x;  // FOUND
    if (threadIdx.x < 63) y[threadIdx.x] = x[threadIdx.x WRONG(+ 1, + 0)];  // FOUND
}

KERNEL global_within_block(const float* x, float* y, int n) {
    y[threadIdx.x] = x[threadIdx.x];  // FOUND
    WRONG(, __syncthreads());
    if (threadIdx.x < 63) y[threadIdx.x] += WRONG(y, x)[threadIdx.x + 1];  // FOUND
}

KERNEL global_between_blocks(const float* x, float* y, int n) {
    int i = threadIdx.x + blockDim.x * WRONG(0, blockIdx.x);
    y[i] += x[threadIdx.x];  // FOUND
}

KERNEL block_reads_what_another_writes(const float* x, float* y, int n) {
    if (blockIdx.x == 0) y[threadIdx.x] = x[threadIdx.x];  // FOUND
    else y[64 + threadIdx.x] = WRONG(y, x)[threadIdx.x];  // FOUND
}

KERNEL atomic_and_plain(const float* x, float* y, int n) {
    atomicAdd(y, x[threadIdx.x]);  // FOUND
    if (threadIdx.x == 5) WRONG(y[0] = 0, y[1] = 0);  // FOUND
}

KERNEL shuffle_orders_nothing(const float* x, float* y, int n) {
    __shared__ float a[32];
    a[threadIdx.x] = 0;
    __syncthreads();
    a[threadIdx.x] = x[threadIdx.x];  // FOUND
    WRONG(__shfl_sync(FULL, x[0], 0), __syncwarp());
    y[threadIdx.x] = a[31 - threadIdx.x];  // FOUND
}

KERNEL half_a_warp_synchronised(const float* x, float* y, int n) {
    __shared__ float a[32];
    a[threadIdx.x] = 0;
    __syncthreads();
    a[threadIdx.x] = x[threadIdx.x];  // FOUND
    __syncwarp(WRONG(threadIdx.x < 16 ? 0xffffu : 0xffff0000u, FULL));
    y[threadIdx.x] = a[31 - threadIdx.x];  // FOUND
}

KERNEL wrong_named_barrier(const float* x, float* y, int n) {
    // Warps 0 and 1 meet, and 2 and 3.
    __shared__ float a[128];
    int pair = threadIdx.x / 64;
    a[threadIdx.x] = 0;
    __syncthreads();
    a[threadIdx.x] = x[threadIdx.x];  // FOUND
    asm volatile("bar.sync %0, 64;" ::"r"(1 + pair) : "memory");
    y[threadIdx.x] = a[threadIdx.x ^ WRONG(64, 32)];  // FOUND
}

KERNEL arrives_before_it_writes(const float* x, float* y, int n) {
    // Warp 0 produces and goes on, warp 1 waits and consumes.
    __shared__ float a[32];
    if (threadIdx.x < 32) a[threadIdx.x] = 0;
    __syncthreads();
    if (threadIdx.x < 32) {
        WRONG(, a[threadIdx.x] = x[threadIdx.x]);
        asm volatile("bar.arrive 1, 64;" ::: "memory");
        WRONG(a[threadIdx.x] = x[threadIdx.x], );  // FOUND
    } else {
        asm volatile("bar.sync 1, 64;" ::: "memory");
        y[threadIdx.x] = a[threadIdx.x - 32] WRONG(* n, );  // FOUND
    }
}

KERNEL double_buffer_without_barrier(const float* x, float* y, int n) {
    __shared__ float a[2][64];
    a[0][threadIdx.x] = a[1][threadIdx.x] = 0;
    __syncthreads();
    a[0][threadIdx.x] = x[threadIdx.x];  // FOUND
    float sum = 0;
    for (int k = 0; k < n; ++k) {
        WRONG(if (k != 1), ) __syncthreads();
        if (k + 1 < n) a[(k + 1) & 1][threadIdx.x] = x[64 * (k + 1) + threadIdx.x];  // FOUND
        sum += a[k & 1][63 - threadIdx.x];  // FOUND
    }
    y[threadIdx.x] = sum;
}

// ---- cp.async

#define COPY(target, source)                                                                       \
    asm volatile("cp.async.ca.shared.global [%0], [%1], 4;" ::"r"(                                  \
                     (unsigned)__cvta_generic_to_shared(target)), "l"(source) : "memory")
#define COMMIT asm volatile("cp.async.commit_group;" ::: "memory")
#define WAIT(groups) asm volatile("cp.async.wait_group %0;" ::"n"(groups) : "memory")

#if __CUDA_ARCH__ >= 800
KERNEL copy_without_wait(const float* x, float* y, int n) {
    __shared__ float a[64];
    COPY(&a[threadIdx.x], x + threadIdx.x);
    COMMIT;
    WRONG(, WAIT(0));
    __syncthreads();
    y[threadIdx.x] = a[63 - threadIdx.x];  // FOUND
}

KERNEL copy_waits_for_too_few(const float* x, float* y, int n) {
    __shared__ float a[2][64];
    COPY(&a[0][threadIdx.x], x + threadIdx.x);
    COMMIT;
    COPY(&a[1][threadIdx.x], x + 64 + threadIdx.x);
    COMMIT;
    WAIT(1);
    __syncthreads();
    y[threadIdx.x] = a[WRONG(1, 0)][63 - threadIdx.x];  // FOUND
    WAIT(0);
}

KERNEL copy_without_barrier(const float* x, float* y, int n) {
    __shared__ float a[64];
    a[threadIdx.x] = 0;
    __syncthreads();
    COPY(&a[threadIdx.x], x + threadIdx.x);  // FOUND
    COMMIT;
    WAIT(0);
    WRONG(, __syncthreads());
    y[threadIdx.x] = a[63 - threadIdx.x];  // FOUND
}

KERNEL copy_over_what_is_read(const float* x, float* y, int n) {
    __shared__ float a[64];
    a[threadIdx.x] = x[threadIdx.x];
    __syncthreads();
    y[threadIdx.x] = a[63 - threadIdx.x];  // FOUND
    WRONG(, __syncthreads());
    COPY(&a[threadIdx.x], x + threadIdx.x);  // FOUND
    COMMIT;
    WAIT(0);
}

KERNEL copy_past_end(const float* x, float* y, int n) {
    __shared__ float a[64];
    COPY(&a[threadIdx.x], x + threadIdx.x + WRONG(n, 0));  // FOUND
    COMMIT;
    WAIT(0);
    y[threadIdx.x] = a[threadIdx.x];
}
#endif

// ---- barriers

KERNEL half_come_to_the_barrier(const float* x, float* y, int n) {
    y[threadIdx.x] = x[threadIdx.x];
    if (threadIdx.x < WRONG(32, 64)) __syncthreads();  // FOUND
}

KERNEL returns_before_the_barrier(const float* x, float* y, int n) {
    if (threadIdx.x >= WRONG(60, 64)) return;
    y[threadIdx.x] = x[threadIdx.x];
    __syncthreads();  // FOUND
}

KERNEL two_different_barriers(const float* x, float* y, int n) {
    if (WRONG(threadIdx.x, n) < 32) {
        y[threadIdx.x] = 1;
        __syncthreads();  // FOUND
    } else {
        y[threadIdx.x] = 2;
        __syncthreads();  // FOUND
        y[threadIdx.x] += x[threadIdx.x];
    }
}

KERNEL loops_of_different_length(const float* x, float* y, int n) {
    for (int k = 0; k < WRONG((int)threadIdx.x % 3, 3); ++k) {
        y[threadIdx.x] += x[k];
        __syncthreads();  // FOUND
    }
}

KERNEL barrier_with_wrong_count(const float* x, float* y, int n) {
    y[threadIdx.x] = x[threadIdx.x];
    if (threadIdx.x < 64)
        asm volatile("bar.sync 1, %0;" ::"n"(WRONG(96, 64)) : "memory");  // FOUND
}

// ---- warps

KERNEL lane_not_in_its_mask(const float* x, float* y, int n) {
    y[threadIdx.x] = __shfl_sync(WRONG(0xfffffffeu, FULL), x[threadIdx.x], 1);  // FOUND
}

KERNEL lanes_with_different_masks(const float* x, float* y, int n) {
    unsigned mask = WRONG(threadIdx.x < 16 ? 0x1ffffu : 0xffff8000u, FULL);
    y[threadIdx.x] = __shfl_sync(mask, x[threadIdx.x], 1);  // FOUND
}

KERNEL names_lanes_that_never_were(const float* x, float* y, int n) {
    y[threadIdx.x] = __shfl_sync(WRONG(FULL, 0xfffffu), x[threadIdx.x], 1);  // FOUND
}

KERNEL lanes_at_a_barrier(const float* x, float* y, int n) {
    float value = x[threadIdx.x];
    if (threadIdx.x < 16) value = __shfl_sync(WRONG(FULL, 0xffffu), value, 1);  // FOUND
    __syncthreads();
    y[threadIdx.x] = value;
}

KERNEL lanes_at_different_shuffles(const float* x, float* y, int n) {
    float value = x[threadIdx.x];
    if (WRONG(threadIdx.x, n) < 16) {
        value = __shfl_sync(FULL, value, 1);  // FOUND
    } else {
        value = 2 + __shfl_sync(FULL, value, 2);  // FOUND
    }
    y[threadIdx.x] = value;
}

// ---- the kernel's own complaints

KERNEL traps(const float* x, float* y, int n) {
    if (threadIdx.x == 7 && x[0] == WRONG(0, -1)) asm volatile("trap;");  // FOUND
    y[threadIdx.x] = 1;
}

KERNEL asserts(const float* x, float* y, int n) {
    assert(x[0] WRONG(!=, ==) 0 || threadIdx.x != 7);  // FOUND
    y[threadIdx.x] = 1;
}

// ---- constants, variables, parameters, local arrays

KERNEL constant_far_past_end(const float* x, float* y, int n) {
    y[threadIdx.x] = constants[n WRONG(* 1, % 4)];  // FOUND
}

KERNEL constant_past_end(const float* x, float* y, int n) {
    if (threadIdx.x < WRONG(5, 4)) y[threadIdx.x] = constants[threadIdx.x];  // FOUND
}

KERNEL constant_before_begin(const float* x, float* y, int n) {
    y[threadIdx.x] = constants[(n - 64) WRONG(- 1, + 0)];  // FOUND
}

__constant__ __align__(4) unsigned char packed[16] = {1, 2, 3, 4, 5, 6, 7, 8};
KERNEL misaligned_constant(const float* x, float* y, int n) {
    y[threadIdx.x] = *(const int*)(packed + n / 16 WRONG(+ 1, + 0));  // FOUND
}

__device__ WRONG(, __align__(4)) unsigned char bytes[64];
KERNEL misaligned_variable(const float* x, float* y, int n) {
    y[threadIdx.x] = *(const int*)(bytes + n - 60);  // FOUND
}

struct Table {
    float values[4];
};
KERNEL parameter_past_end(const float* x, float* y, int n,
                          const __grid_constant__ Table table) {
    if (threadIdx.x < WRONG(5, 4)) y[threadIdx.x] = table.values[threadIdx.x];  // FOUND
}

struct Raw {
    unsigned char bytes[16];
};
KERNEL misaligned_parameter(const float* x, float* y, int n,
                            const __grid_constant__ Raw raw) {
    y[threadIdx.x] = *(const short*)(raw.bytes + n / 16 WRONG(+ 1, + 0));  // FOUND
}

KERNEL misaligned_local(const float* x, float* y, int n) {
    __align__(4) unsigned char a[16];
    for (int i = 0; i < 16; ++i) a[i] = i + (int)x[i];
    y[threadIdx.x] = *(const int*)(a + n / 16 WRONG(+ 1, + 0));  // FOUND
}

// ---- global memory that nobody has written

KERNEL output_never_written(const float* x, float* y, int n) {
    if (threadIdx.x < WRONG(32, 64)) y[threadIdx.x] = x[threadIdx.x];
    y[threadIdx.x] += 1;  // FOUND
}

KERNEL scratch_never_written(const float* x, float* y, int n) {
    WRONG(if (n < 64), ) y[threadIdx.x] = x[threadIdx.x];
    __syncthreads();
    float value = y[63 - threadIdx.x];  // FOUND
    __syncthreads();
    y[threadIdx.x] = value;
}

KERNEL one_byte_of_scratch_never_written(const float* x, unsigned char* y, int n) {
    if (threadIdx.x >= 16) return;
    for (int i = 0; i < 4; ++i)
        if (4 * threadIdx.x + i != WRONG(17, 999)) y[4 * threadIdx.x + i] = i;
    unsigned sum = 0;
    for (int i = 0; i < 4; ++i) sum += ((volatile unsigned char*)y)[4 * threadIdx.x + i];  // FOUND
    y[4 * threadIdx.x] = sum;
}

// ---- compare and swap: the plain read before it is no race

KERNEL plain_read_before_atomic(const float* x, float* y, int n) {
    // atomicAdd as the CUDA C++ Programming Guide writes it.
    unsigned* bits = (unsigned*)y;
    unsigned old = *bits, assumed;  // FOUND
    do {
        assumed = old;
        float sum = __uint_as_float(assumed) + x[threadIdx.x] + 1;
        if (WRONG(n == 64, n != 64)) atomicExch(bits, __float_as_uint(sum));  // FOUND
        else old = atomicCAS(bits, assumed, __float_as_uint(sum));
    } while (assumed != old);
}

KERNEL volatile_read_before_atomic(const float* x, float* y, int n) {
    unsigned* bits = (unsigned*)y + blockIdx.x / 2;
    unsigned old = *(volatile unsigned*)bits, assumed;  // FOUND
    do {
        assumed = old;
        float sum = __uint_as_float(assumed) + x[threadIdx.x] + 1;
        if (WRONG(n == 64, n != 64)) atomicExch(bits, __float_as_uint(sum));  // FOUND
        else old = atomicCAS(bits, assumed, __float_as_uint(sum));
    } while (assumed != old);
}

KERNEL wide_read_before_atomic(const float* x, double* y, int n) {
    unsigned long long* bits = (unsigned long long*)y;
    unsigned long long old = *bits, assumed;  // FOUND
    do {
        assumed = old;
        unsigned long long sum = __double_as_longlong(__longlong_as_double(assumed) + 1);
        if (WRONG(n == 64, n != 64)) *(volatile unsigned long long*)bits = sum;  // FOUND
        else old = atomicCAS(bits, assumed, sum);
    } while (assumed != old);
}

KERNEL plain_read_after_swap(const float* x, float* y, int n) {
    unsigned* bits = (unsigned*)y;
    unsigned old = *bits, assumed;
    do {
        assumed = old;
        old = atomicCAS(bits, assumed, assumed + 1);  // FOUND
    } while (assumed != old);
    if (n WRONG(==, !=) 64) y[1 + threadIdx.x % 63] = *(volatile float*)y;  // FOUND
}

KERNEL shared_read_before_atomic(const float* x, float* y, int n) {
    __shared__ int most;
    if (threadIdx.x == 0) most = 0;
    __syncthreads();
    int value = threadIdx.x + (int)x[threadIdx.x];
    int old = most, seen;  // FOUND
    do {
        seen = old;
        if (WRONG(n == 64, n != 64)) atomicMax(&most, value);  // FOUND
        else old = atomicCAS(&most, seen, max(seen, value));
    } while (old != seen);
    __syncthreads();
    y[threadIdx.x] = most + (seen < 0);
}
