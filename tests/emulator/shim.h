// Turns a CUDA source into a C++ source for one CPU thread; kernels.py puts it in front of the source.
//
// A launch is a loop over the blocks and, in each, over the threads, one after another. If the source
// has barriers, each thread of a block is a fibre with its own stack: it runs up to the barrier, then
// the next one does. Nothing runs at the same time, so races cannot be seen, and atomics are plain code.
// Of the warp's functions, only the barrier exists; a source with shuffles or votes does not compile.
#pragma once
#include <assert.h>
#include <initializer_list>
#include <limits.h>
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <type_traits>
#include <utility>

#define __global__
#define __device__
#define __host__
#define __constant__
#define __forceinline__ inline
#define __noinline__ __attribute__((noinline))
#define __align__(n) __attribute__((aligned(n)))
#define __launch_bounds__(...)
// One copy serves all blocks, because they run in turn. It has its own section, which run() wipes before
// each block. (kernels.py rewrites `extern __shared__`, the dynamic kind.)
#define __shared__ static __attribute__((section("shared_memory"), used))
#define __syncthreads() emulator::barrier(__LINE__)
#define __syncwarp(...) emulator::barrier(emulator::WARP)

struct dim3 {
    unsigned int x, y, z;
};
typedef dim3 uint3;
inline dim3 threadIdx, blockIdx, blockDim, gridDim;
const int warpSize = 32;

// For numbers of any two types. If one of two floats is NaN, the result is the other.
#define EXTREME(name, floating, relation)                                                     \
    template <class A, class B, class T = std::common_type_t<A, B>,                           \
              class = std::enable_if_t<std::is_arithmetic<A>() && std::is_arithmetic<B>()>>   \
    inline T name(A a, B b)                                                                   \
    {                                                                                         \
        if constexpr (std::is_floating_point<T>()) return floating(T(a), T(b));               \
        else return T(a) relation T(b) ? T(a) : T(b);                                         \
    }
EXTREME(min, fmin, <)
EXTREME(max, fmax, >)
#undef EXTREME

namespace emulator {

struct Launch {  // kernels.py has the same
    dim3 grid, block;
    unsigned int dynamic_bytes;  // of shared memory
    int reverse;                 // run blocks and threads from the last to the first
    int may_end_early;           // threads may end while others of their block wait at a barrier
    unsigned long long first_block, stop_block;
    void** arguments;            // a pointer to each, as for cuLaunchKernel
    char *shared, *stacks;       // the dynamic shared memory; a stack for each thread
    size_t stack_bytes;
};

enum Outcome { DONE = 0, DIVERGENT_BARRIER = 1, SHARED_MEMORY = 2 };

const int SHARED_BYTES = 48 * 1024, PARAMETER_BYTES = 4096;  // CUDA's limits
inline char* dynamic_shared;

// -- fibres ------------------------------------------------------------------------------------------

enum { RUNS = 0, ENDED = -1, WARP = -2 };
struct Fibre {
    void* stack;  // where it stopped
    int place;    // one of the above (WARP is the warp's barrier), or the line of the block's barrier
};
inline Fibre fibres[1024], *running;
inline void* scheduler;
inline void (*thread_body)(const void*);
inline const void* thread_data;

// Save the callee's registers and the stack pointer, and continue where `resume` stopped.
__attribute__((naked, noinline)) inline void switch_to(void** save, void* resume)
{
    asm("push %rbp\n push %rbx\n push %r12\n push %r13\n push %r14\n push %r15\n"
        "mov %rsp, (%rdi)\n mov %rsi, %rsp\n"
        "pop %r15\n pop %r14\n pop %r13\n pop %r12\n pop %rbx\n pop %rbp\n ret");
}

inline void barrier(int place)
{
    running->place = place;
    switch_to(&running->stack, scheduler);
}

inline void start()
{
    thread_body(thread_data);
    barrier(ENDED);
}

inline dim3 position(unsigned long long i, dim3 size)
{
    return {unsigned(i % size.x), unsigned(i / size.x % size.y), unsigned(i / size.x / size.y)};
}

// Run a warp's threads up to the block's next barrier, or to their ends. Returns the barrier's line.
inline int run_warp(const Launch& l, int first, int threads)
{
    int line = ENDED;
    for (bool again = true; again;) {
        again = false;
        for (int step = 0; step < threads; step++) {
            const int i = first + (l.reverse ? threads - 1 - step : step);
            running = &fibres[i];
            if (running->place != RUNS && running->place != WARP) continue;
            threadIdx = position(i, l.block);
            switch_to(&scheduler, running->stack);
            if (running->place == WARP) again = true;
            if (running->place > 0) line = running->place;
        }
    }
    return line;
}

inline Outcome run_fibres(const Launch& l, int threads)
{
    for (int i = 0; i < threads; i++) {
        void** top = (void**)(l.stacks + (i + 1) * l.stack_bytes);  // aligned to 16 bytes
        top[-2] = (void*)start;                                     // switch_to() returns to it
        fibres[i] = {top - 8, RUNS};                                // after popping six registers
    }
    const int warps = (threads + warpSize - 1) / warpSize;
    for (;;) {
        int line = ENDED;
        for (int step = 0; step < warps; step++) {
            const int first = warpSize * (l.reverse ? warps - 1 - step : step);
            const int place = run_warp(l, first, min(warpSize, threads - first));
            if (place != ENDED) line = place;
        }
        if (line == ENDED) return DONE;
        for (int i = 0; i < threads; i++)
            if (fibres[i].place == line) fibres[i].place = RUNS;
            else if (fibres[i].place != ENDED || !l.may_end_early) return DIVERGENT_BARRIER;
    }
}

// -- launches ----------------------------------------------------------------------------------------

extern "C" char __start_shared_memory[] __attribute__((weak));  // the linker's names for the section
extern "C" char __stop_shared_memory[] __attribute__((weak));

template <class T> struct Argument {  // a copy, because the caller's may not be aligned
    alignas(T) char bytes[sizeof(T)];
    Argument(const void* from) { memcpy(bytes, from, sizeof(T)); }
    operator T&() { return *(T*)bytes; }
};

template <class... A, size_t... i>
inline void call(void (*kernel)(A...), void** arguments, std::index_sequence<i...>)
{
    kernel(Argument<A>(arguments[i])...);
}

template <bool barriers, class... A> inline int run(void (*kernel)(A...), const Launch& l)
{
    static_assert((0 + ... + sizeof(A)) <= PARAMETER_BYTES, "too many bytes of kernel parameters");
    const int threads = l.block.x * l.block.y * l.block.z;
    const size_t static_bytes = __stop_shared_memory - __start_shared_memory;
    if (static_bytes + l.dynamic_bytes > SHARED_BYTES) return SHARED_MEMORY;
    auto body = [&] { call(kernel, l.arguments, std::index_sequence_for<A...>()); };
    thread_body = [](const void* data) { (*(decltype(body)*)data)(); };
    thread_data = &body;
    gridDim = l.grid;
    blockDim = l.block;
    dynamic_shared = l.shared;
    for (unsigned long long b = l.first_block; b < l.stop_block; b++) {
        blockIdx = position(l.reverse ? l.first_block + l.stop_block - 1 - b : b, l.grid);
        // This block must not see what the last one left, so fill it with NaN or -1.
        if (static_bytes) memset(__start_shared_memory, 0xFF, static_bytes);
        if (l.dynamic_bytes) memset(l.shared, 0xFF, l.dynamic_bytes);
        if (barriers) {
            if (const Outcome outcome = run_fibres(l, threads)) return outcome;
        } else {
            for (int t = 0; t < threads; t++) {
                threadIdx = position(l.reverse ? threads - 1 - t : t, l.block);
                body();
            }
        }
    }
    return DONE;
}

template <class To, class From> inline To bits(From from)
{
    static_assert(sizeof(To) == sizeof(From));
    To to;
    memcpy(&to, &from, sizeof to);
    return to;
}

}  // namespace emulator

// -- what CUDA declares ------------------------------------------------------------------------------

#define VECTOR(T, name)                                                                \
    struct alignas(2 * sizeof(T)) name##2 { T x, y; };                                 \
    struct alignas(16) name##4 { T x, y, z, w; };                                      \
    inline name##2 make_##name##2(T x, T y) { return {x, y}; }                         \
    inline name##4 make_##name##4(T x, T y, T z, T w) { return {x, y, z, w}; }
VECTOR(float, float)
VECTOR(double, double)
VECTOR(int, int)
#undef VECTOR

#define ATOMIC(name, T, result) \
    inline T name(T* at, T v) { const T old = *at; *at = result; return old; }
#define ATOMICS(T)                            \
    ATOMIC(atomicAdd, T, old + v)             \
    ATOMIC(atomicExch, T, v)
#define INTEGER_ATOMICS(T)                    \
    ATOMICS(T)                                \
    ATOMIC(atomicSub, T, old - v)             \
    ATOMIC(atomicMin, T, old < v ? old : v)   \
    ATOMIC(atomicMax, T, old > v ? old : v)   \
    ATOMIC(atomicAnd, T, old & v)             \
    ATOMIC(atomicOr, T, old | v)              \
    ATOMIC(atomicXor, T, old ^ v)             \
    inline T atomicCAS(T* at, T is, T v) { const T old = *at; if (old == is) *at = v; return old; }
ATOMICS(float)
ATOMICS(double)
INTEGER_ATOMICS(int)
INTEGER_ATOMICS(unsigned int)
INTEGER_ATOMICS(unsigned long long)
#undef INTEGER_ATOMICS
#undef ATOMICS
#undef ATOMIC

inline void __threadfence() {}
inline void __threadfence_block() {}
template <class T> inline T __ldg(const T* at) { return *at; }

inline int __float_as_int(float x) { return emulator::bits<int>(x); }
inline unsigned __float_as_uint(float x) { return emulator::bits<unsigned>(x); }
inline float __int_as_float(int x) { return emulator::bits<float>(x); }
inline float __uint_as_float(unsigned x) { return emulator::bits<float>(x); }
inline long long __double_as_longlong(double x) { return emulator::bits<long long>(x); }
inline double __longlong_as_double(long long x) { return emulator::bits<double>(x); }

// The fast versions, which are less accurate on a GPU than here.
inline float __expf(float x) { return expf(x); }
inline float __logf(float x) { return logf(x); }
inline float __powf(float x, float y) { return powf(x, y); }
inline float __fdividef(float x, float y) { return x / y; }
inline float __fsqrt_rn(float x) { return sqrtf(x); }
inline float __frsqrt_rn(float x) { return 1 / sqrtf(x); }
inline float __frcp_rn(float x) { return 1 / x; }
inline float __fmaf_rn(float x, float y, float z) { return fmaf(x, y, z); }
inline float __fmul_rn(float x, float y) { return x * y; }
inline float __fadd_rn(float x, float y) { return x + y; }
inline float rsqrtf(float x) { return 1 / sqrtf(x); }
inline float rsqrt(float x) { return 1 / sqrtf(x); }
inline double rsqrt(double x) { return 1 / sqrt(x); }
inline int __clz(int x) { return x ? __builtin_clz(x) : 32; }
inline int __popc(unsigned x) { return __builtin_popcount(x); }
inline int __popcll(unsigned long long x) { return __builtin_popcountll(x); }
