// Batch norm and the leaky ReLU after it, forward and backward, in two kernels each.
//
// All arrays are contiguous and channel-major, (C, count) with count = N*H*W; values per channel are
// (C,).
// Compiled with -DReal=float or -DReal=double; gpu.py launches the kernels.

typedef long long Index;

const int THREADS = 512;  // in a block that sums; the tree below needs a power of two

// The sum of `value` over the threads of a block, returned to all of them. A tree of short sums keeps
// the last digits of float32, and its order is fixed, so the bits are the same every time.
__device__ Real block_sum(Real value)
{
    __shared__ Real partial[THREADS];
    __syncthreads();  // the last call's readers are done
    partial[threadIdx.x] = value;
    for (int half = THREADS / 2; half > 0; half /= 2) {
        __syncthreads();
        if (threadIdx.x < half) partial[threadIdx.x] += partial[threadIdx.x + half];
    }
    __syncthreads();
    return partial[0];
}

__device__ Real leaky(Real x, Real slope)
{
    return x > 0 ? x : x < 0 && slope == 0 ? Real(0) : slope * x;  // 0 * -infinity would be NaN
}

__device__ Real leaky_gradient(Real g, Real y, Real slope)
{
    return y > 0 ? g : slope == 0 ? Real(0) : slope * g;  // and so would 0 * infinity
}

// mean and 1 / sqrt(var + eps) of each channel. With `track`, also move the running statistics:
// running = (1 - momentum) * running + momentum * batch, with the unbiased variance.
// Launch: one block of THREADS per channel.
extern "C" __global__ void batch_statistics(
    const Real* x, Index count, Real eps, Real momentum, int track, Real* mean, Real* inv_std,
    Real* running_mean, Real* running_var)
{
    const int c = blockIdx.x;
    const Real* row = x + c * count;
    Real sum = 0;
    for (Index i = threadIdx.x; i < count; i += THREADS) sum += row[i];
    const Real near = block_sum(sum) / count;
    sum = 0;
    for (Index i = threadIdx.x; i < count; i += THREADS) sum += row[i] - near;
    const Real m = near + block_sum(sum) / count;  // so the mean of equal numbers is that number
    sum = 0;
    for (Index i = threadIdx.x; i < count; i += THREADS) sum += (row[i] - m) * (row[i] - m);
    const Real squares = block_sum(sum);
    if (threadIdx.x > 0) return;
    mean[c] = m;
    inv_std[c] = 1 / sqrt(squares / count + eps);
    if (track) {
        running_mean[c] = (1 - momentum) * running_mean[c] + momentum * m;
        running_var[c] = (1 - momentum) * running_var[c] + momentum * (squares / (count - 1));
    }
}

// y = leaky((x - center) * (scale * w) + b).
// Launch: one thread per element of a channel along x, one row of blocks along y per channel.
extern "C" __global__ void scale_shift(
    const Real* x, const Real* center, const Real* scale, const Real* w, const Real* b, Real slope,
    Index count, int channels, Real* y)
{
    const Index i = (Index)blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= count) return;
    for (int c = blockIdx.y; c < channels; c += gridDim.y) {
        const Index at = c * count + i;
        y[at] = leaky((x[at] - center[c]) * (scale[c] * w[c]) + b[c], slope);
    }
}

// Let g' be g passed back through the leaky ReLU: g where y > 0, else slope * g.
// db = sum g', dw = sum g' * xhat.
// Launch: one block of THREADS per channel.
extern "C" __global__ void batch_norm_sums(
    const Real* g, const Real* y, const Real* x, const Real* mean, const Real* inv_std, Real slope,
    Index count, Real* dw, Real* db)
{
    const int c = blockIdx.x;
    Real weighted = 0, plain = 0;
    for (Index i = threadIdx.x; i < count; i += THREADS) {
        const Index at = c * count + i;
        const Real gi = leaky_gradient(g[at], y[at], slope);
        weighted += gi * (x[at] - mean[c]);
        plain += gi;
    }
    weighted = block_sum(weighted);
    plain = block_sum(plain);
    if (threadIdx.x > 0) return;
    dw[c] = weighted * inv_std[c];
    db[c] = plain;
}

// dx = inv_std * w * (g' - db / count - xhat * dw / count).
// Launch: one thread per element of a channel along x, one row of blocks along y per channel.
extern "C" __global__ void batch_norm_image(
    const Real* g, const Real* y, const Real* x, const Real* mean, const Real* inv_std, const Real* w,
    const Real* dw, const Real* db, Real slope, Index count, int channels, Real* dx)
{
    const Index i = (Index)blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= count) return;
    for (int c = blockIdx.y; c < channels; c += gridDim.y) {
        const Index at = c * count + i;
        const Real gi = leaky_gradient(g[at], y[at], slope);
        const Real xhat = (x[at] - mean[c]) * inv_std[c];
        dx[at] = inv_std[c] * w[c] * (gi - db[c] / count - xhat * (dw[c] / count));
    }
}
