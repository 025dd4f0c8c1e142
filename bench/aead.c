// Packet protection: nanoseconds a packet and gigabits a second of each version beside OpenSSL used
// as one would, one EVP context for all packets of a key. Everything in turn within each round, and
// medians over the rounds, so that all see the same moods of the machine. One JSON line a figure.
//
// bytes is the whole packet: 13 of header, text, 16 of tag; Gbps counts all of them.
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "crypto/aead.h"
#include "server/json.h"

#define PACKETS 32u // a burst, and a batch
#define HEADER 13u
#define SIZE_MAX_BYTES 8972u
#define ROUNDS 41u
#define BURST_BYTES 400000u // a measurement covers at least so many

enum { SEAL, SEAL_FROM, OPEN, MASK, OPS };
static const char *const op_names[OPS] = {"seal", "seal from elsewhere", "open", "mask"};
static const uint32_t sizes[] = {64, 1200, 1452, 8972};
static const char *const cipher_names[] = {"AES-128-GCM", "AES-256-GCM", "ChaCha20-Poly1305"};

typedef struct figure {
    int op;
    hm_aead_cipher cipher;
    hm_aead_version version; // HM_AEAD_BEST: plain EVP
    bool batch;
    uint32_t size;
    double ns[ROUNDS]; // a packet
} figure;

static figure figures[512];
static size_t figure_count;

static uint8_t packets[PACKETS][SIZE_MAX_BYTES + 64], elsewhere[PACKETS][SIZE_MAX_BYTES];
static const uint8_t key_bytes[32] = {1, 2, 3}, iv_bytes[HM_AEAD_IV] = {4, 5, 6};

static void must(bool ok, const char *what)
{
    if (ok)
        return;
    fprintf(stderr, "aead: %s failed: %s\n", what, hm_err_detail());
    exit(1);
}

static double now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

// ---- OpenSSL as one would ----------------------------------------------------------------------

static const EVP_CIPHER *evp_cipher(hm_aead_cipher c)
{
    return c == HM_AES_128_GCM   ? EVP_aes_128_gcm()
           : c == HM_AES_256_GCM ? EVP_aes_256_gcm()
                                 : EVP_chacha20_poly1305();
}

static bool evp_packet(EVP_CIPHER_CTX *ctx, int seal, uint8_t *packet, const uint8_t *from,
                       size_t len, uint64_t pn)
{
    uint8_t nonce[HM_AEAD_IV], *text = packet + HEADER, *tag = text + len;
    int n;
    memcpy(nonce, iv_bytes, sizeof nonce);
    for (int i = 11; i >= 4; i--, pn >>= 8)
        nonce[i] ^= (uint8_t)pn;
    return EVP_CipherInit_ex(ctx, NULL, NULL, NULL, nonce, seal) == 1 &&
           EVP_CipherUpdate(ctx, NULL, &n, packet, HEADER) == 1 &&
           EVP_CipherUpdate(ctx, text, &n, from, (int)len) == 1 &&
           (seal || EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_SET_TAG, HM_AEAD_TAG, tag) == 1) &&
           EVP_CipherFinal_ex(ctx, text + n, &n) == 1 &&
           (!seal || EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_GET_TAG, HM_AEAD_TAG, tag) == 1);
}

static double burst_evp(const figure *f, EVP_CIPHER_CTX *ctx)
{
    size_t len = f->size - HEADER - HM_AEAD_TAG;
    bool ok = true;
    if (f->op == OPEN)
        for (unsigned i = 0; i < PACKETS; i++)
            ok = ok && evp_packet(ctx, 1, packets[i], packets[i] + HEADER, len, i);
    double began = now_ns();
    for (unsigned i = 0; i < PACKETS; i++) {
        const uint8_t *from = f->op == SEAL_FROM ? elsewhere[i] : packets[i] + HEADER;
        ok = ok && evp_packet(ctx, f->op != OPEN, packets[i], from, len, i);
    }
    double took = now_ns() - began;
    must(ok, "EVP");
    return took;
}

// ---- ours --------------------------------------------------------------------------------------

static double burst_seal(const figure *f, hm_aead *a)
{
    hm_aead_seal batch[PACKETS];
    hm_bytes from[PACKETS];
    size_t len = f->size - HEADER - HM_AEAD_TAG;
    for (unsigned i = 0; i < PACKETS; i++) {
        from[i] = hm_bytes_of(elsewhere[i], len);
        batch[i] = (hm_aead_seal){.aad = {packets[i], HEADER},
                                  .text = packets[i] + HEADER,
                                  .len = len,
                                  .pn = i,
                                  .pieces = &from[i],
                                  .piece_count = f->op == SEAL_FROM};
    }
    unsigned at_once = f->batch ? PACKETS : 1;
    bool ok = true;
    double began = now_ns();
    for (unsigned i = 0; i < PACKETS; i += at_once)
        ok = ok && hm_aead_seal_batch(a, batch + i, at_once) == HM_OK;
    double took = now_ns() - began;
    must(ok, "seal");
    return took;
}

static double burst_open(const figure *f, hm_aead *a)
{
    hm_aead_open batch[PACKETS];
    size_t len = f->size - HEADER - HM_AEAD_TAG;
    for (unsigned i = 0; i < PACKETS; i++) {
        batch[i] = (hm_aead_open){
            .aad = {packets[i], HEADER}, .text = packets[i] + HEADER, .len = len, .pn = i};
        must(hm_aead_seal_one(a, batch[i].aad, batch[i].text, len, i) == HM_OK, "seal");
    }
    unsigned at_once = f->batch ? PACKETS : 1;
    double began = now_ns();
    for (unsigned i = 0; i < PACKETS; i += at_once)
        hm_aead_open_batch(a, batch + i, at_once);
    double took = now_ns() - began;
    for (unsigned i = 0; i < PACKETS; i++)
        must(batch[i].ok, "open");
    return took;
}

static double burst_mask(const figure *f, hm_hp *hp)
{
    static uint8_t masks[PACKETS][HM_AEAD_SAMPLE];
    const uint8_t *samples[PACKETS];
    for (unsigned i = 0; i < PACKETS; i++)
        samples[i] = packets[i] + HEADER;
    unsigned at_once = f->batch ? PACKETS : 1;
    bool ok = true;
    double began = now_ns();
    for (unsigned i = 0; i < PACKETS; i += at_once)
        ok = ok && hm_hp_masks(hp, samples + i, masks + i, at_once) == HM_OK;
    double took = now_ns() - began;
    must(ok, "mask");
    return took;
}

// One figure's time of one round, a packet.
static double measure(const figure *f)
{
    static hm_aead a;
    static hm_hp hp;
    EVP_CIPHER_CTX *ctx = NULL;
    unsigned bursts = f->op == MASK ? 50 : 1 + BURST_BYTES / (PACKETS * f->size);
    double ns = 0;
    if (f->version == HM_AEAD_BEST) {
        ctx = EVP_CIPHER_CTX_new();
        must(ctx != NULL &&
                 EVP_EncryptInit_ex(ctx, evp_cipher(f->cipher), NULL, key_bytes, iv_bytes) == 1,
             "EVP");
    } else {
        must(hm_aead_init(&a, f->cipher, f->version, key_bytes, iv_bytes) == HM_OK, "key");
        must(hm_hp_init(&hp, f->cipher, f->version, key_bytes) == HM_OK, "key");
    }
    for (unsigned i = 0; i < bursts + 1; i++) {
        double took = ctx != NULL     ? burst_evp(f, ctx)
                      : f->op == OPEN ? burst_open(f, &a)
                      : f->op == MASK ? burst_mask(f, &hp)
                                      : burst_seal(f, &a);
        if (i > 0) // the first warms up
            ns += took;
    }
    EVP_CIPHER_CTX_free(ctx);
    hm_aead_clear(&a);
    hm_hp_clear(&hp);
    return ns / bursts / PACKETS;
}

// ---- figures -----------------------------------------------------------------------------------

static void add(int op, hm_aead_cipher cipher, hm_aead_version version, bool batch, uint32_t size)
{
    hm_assert(figure_count < sizeof figures / sizeof figures[0]);
    figures[figure_count++] =
        (figure){.op = op, .cipher = cipher, .version = version, .batch = batch, .size = size};
}

static void add_all(hm_aead_cipher cipher)
{
    for (size_t s = 0; s < sizeof sizes / sizeof sizes[0]; s++)
        for (int op = SEAL; op <= OPEN; op++)
            for (int v = HM_AEAD_BEST; v <= HM_AEAD_OPENSSL; v++) {
                if (!hm_aead_available((hm_aead_version)v, cipher))
                    continue;
                add(op, cipher, (hm_aead_version)v, false, sizes[s]);
                if (v != HM_AEAD_BEST && v != HM_AEAD_OPENSSL)
                    add(op, cipher, (hm_aead_version)v, true, sizes[s]);
            }
    for (int v = HM_AEAD_AVX512; v <= HM_AEAD_OPENSSL; v++)
        for (int batch = 0; batch < 2 && hm_aead_available((hm_aead_version)v, cipher); batch++)
            add(MASK, cipher, (hm_aead_version)v, batch, HM_AEAD_SAMPLE);
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void tell_number(hm_buf *b, const char *name, double v)
{
    char text[32];
    snprintf(text, sizeof text, "%.1f", v);
    hm_jw_raw(b, name, hm_bytes_str(text));
}

static void tell(figure *f)
{
    hm_buf b = {0};
    qsort(f->ns, ROUNDS, sizeof f->ns[0], by_value);
    double ns = f->ns[ROUNDS / 2];
    const char *version =
        f->version == HM_AEAD_BEST ? "EVP" : hm_aead_version_name(f->version, f->cipher);
    hm_jw_open(&b, NULL, '{');
    hm_jw_str(&b, "bench", "aead");
    hm_jw_str(&b, "cipher", cipher_names[f->cipher]);
    hm_jw_str(&b, "what", op_names[f->op]);
    hm_jw_str(&b, "version", version);
    hm_jw_u64(&b, "batch", f->batch ? PACKETS : 1);
    hm_jw_u64(&b, "bytes", f->size);
    hm_jw_u64(&b, "rounds", ROUNDS);
    tell_number(&b, "median_ns", ns);
    if (f->op != MASK)
        tell_number(&b, "gbps", f->size * 8 / ns);
    hm_jw_close(&b, '}');
    must(hm_buf_status(&b) == HM_OK, "out");
    puts(hm_buf_cstr(&b));
    hm_buf_free(&b);
}

int main(void)
{
    for (int c = HM_AES_128_GCM; c <= HM_CHACHA20_POLY1305; c++)
        add_all((hm_aead_cipher)c);
    for (unsigned round = 0; round < ROUNDS; round++)
        for (size_t i = 0; i < figure_count; i++)
            figures[i].ns[round] = measure(&figures[i]);
    for (size_t i = 0; i < figure_count; i++)
        tell(&figures[i]);
    return 0;
}
