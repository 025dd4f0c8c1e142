// Transport parameters of a peer (the first byte says of which role): within their ranges, and the
// same after they were encoded.
#include "stoq/transport_params.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    stoq_transport_params a, b;
    if (size == 0 ||
        stoq_transport_params_decode(hm_bytes_of(data + 1, size - 1), data[0] & 1, &a) != HM_OK)
        return 0;
    hm_assert(a.max_udp_payload_bytes >= 1200 && a.ack_delay_exponent <= 20);
    hm_assert(a.min_ack_delay_us <= a.max_ack_delay_ms * 1000);
    hm_assert(a.max_ack_delay_ms < 1 << 14 && a.active_cid_limit >= 2);
    hm_assert(a.max_streams_bidi <= UINT64_C(1) << 60 && a.max_streams_uni <= UINT64_C(1) << 60);
    hm_assert(!(data[0] & 1) || !(a.has_original_dcid || a.has_retry_scid || a.has_reset_token));
    uint8_t mem[2][STOQ_TRANSPORT_PARAMS_MAX];
    hm_buf out[2];
    for (int i = 0; i < 2; i++) {
        out[i] = hm_buf_fixed(mem[i], sizeof mem[i]);
        stoq_transport_params_encode(i == 0 ? &a : &b, &out[i]);
        hm_assert(hm_buf_status(&out[i]) == HM_OK);
        if (i == 0)
            hm_assert(stoq_transport_params_decode(hm_buf_bytes(&out[0]), data[0] & 1, &b) ==
                      HM_OK);
    }
    hm_assert(hm_bytes_eq(hm_buf_bytes(&out[0]), hm_buf_bytes(&out[1])));
    return 0;
}
