#include "base/bucket.h"

#define TOKEN UINT64_C(1000000)

static uint64_t passed_us(const hm_bucket *b, uint64_t now_us)
{
    return now_us > b->at_us ? now_us - b->at_us : 0;
}

hm_bucket hm_bucket_full(uint32_t rate, uint64_t now_us)
{
    return (hm_bucket){.at_us = now_us, .tokens_micro = rate * HM_BUCKET_BURST_US};
}

bool hm_bucket_take(hm_bucket *b, uint32_t rate, uint64_t now_us)
{
    const uint64_t full = rate * HM_BUCKET_BURST_US;
    if (hm_bucket_rested(b, now_us))
        b->tokens_micro = full;
    else
        b->tokens_micro += passed_us(b, now_us) * rate;
    if (b->tokens_micro > full)
        b->tokens_micro = full;
    b->at_us = now_us;
    if (b->tokens_micro < TOKEN)
        return false;
    b->tokens_micro -= TOKEN;
    return true;
}

uint32_t hm_bucket_wait_s(const hm_bucket *b, uint32_t rate)
{
    const uint64_t second = rate * TOKEN;
    uint64_t missing = b->tokens_micro < TOKEN ? TOKEN - b->tokens_micro : 0;
    return (uint32_t)((missing + second - 1) / second);
}

bool hm_bucket_rested(const hm_bucket *b, uint64_t now_us)
{
    return passed_us(b, now_us) >= HM_BUCKET_BURST_US;
}
