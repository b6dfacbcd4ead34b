/* Philox4x32-10 (Salmon et al., SC 2011): random 32-bit words as a function of (key, counter). */
#include <stdint.h>

#define LANES 8 /* blocks that are made side by side, in the parts of one register */
#define M0 0xD2511F53u
#define M1 0xCD9E8D57u

/* Blocks first ... first + LANES − 1 of one counter: word w of block k is out[w][k]. */
static void blocks(uint32_t out[4][LANES], uint32_t first, uint32_t lo, uint32_t hi, uint32_t substream,
                   uint32_t k0, uint32_t k1) {
    uint32_t c0[LANES], c1[LANES], c2[LANES], c3[LANES];
    for (int k = 0; k < LANES; k++) {
        c0[k] = first + (uint32_t)k;
        c1[k] = lo;
        c2[k] = hi;
        c3[k] = substream;
    }
    for (int round = 0; round < 10; round++) {
        for (int k = 0; k < LANES; k++) {
            const uint64_t p0 = (uint64_t)c0[k] * M0, p1 = (uint64_t)c2[k] * M1;
            const uint32_t n0 = (uint32_t)(p1 >> 32) ^ c1[k] ^ k0, n2 = (uint32_t)(p0 >> 32) ^ c3[k] ^ k1;
            c1[k] = (uint32_t)p1;
            c3[k] = (uint32_t)p0;
            c0[k] = n0;
            c2[k] = n2;
        }
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    for (int k = 0; k < LANES; k++) {
        out[0][k] = c0[k];
        out[1][k] = c1[k];
        out[2][k] = c2[k];
        out[3][k] = c3[k];
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

/* The words of a sample in pairs (a, b), as u = (a + ½)/2³² and angle = b · 2π/2³²: two of (n, pairs), pairs even.
 * Both are exact but for the one rounding of the product. */
void philox_pairs(double *u, double *angle, const int64_t *index, const int64_t *substreams, int64_t n,
                  int64_t pairs, int64_t k0, int64_t k1, double turn) {
    uint32_t made[4][LANES];
    for (int64_t i = 0; i < n; i++) {
        double *us = u + i * pairs, *angles = angle + i * pairs;
        const uint32_t lo = (uint32_t)index[i], hi = (uint32_t)(index[i] >> 32);
        for (int64_t first = 0; 2 * first < pairs; first += LANES) {
            blocks(made, (uint32_t)first, lo, hi, (uint32_t)substreams[i], (uint32_t)k0, (uint32_t)k1);
            for (int64_t k = 0; k < LANES && 2 * (first + k) < pairs; k++) {
                us[2 * (first + k)] = (made[0][k] + 0.5) / 4294967296.0;
                angles[2 * (first + k)] = made[1][k] * turn;
                us[2 * (first + k) + 1] = (made[2][k] + 0.5) / 4294967296.0;
                angles[2 * (first + k) + 1] = made[3][k] * turn;
            }
        }
    }
}
