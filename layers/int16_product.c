/* Products of float32 matrices through 16-bit integers, for x86 CPUs that stop at AVX2.

   vpmaddwd multiplies sixteen pairs of int16 and adds neighbours, exactly, in the time of eight float32 products.
   Each stretch of BLOCK numbers of a row has a unit of its own, so chosen that no sum can leave int32: by
   Cauchy-Schwarz a sum is at most the product of two 2-norms, and counted in units the 2-norm of a stretch is at most
   LIMIT, with (LIMIT + rounding)^2 < 2^31. What is lost is rounding, to one part in 2,900 of the stretch's root mean
   square or coarser where single numbers stick out; the sums themselves are exact, in any order.

   The names that end in a number are what Python calls; who changes their arguments or the layout, counts it up. */

#include <immintrin.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define BLOCK 256             /* numbers that share a unit; a multiple of 16 */
#define LIMIT 46300.0f        /* rounding adds at most sqrt(BLOCK) / 2 to it */
#define ROWS 6                /* rows of x and */
#define COLUMNS 16            /* columns of the result in a tile: 12 of the 16 registers */
#define CHUNK_BYTES (1 << 17) /* of rounded rows, which with their sums stay in the L2 cache */
#define AVX2 __attribute__((target("avx2,fma")))
#define INLINE AVX2 static inline __attribute__((always_inline))

/* 0: this CPU cannot; 1: it can, but has wider float32 products that do as well; 2: this is its fastest way. */
int support_1(void) {
    if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma")) return 0;
    return __builtin_cpu_supports("avx512f") ? 1 : 2;
}

static long least(long a, long b) { return a < b ? a : b; }

/* n / d, rounded up */
static long ceil_div(long n, long d) { return (n + d - 1) / d; }

INLINE float sum_of(__m256 v) {
    __m128 s = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    s = _mm_add_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
}

/* One stretch, x [n] -> q [n rounded up to even] in units; returns the unit, NaN for what is not finite. */
AVX2 static float round_stretch(const float *x, long n, int16_t *q) {
    float padded[BLOCK] __attribute__((aligned(32)));
    long wide = ceil_div(n, 16) * 16;
    if (n < wide) { /* the last stretch of a row: zeros change nothing */
        for (long i = 0; i < wide; i++) padded[i] = i < n ? x[i] : 0;
        x = padded;
    }
    __m256 top = _mm256_setzero_ps(), sign = _mm256_set1_ps(-0.0f), nan = top;
    for (long i = 0; i < wide; i += 8) {
        __m256 v = _mm256_loadu_ps(x + i);
        nan = _mm256_add_ps(nan, _mm256_sub_ps(v, v));
        top = _mm256_max_ps(top, _mm256_andnot_ps(sign, v));
    }
    float most[8], peak = 0;
    _mm256_storeu_ps(most, top);
    for (int i = 0; i < 8; i++) peak = most[i] > peak ? most[i] : peak;
    /* In parts of the greatest, whose squares neither overflow nor vanish. */
    __m256 squares = _mm256_setzero_ps(), whole = _mm256_set1_ps(peak);
    for (long i = 0; i < wide; i += 8) {
        __m256 v = _mm256_div_ps(_mm256_loadu_ps(x + i), whole);
        squares = _mm256_fmadd_ps(v, v, squares);
    }
    float units = LIMIT / sqrtf(sum_of(squares)), bound = 32767; /* that the greatest is long */
    if (!(units < bound)) units = bound;
    float unit = peak / units;
    __m256 per = _mm256_set1_ps(unit < 1e-37f ? 0 : 1 / unit); /* zeros, or too small for a reciprocal */
    for (long i = 0; i < wide; i += 16) {
        __m256i a = _mm256_cvtps_epi32(_mm256_mul_ps(per, _mm256_loadu_ps(x + i)));
        __m256i b = _mm256_cvtps_epi32(_mm256_mul_ps(per, _mm256_loadu_ps(x + i + 8)));
        _mm256_storeu_si256((__m256i *)(q + i), _mm256_permute4x64_epi64(_mm256_packs_epi32(a, b), 0xd8));
    }
    float finite = sum_of(nan);
    return finite == 0 ? unit : finite;
}

/* w [n, k], n % COLUMNS == 0 -> q [n / COLUMNS][k / 2, rounded up][COLUMNS][2] and a unit for each stretch,
   units [n / COLUMNS][stretches][COLUMNS]. */
AVX2 void pack_1(const float *w, long n, long k, int16_t *q, float *units, int threads) {
    long pairs = ceil_div(k, 2), stretches = ceil_div(k, BLOCK);
#pragma omp parallel for num_threads(threads)
    for (long o = 0; o < n; o++) {
        int16_t row[BLOCK];
        long panel = o / COLUMNS, column = o % COLUMNS;
        for (long s = 0; s < stretches; s++) {
            long from = s * BLOCK, length = least(k - from, BLOCK);
            units[(panel * stretches + s) * COLUMNS + column] = round_stretch(w + o * k + from, length, row);
            int16_t *to = q + ((panel * pairs + from / 2) * COLUMNS + column) * 2;
            for (long i = 0; i < ceil_div(length, 2); i++)
                memcpy(to + i * COLUMNS * 2, row + 2 * i, 2 * sizeof *row);
        }
    }
}

/* sums [rows][COLUMNS] += q w over one stretch; rows is a constant where this is inlined. Spelled out, since
   compilers left to unroll and reorder this run out of registers and take twice as long. */
INLINE void tile(int rows, const int16_t *q, long stride, const float *units, long units_stride, const int16_t *w,
                 const float *w_units, long pairs, float *sums) {
#define EACH_ROW(DO) DO(0) DO(1) DO(2) DO(3) DO(4) DO(5)
#define ZERO(i) __m256i low##i = _mm256_setzero_si256(), high##i = low##i;
#define MULTIPLY_ADD(sums, w) \
    __asm__("vpmaddwd %2, %3, %1\n\tvpaddd %1, %0, %0" : "+x"(sums), "=&x"(products) : "x"(w), "x"(pair))
#define MULTIPLY(i)                                       \
    if (i < rows) {                                       \
        int32_t two;                                      \
        memcpy(&two, q + i * stride + 2 * p, sizeof two); \
        __m256i pair = _mm256_set1_epi32(two), products;  \
        MULTIPLY_ADD(low##i, w_low);                      \
        MULTIPLY_ADD(high##i, w_high);                    \
    }
#define ADD(i)                                                                                 \
    if (i < rows) {                                                                            \
        __m256 unit = _mm256_set1_ps(units[i * units_stride]);                                 \
        float *to = sums + i * COLUMNS;                                                        \
        __m256 low = _mm256_mul_ps(_mm256_cvtepi32_ps(low##i), _mm256_mul_ps(unit, u_low));    \
        __m256 high = _mm256_mul_ps(_mm256_cvtepi32_ps(high##i), _mm256_mul_ps(unit, u_high)); \
        _mm256_storeu_ps(to, _mm256_add_ps(_mm256_loadu_ps(to), low));                         \
        _mm256_storeu_ps(to + 8, _mm256_add_ps(_mm256_loadu_ps(to + 8), high));                \
    }
    EACH_ROW(ZERO)
    for (long p = 0; p < pairs; p++) {
        __m256i w_low = _mm256_loadu_si256((const __m256i *)(w + 2 * COLUMNS * p));
        __m256i w_high = _mm256_loadu_si256((const __m256i *)(w + 2 * COLUMNS * p + COLUMNS));
        EACH_ROW(MULTIPLY)
    }
    __m256 u_low = _mm256_loadu_ps(w_units), u_high = _mm256_loadu_ps(w_units + 8);
    EACH_ROW(ADD)
}

AVX2 static void tile_of(long rows, const int16_t *q, long stride, const float *units, long units_stride,
                         const int16_t *w, const float *w_units, long pairs, float *sums) {
#define CASE(n) \
    case n: tile(n, q, stride, units, units_stride, w, w_units, pairs, sums); break;
    switch (rows) { CASE(1) CASE(2) CASE(3) CASE(4) CASE(5) CASE(6) }
}

/* e^x: 2^n by its exponent bits, and a polynomial for the rest, to about 2e-7 of the result. */
INLINE __m256 exponential(__m256 x) {
    x = _mm256_max_ps(_mm256_set1_ps(-87), _mm256_min_ps(_mm256_set1_ps(89), x)); /* 89: infinite; NaN stays */
    __m256 n = _mm256_round_ps(_mm256_mul_ps(x, _mm256_set1_ps(1.44269504f)), 8);
    x = _mm256_fnmadd_ps(n, _mm256_set1_ps(0.693359375f), x); /* ln 2 in two parts */
    x = _mm256_fnmadd_ps(n, _mm256_set1_ps(-2.12194440e-4f), x);
    const float taylor[] = {1.0f / 120, 1.0f / 24, 1.0f / 6, 0.5f, 1, 1};
    __m256 p = _mm256_set1_ps(1.0f / 720);
    for (int i = 0; i < 6; i++) p = _mm256_fmadd_ps(p, x, _mm256_set1_ps(taylor[i]));
    __m256i bits = _mm256_slli_epi32(_mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127)), 23);
    return _mm256_mul_ps(p, _mm256_castsi256_ps(bits));
}

/* A finished panel goes to its place, y [rows, n]: through a SiLU if `silu`, plus residual [rows, n] unless null. */
AVX2 static void finish(const float *sums, long rows, int silu, const float *residual, float *y, long n) {
    __m256 one = _mm256_set1_ps(1), zero = _mm256_setzero_ps();
    for (long i = 0; i < rows; i++)
        for (int j = 0; j < COLUMNS; j += 8) {
            __m256 v = _mm256_loadu_ps(sums + i * COLUMNS + j);
            if (silu) v = _mm256_div_ps(v, _mm256_add_ps(one, exponential(_mm256_sub_ps(zero, v))));
            if (residual) v = _mm256_add_ps(v, _mm256_loadu_ps(residual + i * n + j));
            _mm256_storeu_ps(y + i * n + j, v);
        }
}

/* y [m, n] = f(x [m, k] w^T + bias [n]) + residual [m, n], with w as `pack_1` left it, f a SiLU if `silu`, residual
   null for none. A row of y depends on that row of x alone. Returns 1 if memory ran out, else 0. */
AVX2 int product_1(const float *x, long m, long k, const int16_t *w, const float *w_units, long n, const float *bias,
                   int silu, const float *residual, float *y, int threads) {
    if (m == 0 || n == 0) return 0;
    long pairs = ceil_div(k, 2), stretches = ceil_div(k, BLOCK), panels = n / COLUMNS;
    long stride = ceil_div(k, 32) * 32 + 32; /* a cache line more, so that rows do not evict each other */
    long height = ROWS * least(ceil_div(m, ROWS), 1 + CHUNK_BYTES / (2 * ROWS * stride));
    long chunks = ceil_div(m, height), parts = least(panels, ceil_div(4 * threads, chunks)); /* of y's columns */
    int failed = 0;
#pragma omp parallel num_threads(threads)
    {
        int16_t *q = malloc(height * stride * sizeof *q);
        float *units = malloc(height * stretches * sizeof *units), *sums = malloc(height * COLUMNS * sizeof *sums);
        long held = -1; /* the chunk that q has */
#pragma omp for schedule(dynamic)
        for (long task = 0; task < chunks * parts; task++) {
            if (!q || !units || !sums) {
#pragma omp atomic write
                failed = 1;
                continue;
            }
            long chunk = task / parts, part = task % parts, first = chunk * height, rows = least(m - first, height);
            for (long i = 0; i < rows && held != chunk; i++)
                for (long s = 0; s < stretches; s++)
                    units[i * stretches + s] = round_stretch(x + (first + i) * k + s * BLOCK,
                                                             least(k - s * BLOCK, BLOCK), q + i * stride + s * BLOCK);
            held = chunk;
            for (long panel = panels * part / parts; panel < panels * (part + 1) / parts; panel++) {
                long column = panel * COLUMNS, at = first * n + column;
                for (long i = 0; i < rows * COLUMNS; i++) sums[i] = bias[column + i % COLUMNS];
                for (long s = 0; s < stretches; s++)
                    for (long i = 0; i < rows; i += ROWS)
                        tile_of(least(rows - i, ROWS), q + i * stride + s * BLOCK, stride, units + i * stretches + s,
                                stretches, w + (panel * pairs + s * BLOCK / 2) * COLUMNS * 2,
                                w_units + (panel * stretches + s) * COLUMNS, least(pairs - s * BLOCK / 2, BLOCK / 2),
                                sums + i * COLUMNS);
                finish(sums, rows, silu, residual ? residual + at : NULL, y + at, n);
            }
        }
        free(q), free(units), free(sums);
    }
    return failed;
}
