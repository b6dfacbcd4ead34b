/* Philox4x32-10 (Salmon et al., SC 2011): random 32-bit words as a function of (key, counter). */
#include <math.h>
#include <stdint.h>

#define LANES 16 /* blocks that are made side by side, in the parts of registers */
#define ROOT_HALF INT64_C(0x3FE6A09E667F3BCD) /* the bits of √½ */
#define M0 0xD2511F53u
#define M1 0xCD9E8D57u

/* Blocks first ... first + LANES − 1 of one counter: word w of block k is out[w][k]. */
static void blocks(uint32_t out[restrict 4][LANES], uint32_t first, uint32_t lo, uint32_t hi, uint32_t substream,
                   uint32_t k0, uint32_t k1) {
    for (int k = 0; k < LANES; k++) { /* the rounds are unrolled, so that this loop is one of registers */
        uint32_t c0 = first + (uint32_t)k, c1 = lo, c2 = hi, c3 = substream, a = k0, b = k1;
#pragma GCC unroll 10
        for (int round = 0; round < 10; round++) {
            const uint64_t p0 = (uint64_t)c0 * M0, p1 = (uint64_t)c2 * M1;
            c0 = (uint32_t)(p1 >> 32) ^ c1 ^ a;
            c2 = (uint32_t)(p0 >> 32) ^ c3 ^ b;
            c1 = (uint32_t)p1;
            c3 = (uint32_t)p0;
            a += 0x9E3779B9u;
            b += 0xBB67AE85u;
        }
        out[0][k] = c0;
        out[1][k] = c1;
        out[2][k] = c2;
        out[3][k] = c3;
    }
}

/* out[i][j], j < count: word j of sample index[i] of substream substreams[i]. out: (n, count). */
void philox_words(int64_t *out, const int64_t *index, const int64_t *substreams, int64_t n, int64_t count,
                  int64_t k0, int64_t k1) {
    uint32_t made[4][LANES];
    for (int64_t i = 0; i < n; i++) {
        int64_t *row = out + i * count;
        const uint32_t lo = (uint32_t)index[i], hi = (uint32_t)(index[i] >> 32);
        for (int64_t first = 0; 4 * first < count; first += LANES) {
            blocks(made, (uint32_t)first, lo, hi, (uint32_t)substreams[i], (uint32_t)k0, (uint32_t)k1);
            for (int64_t k = 0; k < LANES; k++)
                for (int64_t w = 0; w < 4 && 4 * (first + k) + w < count; w++)
                    row[4 * (first + k) + w] = made[w][k];
        }
    }
}

/* What box_muller.py does, operation by operation, for the words a and b of some pairs; its polynomials, from the
 * highest power down, are LOG (7 numbers), SIN (6) and COS (6). */
static void box_muller(double *restrict cosines, double *restrict sines, const uint32_t *restrict a,
                       const uint32_t *restrict b, const double *restrict polynomials, double turn, double ln2) {
    const double *log = polynomials, *sin = log + 7, *cos = sin + 6;
    for (int k = 0; k < LANES; k++) {
        union {
            double number;
            int64_t bits;
        } x = {(double)a[k] + 0.5}, m;
        const int64_t exponent = (x.bits - ROOT_HALF) >> 52;
        m.bits = x.bits - exponent * (INT64_C(1) << 52);
        const double s = (m.number - 1.0) / (m.number + 1.0), z = s * s;
        double small = log[0];
        for (int i = 1; i < 7; i++) small = small * z + log[i];
        const double radius = sqrt(((small * z + 2.0) * s + (double)(int32_t)(exponent - 32) * ln2) * -2.0);
        const uint32_t quarter = b[k] / 2 + (1u << 28) >> 29; /* (b + 2²⁹) / 2³⁰, which needs 33 bits */
        const double t = (double)(int32_t)(b[k] - (quarter << 30)) * turn, w = t * t;
        double sine = sin[0], cosine = cos[0];
        for (int i = 1; i < 6; i++) sine = sine * w + sin[i];
        for (int i = 1; i < 6; i++) cosine = cosine * w + cos[i];
        sine = sine * w * t + t;
        cosine = (cosine * w - 0.5) * w + 1.0;
        const double c = quarter & 1 ? sine : cosine, s_ = quarter & 1 ? cosine : sine;
        cosines[k] = c * (double)(1 - (int32_t)(quarter + 1 & 2)) * radius;
        sines[k] = s_ * (double)(1 - (int32_t)(quarter & 2)) * radius;
    }
}

/* Standard normals, of doubles or, if ``single``, of floats: out (n, count). Pairs of words make pairs of them. */
void philox_normals(void *out, int single, const int64_t *index, const int64_t *substreams, int64_t n, int64_t count,
                    int64_t k0, int64_t k1, const double *polynomials, double turn, double ln2) {
    uint32_t made[4][LANES];
    double z[4][LANES];
    for (int64_t i = 0; i < n; i++) {
        const uint32_t lo = (uint32_t)index[i], hi = (uint32_t)(index[i] >> 32);
        for (int64_t first = 0; first < count; first += 4 * LANES) {
            blocks(made, (uint32_t)(first / 4), lo, hi, (uint32_t)substreams[i], (uint32_t)k0, (uint32_t)k1);
            box_muller(z[0], z[1], made[0], made[1], polynomials, turn, ln2);
            box_muller(z[2], z[3], made[2], made[3], polynomials, turn, ln2);
            const int64_t here = count - first < 4 * LANES ? count - first : 4 * LANES;
            float *floats = (float *)out + i * count + first;
            double *doubles = (double *)out + i * count + first;
            if (single)
                for (int64_t j = 0; j < here; j++) floats[j] = (float)z[j % 4][j / 4];
            else
                for (int64_t j = 0; j < here; j++) doubles[j] = z[j % 4][j / 4];
        }
    }
}
