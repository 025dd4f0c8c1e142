// The certificate that a server shows for tls-alpn-01, and the page that it shows for http-01.
#include "trustchain/acme/acme.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const acme_identifier names[] = {{ACME_DNS, "a.test"}, {ACME_IP, "fd48::1"}};
    hm_bytes in = hm_bytes_of(data, size);
    for (int i = 0; i < 2; i++)
        (void)!acme_alpn_check(in, &names[i], "token.thumbprint");
    (void)acme_http_body_is(in, "token.thumbprint");
    return 0;
}
