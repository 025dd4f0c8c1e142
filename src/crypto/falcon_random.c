// The random bytes that PQClean asks for. A file of its own, so that the known-answer test can put
// its generator in the place of this one.
#include <openssl/rand.h>

#include "base/base.h"
#include "randombytes.h"

int randombytes(uint8_t *output, size_t n)
{
    // A key or a signature made without randomness would give the key away, and PQClean does not
    // look at the result: there is no going on.
    int ok = RAND_priv_bytes(output, (int)n);
    hm_assert(ok == 1);
    return 0;
}
