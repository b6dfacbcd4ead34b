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
