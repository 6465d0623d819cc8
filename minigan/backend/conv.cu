// The two parts of a convolution around the matrix product: windows to columns, columns to an image.
//
// All arrays are contiguous. Images are channel-major, (C, N, H, W), so that a product
// (O, kh*kw*C) @ (kh*kw*C, N*OH*OW) is the next layer's image without another copy. A column matrix
// has a row per tap and channel, in the order (kh, kw, C) of the weights, and a column per window.
// Compiled with -DReal=float or -DReal=double; gpu.py launches the kernels. The number of elements may
// exceed 2^31 (as for the columns of 512 images of 128 x 128 with 64 channels), so it is an `Index`.

typedef long long Index;

struct Window {
    int h, w;              // pixels of the image
    int kh, kw;            // taps of the kernel
    int sh, sw, ph, pw;    // stride and padding
    int oh, ow;            // windows of the grid
};

// col[(i, j, c), (n, p, q)] = x[c, n, p*sh + i - ph, q*sw + j - pw], and 0 outside the image.
// Launch: one thread per window along x, one row of blocks along y per channel. Neighbouring threads
// write neighbouring numbers, and the division into n, p, q is done once for all kh*kw taps.
extern "C" __global__ void im2col(const Real* x, Real* col, Window v, Index images, int channels)
{
    const Index windows = images * v.oh * v.ow;
    const Index m = (Index)blockIdx.x * blockDim.x + threadIdx.x;
    if (m >= windows) return;
    const Index n = m / (v.oh * v.ow);
    const int rest = (int)(m - n * (v.oh * v.ow));
    const int top = rest / v.ow * v.sh - v.ph, left = rest % v.ow * v.sw - v.pw;
    for (int c = blockIdx.y; c < channels; c += gridDim.y) {
        const Real* image = x + (c * images + n) * v.h * v.w;
        for (int i = 0; i < v.kh; i++)
            for (int j = 0; j < v.kw; j++) {
                const int row = top + i, column = left + j;
                const bool inside = row >= 0 && row < v.h && column >= 0 && column < v.w;
                col[((Index)(i * v.kw + j) * channels + c) * windows + m] =
                    inside ? image[(Index)row * v.w + column] : Real(0);
            }
    }
}

// x[c, n, row, column] = sum of all col[(i, j, c), (n, p, q)] that saw this pixel: i + p*sh = row + ph,
// and likewise for columns. Launch: one thread per pixel along x, one row of blocks along y per channel.
// Each thread gathers the terms of its pixel (4 taps for a kernel of 4 with stride 2) in a fixed order,
// without atomic additions, so the bits are the same every time.
extern "C" __global__ void col2im(const Real* col, Real* x, Window v, Index images, int channels)
{
    const Index pixels = images * v.h * v.w, windows = images * v.oh * v.ow;
    const Index m = (Index)blockIdx.x * blockDim.x + threadIdx.x;
    if (m >= pixels) return;
    const Index n = m / (v.h * v.w);
    const int rest = (int)(m - n * (v.h * v.w));
    const int row = rest / v.w + v.ph, column = rest % v.w + v.pw;  // on the padded image
    for (int c = blockIdx.y; c < channels; c += gridDim.y) {
        Real sum = 0;
        for (int i = row % v.sh; i < v.kh && i <= row; i += v.sh) {
            const int p = (row - i) / v.sh;
            if (p >= v.oh) continue;
            for (int j = column % v.sw; j < v.kw && j <= column; j += v.sw) {
                const int q = (column - j) / v.sw;
                if (q >= v.ow) continue;
                sum += col[((Index)(i * v.kw + j) * channels + c) * windows + (n * v.oh + p) * v.ow + q];
            }
        }
        x[c * pixels + m] = sum;
    }
}
