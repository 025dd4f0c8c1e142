// An answer of a resolver, to one question of each type; and a text that it may hold.
#include <stdlib.h>

#include "server/acme_dns.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    for (int i = 0; i < 2; i++) {
        hm_buf question = {0};
        acme_dns_answer a;
        uint16_t type = i ? ACME_DNS_TXT : ACME_DNS_AAAA;
        if (acme_dns_question("_acme-challenge.a.test", type, 0x1234, &question) != HM_OK)
            abort();
        if (acme_dns_read(hm_buf_bytes(&question), hm_bytes_of(data, size), &a) == HM_OK) {
            for (uint32_t k = 0; k < a.count; k++) {
                if (a.data[k].ptr < data || a.data[k].ptr + a.data[k].len > data + size)
                    abort();
                (void)acme_dns_text_is(a.data[k], "value");
            }
        }
        hm_buf_free(&question);
    }
    return 0;
}
