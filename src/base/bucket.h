// A token bucket: so many things a second, and twice as many at once after a rest (RFC 3290,
// appendix A). It begins empty unless it is filled; what time it is says the caller, and a clock
// that is set back gives nothing and takes nothing.
//
// No thread of its own: whoever has the bucket calls.
#ifndef HM_BASE_BUCKET_H
#define HM_BASE_BUCKET_H

#include <stdbool.h>
#include <stdint.h>

#define HM_BUCKET_BURST_US UINT64_C(2000000) // of the rate: what a bucket holds

typedef struct hm_bucket {
    uint64_t at_us;        // when somebody last asked
    uint64_t tokens_micro; // then
} hm_bucket;

// A full one.
hm_bucket hm_bucket_full(uint32_t rate, uint64_t now_us);
// Takes one token, if there is one.
bool hm_bucket_take(hm_bucket *b, uint32_t rate, uint64_t now_us);
// Seconds until there is one again, rounded up, after hm_bucket_take() said no. rate is not 0.
uint32_t hm_bucket_wait_s(const hm_bucket *b, uint32_t rate);
// Is it full again whatever was taken?
bool hm_bucket_rested(const hm_bucket *b, uint64_t now_us);

#endif
