/* Steps of SGD for linear networks and their products, one pass over each matrix per step.
 *
 * REAL is float or double. A matrix of layer l is W[l], row-major (widths[l+1], widths[l]). With e the error of
 * an example, the gradient of ½e² by a matrix has rank one: delta xᵀ. A step's update of a row is therefore put
 * off until the next step reads that row: it is written and read once per step. The last update of a call is
 * made by a step that sees zeros. Every row of every step goes through the same code, so a run's numbers do not
 * depend on how its steps are cut into calls.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* As many numbers as the widest registers of most processors hold; others split it. */
typedef REAL vec __attribute__((vector_size(32), aligned(sizeof(REAL)), may_alias));
#define WIDE ((int64_t)(32 / sizeof(REAL)))

static inline vec load(const REAL *p) { return *(const vec *)p; }
static inline void store(REAL *p, vec v) { *(vec *)p = v; }

static inline REAL total(vec a, vec b, vec c, vec d) {
    vec v = (a + b) + (c + d);
    REAL sum = 0;
    for (int64_t k = 0; k < WIDE; k++) sum += v[k];
    return sum;
}

static REAL dot(const REAL *restrict a, const REAL *restrict b, int64_t n) {
    vec s[4] = {{0}, {0}, {0}, {0}};
    int64_t j = 0;
    for (; j + 4 * WIDE <= n; j += 4 * WIDE)
        for (int k = 0; k < 4; k++) s[k] += load(a + j + k * WIDE) * load(b + j + k * WIDE);
    REAL rest = 0;
    for (; j < n; j++) rest += a[j] * b[j];
    return total(s[0], s[1], s[2], s[3]) + rest;
}

/* y += c x */
static void add_multiple(REAL *restrict y, REAL c, const REAL *restrict x, int64_t n) {
    for (int64_t j = 0; j < n; j++) y[j] += c * x[j];
}

/* w - (decay w + step): small decays count, as they would not in (1 - decay) w. Without decay, w - step. */
#define MOVED(w, decay, step) ((decay) != 0 ? (w) - ((decay) * (w) + (step)) : (w) - (step))

/* row <- row - (decay row + delta x), then its product with the next input */
static REAL update_and_dot(REAL *restrict row, REAL decay, REAL delta, const REAL *restrict x,
                           const REAL *restrict next, int64_t n) {
    vec s[4] = {{0}, {0}, {0}, {0}};
    int64_t j = 0;
    for (; j + 4 * WIDE <= n; j += 4 * WIDE)
        for (int k = 0; k < 4; k++) {
            const int64_t i = j + k * WIDE;
            const vec old = load(row + i), w = MOVED(old, decay, delta * load(x + i));
            store(row + i, w);
            s[k] += w * load(next + i);
        }
    REAL rest = 0;
    for (; j < n; j++) {
        row[j] = MOVED(row[j], decay, delta * x[j]);
        rest += row[j] * next[j];
    }
    return total(s[0], s[1], s[2], s[3]) + rest;
}

/* row <- row - (decay row + delta x), then sum += c row */
static void update_and_add(REAL *restrict row, REAL decay, REAL delta, const REAL *restrict x, REAL c,
                           REAL *restrict sum, int64_t n) {
    for (int64_t j = 0; j < n; j++) {
        row[j] = MOVED(row[j], decay, delta * x[j]);
        sum[j] += c * row[j];
    }
}

/* out = Wᵀ delta */
static void transposed_product(const REAL *restrict w, const REAL *restrict delta, REAL *restrict out,
                               int64_t rows, int64_t columns) {
    for (int64_t j = 0; j < columns; j++) out[j] = 0;
    for (int64_t i = 0; i < rows; i++) add_multiple(out, delta[i], w + i * columns, columns);
}

/* What layer l has put off: W <- W - (decay W + delta xᵀ). */
typedef struct {
    REAL *delta, *x, *out;
} Layer;

/* Steps of batch size 1 on ½‖W_L…W_1 a − y‖² (readout = 0), or on ½(aᵀ(W_L…W_1)ᵀ b − y)² of pairs (readout = 1).
 *
 * inputs: (steps, n_0), or pairs (steps, 2, d); targets: (steps, n_L), or (steps). rates, decays: of each step, the
 * learning rate and that times the weight decay. costs: (steps), written. Returns 0, or 1 where memory is short.
 */
int chain_steps(int64_t layers, const int64_t *widths, REAL **w, const REAL *inputs, const REAL *targets,
                const double *rates, const double *decays, REAL *costs, int64_t steps, int readout) {
    int64_t widest = 0;
    for (int64_t l = 0; l <= layers; l++)
        if (widths[l] > widest) widest = widths[l];
    REAL *memory = calloc((size_t)(3 * layers + 3) * widest, sizeof(REAL));
    Layer *layer = calloc((size_t)layers, sizeof(Layer));
    if (!memory || !layer) {
        free(memory);
        free(layer);
        return 1;
    }
    for (int64_t l = 0; l < layers; l++) {
        layer[l].delta = memory + (3 * l) * widest;
        layer[l].x = memory + (3 * l + 1) * widest;
        layer[l].out = memory + (3 * l + 2) * widest;
    }
    const REAL *zeros = memory + 3 * layers * widest;
    REAL *error = memory + (3 * layers + 1) * widest, *through = memory + (3 * layers + 2) * widest;
    const int64_t first = widths[0], last = widths[layers], pair = readout ? 2 * first : first;
    REAL decay = 0;
    for (int64_t t = 0; t <= steps; t++) {
        const REAL *a = t < steps ? inputs + t * pair : zeros, *b = readout && t < steps ? a + first : zeros;
        const REAL *x = a;
        for (int64_t l = 0; l < layers - readout; l++) { /* forward, with the updates that were put off */
            const int64_t n = widths[l];
            for (int64_t i = 0; i < widths[l + 1]; i++)
                layer[l].out[i] = update_and_dot(w[l] + i * n, decay, layer[l].delta[i], layer[l].x, x, n);
            x = layer[l].out;
        }
        if (readout) { /* through = W_Lᵀ b, so that the prediction is its product with x */
            const int64_t n = widths[layers - 1];
            const Layer *top = layer + layers - 1;
            for (int64_t j = 0; j < n; j++) through[j] = 0;
            for (int64_t i = 0; i < last; i++)
                update_and_add(w[layers - 1] + i * n, decay, top->delta[i], top->x, b[i], through, n);
        }
        if (t == steps) break;
        REAL rate = (REAL)rates[t];
        decay = (REAL)decays[t];
        if (readout) {
            REAL e = dot(through, x, widths[layers - 1]) - targets[t];
            costs[t] = e * e / 2;
            for (int64_t i = 0; i < last; i++) layer[layers - 1].delta[i] = rate * e * b[i];
            if (layers > 1)
                for (int64_t i = 0; i < widths[layers - 1]; i++) layer[layers - 2].delta[i] = rate * e * through[i];
        } else {
            for (int64_t i = 0; i < last; i++) error[i] = x[i] - targets[t * last + i];
            costs[t] = dot(error, error, last) / 2;
            for (int64_t i = 0; i < last; i++) layer[layers - 1].delta[i] = rate * error[i];
        }
        for (int64_t l = layers - 1 - readout; l > 0; l--) /* backward, on the weights of this step */
            transposed_product(w[l], layer[l].delta, layer[l - 1].delta, widths[l + 1], widths[l]);
        for (int64_t l = 0; l < layers; l++) {
            const REAL *seen = l ? layer[l - 1].out : a;
            for (int64_t j = 0; j < widths[l]; j++) layer[l].x[j] = seen[j];
        }
    }
    free(memory);
    free(layer);
    return 0;
}

/* Steps on C + λ/4 ‖∇C‖² with C = 1/(2B) Σ (xᵀ(u∘v) − y)², a diagonal linear network.
 *
 * With q = ∇_β C at β = u∘v and A = XᵀX/B: ∇_u C = q∘v, ‖∇C‖² = Σ q²(u² + v²), and with z = A (q∘(u² + v²)),
 * ½∇_u ‖∇C‖² = z∘v + q²∘u; the same for v with u and v exchanged.
 * inputs: (steps, B, d); targets: (steps, B). rates, decays, strengths: of each step, with rates times ``factor``
 * applied to the gradient. costs, losses: (steps), written: C and the modified loss. Returns as above.
 */
int diagonal_steps(int64_t d, int64_t batch, REAL *restrict u, REAL *restrict v, const REAL *inputs,
                   const REAL *targets, const double *rates, const double *decays, const double *strengths,
                   double factor, REAL *costs, REAL *losses, int64_t steps) {
    REAL *memory = calloc((size_t)(4 * d + batch), sizeof(REAL));
    if (!memory) return 1;
    REAL *beta = memory, *q = beta + d, *along = q + d, *z = along + d, *e = z + d;
    for (int64_t t = 0; t < steps; t++) {
        const REAL *x = inputs + t * batch * d, *y = targets + t * batch;
        const REAL rate = (REAL)(rates[t] * factor), decay = (REAL)decays[t], half = (REAL)(strengths[t] / 2);
        for (int64_t j = 0; j < d; j++) {
            beta[j] = u[j] * v[j];
            q[j] = z[j] = 0;
        }
        for (int64_t i = 0; i < batch; i++) {
            e[i] = dot(x + i * d, beta, d) - y[i];
            add_multiple(q, e[i] / batch, x + i * d, d);
        }
        costs[t] = losses[t] = dot(e, e, batch) / (2 * batch);
        if (half > 0) {
            for (int64_t j = 0; j < d; j++) along[j] = q[j] * (u[j] * u[j] + v[j] * v[j]);
            for (int64_t i = 0; i < batch; i++) add_multiple(z, dot(x + i * d, along, d) / batch, x + i * d, d);
            losses[t] += half / 2 * dot(q, along, d);
        }
        for (int64_t j = 0; j < d; j++) {
            const REAL toward = q[j] + half * z[j], own = half * q[j] * q[j], a = u[j], b = v[j];
            u[j] = MOVED(a, decay, rate * (toward * b + own * a));
            v[j] = MOVED(b, decay, rate * (toward * a + own * b));
        }
    }
    free(memory);
    return 0;
}

/* Steps of matrix sensing, ½ mean (bᵀ W₂ W₁ a − y)², with updates that are put off for up to a stretch of steps.
 *
 * Within a stretch a matrix is W_t = D_t (W − Σ_s δ_s x_sᵀ), of what it was at the beginning, W, and of a row δ_s, x_s
 * for each example since; D_t = 1 − E_t is what weight decay has left. Its products with the next vectors are those of
 * W, which are known for many vectors at once, less the rows'. At the end of a stretch the rows are folded into W.
 *
 * A number is always summed in the same order, whichever others are computed beside it. So a run's numbers depend on
 * where stretches begin and end, and not on how their steps are cut into calls.
 */
#define TILE 5 /* vectors or rows whose sums are held in registers at the same time */
#define INLINE static inline __attribute__((always_inline))
#define EACH(i, n) for (int i = 0; i < (n); i++)

typedef struct { /* of one matrix */
    REAL *w;     /* (rows, columns) */
    int64_t rows, columns;
    REAL *delta; /* δ: (held, rows) */
    REAL *x;     /* (held, columns) */
} Matrix;

/* As many numbers as the widest registers of this processor hold. */
#ifdef __AVX512F__
#define LANES ((int64_t)(64 / sizeof(REAL)))
typedef REAL wide __attribute__((vector_size(64), aligned(sizeof(REAL)), may_alias));
#else
#define LANES WIDE
typedef vec wide;
#endif
static inline wide load_wide(const REAL *p) { return *(const wide *)p; }
static inline void store_wide(REAL *p, wide v) { *(wide *)p = v; }

typedef REAL part __attribute__((vector_size(16), may_alias));
INLINE REAL sum(wide v) {
    union {
        wide whole;
        part parts[LANES * sizeof(REAL) / 16];
    } all = {v};
    part p = all.parts[0];
    for (int k = 1; k < (int)(LANES * sizeof(REAL) / 16); k++) p += all.parts[k];
    REAL s = p[0];
    for (int k = 1; k < (int)(16 / sizeof(REAL)); k++) s += p[k];
    return s;
}

/* The vectors of a tile and what becomes of them; no pointer to where nothing is to be written. */
typedef struct {
    const REAL *x[TILE];
    REAL *out[TILE];
} Tile;

/* out = W x, for each vector of a tile */
static void tile_products(const Matrix *m, const Tile *tile) {
    const int64_t columns = m->columns;
    for (int64_t i = 0; i < m->rows; i += 2) {
        const REAL *one = m->w + i * columns, *two = i + 1 < m->rows ? one + columns : one;
        wide s[TILE][2] = {{{0}}};
        REAL rest[TILE][2] = {{0}};
        int64_t j = 0;
        for (; j + LANES <= columns; j += LANES) EACH(r, TILE) {
                const wide each = load_wide(tile->x[r] + j);
                s[r][0] += load_wide(one + j) * each;
                s[r][1] += load_wide(two + j) * each;
            }
        for (; j < columns; j++) EACH(r, TILE) {
                rest[r][0] += one[j] * tile->x[r][j];
                rest[r][1] += two[j] * tile->x[r][j];
            }
        EACH(r, TILE) if (tile->out[r]) {
            tile->out[r][i] = sum(s[r][0]) + rest[r][0];
            if (two != one) tile->out[r][i + 1] = sum(s[r][1]) + rest[r][1];
        }
    }
}

/* out = Wᵀ x, for each vector of a tile */
static void tile_transposed_products(const Matrix *m, const Tile *tile) {
    const int64_t columns = m->columns;
    int64_t j = 0;
    for (; j + 2 * LANES <= columns; j += 2 * LANES) {
        wide s[TILE][2] = {{{0}}};
        for (int64_t i = 0; i < m->rows; i++) {
            const REAL *row = m->w + i * columns + j;
            const wide one = load_wide(row), two = load_wide(row + LANES);
            EACH(r, TILE) {
                s[r][0] += one * tile->x[r][i];
                s[r][1] += two * tile->x[r][i];
            }
        }
        EACH(r, TILE) if (tile->out[r]) EACH(q, 2) store_wide(tile->out[r] + j + q * LANES, s[r][q]);
    }
    for (; j < columns; j++) {
        REAL s[TILE] = {0};
        for (int64_t i = 0; i < m->rows; i++) EACH(r, TILE) s[r] += m->w[i * columns + j] * tile->x[r][i];
        EACH(r, TILE) if (tile->out[r]) tile->out[r][j] = s[r];
    }
}

/* Rows first … first + count − 1 of out, from as many vectors x. Row r is always place r mod TILE of a tile, so that
 * it comes from the same operations whichever rows are asked for with it. */
static void products(void (*of_tile)(const Matrix *, const Tile *), const Matrix *m, const REAL *x, int64_t stride,
                     REAL *out, int64_t size, int64_t first, int64_t count) {
    for (int64_t base = first - first % TILE; base < first + count; base += TILE) {
        Tile tile;
        EACH(r, TILE) {
            const int64_t row = base + r, there = row >= first && row < first + count;
            tile.x[r] = x + (there ? row - first : 0) * stride;
            tile.out[r] = there ? out + row * size : NULL;
        }
        of_tile(m, &tile);
    }
}

/* W[i …] <- W − (E W + D Σ_s δ_s x_sᵀ), n rows from i on */
INLINE void fold_rows(const Matrix *m, int64_t i, int64_t held, REAL lost, REAL left, const int n) {
    const int64_t columns = m->columns;
    REAL *w = m->w + i * columns;
    int64_t j = 0;
    for (; j + 2 * LANES <= columns; j += 2 * LANES) {
        wide s[TILE][2] = {{{0}}};
        for (int64_t k = 0; k < held; k++) {
            const REAL *x = m->x + k * columns + j, *delta = m->delta + k * m->rows + i;
            const wide one = load_wide(x), two = load_wide(x + LANES);
            EACH(r, n) {
                s[r][0] += one * delta[r];
                s[r][1] += two * delta[r];
            }
        }
        EACH(r, n) EACH(q, 2) {
            REAL *at = w + r * columns + j + q * LANES;
            const wide old = load_wide(at);
            store_wide(at, MOVED(old, lost, left * s[r][q]));
        }
    }
    for (; j < columns; j++) {
        REAL s[TILE] = {0};
        for (int64_t k = 0; k < held; k++)
            EACH(r, n) s[r] += m->x[k * columns + j] * m->delta[k * m->rows + i + r];
        EACH(r, n) w[r * columns + j] = MOVED(w[r * columns + j], lost, left * s[r]);
    }
}

static void fold_into(const Matrix *m, int64_t held, double lost) {
    const REAL left = (REAL)(1 - lost);
    int64_t i = 0;
    for (; i + TILE <= m->rows; i += TILE) fold_rows(m, i, held, (REAL)lost, left, TILE);
    for (; i < m->rows; i++) fold_rows(m, i, held, (REAL)lost, left, 1);
}

/* The steps of a run, as far as they were put off, with matrices W₁ (sizes[1], sizes[0]) and W₂ (sizes[2], sizes[1]).
 *
 * rows: that delta and x have room for; held: how many of them are examples of the stretch so far, with lost = E.
 * start: of both matrices, what they were at the stretch's beginning, while w is what they are by now; between calls.
 */
typedef struct {
    int64_t sizes[3], stretch, batch, rows;
    REAL *w[2], *start[2], *delta[2], *x[2], *scratch; /* scratch: of the larger matrix */
    double factor, lost;
    int64_t held;
} Run;

static Matrix matrix(const Run *run, int k, REAL *w) {
    return (Matrix){w, run->sizes[k + 1], run->sizes[k], run->delta[k], run->x[k]};
}

static size_t bytes(const Matrix *m) { return (size_t)(m->rows * m->columns) * sizeof(REAL); }

/* Leave the matrices as they are by now, and keep what they were at the stretch's beginning. */
void sensing_leave(Run *run) {
    const int64_t empty = run->rows - run->held;
    for (int k = 0; k < 2; k++) {
        const Matrix m = matrix(run, k, run->w[k]);
        memcpy(run->start[k], m.w, bytes(&m));
        memset(m.delta + run->held * m.rows, 0, (size_t)(empty * m.rows) * sizeof(REAL));
        memset(m.x + run->held * m.columns, 0, (size_t)(empty * m.columns) * sizeof(REAL));
        fold_into(&m, run->held, run->lost);
    }
}

/* Go back to the stretch's beginning; 0 where the matrices are not, to the bit, what was left, and nothing is done. */
int sensing_enter(Run *run) {
    for (int k = 0; k < 2; k++) {
        const Matrix m = matrix(run, k, run->scratch);
        memcpy(m.w, run->start[k], bytes(&m));
        fold_into(&m, run->held, run->lost);
        if (memcmp(m.w, run->w[k], bytes(&m))) return 0;
    }
    for (int k = 0; k < 2; k++) {
        const Matrix m = matrix(run, k, run->w[k]);
        memcpy(m.w, run->start[k], bytes(&m));
    }
    return 1;
}

/* y -= Σ_s x[s] (e[s] · z), s < held: what the rows take off the product with z */
static void take_off(REAL *restrict y, const REAL *x, int64_t n, const REAL *e, const REAL *z, int64_t size,
                     int64_t held) {
    for (int64_t s = 0; s < held; s++) add_multiple(y, -dot(e + s * size, z, size), x + s * n, n);
}

/* Steps from number ``first`` on; one that is a multiple of ``stretch`` begins a stretch.
 *
 * inputs: (steps, batch, 2, sizes[0]); targets: (steps, batch). rates, decays: of each step, with rates times
 * ``factor`` for each example. costs: (steps), written. Returns 0; or 1, and nothing is done, where a decay is 1, after
 * which D_t is 0 and has no inverse.
 */
int sensing_steps(Run *run, int64_t first, const REAL *inputs, const REAL *targets, const double *rates,
                   const double *decays, REAL *costs, int64_t steps) {
    const Matrix one = matrix(run, 0, run->w[0]), two = matrix(run, 1, run->w[1]);
    for (int64_t k = 0; k < steps; k++)
        if (decays[k] == 1) return 1;
    const int64_t d = one.columns, h = one.rows, out = two.rows, pair = d + out, batch = run->batch;
    int64_t t = 0, held = run->held;
    double lost = run->lost;
    while (t < steps) {
        const int64_t to_end = run->stretch - (first + t) % run->stretch, now = to_end < steps - t ? to_end : steps - t;
        const REAL *a = inputs + t * batch * pair;
        products(tile_products, &one, a, pair, two.x, h, held, now * batch);
        products(tile_transposed_products, &two, a + d, pair, one.delta, h, held, now * batch);
        for (int64_t k = 0; k < now; k++, t++) {
            const int64_t before = held;
            const double left = 1 - lost, leaves = left * (1 - decays[t]);
            costs[t] = 0;
            for (int64_t i = 0; i < batch; i++, held++, a += pair) {
                const REAL *b = a + d;
                REAL *v = two.x + held * h, *u = one.delta + held * h;
                take_off(v, one.delta, h, one.x, a, d, before);
                take_off(u, two.x, h, two.delta, b, out, before);
                for (int64_t j = 0; j < h; j++) v[j] *= (REAL)left;
                const REAL e = (REAL)left * dot(u, v, h) - targets[t * batch + i];
                const REAL c = (REAL)(rates[t] * run->factor / leaves) * e, scale = c * (REAL)left;
                costs[t] += e * e / (2 * batch);
                for (int64_t j = 0; j < h; j++) u[j] *= scale;
                for (int64_t j = 0; j < out; j++) two.delta[held * out + j] = c * b[j];
                for (int64_t j = 0; j < d; j++) one.x[held * d + j] = a[j];
            }
            lost += decays[t] * left;
        }
        if (now == to_end) {
            fold_into(&one, held, lost);
            fold_into(&two, held, lost);
            held = 0;
            lost = 0;
        }
    }
    run->held = held;
    run->lost = lost;
    return 0;
}
