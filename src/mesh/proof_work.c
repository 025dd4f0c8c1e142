#include "mesh/proof_work.h"

#define DOMAIN "hypermesh/work/1"

// Domain with its 0x00, digest, nonce.
#define PUZZLE_BYTES (sizeof DOMAIN + 32 + 8)

static uint64_t puzzle(uint8_t *bytes, uint64_t nonce)
{
    for (int i = 0; i < 8; i++)
        bytes[sizeof DOMAIN + 32 + i] = (uint8_t)(nonce >> (56 - 8 * i));
    hm_hash h = hm_sha256(hm_bytes_of(bytes, PUZZLE_BYTES));
    uint64_t v = 0;
    for (int i = 0; i < 8; i++)
        v = v << 8 | h.b[i];
    return v;
}

static void puzzle_init(uint8_t *bytes, const hm_hash *digest)
{
    memcpy(bytes, DOMAIN, sizeof DOMAIN);
    memcpy(bytes + sizeof DOMAIN, digest->b, 32);
}

bool hm_work_check(const hm_hash *digest, uint64_t difficulty, uint64_t nonce)
{
    if (difficulty == 0)
        return false;
    uint8_t bytes[PUZZLE_BYTES];
    puzzle_init(bytes, digest);
    return puzzle(bytes, nonce) <= UINT64_MAX / difficulty;
}

hm_err hm_work_solve(const hm_hash *digest, uint64_t difficulty, const _Atomic bool *cancel,
                     uint64_t *nonce, uint64_t *tries)
{
    if (difficulty == 0 || difficulty > HM_WORK_DIFFICULTY_MAX)
        return hm_fail(HM_E_RANGE, "a work difficulty of %llu: need 1..%u",
                       (unsigned long long)difficulty, HM_WORK_DIFFICULTY_MAX);
    uint8_t bytes[PUZZLE_BYTES];
    puzzle_init(bytes, digest);
    uint64_t target = UINT64_MAX / difficulty;
    // No start is better than another; the digest's is as good and repeats in the simulator.
    uint64_t start = 0;
    for (int i = 0; i < 8; i++)
        start = start << 8 | digest->b[i];
    for (uint64_t i = 0;; i++) {
        if (puzzle(bytes, start + i) <= target) {
            *nonce = start + i;
            if (tries)
                *tries = i + 1;
            return HM_OK;
        }
        if (i % 256 == 255 && cancel && atomic_load_explicit(cancel, memory_order_relaxed))
            return hm_fail(HM_E_CLOSED, "the search was cancelled");
    }
}

uint64_t hm_work_next(uint64_t difficulty, uint32_t ops, uint32_t target_ops)
{
    hm_assert(target_ops > 0);
    if (difficulty < HM_WORK_DIFFICULTY_MIN)
        difficulty = HM_WORK_DIFFICULTY_MIN;
    if (difficulty > HM_WORK_DIFFICULTY_MAX)
        difficulty = HM_WORK_DIFFICULTY_MAX;
    // load in 1/1024 of the target, at most twice it: the distance from 1024 is the part of the
    // largest step that is taken, 1 at least, so that small values move too. All products stay
    // below 2^24 * 2^10.
    uint64_t load = (uint64_t)ops * 1024 / target_ops;
    if (load > 2048)
        load = 2048;
    uint64_t off = load > 1024 ? load - 1024 : 1024 - load;
    uint64_t step = difficulty * off / (1024 * HM_WORK_STEP);
    if (off > 0 && step == 0)
        step = 1;
    if (load > 1024)
        return difficulty + step < HM_WORK_DIFFICULTY_MAX ? difficulty + step
                                                          : HM_WORK_DIFFICULTY_MAX;
    return difficulty >= HM_WORK_DIFFICULTY_MIN + step ? difficulty - step : HM_WORK_DIFFICULTY_MIN;
}
