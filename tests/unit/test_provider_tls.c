// A provider that says no to a capability that it does not have ends the making of every SSL_CTX.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <openssl/ssl.h>

#include "crypto/crypto.h"

static void an_ssl_context_can_be_made(void **state)
{
    (void)state;
    assert_int_equal(hm_crypto_init(), HM_OK);
    assert_int_equal(hm_crypto_init(), HM_OK);
    SSL_CTX *ctx = SSL_CTX_new(TLS_method());
    assert_non_null(ctx);
    assert_int_equal(SSL_CTX_set1_sigalgs_list(ctx, HM_FALCON_NAME), 1);
    assert_int_equal(SSL_CTX_set1_groups_list(ctx, "X25519MLKEM768"), 1);
    SSL_CTX_free(ctx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(an_ssl_context_can_be_made)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
