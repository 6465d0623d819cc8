// Adam (Kingma & Ba 2015, algorithm 1) for all parameters of a network in one launch.
//
// Compiled with -DReal=float or -DReal=double and -DMANY=<parameters per launch>; gpu.py launches it.

typedef long long Index;

struct Parameter {
    Real *p, *g, *m, *v;  // the parameter, its gradient and both moments, count numbers each
    Index count;
    Real rate;            // lr / (1 - b1^t)
    Real root;            // sqrt(1 - b2^t)
};

struct Parameters {
    Parameter at[MANY];  // by value among the kernel's arguments, which may take up 4 KiB
};

// b1 and b2 are the betas, rest1 and rest2 are 1 - b1 and 1 - b2. The host computes these differences
// in double, because 1 - 0.999f would lose two digits.
// Launch: one row of blocks along y per parameter; along x the threads stride over its numbers.
extern "C" __global__ void adam(
    Parameters all, Real b1, Real rest1, Real b2, Real rest2, Real eps)
{
    const Parameter& a = all.at[blockIdx.y];
    const Index stride = (Index)gridDim.x * blockDim.x;
    for (Index i = (Index)blockIdx.x * blockDim.x + threadIdx.x; i < a.count; i += stride) {
        const Real g = a.g[i];
        const Real m = b1 * a.m[i] + rest1 * g;
        const Real v = b2 * a.v[i] + rest2 * g * g;
        a.m[i] = m;
        a.v[i] = v;
        a.p[i] -= a.rate * m / (sqrt(v) / a.root + eps);
    }
}
