// Half precision as CuPy's float16.cuh needs it: a type that converts to and from float.
#pragma once

struct __half_raw {
    unsigned short x;
};

struct half {
    _Float16 value;

    half() {}
    half(float v) : value(v) {}
    explicit half(const __half_raw& v) : value(emulator::bits<_Float16>(v.x)) {}
    explicit half(bool v) : value(v) {}
    explicit half(double v) : value(v) {}
    explicit half(int v) : value(v) {}
    explicit half(unsigned int v) : value(v) {}
    explicit half(long long v) : value(v) {}
    explicit half(unsigned long long v) : value(v) {}
    operator float() const { return value; }
    operator __half_raw() const { return {emulator::bits<unsigned short>(value)}; }
};

inline unsigned short __half_as_ushort(half v) { return __half_raw(v).x; }
inline half __ushort_as_half(unsigned short v) { return half(__half_raw{v}); }
